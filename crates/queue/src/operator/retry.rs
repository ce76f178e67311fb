//! Retrying jobs: each failed or stopped job is dispatched once more as a new job. Forking: any job is, with another task.

use std::collections::HashMap;

use futures::Stream;
use futures::stream;
use legwork_common::error::Coded;
use legwork_common::error::ExitStatus;
use legwork_common::id::JobId;
use legwork_common::id::SessionId;
use legwork_common::job::JobSpec;
use legwork_common::job::TeamDigest;
use legwork_common::lifecycle::State;
use legwork_common::service::ServiceError;
use legwork_common::service::WRONG_STATE;
use legwork_common::team::Team;
use legwork_signing::Refusal;
use thiserror::Error;

use crate::error::QueueError;
use crate::operator::Operator;
use crate::operator::SEE_LIST;
use crate::operator::SessionOptions;
use crate::operator::end_it_first;
use crate::port::Dispatch as _;
use crate::port::DispatchedBy;
use crate::port::Enqueue;
use crate::port::EnqueueRefusal;
use crate::port::Enqueued;
use crate::port::NewJob;
use crate::port::Original;
use crate::port::Watch as _;

/// Where a retried job begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryMode {
    /// After the last turn that the original recorded.
    Resume,
    /// From the beginning.
    Fresh,
}

/// Why a job was not retried.
#[derive(Debug, Error)]
pub enum RetryError {
    /// The job is not stored.
    #[error("task not found: {0}")]
    NotFound(JobId),
    /// The job did what it was asked for.
    #[error("task {0} has completed")]
    Completed(JobId),
    /// The job still runs or waits.
    #[error("task {id} has not ended (status: {status})")]
    NotEnded {
        /// The job.
        id: JobId,
        /// Its status.
        status: State,
    },
    /// The job was retried before; the retry is stored.
    #[error("task {of} was already retried as {id}")]
    AlreadyRetried {
        /// The job.
        of: JobId,
        /// Its retry.
        id: JobId,
    },
    /// The job's team was dropped, so its agent is unknown.
    #[error("the team of {0} is not stored any more")]
    TeamGone(JobId),
    /// The job would be signed again, and it was not signed as it is stored now, by a key that is trusted here.
    #[error("task {of} cannot be signed again: {reason}")]
    Untrusted {
        /// The job.
        of: JobId,
        /// Why its own signature does not count.
        reason: Refusal,
    },
    /// The job's session takes no new jobs, and the new session that was opened for it could not be used either.
    #[error(transparent)]
    Refused(#[from] ServiceError),
    /// Redis could not be asked. The new job may or may not be stored; a repeat finds it.
    #[error(transparent)]
    Queue(#[from] QueueError),
}

impl Coded for RetryError {
    fn code(&self) -> &'static str {
        match self {
            Self::NotFound(_) => "not_found",
            Self::Completed(_) | Self::NotEnded { .. } => WRONG_STATE,
            Self::TeamGone(_) => "team_gone",
            Self::Untrusted { .. } => "untrusted",
            Self::AlreadyRetried { .. } => "already_retried",
            Self::Refused(error) => error.code(),
            Self::Queue(error) => error.code(),
        }
    }

    fn exit(&self) -> ExitStatus {
        match self {
            Self::NotFound(_) => ExitStatus::NotFound,
            Self::Completed(_) | Self::NotEnded { .. } | Self::TeamGone(_) | Self::Untrusted { .. } => {
                ExitStatus::Usage
            }
            Self::AlreadyRetried { .. } => ExitStatus::Conflict,
            Self::Refused(error) => error.exit(),
            Self::Queue(error) => error.exit(),
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::NotFound(_) => Some(SEE_LIST.to_owned()),
            Self::Completed(_) => Some(
                "only failed and stopped jobs are retried; `legwork dispatch FILE AGENT TASK` starts a new one".to_owned(),
            ),
            Self::NotEnded { id, .. } => Some(end_it_first(*id)),
            Self::AlreadyRetried { of, .. } => {
                Some(format!("`legwork retry --again {of}` retries it once more"))
            }
            Self::TeamGone(_) => None,
            Self::Untrusted { .. } => Some(
                "--trust names the keys whose jobs are signed again; `legwork dispatch FILE AGENT TASK` starts a new one".to_owned(),
            ),
            Self::Refused(error) => error.hint(),
            Self::Queue(error) => error.hint(),
        }
    }
}

/// A job that may be retried, as it was first dispatched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetryPlan {
    of: JobId,
    original: Original,
    mode: RetryMode,
    again: bool,
    /// The task of a fork, which begins anew; `None` for a retry.
    fork: Option<String>,
}

