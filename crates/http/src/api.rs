//! What all handlers share.

use std::fmt::Debug;
use std::future::Future;
use std::sync::Arc;

use async_trait::async_trait;
use legwork_common::id::JobId;
use legwork_common::id::SessionId;
use legwork_common::policy::Policy;
use legwork_common::team::Team;
use legwork_process::tasks::TaskKind;
use legwork_process::tasks::Tasks;
use legwork_queue::Operator;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::board::Board;
use crate::fleet::RecentStats;
use crate::metrics::Metrics;
use crate::problem::Problem;
use crate::teams::Teams;

/// Sees to workers for sessions that have new jobs. On a fleet there is nothing to do.
#[async_trait]
pub trait SessionWorkers: Debug + Send + Sync {
    /// Returns once a worker serves the session.
    ///
    /// # Errors
    ///
    /// [`Problem`] when none can be started; the jobs are stored and wait.
    async fn serve(&self, session: SessionId) -> Result<(), Problem>;

    /// Refuses an agent that the worker which is started here would only reject, because a key is not set.
    ///
    /// # Errors
    ///
    /// [`Problem`] that names what is missing.
    fn check(&self, team: &Team, agent: &str) -> Result<(), Problem>;
}

/// What all handlers share. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Api {
    /// The handle on the namespace.
    pub operator: Operator,
    /// Where, when and how often jobs run whose requests do not say.
    pub policy: Arc<Policy>,
    /// The agent files that jobs are dispatched with.
    pub teams: Teams,
    /// The folder that jobs run in, on a worker of the same machine.
    pub working_dir: Option<String>,
    /// Sees to workers.
    pub workers: Arc<dyn SessionWorkers>,
    /// The tasks of the program.
    pub tasks: Tasks,
    /// Cancelled when the server ends: open streams end, clients come back to another one.
    pub end: CancellationToken,
    /// What was counted.
    pub metrics: Metrics,
    /// The fleet's numbers, for those that follow them.
    pub board: Board,
    /// The fleet's numbers, for those that ask.
    pub stats: RecentStats,
}

impl Api {
    /// Carries out a change in a task of its own: a client that goes away in the middle neither cuts off a step nor loses
    /// the connection to Redis.
    ///
    /// # Errors
    ///
    /// Those of the change; [`Problem::ending`] when the server ended before the answer.
    pub async fn finish<T: Send + 'static>(
        &self,
        change: impl Future<Output = Result<T, Problem>> + Send + 'static,
    ) -> Result<T, Problem> {
        let (sender, answer) = oneshot::channel();
        self.tasks.spawn(TaskKind::Http, async move {
            // The client may be gone.
            sender.send(change.await).ok();
        });
        answer.await.unwrap_or_else(|_| Err(Problem::ending()))
    }

    /// The job that a path names: a whole id, or an unambiguous beginning of one.
    ///
    /// # Errors
    ///
    /// [`Problem`] when no job or several begin like this.
    pub async fn find(&self, text: &str) -> Result<JobId, Problem> {
        Ok(self.operator.find(text).await?)
    }

    /// The session that a text names; `None` for no text.
    ///
    /// # Errors
    ///
    /// [`Problem`] when no session or several begin like this.
    pub async fn session(&self, text: Option<&str>) -> Result<Option<SessionId>, Problem> {
        match text {
            Some(text) => Ok(Some(self.operator.find_session(text).await?)),
            None => Ok(None),
        }
    }
}
