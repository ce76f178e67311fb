//! Reading jobs, output and the fleet. Nothing here changes anything.

use std::fmt::Debug;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use legwork_common::id::Dispatcher;
use legwork_common::id::JobId;
use legwork_common::id::SessionId;
use legwork_common::id::WorkerId;
use legwork_common::job::Cause;
use legwork_common::job::Job;
use legwork_common::job::JobOptions;
use legwork_common::job::JobSpec;
use legwork_common::lifecycle::State;
use legwork_common::service::JobList;
use legwork_common::service::JobView;
use legwork_common::service::OutputSlice;
use legwork_signing::SignedJob;

use crate::error::QueueError;
use crate::port::Lane;
use crate::port::WorkerReport;

/// Which jobs an operator's list shows. A field that is `None` or empty excludes none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JobFilter {
    /// Only jobs in one of these states.
    pub states: Vec<State>,
    /// Only jobs of this agent.
    pub agent: Option<String>,
    /// Only jobs of this session, whose shard alone is read then.
    pub session: Option<SessionId>,
    /// Only jobs of this queue.
    pub queue: Option<String>,
    /// Only jobs of this worker: those that it holds, where no states are given.
    pub worker: Option<WorkerId>,
    /// Only jobs that ended with this cause.
    pub cause: Option<Cause>,
    /// Only failed and stopped jobs that were not retried.
    pub without_retried: bool,
    /// Only jobs created within this time.
    pub since: Option<Duration>,
}

/// Where a page of a list ended. One cursor serves all shards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageCursor {
    /// When the last job of the page was created.
    pub created: Timestamp,
    /// The last job of the page; it orders jobs of the same millisecond.
    pub id: JobId,
}

/// A page of an operator's list, newest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JobPage {
    /// The jobs: as many as were asked for, or all that are left.
    pub jobs: Vec<Job>,
    /// Where the next page begins; `None` at the end.
    pub next: Option<PageCursor>,
    /// How many jobs were read one by one because no index fits the filter.
    pub searched: u64,
}

/// A job as it was dispatched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Original {
    /// Its state, since only an ended job is retried.
    pub status: State,
    /// The session it belongs to.
    pub session: SessionId,
    /// The task and all else that was dispatched.
    pub spec: JobSpec,
    /// Where and how often it was to run, without its initial delay.
    pub job_options: JobOptions,
    /// Its team's JSON, if that is still stored.
    pub team_json: Option<String>,
    /// Its envelope, and what that is compared with; `None` for a job that was not signed. Nothing is verified yet.
    pub signed: Option<SignedJob>,
}

/// One worker of the fleet, as of its last heartbeat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerRecord {
    /// The worker's id.
    pub id: WorkerId,
    /// The host it runs on.
    pub host: String,
    /// Its process on that host; `None` if it did not report one.
    pub process: Option<u32>,
    /// The lanes it serves.
    pub lanes: Vec<String>,
    /// Jobs that it may run at once.
    pub slots: u32,
    /// Jobs that use a slot.
    pub used: u32,
    /// Jobs that it holds, waiting ones included.
    pub jobs: u32,
    /// The time of its last heartbeat.
    pub seen: Timestamp,
    /// Whether it takes no new jobs.
    pub draining: bool,
    /// When it sent its first heartbeat; `None` for one of an earlier release.
    pub began: Option<Timestamp>,
    /// How old its last heartbeat is, by Redis' clock.
    pub age: Duration,
    /// What it is and what became of its jobs.
    pub report: WorkerReport,
    /// What this release cannot read of the heartbeat, which a later one wrote.
    pub unreadable: Option<String>,
}

/// What a reader asks of the queue. Each method may read in several round trips, between which jobs may change.
#[async_trait]
pub trait Watch: Debug + Send + Sync {
    /// Reads jobs; `None` for those that do not exist. What they wait for, and what a running one has used since its
    /// attempt began, is not read.
    async fn jobs(&self, ids: &[JobId]) -> Result<Vec<Option<Job>>, QueueError>;

    /// Reads jobs with what they wait for and what running ones have used so far; one round trip more than
    /// [`jobs`](Self::jobs), two where a job is queued.
    async fn jobs_with_waits(&self, ids: &[JobId]) -> Result<Vec<Option<Job>>, QueueError>;

    /// Reads what is needed to dispatch the same job again; `None` for a job that does not exist.
    async fn original(&self, id: JobId) -> Result<Option<Original>, QueueError>;

    /// Reads the states of jobs and nothing else; `None` for those that do not exist.
    async fn states(&self, ids: &[JobId]) -> Result<Vec<Option<State>>, QueueError>;

    /// How long ago the leases of jobs were last renewed, where they ran out and no reaper has reclaimed the job.
    /// Without any process that reaps, a job of a dead worker stays `running` forever. `None` for all others.
    async fn silent(&self, ids: &[JobId]) -> Result<Vec<Option<Duration>>, QueueError>;

    /// Reads one job with a slice of its output: from `since`, or else the tail; at most `most` bytes.
    async fn view(&self, id: JobId, since: Option<u64>, most: usize) -> Result<Option<JobView>, QueueError>;

    /// Reads a slice of output: from `offset`, at most `most` bytes, without cutting a character.
    async fn output(&self, id: JobId, offset: u64, most: usize) -> Result<OutputSlice, QueueError>;

    /// Whether `id` is below `of` in its session's tree.
    async fn is_below(&self, id: JobId, session: SessionId, of: Dispatcher) -> Result<bool, QueueError>;

    /// The jobs below a dispatcher, as the tools list them.
    async fn children(&self, session: SessionId, of: Dispatcher) -> Result<JobList, QueueError>;

    /// How many jobs that a dispatcher dispatched itself have not ended.
    async fn live_children(&self, session: SessionId, of: Dispatcher) -> Result<u64, QueueError>;

    /// A page of the jobs that a filter selects, newest first. Reads on until the page is full, however many jobs the
    /// filter excludes; dropping the future changes nothing.
    async fn list(
        &self,
        filter: &JobFilter,
        limit: usize,
        after: Option<PageCursor>,
    ) -> Result<JobPage, QueueError>;

    /// The jobs whose UUID begins with `prefix`, among each shard's newest 10,000; at most `most`.
    async fn find(&self, prefix: &str, most: usize) -> Result<Vec<JobId>, QueueError>;

    /// Whether no job is queued or scheduled on these lanes, and no job of a session's own lane is live.
    async fn is_idle(&self, lanes: &[Lane]) -> Result<bool, QueueError>;

    /// How many jobs of the namespace have not ended.
    async fn unfinished(&self) -> Result<u64, QueueError>;

    /// The workers whose last heartbeat is less than three leases old.
    async fn workers(&self) -> Result<Vec<WorkerRecord>, QueueError>;
}
