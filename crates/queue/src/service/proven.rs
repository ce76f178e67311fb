//! What models read of other jobs where the trust file says `signed: [results]`: what trusted workers signed, and no other text
//! that Redis holds. What that is stands in `proven/decision.rs`; here the rest of long texts is read, and seals are checked.

mod decision;

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;

use legwork_common::id::JobId;
use legwork_common::id::SessionId;
use legwork_common::job::Cause;
use legwork_common::service::JobList;
use legwork_common::service::JobView;
use legwork_common::service::ServiceError;
use legwork_common::service::WaitItem;
use legwork_common::team::Team;
use legwork_signing::Refusal;
use legwork_signing::ResultTerms;
use legwork_signing::Trust;

use self::decision::sealed_text;
use crate::error::QueueError;
use crate::port::Watch as _;
use crate::service::Service;

/// Room for the note of a result that was cut at the output cap.
const CUT_NOTE_BYTES: u64 = 128;
/// Jobs whose ends were reported as unsigned. Beyond it the memory starts over: a job is then reported once more.
const MAX_REPORTED: usize = 1024;

/// What the texts of other jobs are checked with.
#[derive(Debug)]
pub(super) struct Proofs {
    trust: Arc<Trust>,
    session: SessionId,
    /// The caller's team, which all jobs below it have.
    team: Option<Arc<Team>>,
    /// A std mutex, because it is never held across an await.
    reported: Mutex<HashSet<JobId>>,
}

impl Proofs {
    /// The checks that the trust file asks for; `None` where it asks for none.
    pub(super) fn new(
        trust: Option<&Arc<Trust>>,
        session: SessionId,
        team: Option<Arc<Team>>,
    ) -> Option<Arc<Self>> {
        let trust = trust.filter(|trust| trust.asks_for_results())?;
        Some(Arc::new(Self { trust: Arc::clone(trust), session, team, reported: Mutex::default() }))
    }

    fn check(&self, view: &JobView, text: &str) -> Result<(), Refusal> {
        let job = &view.job;
        let terms =
            ResultTerms { job: job.id, session: self.session, state: job.status, cause: job.cause, text };
        self.trust.check_result(&terms, view.seal.as_deref())
    }

    /// Says in the log, once for each job, that its end is not signed where it should be.
    fn report(&self, view: &JobView, refusal: &Refusal) {
        let job = &view.job;
        // No worker signs these ends.
        if view.seal.is_none() && matches!(job.cause, Some(Cause::WorkerLost | Cause::Rejected)) {
            return;
        }
        let mut reported = self.reported.lock().unwrap_or_else(PoisonError::into_inner);
        if reported.len() >= MAX_REPORTED {
            reported.clear();
        }
        if reported.insert(job.id) {
            let (state, cause) = (job.status.as_str(), job.cause.map_or("none", |cause| cause.as_str()));
            tracing::warn!(job = %job.id, state, cause, %refusal, "the text of a job is withheld from its dispatcher");
        }
    }
}

impl Service {
    /// A view as the caller's model may read it. `excerpt` is how much it needs of the beginning and of the end of a text, which
    /// is read whole, because no part of it is signed alone. Texts of several jobs are read one after the other: each may have
    /// the length of the output cap.
    pub(super) async fn proven(
        &self,
        view: JobView,
        excerpt: Option<usize>,
    ) -> Result<JobView, ServiceError> {
        let Some(proofs) = &self.proofs else { return Ok(view) };
        let team = proofs.team.as_deref();
        let Some(text) = sealed_text(&view.job) else { return Ok(decision::unproven(&view, team)) };
        let checked = match &view.cut {
            None => proofs.check(&view, text).map(|()| text.to_owned()),
            // None is longer that a worker sealed.
            Some(cut) if cut.bytes > self.queue().settings().output_cap + CUT_NOTE_BYTES => {
                Err(Refusal::Result)
            }
            Some(_) => {
                let whole = self.queue().view(view.job.id, None, 0).await?;
                // Deleted since it was read.
                let Some(whole) = whole else { return Ok(decision::unproven(&view, team)) };
                let text = sealed_text(&whole.job).unwrap_or_default();
                proofs.check(&view, text).map(|()| text.to_owned())
            }
        };
        Ok(match checked {
            Ok(text) => decision::proven(&view, text, excerpt, team),
            Err(refusal) => {
                proofs.report(&view, &refusal);
                decision::unproven(&view, team)
            }
        })
    }

    pub(super) async fn proven_items(
        &self,
        items: Vec<WaitItem>,
        excerpt: Option<usize>,
    ) -> Result<Vec<WaitItem>, ServiceError> {
        let mut shown = Vec::with_capacity(items.len());
        for item in items {
            shown.push(match item {
                WaitItem::Found(view) => WaitItem::Found(Box::new(self.proven(*view, excerpt).await?)),
                unknown @ WaitItem::NotFound(_) => unknown,
            });
        }
        Ok(shown)
    }

    pub(super) fn proven_list(&self, mut list: JobList) -> JobList {
        if let Some(proofs) = &self.proofs {
            for job in &mut list.jobs {
                *job = decision::outline(job, proofs.team.as_deref());
            }
        }
        list
    }

    /// An error as the caller's model may read it: some quote what Redis holds, which the log has then.
    pub(super) fn plain(&self, error: ServiceError) -> ServiceError {
        let Some(proofs) = &self.proofs else { return error };
        let knows = |name: &String| proofs.team.as_ref().is_some_and(|team| team.agent(name).is_some());
        match error {
            ServiceError::Cycle { way } => {
                ServiceError::Cycle { way: way.into_iter().filter(knows).collect() }
            }
            ServiceError::Unavailable(source) => match source.downcast_ref::<QueueError>() {
                Some(quoting @ (QueueError::Unexpected { .. } | QueueError::Unreadable(_))) => {
                    tracing::warn!(error = %quoting, "what is stored cannot be read");
                    QueueError::Unexpected { step: "read jobs", detail: "the worker's log has it".to_owned() }
                        .into()
                }
                _ => ServiceError::Unavailable(source),
            },
            other => other,
        }
    }
}
