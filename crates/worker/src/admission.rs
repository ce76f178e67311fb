//! Which signed jobs a worker runs: it carries out what the trust file, the grants and the ledger decide.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::OnceLock;

use jiff::Timestamp;
use legwork_common::id::Dispatcher;
use legwork_common::id::JobId;
use legwork_common::job::Cause;
use legwork_common::lifecycle::State;
use legwork_common::team::Team;
use legwork_queue::port::Claimed;
use legwork_queue::port::Ending;
use legwork_signing::Accepted;
use legwork_signing::Envelope;
use legwork_signing::Grant;
use legwork_signing::JobSigner;
use legwork_signing::KeyId;
use legwork_signing::Refusal;
use legwork_signing::ResultTerms;
use legwork_signing::SigningKey;
use legwork_signing::Trust;
use legwork_signing::TurnSigner;
use legwork_signing::TurnVerifier;
use thiserror::Error;

use crate::ledger::Ledger;
use crate::ledger::LedgerError;
use crate::permits::Permits;

/// Why a job is not run here.
#[derive(Debug, Error)]
pub enum AdmissionError {
    /// It is not trusted.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Whether it is a replay is not known.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

/// Which keys a worker trusts, and how it signs its turns and the jobs of its jobs. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Admission {
    trust: Arc<Trust>,
    ledger: Ledger,
    /// The queues that the worker serves; `None` where it serves a session, whose jobs have any queue.
    queues: Option<Arc<BTreeSet<String>>>,
    /// Signs turns and the jobs of jobs; without it they are stored unsigned.
    key: Option<Arc<SigningKey>>,
}

impl Admission {
    /// The admission of a worker with `--trust`.
    pub fn new(
        trust: Trust,
        ledger: Ledger,
        queues: Option<BTreeSet<String>>,
        key: Option<SigningKey>,
    ) -> Self {
        Self { trust: Arc::new(trust), ledger, queues: queues.map(Arc::new), key: key.map(Arc::new) }
    }

    async fn admit(&self, claimed: &Claimed, team: Option<&Team>) -> Result<Accepted, AdmissionError> {
        let now = u64::try_from(Timestamp::now().as_millisecond()).unwrap_or(0);
        let accepted = self.trust.accept(claimed.signed.as_deref(), now)?;
        check_retries(claimed)?;
        // Which stream a job is on is not signed, and any writer of Redis could put it on this worker's.
        if self.queues.as_ref().is_some_and(|queues| !queues.contains(&claimed.queue)) {
            return Err(Refusal::NotServed { queue: claimed.queue.clone() }.into());
        }
        // A team that comes back later would run unchecked: what an attempt may is decided once.
        let Some(team) = team else { return Err(Refusal::Altered { term: "team" }.into()) };
        check_grants(&accepted.grants, claimed, team)?;
        let job = claimed.lease.id;
        // Last, so that a job that is refused for another reason leaves nothing here.
        match self.ledger.begin(job, claimed.attempt, (now, accepted.expires_ms)).await? {
            None => Ok(accepted),
            Some(detail) => Err(Refusal::Replayed { job, detail }.into()),
        }
    }
}

/// The retries that are left, and those that were used, are not more than were signed.
fn check_retries(claimed: &Claimed) -> Result<(), Refusal> {
    let signed = claimed.signed.as_ref().map_or(0, |signed| signed.terms.retries);
    if claimed.retries.saturating_add(claimed.failures) > signed {
        return Err(Refusal::Altered { term: "retries" });
    }
    Ok(())
}

/// The job's agent, and those that it may hand over to, have only what every key of the chain may sign.
fn check_grants(grants: &[(KeyId, Grant)], claimed: &Claimed, team: &Team) -> Result<(), Refusal> {
    // The runner rejects a job whose team has no such agent.
    let Some(agent) = team.agent(&claimed.spec.agent) else { return Ok(()) };
    for (key, grant) in grants {
        let Grant { agents, toolsets, commands, .. } = grant.clone();
        let permits = Permits { agents, toolsets, commands, ..Permits::default() };
        permits
            .check(team, agent)
            .map_err(|unpermitted| Refusal::NotGranted { key: key.clone(), what: unpermitted.to_string() })?;
    }
    Ok(())
}

/// The turns of a job that this worker signs.
#[derive(Debug)]
pub(crate) struct SignedTurns {
    /// Signs the next ones.
    pub(crate) signer: TurnSigner,
    /// Where they are counted.
    pub(crate) noted: NotedTurns,
}

/// Counts the turns of a job that are stored, by which it is noticed that the last ones are missing.
#[derive(Debug, Clone)]
pub(crate) struct NotedTurns {
    ledger: Ledger,
    job: JobId,
}

