//! What a worker does with a job, from claim to finish.

use std::fmt::Debug;
use std::time::Duration;

use async_trait::async_trait;
use legwork_common::id::Dispatcher;
use legwork_common::id::JobId;
use legwork_common::id::RunToken;
use legwork_common::id::SessionId;
use legwork_common::id::WorkerId;
use legwork_common::job::Cause;
use legwork_common::job::JobSpec;
use legwork_common::job::TeamDigest;
use legwork_common::job::Usage;
use legwork_common::lifecycle::State;
use legwork_common::service::MailId;

use crate::error::QueueError;

/// A stream that workers claim from.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Lane {
    /// A queue's shared lane.
    Queue(String),
    /// The own lane of a session that hosts its worker.
    Session(SessionId),
}

impl Lane {
    /// The lane's name in keys.
    pub fn name(&self) -> String {
        match self {
            Self::Queue(queue) => queue.clone(),
            Self::Session(session) => format!("@{session}"),
        }
    }
}

/// A wish for jobs.
#[derive(Debug, Clone)]
pub struct Claim {
    /// The shard to claim from.
    pub shard: u16,
    /// Who claims.
    pub worker: WorkerId,
    /// Ascends with each claim of the worker in the shard, from 1 to 2^53. A repeat carries the number of its first.
    pub number: u64,
    /// How many at most, 1 to 1000.
    pub slots: u32,
    /// From which lanes, the most urgent first.
    pub lanes: Vec<Lane>,
}

/// The proof of holding a job: its id and the secret of the attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Lease {
    /// The job.
    pub id: JobId,
    /// The secret of the current attempt.
    pub token: RunToken,
}

/// A claimed job: a new attempt, leased to the worker.
#[derive(Debug, Clone)]
pub struct Claimed {
    /// The proof of holding it.
    pub lease: Lease,
    /// The session it belongs to.
    pub session: SessionId,
    /// Who dispatched it.
    pub dispatcher: Dispatcher,
    /// 0 for a job of the root, one more for each level below.
    pub depth: u8,
    /// The number of this attempt, from 1.
    pub attempt: u32,
    /// The queue it came from.
    pub queue: String,
    /// How long earlier attempts ran.
    pub ran: Duration,
    /// How long it may run over all attempts.
    pub timeout: Option<Duration>,
    /// How many failures are tried again after this attempt.
    pub retries: u32,
    /// How many failures were tried again before this attempt.
    pub failures: u32,
    /// The pause before the first retry.
    pub retry_delay: Duration,
    /// What is asked.
    pub spec: JobSpec,
}

/// What earlier attempts left under a job's own tag; for a first attempt the default, nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Begun {
    /// Bytes of output that are stored: the offset at which this attempt goes on.
    pub output_bytes: u64,
    /// The sequence of the last turn entry, 0 for none.
    pub last_entry: u64,
    /// How many turns are finished.
    pub finished_turns: u32,
}

/// The owner's proof of holding a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SessionLease {
    /// The session.
    pub session: SessionId,
    /// The owner's secret.
    pub owner: RunToken,
}

/// What a process holds and wants to keep.
#[derive(Debug, Clone, Default)]
pub struct Renewal {
    /// Jobs.
    pub jobs: Vec<Lease>,
    /// Sessions.
    pub sessions: Vec<SessionLease>,
}

/// The answer for one lease, in the order of asking.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Renewed {
    /// Renewed; nothing else.
    Kept,
    /// Renewed, and there is mail.
    Mail,
    /// Renewed, and it shall stop.
    StopRequested,
    /// Another holds it, or it ended.
    Lost,
}

/// Output and turn entries of one attempt.
#[derive(Debug, Clone)]
pub struct Append {
    /// The proof of holding the job.
    pub lease: Lease,
    /// Where `bytes` begin in the output.
    pub offset: u64,
    /// New output.
    pub bytes: Vec<u8>,
    /// New turn entries with their sequence numbers, ascending from 1 over all attempts.
    pub entries: Vec<(u64, String)>,
    /// How many turns are finished, where that changed.
    pub finished_turns: Option<u32>,
    /// What the attempt waits for, in words, where that changed; empty for nothing.
    pub waits_for: Option<String>,
}

/// How an append went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Appended {
    /// All of it is stored; so many bytes of output are there.
    Stored(u64),
    /// The fence is another's, or sealed, or confirmed output is gone: this attempt is over.
    Fenced,
}

/// How parking or resuming went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parked {
    /// Done.
    Done,
    /// The job shall stop.
    Stopping,
    /// Another holds it.
    Lost,
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// With a result.
    Completed {
        /// The last message of the agent.
        result: String,
    },
    /// Without one.
    Failed {
        /// Why.
        cause: Cause,
        /// In words.
        message: String,
    },
    /// It stopped, and nothing of it runs any more.
    Stopped {
        /// Who asked.
        cause: Cause,
    },
}

