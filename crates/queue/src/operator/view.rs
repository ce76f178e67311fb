//! Single jobs: the record, the output, the turns, and waiting for an end.

use std::time::Duration;

use legwork_common::error::Coded;
use legwork_common::error::ExitStatus;
use legwork_common::id::Dispatcher;
use legwork_common::id::JobId;
use legwork_common::id::SessionId;
use legwork_common::job::Job;
use legwork_common::service::JobList;
use legwork_common::service::JobView;
use legwork_common::service::OutputSlice;
use legwork_common::service::ServiceError;
use legwork_common::service::WaitDetail;
use legwork_common::service::WaitItem;
use legwork_common::service::WaitMode;
use thiserror::Error;
use tokio::time::Instant;

use crate::error::QueueError;
use crate::hints::Listener;
use crate::operator::Operator;
use crate::operator::SEE_LIST;
use crate::operator::staleness::milliseconds;
use crate::port::Watch as _;
use crate::port::Work as _;

/// Why a job cannot be shown.
#[derive(Debug, Error)]
pub enum ViewError {
    /// The job is not stored.
    #[error("task not found: {0}")]
    NotFound(JobId),
    /// Redis could not be asked.
    #[error(transparent)]
    Queue(#[from] QueueError),
}

impl Coded for ViewError {
    fn code(&self) -> &'static str {
        match self {
            Self::NotFound(_) => "not_found",
            Self::Queue(error) => error.code(),
        }
    }

    fn exit(&self) -> ExitStatus {
        match self {
            Self::NotFound(_) => ExitStatus::NotFound,
            Self::Queue(error) => error.exit(),
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::NotFound(_) => Some(SEE_LIST.to_owned()),
            Self::Queue(error) => error.hint(),
        }
    }
}

/// A job with a slice of its output, and whether its worker still renews its lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ViewedJob {
    /// The job and its output.
    pub view: JobView,
    /// How long ago the lease of a running job was last renewed, if it has expired.
    pub stale_for: Option<Duration>,
}

impl Operator {
    /// One job with at most `max_bytes` of its output: from byte `since`, or else the tail.
    ///
    /// # Errors
    ///
    /// [`ViewError`] when the job is not stored, or when Redis cannot be reached.
    pub async fn view(
        &self,
        id: JobId,
        since: Option<u64>,
        max_bytes: usize,
    ) -> Result<ViewedJob, ViewError> {
        let view = self.queue().view(id, since, max_bytes).await?;
        let mut view = view.ok_or(ViewError::NotFound(id))?;
        self.add_models([&mut view.job]).await?;
        let stale_for =
            self.with_staleness(vec![view.job.clone()]).await?.pop().and_then(|job| job.stale_for);
        view.job.silent_ms = stale_for.map(milliseconds);
        Ok(ViewedJob { view, stale_for })
    }

    /// One job without its output and without what it waits for: what a caller polls.
    ///
    /// # Errors
    ///
    /// [`ViewError`] when the job is not stored, or when Redis cannot be reached.
    pub async fn job(&self, id: JobId) -> Result<Job, ViewError> {
        let job = self.queue().jobs(&[id]).await?.pop().flatten();
        let mut job = job.ok_or(ViewError::NotFound(id))?;
        self.add_models([&mut job]).await?;
        Ok(job)
    }

    /// Jobs with what they wait for, in the order of their ids; those that are not stored are left out.
    ///
    /// # Errors
    ///
    /// [`QueueError`] when Redis cannot be reached.
    pub async fn jobs(&self, ids: &[JobId]) -> Result<Vec<Job>, QueueError> {
        let mut jobs: Vec<Job> = self.queue().jobs_with_waits(ids).await?.into_iter().flatten().collect();
        self.add_models(&mut jobs).await?;
        Ok(self.with_staleness(jobs).await?.into_iter().map(|listed| listed.job).collect())
    }

    /// The jobs of a session as its root lists them: all that run, the next that are queued, the last that ended.
    ///
    /// # Errors
    ///
    /// [`QueueError`] when Redis cannot be reached.
    pub async fn session_jobs(&self, session: SessionId) -> Result<JobList, QueueError> {
        self.queue().children(session, Dispatcher::Root(session)).await
    }

    /// At most `max_bytes` of a job's output from byte `offset`; empty at the end, and for a job that is not stored.
    ///
    /// # Errors
    ///
    /// [`QueueError`] when Redis cannot be reached.
    pub async fn output(&self, id: JobId, offset: u64, max_bytes: usize) -> Result<OutputSlice, QueueError> {
        self.queue().output(id, offset, max_bytes).await
    }

    /// The turns that a job has recorded, with their sequence numbers, each as the JSON that its worker wrote.
    ///
    /// # Errors
    ///
    /// [`QueueError`] when Redis cannot be reached.
    pub async fn turns(&self, id: JobId) -> Result<Vec<(u64, String)>, QueueError> {
        self.turns_after(id, 0).await
    }

    /// Those of the turns whose sequence numbers are greater than `after`.
    ///
    /// # Errors
    ///
    /// [`QueueError`] when Redis cannot be reached.
    pub async fn turns_after(&self, id: JobId, after: u64) -> Result<Vec<(u64, String)>, QueueError> {
        self.queue().turns(id, after).await
    }

    /// Waits until all jobs have ended, or any, or until `deadline`. One item for each id, in their order, with as much of
    /// the job as `detail` says. Dropping the future leaves the jobs as they are.
    ///
    /// # Errors
    ///
    /// [`ServiceError`] when Redis cannot be reached.
    pub async fn wait(
        &self,
        ids: &[JobId],
        mode: WaitMode,
        detail: WaitDetail,
        deadline: Option<Instant>,
    ) -> Result<Vec<WaitItem>, ServiceError> {
        let ids: Vec<_> = ids.iter().map(|id| (id.to_string(), Some(*id))).collect();
        let mut items = self.observer().wait(&ids, mode, detail, deadline).await?;
        if detail != WaitDetail::Whole {
            return Ok(items);
        }
        // Collected before the await: the future of a closure over references is not known to be sendable.
        let found = items.iter_mut().filter_map(|item| match item {
            WaitItem::Found(view) => Some(&mut view.job),
            WaitItem::NotFound(_) => None,
        });
        let jobs: Vec<&mut Job> = found.collect();
        self.add_models(jobs).await.map_err(ServiceError::from)?;
        Ok(items)
    }

    /// Listens for hints that a job's output has grown. A hint may be lost: poll as well.
    pub async fn listen_to_job(&self, id: JobId) -> Listener {
        self.observer().hints().listen(self.queue().keys().job_channel(id)).await
    }

    /// Listens for hints that a job of a session has ended. A hint may be lost: poll as well.
    pub async fn listen_to_session(&self, session: SessionId) -> Listener {
        self.observer().hints().listen(self.queue().keys().session_channel(session)).await
    }
}