impl Operator {
    /// The team and the agent that run a job; `None` where the job or its team is not stored, or a later release wrote it.
    ///
    /// # Errors
    ///
    /// [`QueueError`] when Redis cannot be reached.
    pub async fn agent_of(&self, id: JobId) -> Result<Option<(Team, String)>, QueueError> {
        let Some(original) = self.queue().original(id).await? else { return Ok(None) };
        let team = original.team_json.as_deref().and_then(|json| serde_json::from_str(json).ok());
        Ok(team.map(|team| (team, original.spec.agent)))
    }
}

impl RetryPlan {
    /// The job that is retried.
    pub fn of(&self) -> JobId {
        self.of
    }

    /// The queue that the new job will wait in.
    pub fn queue(&self) -> &str {
        &self.original.job_options.queue
    }

    /// The digest of the team that will run it.
    pub fn team_digest(&self) -> &TeamDigest {
        &self.original.spec.team
    }

    /// The agent that will run it.
    pub fn agent(&self) -> &str {
        &self.original.spec.agent
    }

    /// The job's team, if it is still stored and this release can read it.
    pub fn team(&self) -> Option<Team> {
        serde_json::from_str(self.original.team_json.as_deref()?).ok()
    }

    /// The new job, in `session`. Without the original's idempotency key: under the key the original would be found.
    fn new_job(&self, session: SessionId) -> NewJob {
        let spec = JobSpec { key: None, ..self.original.spec.clone() };
        let fresh = self.mode == RetryMode::Fresh;
        let spec = match &self.fork {
            Some(task) => JobSpec { task: task.clone(), retry_of: None, fresh: false, ..spec },
            None => JobSpec { retry_of: Some(self.of), fresh, ..spec },
        };
        NewJob {
            id: JobId::random_in(session),
            spec,
            job_options: self.original.job_options.clone(),
            idempotency_key: None,
            again: self.again,
        }
    }
}

/// A job that was retried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retried {
    /// The original, which stays as it ended.
    pub of: JobId,
    /// The new job.
    pub id: JobId,
    /// The new job's session: the original's, or a new one where that takes no more jobs.
    pub session: SessionId,
}

/// What to do about a refused retry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Recovery {
    StoreTeam,
    OpenSession,
    GiveUp,
}

impl Operator {
    /// Reads what a retry of `of` needs. `again` retries even a job that was retried before. Changes
    /// nothing, so a caller can plan all of its retries before the first.
    ///
    /// # Errors
    ///
    /// [`RetryError`] when the job did not fail and was not stopped, or when Redis cannot be reached.
    pub async fn plan_retry(&self, of: JobId, mode: RetryMode, again: bool) -> Result<RetryPlan, RetryError> {
        let original = self.queue().original(of).await?.ok_or(RetryError::NotFound(of))?;
        check_status(of, original.status)?;
        self.check_original(&original).map_err(|reason| RetryError::Untrusted { of, reason })?;
        Ok(RetryPlan { of, original, mode, again, fork: None })
    }