/// The end of an attempt. All its output was appended before.
#[derive(Debug, Clone)]
pub struct Finish {
    /// The proof of holding the job.
    pub lease: Lease,
    /// How it ended.
    pub ending: Ending,
    /// Bytes of output that readers end at.
    pub output_bytes: u64,
    /// What its models counted, over all attempts.
    pub usage: Usage,
    /// When to try again, if it failed for a cause that may pass and retries remain.
    pub retry_delay: Duration,
}

/// What the job is after its attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finished {
    /// In this state now.
    Now(State),
    /// The attempt had lost its lease; the job is another's.
    Lost,
}

/// Why a job is handed back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReleaseMode {
    /// The worker drains.
    Drain,
    /// The worker lacks what the job needs, in words.
    Lack(String),
}

/// A job handed back.
#[derive(Debug, Clone)]
pub struct Release {
    /// The proof of holding it.
    pub lease: Lease,
    /// Who hands it back.
    pub worker: WorkerId,
    /// Why.
    pub mode: ReleaseMode,
    /// Bytes of output that are stored.
    pub output_bytes: u64,
}

/// A worker's sign of life.
#[derive(Debug, Clone)]
pub struct Heartbeat {
    /// The worker.
    pub worker: WorkerId,
    /// The host it runs on.
    pub host: String,
    /// The lanes it serves.
    pub lanes: Vec<Lane>,
    /// Jobs that it may run at once.
    pub slots: u32,
    /// Jobs that hold a slot now.
    pub used: u32,
    /// Jobs that it holds, waiting ones included.
    pub jobs: u32,
    /// Whether it takes no new jobs.
    pub draining: bool,
}

/// One entry of a mailbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MailEntry {
    /// Its name.
    pub id: MailId,
    /// What it says.
    pub content: MailEntryContent,
}

/// What an entry of a mailbox says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MailEntryContent {
    /// This job ended.
    Ended(JobId),
    /// Somebody sent this.
    Message(String),
}

/// What a worker asks of the queue.
#[async_trait]
pub trait Work: Debug + Send + Sync {
    /// Takes queued jobs: a new attempt each, leased to the worker. A crash after it lets the leases
    /// run out; a repeat of the same number gets the same batch, and a lower number than was seen gets nothing: it
    /// was long on its way, and who sent it waits no more.
    async fn claim(&self, claim: &Claim) -> Result<Vec<Claimed>, QueueError>;

    /// Waits up to two seconds for a sign that one of the lanes has something. A lost sign costs two
    /// seconds, so callers claim after every return. Dropping the future loses at most one sign.
    async fn await_work(&self, lanes: &[Lane]) -> Result<(), QueueError>;

    /// Sets the fence for claimed jobs and reads what earlier attempts left; `None` where another
    /// attempt is already further. A first attempt needs none: nothing is left, and its first append sets
    /// the fence.
    async fn begin(&self, claimed: &[(Lease, u32)]) -> Result<Vec<Option<Begun>>, QueueError>;

    /// Keeps leases, in one call for each shard. Answers come in the order of asking, jobs first.
    async fn renew(&self, renewal: &Renewal) -> Result<(Vec<Renewed>, Vec<Renewed>), QueueError>;

    /// Appends for several jobs in one round trip. What is there already is answered as done.
    async fn append(&self, appends: &[Append]) -> Result<Vec<Appended>, QueueError>;

    /// Gives the job's slot back while it waits; it keeps its lease.
    async fn park(&self, lease: Lease) -> Result<Parked, QueueError>;

    /// Takes a slot again after [`Work::park`].
    async fn resume(&self, lease: Lease) -> Result<Parked, QueueError>;

    /// Ends attempts. A crash before it leaves the lease to run out, and the job is tried again.
    async fn finish(&self, finishes: &[Finish]) -> Result<Vec<Finished>, QueueError>;

    /// Hands a job back to the queue.
    async fn release(&self, release: &Release) -> Result<Finished, QueueError>;

    /// Says that the worker lives, in every shard.
    async fn heartbeat(&self, heartbeat: &Heartbeat) -> Result<(), QueueError>;

    /// Says that the worker is gone for good.
    async fn goodbye(&self, worker: &WorkerId) -> Result<(), QueueError>;

    /// Reads a mailbox, oldest first, at most 1,000 entries.
    async fn mail(&self, session: SessionId, of: Dispatcher) -> Result<Vec<MailEntry>, QueueError>;

    /// Drops mail that was given to its model.
    async fn acknowledge(
        &self,
        session: SessionId,
        of: Dispatcher,
        mail: &[MailId],
    ) -> Result<(), QueueError>;

    /// Reads a stored team's JSON.
    async fn team(&self, session: SessionId, digest: &TeamDigest) -> Result<Option<String>, QueueError>;

    /// Reads a job's turn entries after `sequence`, all of them, in pages.
    async fn turns(&self, id: JobId, after: u64) -> Result<Vec<(u64, String)>, QueueError>;

    /// How long ago a turn entry was stored, by Redis' clock; `None` where there is none.
    async fn turn_age(&self, id: JobId, sequence: u64) -> Result<Option<Duration>, QueueError>;
}
