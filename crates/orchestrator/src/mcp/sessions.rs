//! The sessions behind the connections, and their workers.
//!
//! The sessions have no owner, so jobs continue when a host disconnects. On the embedded server each session with jobs
//! gets a detached worker, so that jobs also outlive this program, however it ends.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

use legwork_common::contract::PollCounter;
use legwork_common::id::JobId;
use legwork_common::id::SessionId;
use legwork_common::job::TeamDigest;
use legwork_common::policy::Policy;
use legwork_common::service::BackgroundAgents as _;
use legwork_common::service::RunRequest;
use legwork_common::service::ServiceError;
use legwork_common::trace::TraceParent;
use legwork_queue::Caller;
use legwork_queue::DispatchedBy;
use legwork_queue::Operator;
use legwork_queue::Service;
use legwork_queue::operator::SessionOptions;
use tokio_util::task::TaskTracker;

use crate::context::Context;
use crate::failure::Failure;
use crate::local_worker;

/// Interval between two checks of the sessions' workers. A killed worker's jobs are reclaimed only after their lease
/// has expired, so checking more often gains nothing.
const WORKER_CHECK_INTERVAL: Duration = Duration::from_secs(2);

/// All sessions of this server, with what they share.
#[derive(Debug)]
pub struct McpSessions {
    /// The command's context, for the options that detached workers inherit.
    pub context: Context,
    /// The handle on the namespace.
    pub operator: Operator,
    /// The digest under which the team is stored.
    pub team: TeamDigest,
    /// The team as JSON, stored with a session's first job.
    pub team_json: Arc<str>,
    /// The fleet's policy, applied to the jobs.
    pub policy: Arc<Policy>,
    /// The working directory of jobs, on a worker of this machine.
    pub working_dir: String,
    /// What each session is opened with: its cap, its quota and its budgets.
    pub limits: SessionOptions,
    /// Whether the queue is on the embedded server, where each session needs a worker of its own.
    pub embedded: bool,
    /// The script of model replies; `None` for real providers.
    pub script: Option<PathBuf>,
    /// Agents that cannot be dispatched because their models have no price that the sessions' budget needs, each with the
    /// sentence for the host's model.
    pub unpriced: BTreeMap<String, String>,
    /// Dispatches in progress. Shutdown waits for them, or a job could be stored for which no worker was started.
    pub dispatching: TaskTracker,
    /// The sessions that may need a worker.
    pub watched: WatchedSessions,
    /// The views of all sessions' live jobs. A std mutex, because it is never held across an await.
    pub polls: Mutex<PollCounter>,
}

/// Sessions that had live jobs at the last check, each with a lock that serializes starting its worker.
#[derive(Debug, Default)]
pub struct WatchedSessions {
    // A std mutex, because it is never held across an await.
    sessions: Mutex<BTreeMap<SessionId, Arc<tokio::sync::Mutex<()>>>>,
}

impl WatchedSessions {
    fn sessions(&self) -> MutexGuard<'_, BTreeMap<SessionId, Arc<tokio::sync::Mutex<()>>>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The start lock of a session, which is watched from now on.
    fn start_lock(&self, session: SessionId) -> Arc<tokio::sync::Mutex<()>> {
        Arc::clone(self.sessions().entry(session).or_default())
    }

    /// Removes a session and returns its lock, unless a worker is being started for it.
    fn remove_idle(&self, session: SessionId) -> Option<Arc<tokio::sync::Mutex<()>>> {
        let mut sessions = self.sessions();
        // The count is exact: clones of the lock are made only under the mutex that is held here.
        let idle = sessions.get(&session).is_some_and(|lock| Arc::strong_count(lock) == 1);
        if idle { sessions.remove(&session) } else { None }
    }

    /// Watches a session again. A lock that was made in between stays, because a dispatch may hold it already.
    fn restore(&self, session: SessionId, lock: Arc<tokio::sync::Mutex<()>>) {
        self.sessions().entry(session).or_insert(lock);
    }

    fn all(&self) -> Vec<SessionId> {
        self.sessions().keys().copied().collect()
    }
}