    /// Reads what a fork of `of` needs: a new job of the same agent with the same options and with `task` in place of its
    /// task, or with the same one. It begins anew, whatever became of `of`, which stays as it is. Changes nothing;
    /// [`Operator::retry_many`] dispatches it.
    ///
    /// # Errors
    ///
    /// [`RetryError`] when the job is not stored, may not be signed again, or Redis cannot be reached.
    pub async fn plan_fork(&self, of: JobId, task: Option<String>) -> Result<RetryPlan, RetryError> {
        let original = self.queue().original(of).await?.ok_or(RetryError::NotFound(of))?;
        self.check_original(&original).map_err(|reason| RetryError::Untrusted { of, reason })?;
        let fork = Some(task.unwrap_or_else(|| original.spec.task.clone()));
        Ok(RetryPlan { of, original, mode: RetryMode::Fresh, again: false, fork })
    }

    /// Dispatches planned retries one after the other; one result for each, in their order. Jobs of a session that
    /// takes no more jobs share a new session.
    ///
    /// A job that was retried before is refused, unless its plan says `again`: the queue records the retry in the step
    /// that stores it, so two callers at once, and a repeat after a lost answer, store one.
    pub fn retry_many(
        &self,
        plans: Vec<RetryPlan>,
    ) -> impl Stream<Item = Result<Retried, RetryError>> + Send + '_ {
        let moved: HashMap<SessionId, SessionId> = HashMap::new();
        stream::unfold((plans.into_iter(), moved), async move |(mut plans, mut moved)| {
            let plan = plans.next()?;
            let retried = self.retry(&plan, &mut moved).await;
            Some((retried, (plans, moved)))
        })
    }

    /// Dispatches one retry into the original's session or, where `moved` or a refusal says that it takes no more jobs,
    /// into another session in the same shard.
    async fn retry(
        &self,
        plan: &RetryPlan,
        moved: &mut HashMap<SessionId, SessionId>,
    ) -> Result<Retried, RetryError> {
        let home = plan.original.session;
        let mut session = moved.get(&home).copied().unwrap_or(home);
        loop {
            let request = Enqueue {
                session,
                by: DispatchedBy::Root,
                team: plan.original.spec.team.clone(),
                jobs: vec![plan.new_job(session)],
                signer: self.signer(),
            };
            let refusal = match self.queue().enqueue(&request).await? {
                Ok(stored) => {
                    return match stored.first() {
                        Some(Enqueued::Retried(id)) => {
                            Err(RetryError::AlreadyRetried { of: plan.of, id: *id })
                        }
                        first => Ok(Retried { of: plan.of, id: stored_id(first)?, session }),
                    };
                }
                Err(refusal) => refusal,
            };
            match recovery(refusal, session == home) {
                Recovery::StoreTeam => {
                    let Original { spec, team_json, .. } = &plan.original;
                    let team_json = team_json.as_ref().ok_or(RetryError::TeamGone(plan.of))?;
                    self.queue().store_team(session, &spec.team, team_json).await?;
                }
                Recovery::OpenSession => {
                    session = SessionId::random_in_shard_of(plan.of);
                    self.join_session(session, SessionOptions::default()).await?;
                    moved.insert(home, session);
                }
                Recovery::GiveUp => return Err(RetryError::Refused(given_up(refusal))),
            }
        }
    }
}

/// Only failed and stopped jobs are retried.
fn check_status(id: JobId, status: State) -> Result<(), RetryError> {
    match status {
        State::Failed | State::Stopped => Ok(()),
        State::Completed => Err(RetryError::Completed(id)),
        status => Err(RetryError::NotEnded { id, status }),
    }
}

/// What a refusal in the job's own session, or in the one opened for it, is answered with.
fn recovery(refusal: EnqueueRefusal, at_home: bool) -> Recovery {
    match refusal {
        EnqueueRefusal::NoTeam => Recovery::StoreTeam,
        // A session of the retry's own would be a way around the quota.
        EnqueueRefusal::Full { .. } => Recovery::GiveUp,
        EnqueueRefusal::NoSession
        | EnqueueRefusal::Closed
        | EnqueueRefusal::Stale
        | EnqueueRefusal::TooDeep
        | EnqueueRefusal::Stopping => {
            if at_home {
                Recovery::OpenSession
            } else {
                Recovery::GiveUp
            }
        }
    }
}

