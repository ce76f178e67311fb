//! Reading jobs, output and the fleet. Nothing here changes anything.

use std::fmt::Debug;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use legwork_common::id::Dispatcher;
use legwork_common::id::JobId;
use legwork_common::id::SessionId;
use legwork_common::id::WorkerId;
use legwork_common::job::Job;
use legwork_common::job::JobOptions;
use legwork_common::job::JobSpec;
use legwork_common::lifecycle::State;
use legwork_common::service::JobList;
use legwork_common::service::JobView;
use legwork_common::service::OutputSlice;

use crate::error::QueueError;
use crate::port::Lane;

/// What an operator's list shows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JobFilter {
    /// Only these states; none for all.
    pub states: Vec<State>,
    /// Only this agent.
    pub agent: Option<String>,
    /// Only this session.
    pub session: Option<SessionId>,
    /// Only this queue.
    pub queue: Option<String>,
    /// Only jobs of this worker.
    pub worker: Option<WorkerId>,
    /// Only jobs created within this time.
    pub since: Option<Duration>,
}

/// Where a page of a list ended: good in every shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageCursor {
    /// When the last job was created.
    pub created: Timestamp,
    /// The last job.
    pub id: JobId,
}

/// A page of an operator's list, newest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JobPage {
    /// The jobs; may be empty although more follow, when the filter passed over many.
    pub jobs: Vec<Job>,
    /// Where the next page begins.
    pub next: Option<PageCursor>,
}

/// A job as it was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Original {
    /// Where it is in its life.
    pub status: State,
    /// The session it belongs to.
    pub session: SessionId,
    /// What was asked.
    pub spec: JobSpec,
    /// Where and how often it ran; without the delay that it waited at first.
    pub job_options: JobOptions,
    /// Its team's JSON, if that is still stored.
    pub team_json: Option<String>,
}

/// One worker of the fleet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerRecord {
    /// Its id.
    pub id: WorkerId,
    /// The host it runs on.
    pub host: String,
    /// The lanes it serves.
    pub lanes: Vec<String>,
    /// Jobs that it may run at once.
    pub slots: u32,
    /// Jobs that hold a slot now.
    pub used: u32,
    /// Jobs that it holds.
    pub jobs: u32,
    /// When it was last heard of.
    pub seen: Timestamp,
    /// Whether it takes no new jobs.
    pub draining: bool,
}

/// What a reader asks of the queue.
#[async_trait]
pub trait Watch: Debug + Send + Sync {
    /// Reads jobs; `None` for those that do not exist.
    async fn jobs(&self, ids: &[JobId]) -> Result<Vec<Option<Job>>, QueueError>;

    /// Reads what is needed to dispatch the same again; `None` where there is no such job.
    async fn original(&self, id: JobId) -> Result<Option<Original>, QueueError>;

    /// Reads the states of jobs and nothing else; `None` for those that do not exist.
    async fn states(&self, ids: &[JobId]) -> Result<Vec<Option<State>>, QueueError>;

    /// For how long nobody has renewed the leases of jobs whose lease is over and was not taken back: where nobody
    /// reaps, a job of a dead worker is `running` for ever. `None` for all others.
    async fn silent(&self, ids: &[JobId]) -> Result<Vec<Option<Duration>>, QueueError>;

    /// Reads one job with a piece of its output: from `since`, or else the tail; at most `most` bytes.
    async fn view(&self, id: JobId, since: Option<u64>, most: usize) -> Result<Option<JobView>, QueueError>;

    /// Reads a piece of output.
    async fn output(&self, id: JobId, offset: u64, most: usize) -> Result<OutputSlice, QueueError>;

    /// Whether `id` is below `of` in its session's tree.
    async fn is_below(&self, id: JobId, session: SessionId, of: Dispatcher) -> Result<bool, QueueError>;

    /// The jobs that a dispatcher dispatched, as the tools list them.
    async fn children(&self, session: SessionId, of: Dispatcher) -> Result<JobList, QueueError>;

    /// How many jobs that a dispatcher dispatched have not ended.
    async fn live_children(&self, session: SessionId, of: Dispatcher) -> Result<u64, QueueError>;

    /// A page of all jobs, newest first.
    async fn list(
        &self,
        filter: &JobFilter,
        limit: usize,
        after: Option<PageCursor>,
    ) -> Result<JobPage, QueueError>;

    /// The jobs among each shard's newest 10,000 whose UUID begins with `prefix`, at most `most`.
    async fn find(&self, prefix: &str, most: usize) -> Result<Vec<JobId>, QueueError>;

    /// Whether nothing is queued or scheduled on these lanes, and nothing of a session's own lane is live.
    async fn is_idle(&self, lanes: &[Lane]) -> Result<bool, QueueError>;

    /// How many jobs of the namespace have not ended.
    async fn unfinished(&self) -> Result<u64, QueueError>;

    /// The live workers.
    async fn workers(&self) -> Result<Vec<WorkerRecord>, QueueError>;
}