impl McpSessions {
    /// What a new session is opened with.
    pub fn options(&self) -> SessionOptions {
        self.limits
    }

    /// The service of a session's root.
    pub fn service(&self, session: SessionId) -> Service {
        self.service_with_trace(session, None)
    }

    /// The service of a session's root, whose jobs belong to `trace`, or to this program's own trace without one.
    fn service_with_trace(&self, session: SessionId, trace: Option<TraceParent>) -> Service {
        let caller = Caller {
            session,
            by: DispatchedBy::Root,
            team: self.team.clone(),
            team_json: Arc::clone(&self.team_json),
            working_dir: Some(self.working_dir.clone()),
            keys_in_namespace: false,
            policy: Arc::clone(&self.policy),
            trace: trace.or_else(|| self.context.trace()),
            root_agent: None,
            approvals: None,
        };
        self.operator.service(caller)
    }

    /// Dispatches a job into a session, which is opened first if it is new. The job is durable when this answers, and a
    /// repeat with the same key finds it. A worker that cannot be started is retried by
    /// [`keep_served`](Self::keep_served).
    ///
    /// # Errors
    ///
    /// [`ServiceError`] when the job was not stored, or may or may not be stored because Redis did not answer.
    pub async fn dispatch(
        &self,
        session: SessionId,
        request: RunRequest,
        trace: Option<TraceParent>,
    ) -> Result<JobId, ServiceError> {
        let _in_progress = self.dispatching.token();
        let turn = self.operator.dispatch_turn().await;
        self.operator.join_session(session, self.options()).await?;
        let id = self.service_with_trace(session, trace).run(request).await?;
        drop(turn);
        if let Err(failure) = self.serve(session).await {
            tracing::error!(%session, "{}", failure.message);
        }
        Ok(id)
    }

    /// Ensures that a session has a worker; does nothing on a fleet, whose workers are not this program's.
    ///
    /// # Errors
    ///
    /// [`Failure`] when no worker can be started.
    pub async fn serve(&self, session: SessionId) -> Result<(), Failure> {
        if !self.embedded {
            return Ok(());
        }
        // Concurrent dispatches would otherwise start a worker each.
        let lock = self.watched.start_lock(session);
        let _starting = lock.lock().await;
        local_worker::serve_in_background(&self.context, &self.operator, session, self.script.as_deref())
            .await
    }

    /// Watches a session that may have jobs of an earlier server.
    pub fn watch(&self, session: SessionId) {
        if self.embedded {
            let _lock = self.watched.start_lock(session);
        }
    }

    /// Checks the watched sessions forever: starts a worker where live jobs have none, such as after a worker was
    /// killed, and stops watching sessions without live jobs.
    pub async fn keep_served(&self) -> Infallible {
        loop {
            for session in self.watched.all() {
                // Removed before its jobs are counted, so that a dispatch after the count watches it again. The other
                // order would lose a session whose first job is stored between the count and the removal.
                let Some(lock) = self.watched.remove_idle(session) else { continue };
                match self.service(session).is_settled().await {
                    Ok(true) => continue,
                    Ok(false) => self.watched.restore(session, lock),
                    Err(error) => {
                        self.watched.restore(session, lock);
                        tracing::warn!(%error, %session, "could not check the session's worker");
                        continue;
                    }
                }
                if let Err(failure) = self.serve(session).await {
                    tracing::error!(%session, "{}", failure.message);
                }
            }
            tokio::time::sleep(WORKER_CHECK_INTERVAL).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_stays_watched_while_its_worker_starts() {
        let (watched, session) = (WatchedSessions::default(), SessionId::random());
        let starting = watched.start_lock(session);
        assert!(watched.remove_idle(session).is_none());
        drop(starting);
        let lock = watched.remove_idle(session).unwrap();
        assert_eq!(watched.all(), []);
        // A dispatch in between made a lock of its own, which stays.
        let newer = watched.start_lock(session);
        watched.restore(session, lock);
        assert!(Arc::ptr_eq(&newer, &watched.start_lock(session)));
    }
}