/// What a refusal is reported as that no other session helps against.
fn given_up(refusal: EnqueueRefusal) -> ServiceError {
    match refusal {
        EnqueueRefusal::Full { unfinished, quota } => ServiceError::SessionFull { unfinished, quota },
        _ => ServiceError::Stopping,
    }
}

/// The id of the only job of a request.
fn stored_id(stored: Option<&Enqueued>) -> Result<JobId, QueueError> {
    match stored {
        Some(Enqueued::Stored(id) | Enqueued::Conflict(id) | Enqueued::Retried(id)) => Ok(*id),
        None => Err(QueueError::Unexpected { step: "enqueue", detail: "no id for the job".to_owned() }),
    }
}

#[cfg(test)]
mod tests {
    use legwork_common::job::JobOptions;
    use legwork_common::money::SpendingLimit;

    use super::*;

    fn plan(mode: RetryMode) -> RetryPlan {
        let session = SessionId::random();
        let spec = JobSpec {
            expected_output: Some("a number".to_owned()),
            key: Some("once".to_owned()),
            fresh: true,
            budget: Some(SpendingLimit::Tokens(7)),
            ..JobSpec::new("worker", "count", TeamDigest("0".repeat(64)))
        };
        let job_options = JobOptions { queue: "code".to_owned(), retries: 2, ..JobOptions::default() };
        let original =
            Original { status: State::Failed, session, spec, job_options, team_json: None, signed: None };
        RetryPlan { of: JobId::random_in(session), original, mode, again: false, fork: None }
    }

    #[test]
    fn a_retry_asks_for_the_same_without_the_key() {
        for (mode, fresh) in [(RetryMode::Resume, false), (RetryMode::Fresh, true)] {
            let plan = plan(mode);
            let session = SessionId::random_in_shard_of(plan.of);
            let job = plan.new_job(session);
            let original = plan.original.spec.clone();
            let expected = JobSpec { key: None, retry_of: Some(plan.of), fresh, ..original };
            assert_eq!((&job.spec, &job.job_options), (&expected, &plan.original.job_options));
            assert_eq!((job.idempotency_key, plan.queue()), (None, "code"));
            assert_ne!(job.id, plan.of);
        }
    }

    #[test]
    fn a_fork_is_a_job_of_its_own_with_another_task() {
        let plan = RetryPlan { fork: Some("count again".to_owned()), ..plan(RetryMode::Fresh) };
        let job = plan.new_job(plan.original.session);
        let original = plan.original.spec.clone();
        let expected =
            JobSpec { task: "count again".to_owned(), key: None, retry_of: None, fresh: false, ..original };
        assert_eq!((&job.spec, &job.job_options), (&expected, &plan.original.job_options));
        assert_ne!(job.id, plan.of);
    }

    #[test]
    fn only_failed_and_stopped_jobs_are_retried() {
        let id = JobId::random_in(SessionId::random());
        for status in State::ALL {
            let expected = match status {
                State::Failed | State::Stopped => None,
                State::Completed => Some(format!("task {id} has completed")),
                other => Some(format!("task {id} has not ended (status: {other})")),
            };
            let found = check_status(id, status).err().map(|error| error.to_string());
            assert_eq!(found, expected, "{status}");
        }
    }

    #[test]
    fn a_session_that_takes_no_jobs_is_left_once() {
        for (refusal, at_home, elsewhere) in [
            (EnqueueRefusal::NoTeam, Recovery::StoreTeam, Recovery::StoreTeam),
            (EnqueueRefusal::NoSession, Recovery::OpenSession, Recovery::GiveUp),
            (EnqueueRefusal::Closed, Recovery::OpenSession, Recovery::GiveUp),
            (EnqueueRefusal::Stopping, Recovery::OpenSession, Recovery::GiveUp),
            (EnqueueRefusal::Full { unfinished: 3, quota: 3 }, Recovery::GiveUp, Recovery::GiveUp),
        ] {
            assert_eq!(
                (recovery(refusal, true), recovery(refusal, false)),
                (at_home, elsewhere),
                "{refusal:?}"
            );
        }
    }
}
