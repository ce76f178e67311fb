//! The sessions behind the connections, and who works for them.
//!
//! A session has no owner: its jobs go on whoever leaves. On the embedded server each session with jobs is served by
//! a program of its own in the background, so that jobs outlive this one however it ends.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

use legwork_common::id::JobId;
use legwork_common::id::SessionId;
use legwork_common::job::TeamDigest;
use legwork_common::policy::Policy;
use legwork_common::service::BackgroundAgents as _;
use legwork_common::service::RunRequest;
use legwork_common::service::ServiceError;
use legwork_common::trace::TraceParent;
use legwork_queue::Caller;
use legwork_queue::Observer;
use legwork_queue::Service;
use legwork_queue::port::Dispatch as _;
use legwork_queue::port::DispatchedBy;
use legwork_queue::port::OpenSession;
use legwork_queue::port::Opened;
use legwork_queue::port::SessionEnd;
use tokio_util::task::TaskTracker;

use crate::context::Context;
use crate::failure::Failure;
use crate::local_worker;

/// How often sessions are looked at for a worker that is gone.
const TEND_EVERY: Duration = Duration::from_secs(2);

/// What the sessions have in common.
#[derive(Debug)]
pub struct McpSessions {
    /// What the command was given.
    pub context: Context,
    /// The queue and its hints.
    pub observer: Observer,
    /// The stored name of the team.
    pub team: TeamDigest,
    /// The team as JSON.
    pub team_json: Arc<str>,
    /// What the fleet decides for jobs.
    pub policy: Arc<Policy>,
    /// The folder that jobs run in, on a worker of this machine.
    pub working_dir: String,
    /// How many jobs of a session are admitted at once; 0 for no cap.
    pub cap: u32,
    /// How many tokens the models of one session may count; `None` for no limit.
    pub budget: Option<u64>,
    /// Whether the embedded server serves, so that each session needs a worker.
    pub embedded: bool,
    /// The script of model replies, if any.
    pub script: Option<PathBuf>,
    /// Dispatches that have begun. Whoever ends this program waits for them: a host that is gone is no reason to store a
    /// job and start no worker for it.
    pub dispatching: TaskTracker,
    /// The sessions that may need a worker, each with the lock of whoever starts one.
    pub tended: Tended,
}

/// Sessions of this program that had jobs when they were last looked at.
#[derive(Debug, Default)]
pub struct Tended {
    // A std mutex: never held over an await.
    sessions: Mutex<BTreeMap<SessionId, Arc<tokio::sync::Mutex<()>>>>,
}

impl Tended {
    fn sessions(&self) -> MutexGuard<'_, BTreeMap<SessionId, Arc<tokio::sync::Mutex<()>>>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_of(&self, session: SessionId) -> Arc<tokio::sync::Mutex<()>> {
        Arc::clone(self.sessions().entry(session).or_default())
    }

    /// Takes a session out where nobody starts a worker for it now.
    fn take_out(&self, session: SessionId) -> Option<Arc<tokio::sync::Mutex<()>>> {
        let mut sessions = self.sessions();
        // Clones are made under the same lock as this, so the count is exact.
        let idle = sessions.get(&session).is_some_and(|lock| Arc::strong_count(lock) == 1);
        if idle { sessions.remove(&session) } else { None }
    }

    fn put_back(&self, session: SessionId, lock: Arc<tokio::sync::Mutex<()>>) {
        self.sessions().entry(session).or_insert(lock);
    }

    fn all(&self) -> Vec<SessionId> {
        self.sessions().keys().copied().collect()
    }
}

impl McpSessions {
    /// What the root of a session may do.
    pub fn service(&self, session: SessionId) -> Service {
        self.traced(session, None)
    }

    /// The same, with the trace that its jobs belong to.
    fn traced(&self, session: SessionId, trace: Option<TraceParent>) -> Service {
        let caller = Caller {
            session,
            by: DispatchedBy::Root,
            team: self.team.clone(),
            team_json: Arc::clone(&self.team_json),
            working_dir: Some(self.working_dir.clone()),
            keys_in_namespace: false,
            policy: Arc::clone(&self.policy),
            trace: trace.or_else(|| self.context.trace()),
        };
        Service::new(self.observer.clone(), caller)
    }

    /// Dispatches into a session, which is opened if need be. The job is durable when this answers, and a repeat with
    /// the same key finds it. A worker that cannot be started now is tried again by [`tend`](Self::tend).
    ///
    /// # Errors
    ///
    /// [`ServiceError`] when nothing was stored, or nobody knows.
    pub async fn dispatch(
        &self,
        session: SessionId,
        request: RunRequest,
        trace: Option<TraceParent>,
    ) -> Result<JobId, ServiceError> {
        let _begun = self.dispatching.token();
        self.open(session).await?;
        let id = self.traced(session, trace).run(request).await?;
        if let Err(failure) = self.serve(session).await {
            tracing::error!(%session, "{}", failure.message);
        }
        Ok(id)
    }

    /// Sees to it that a session's jobs have a worker, where that is for this program to do.
    ///
    /// # Errors
    ///
    /// [`Failure`] when none can be started.
    pub async fn serve(&self, session: SessionId) -> Result<(), Failure> {
        if !self.embedded {
            return Ok(());
        }
        // Twenty dispatches at once need one worker.
        let lock = self.tended.lock_of(session);
        let _starting = lock.lock().await;
        local_worker::serve_in_background(
            &self.context,
            self.observer.queue(),
            session,
            self.script.as_deref(),
        )
        .await
    }

    /// From now on a session is looked after that an earlier host may have left jobs in.
    pub fn come_back(&self, session: SessionId) {
        if self.embedded {
            let _lock = self.tended.lock_of(session);
        }
    }

    /// Looks after the sessions' workers for ever: one that was killed is followed by another.
    pub async fn tend(&self) -> Infallible {
        loop {
            for session in self.tended.all() {
                // Before it is asked for its jobs: whoever dispatches from now on puts it in again.
                let Some(lock) = self.tended.take_out(session) else { continue };
                match self.service(session).is_settled().await {
                    Ok(true) => continue,
                    Ok(false) => self.tended.put_back(session, lock),
                    Err(error) => {
                        self.tended.put_back(session, lock);
                        tracing::warn!(%error, %session, "could not look after the session");
                        continue;
                    }
                }
                if let Err(failure) = self.serve(session).await {
                    tracing::error!(%session, "{}", failure.message);
                }
            }
            tokio::time::sleep(TEND_EVERY).await;
        }
    }

    async fn open(&self, session: SessionId) -> Result<(), ServiceError> {
        let open = OpenSession {
            session,
            owner: None,
            on_end: SessionEnd::Keep,
            cap: self.cap,
            own_lane: self.embedded,
            budget: self.budget,
        };
        match self.observer.queue().open(&open).await? {
            Opened::Open | Opened::Owned => Ok(()),
            Opened::Closed => Err(ServiceError::SessionClosed(session.to_string())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_stays_that_somebody_starts_a_worker_for() {
        let (tended, session) = (Tended::default(), SessionId::random());
        let starting = tended.lock_of(session);
        assert!(tended.take_out(session).is_none());
        drop(starting);
        let lock = tended.take_out(session).unwrap();
        assert_eq!(tended.all(), []);
        // Somebody dispatched meanwhile, and has the lock that counts.
        let later = tended.lock_of(session);
        tended.put_back(session, lock);
        assert!(Arc::ptr_eq(&later, &tended.lock_of(session)));
    }
}