impl NotedTurns {
    /// Notes that so many entries are stored. A failure is logged: it is not noticed then where they are missing.
    pub(crate) async fn note(&self, entries: u64) {
        if let Err(error) = self.ledger.note_turns(self.job, entries).await {
            tracing::warn!(job = %self.job, %error, "the turns of a signed job are not in the ledger");
        }
    }
}

/// The admission of one attempt: decided once, however often its run is prepared.
#[derive(Debug, Default)]
pub(crate) struct AttemptAdmission {
    admission: Option<Admission>,
    envelope: OnceLock<Arc<Envelope>>,
}

impl AttemptAdmission {
    /// That of an attempt of this worker; `None` trusts every job.
    pub(crate) fn new(admission: Option<Admission>) -> Self {
        Self { admission, envelope: OnceLock::new() }
    }

    /// Decides, unless that was done. An error that says nothing about the job may be followed by another call.
    pub(crate) async fn admit(&self, claimed: &Claimed, team: Option<&Team>) -> Result<(), AdmissionError> {
        let Some(admission) = self.admission.as_ref().filter(|_| self.envelope.get().is_none()) else {
            return Ok(());
        };
        let accepted = admission.admit(claimed, team).await?;
        let _first = self.envelope.set(Arc::new(accepted.envelope));
        Ok(())
    }

    /// Signs the jobs of an admitted job; `None` where they are not signed. A job that was not verified never signs others:
    /// it would lend them the worker's name.
    pub(crate) fn signer(&self) -> Option<JobSigner> {
        let key = self.admission.as_ref()?.key.as_ref()?;
        Some(JobSigner::below(Arc::clone(key), Arc::clone(self.envelope.get()?)))
    }

    /// Which answers of people and messages count; `None` for all.
    pub(crate) fn trust(&self) -> Option<Arc<Trust>> {
        self.admission.as_ref().map(|admission| Arc::clone(&admission.trust))
    }

    /// Verifies the recorded turns of this job, or of the one that it retries; `None` where every job is trusted.
    pub(crate) fn turn_verifier(&self, job: JobId) -> Option<TurnVerifier> {
        self.admission.as_ref().map(|admission| TurnVerifier::new(Arc::clone(&admission.trust), job))
    }

    /// Checks that a job has all the turns that were recorded here, once all that it has are verified.
    ///
    /// # Errors
    ///
    /// [`AdmissionError`] where the last ones are missing, or that is not known.
    pub(crate) async fn check_all_turns(
        &self,
        job: JobId,
        verifier: Option<&TurnVerifier>,
    ) -> Result<(), AdmissionError> {
        let (Some(admission), Some(verifier)) = (&self.admission, verifier) else { return Ok(()) };
        let (found, noted) = (verifier.verified(), admission.ledger.turns(job).await?);
        if found < noted { Err(Refusal::CutOff { found, noted }.into()) } else { Ok(()) }
    }

    /// Signs the turns of a job after those that were verified; `None` where this worker does not sign.
    pub(crate) fn turn_signer(&self, job: JobId, verifier: Option<TurnVerifier>) -> Option<SignedTurns> {
        let Admission { key, ledger, .. } = self.admission.as_ref()?;
        let signer = verifier?.into_signer(Arc::clone(key.as_ref()?));
        Some(SignedTurns { signer, noted: NotedTurns { ledger: ledger.clone(), job } })
    }

    /// The seal of the end of a job that another job dispatched, whose model reads it; `None` where this worker does not sign, for a
    /// job that it did not admit, and for what is not its agent's: a stop, a refusal.
    pub(crate) fn seal_end(&self, claimed: &Claimed, ending: &Ending) -> Option<String> {
        let Dispatcher::Job(_) = claimed.dispatcher else { return None };
        let key = self.admission.as_ref()?.key.as_ref()?;
        self.envelope.get()?;
        let (state, cause, text) = ending.parts();
        if state == State::Stopped || cause == Some(Cause::Rejected) {
            return None;
        }
        let (job, session) = (claimed.lease.id, claimed.session);
        Some(key.seal_result(&ResultTerms { job, session, state, cause, text }))
    }

    /// Notes the end of the job. A failure is logged: a replay with a higher number is not recognized then.
    pub(crate) async fn end(&self, claimed: &Claimed) {
        let Some(admission) = self.admission.as_ref().filter(|_| self.envelope.get().is_some()) else {
            return;
        };
        if let Err(error) = admission.ledger.end(claimed.lease.id).await {
            tracing::warn!(job = %claimed.lease.id, %error, "the end of a signed job is not in the ledger");
        }
    }
}
