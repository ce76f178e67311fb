//! Dispatching jobs for a person or a program outside any session.

use std::sync::Arc;

use legwork_common::error::Coded;
use legwork_common::error::ExitStatus;
use legwork_common::id::JobId;
use legwork_common::id::SessionId;
use legwork_common::job::TeamDigest;
use legwork_common::money::SpendingLimit;
use legwork_common::policy::Policy;
use legwork_common::question::Approvals;
use legwork_common::service::RunRequest;
use legwork_common::service::ServiceError;
use legwork_common::team::Team;
use legwork_common::trace::TraceParent;
use thiserror::Error;

use crate::operator::Operator;
use crate::operator::RequestError;
use crate::operator::SessionOptions;
use crate::operator::check_prices;
use crate::operator::check_request;
use crate::port::DispatchedBy;
use crate::queue::ENQUEUE_BATCH_SIZE;
use crate::service::Batch;
use crate::service::Caller;
use crate::service::Service;

/// Jobs to dispatch in one call.
#[derive(Debug, Clone)]
pub struct DispatchOrder {
    /// The session to dispatch into, and the scope of idempotency keys. `None` opens a new session for this call; then
    /// keys hold in the whole namespace, because no later call could name the session.
    pub session: Option<SessionId>,
    /// What the session is opened with, where it is new.
    pub options: SessionOptions,
    /// The team whose agents the requests name.
    pub team: Arc<Team>,
    /// The team as stored with the jobs.
    pub team_json: Arc<str>,
    /// The digest of `team_json`.
    pub digest: TeamDigest,
    /// The folder that the jobs run in, on a worker of the same machine.
    pub working_dir: Option<String>,
    /// Where, when and how often jobs run whose requests do not say.
    pub policy: Arc<Policy>,
    /// The trace that the jobs belong to.
    pub trace: Option<TraceParent>,
    /// What becomes of calls that need a person's approval; `None` for what the workers' policies say.
    pub approvals: Option<Approvals>,
}

/// Jobs that were dispatched in one call.
#[derive(Debug)]
pub struct Dispatched {
    /// The session they belong to.
    pub session: SessionId,
    /// One answer for each request.
    pub batch: Batch,
}

/// Why nothing was dispatched.
#[derive(Debug, Error)]
pub enum DispatchError {
    /// A request is wrong; nothing was stored.
    #[error("request {number}: {source}")]
    Request {
        /// Which of the requests, counted from 1.
        number: usize,
        /// What is wrong.
        source: RequestError,
    },
    /// The session takes no jobs, or Redis could not be asked; nothing is known to be stored.
    #[error(transparent)]
    Service(#[from] ServiceError),
}

impl Coded for DispatchError {
    fn code(&self) -> &'static str {
        match self {
            Self::Request { source, .. } => source.code(),
            Self::Service(error) => error.code(),
        }
    }

    fn exit(&self) -> ExitStatus {
        match self {
            Self::Request { source, .. } => source.exit(),
            Self::Service(error) => error.exit(),
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Request { source, .. } => source.hint(),
            Self::Service(error) => error.hint(),
        }
    }
}

impl Operator {
    /// Stores the jobs of one call, in the order of the requests. If one request is wrong, none is stored.
    ///
    /// Stored jobs are durable when this answers. A crash in between leaves some of them stored; a repeat in the same
    /// session finds those that have an idempotency key. A new session that gets no job is forgotten with time.
    ///
    /// # Errors
    ///
    /// [`DispatchError`] when nothing is known to be stored. A refusal after some jobs were stored is part of the
    /// [`Batch`].
    pub async fn dispatch(
        &self,
        order: DispatchOrder,
        requests: Vec<RunRequest>,
    ) -> Result<Dispatched, DispatchError> {
        let mut dispatching = self.begin_dispatch(order, requests).await?;
        let mut batch = Batch::default();
        while let Some(answers) = dispatching.next().await {
            match answers {
                Ok(answers) => batch.answers.extend(answers),
                Err(error) if batch.answers.is_empty() => return Err(error.into()),
                Err(error) => {
                    batch.refused = Some(error);
                    break;
                }
            }
        }
        Ok(Dispatched { session: dispatching.session, batch })
    }

    /// Checks the requests of one call and opens its session; [`Dispatching::next`] then stores the jobs batch by batch,
    /// so that a caller can show what is stored, and stop in between.
    ///
    /// # Errors
    ///
    /// [`DispatchError`]; nothing is stored then.
    pub async fn begin_dispatch(
        &self,
        order: DispatchOrder,
        requests: Vec<RunRequest>,
    ) -> Result<Dispatching, DispatchError> {
        for (number, request) in (1..).zip(&requests) {
            let limits = [
                order.options.max_cost.map(SpendingLimit::Money),
                request.job_options.as_ref().and_then(|options| options.budget),
            ];
            check_request(request, &order.team)
                .and_then(|()| check_prices(&request.agent, &order.team, &order.policy, limits))
                .map_err(|source| DispatchError::Request { number, source })?;
        }
        let session = order.session.unwrap_or_else(SessionId::random);
        self.join_session(session, order.options).await?;
        let caller = Caller {
            session,
            by: DispatchedBy::Root,
            team: order.digest,
            team_json: order.team_json,
            working_dir: order.working_dir,
            keys_in_namespace: order.session.is_none(),
            policy: order.policy,
            trace: order.trace,
            root_agent: None,
            approvals: order.approvals,
        };
        Ok(Dispatching { session, service: self.service(caller), left: requests.into_iter() })
    }
}

/// Jobs of one call that are being stored.
#[derive(Debug)]
pub struct Dispatching {
    /// The session they belong to.
    pub session: SessionId,
    service: Service,
    left: std::vec::IntoIter<RunRequest>,
}

impl Dispatching {
    /// Stores the next batch of at most 200 jobs: one answer for each, in the order of the requests; `None` after the
    /// last. Stored jobs are durable when this answers. Dropping the future leaves the batch stored or not.
    ///
    /// # Errors
    ///
    /// [`ServiceError`] when the batch was refused as a whole, or when Redis could not be asked.
    pub async fn next(&mut self) -> Option<Result<Vec<Result<JobId, ServiceError>>, ServiceError>> {
        let batch: Vec<RunRequest> = self.left.by_ref().take(ENQUEUE_BATCH_SIZE).collect();
        if batch.is_empty() { None } else { Some(self.service.run_batch(batch).await) }
    }
}
