//! What a worker does with a job, from claim to finish.

use std::fmt::Debug;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
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
use legwork_signing::SignedJob;

use crate::error::QueueError;

/// A stream that workers claim from.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Lane {
    /// A queue's shared lane.
    Queue(String),
    /// A lane of one session, which only the session's own workers serve.
    Session(SessionId),
}

impl Lane {
    /// The lane's name in key names.
    pub fn name(&self) -> String {
        match self {
            Self::Queue(queue) => queue.clone(),
            Self::Session(session) => format!("@{session}"),
        }
    }
}

/// A request for jobs.
#[derive(Debug, Clone)]
pub struct Claim {
    /// The shard to claim from.
    pub shard: u16,
    /// The worker that claims.
    pub worker: WorkerId,
    /// Ascends with each claim of the worker in the shard, from 1 to 2^53. A repeat has the number of its first call.
    pub number: u64,
    /// How many jobs at most; of more than 1000 it takes 1000. With 0 it takes none, and answers what an earlier call with its number took:
    /// that call takes nothing if it arrives later.
    pub slots: u32,
    /// Whether the worker holds nothing, apart from parked jobs: only then it gets a job in quarantine, and that alone.
    pub idle: bool,
    /// The lanes to claim from, the most urgent first.
    pub lanes: Vec<Lane>,
}

/// The answer to a claim.
#[derive(Debug, Default)]
pub struct Claims {
    /// The claimed jobs, perhaps none.
    pub jobs: Vec<Claimed>,
    /// Whether the worker is to take no new jobs until it holds nothing: a job in quarantine waits for that.
    pub clears: bool,
}

/// A sign of work that [`Work::await_work`] has taken from one lane: no other worker is woken by it.
#[derive(Debug, PartialEq, Eq)]
pub struct WakeToken {
    /// The key of the lane's tokens.
    pub key: String,
}

/// The proof that an attempt holds a job: the job's id and the secret of the attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Lease {
    /// The job that is held.
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
    /// Its dispatcher, which gets mail when it ends.
    pub dispatcher: Dispatcher,
    /// 0 for a job of the root, one more for each level below it.
    pub depth: u8,
    /// The number of this attempt, from 1.
    pub attempt: u32,
    /// The queue it came from.
    pub queue: String,
    /// When it was dispatched, by the clock of Redis.
    pub created: Timestamp,
    /// How long its earlier attempts ran in all.
    pub ran: Duration,
    /// How long it may run in all its attempts; `None` without a limit.
    pub timeout: Option<Duration>,
    /// Crashes in a row after which it runs alone on its worker; `None` outside of quarantine.
    pub quarantine: Option<u32>,
    /// How many retries are left after this attempt.
    pub retries: u32,
    /// How many failures were retried before this attempt.
    pub failures: u32,
    /// The delay before the first retry.
    pub retry_delay: Duration,
    /// Whether its session has a budget, in tokens or money. That is fixed when a session is opened.
    pub has_session_budget: bool,
    /// Whether a message was sent to it before it was claimed.
    pub was_messaged: bool,
    /// The task and all else that was dispatched.
    pub spec: JobSpec,
    /// Its envelope, and what that is compared with; `None` for a job that was not signed. Nothing is verified yet.
    pub signed: Option<Box<SignedJob>>,
}

/// What earlier attempts left below a job's own tag; the default for a first attempt.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Begun {
    /// Bytes of output that are stored: the offset at which this attempt appends.
    pub output_bytes: u64,
    /// The sequence of the last turn entry; 0 for none.
    pub last_entry: u64,
    /// How many turns are finished.
    pub finished_turns: u32,
}

/// The proof that an owner holds a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SessionLease {
    /// The session that is owned.
    pub session: SessionId,
    /// The secret of its owner, as the session was opened with.
    pub owner: RunToken,
}

/// The leases that a process holds.
#[derive(Debug, Clone, Default)]
pub struct Renewal {
    /// Leases of jobs, in any shards.
    pub jobs: Vec<Lease>,
    /// Leases of sessions, in any shards.
    pub sessions: Vec<SessionLease>,
}

/// The answer for one lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Renewed {
    /// Renewed, and there is nothing to report.
    Kept,
    /// Renewed, and there is mail to read.
    Mail,
    /// Renewed, and a stop was requested.
    StopRequested,
    /// Not renewed: another attempt or owner holds it, or it ended.
    Lost,
}

/// Output and turn entries of one attempt.
#[derive(Debug, Clone)]
pub struct Append {
    /// The proof of holding the job.
    pub lease: Lease,
    /// Where `bytes` begin in the output.
    pub offset: u64,
    /// New output. What is below the stored length already is skipped.
    pub bytes: Vec<u8>,
    /// New turn entries with their sequence numbers, ascending from 1 over all attempts.
    pub entries: Vec<(u64, String)>,
    /// How many turns are finished; `None` where that did not change.
    pub finished_turns: Option<u32>,
    /// What the attempt waits for, as [`WaitsFor::stored`](legwork_common::waits_for::WaitsFor::stored) writes it; `None`
    /// where that did not change.
    pub waits_for: Option<String>,
    /// What its models used so far, in all attempts; `None` where that did not change.
    pub usage: Option<Usage>,
}

/// The outcome of an append.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Appended {
    /// All of it is stored; the output has this many bytes.
    Stored(u64),
    /// All of it is stored, as for [`Appended::Stored`], and a follower was told of the new output.
    Followed(u64),
    /// Not stored: the fence is another attempt's or sealed, or the server lost output that it had confirmed. This
    /// attempt is over.
    Fenced,
}

/// The outcome of parking or resuming.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parked {
    /// The job is parked, or has a slot again.
    Done,
    /// The job is being stopped.
    Stopping,
    /// Another attempt holds the job.
    Lost,
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// It finished with a result.
    Completed {
        /// The last message of the agent.
        result: String,
    },
    /// It ended without a result.
    Failed {
        /// Which kind of failure, which decides whether it is retried.
        cause: Cause,
        /// The error as users read it.
        message: String,
    },
    /// It was stopped, and nothing of it runs any more.
    Stopped {
        /// The origin of the stop request.
        cause: Cause,
    },
}

impl Ending {
    /// The state that the job ends in unless it is retried or being stopped, the cause, and the result or the error; a stop has no text.
    pub fn parts(&self) -> (State, Option<Cause>, &str) {
        match self {
            Self::Completed { result } => (State::Completed, None, result),
            Self::Failed { cause, message } => (State::Failed, Some(*cause), message),
            Self::Stopped { cause } => (State::Stopped, Some(*cause), ""),
        }
    }
}

/// The end of an attempt, all of whose output was appended before.
#[derive(Debug, Clone)]
pub struct Finish {
    /// The proof of holding the job.
    pub lease: Lease,
    /// How the attempt ended.
    pub ending: Ending,
    /// Bytes of output that were stored: where readers stop.
    pub output_bytes: u64,
    /// What its models used, in all attempts.
    pub usage: Usage,
    /// The delay of a retry, if its failure is retryable and retries are left.
    pub retry_delay: Duration,
    /// Whether the attempt can hear further mail. If so, it does not complete while its mailbox holds any.
    pub hears_mail: bool,
    /// Session and dispatcher of the job as it was claimed, which saves the step a read; `None` where they are not known.
    pub belongs_to: Option<(SessionId, Dispatcher)>,
    /// Whether it is the job's first attempt, so that no other one ever had the fence: it is dropped with the end.
    pub is_first_attempt: bool,
    /// What of this end the job's output holds already.
    pub in_output: InOutput,
    /// What proves to other workers that this one wrote the end, stored with the job's end as it is; `None` for nothing. Where the
    /// job does not end with the attempt, or is stopped, it is dropped.
    pub seal: Option<String>,
}

/// What of the end of a completed job its output holds already, so that it is not stored a second time.
///
/// A reader finds it there. Where the server has lost output that it had confirmed, as it may with `appendfsync everysec`,
/// [`Work::finish`] stores the result after all; a worker that dies before leaves a job without a result. With `--durable`
/// everything is stored in its own place.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum InOutput {
    /// Nothing.
    #[default]
    Nothing,
    /// The result is the end of the output.
    Result,
    /// The result is the whole output, and the turns are one reply with this text, the usage of the job, and this origin
    /// ([`SoleReply`](legwork_common::stored::SoleReply)): they are dropped.
    ResultAndTurns(String),
}

/// What became of the job when its attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finished {
    /// It is in this state now.
    Now(State),
    /// Nothing changed: a message was sent to the job that its agent has not heard. The attempt continues.
    Mail,
    /// The attempt had lost its lease: the job is another attempt's, or will be.
    Lost,
}

/// Why a worker releases a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReleaseMode {
    /// The worker drains: another one continues the job.
    Drain,
    /// The worker lacks something that the job needs, such as a key; what it is, as users read it.
    Lack(String),
}

/// A job to be given back to the queue.
#[derive(Debug, Clone)]
pub struct Release {
    /// The proof of holding it.
    pub lease: Lease,
    /// The worker that releases it.
    pub worker: WorkerId,
    /// Why it releases it.
    pub mode: ReleaseMode,
    /// Bytes of output that are stored.
    pub output_bytes: u64,
}

/// A worker's heartbeat.
#[derive(Debug, Clone)]
pub struct Heartbeat {
    /// The worker that lives.
    pub worker: WorkerId,
    /// The host it runs on.
    pub host: String,
    /// Its process on that host.
    pub process: u32,
    /// The lanes it serves.
    pub lanes: Vec<Lane>,
    /// Jobs that it may run at once.
    pub slots: u32,
    /// Jobs that use a slot now.
    pub used: u32,
    /// Jobs that it holds, waiting ones included.
    pub jobs: u32,
    /// Whether it takes no new jobs.
    pub draining: bool,
    /// What it is and what became of its jobs.
    pub report: WorkerReport,
}

/// What a worker reports about itself apart from its load, since it began.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WorkerReport {
    /// Its release.
    pub version: String,
    /// Attempts that ended with an end of their own: completed, failed or stopped.
    pub run: u64,
    /// Those that failed.
    pub failed: u64,
    /// Jobs that it gave back because it lacks what they need.
    pub given_back: u64,
    /// Jobs that it gave back since an attempt last ended with an end of its own.
    pub given_back_in_a_row: u64,
    /// Why it gave the last of them back; empty where it gave none back.
    pub last_reason: String,
}

/// One entry of a mailbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MailEntry {
    /// Its id, to acknowledge it by.
    pub id: MailId,
    /// Its content.
    pub content: MailEntryContent,
    /// The seal of a message, where it has one.
    pub seal: Option<String>,
}

/// The content of a mailbox entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MailEntryContent {
    /// This job ended.
    Ended(JobId),
    /// This message was sent.
    Message(String),
}

/// What a worker asks of the queue.
#[async_trait]
pub trait Work: Debug + Send + Sync {
    /// Takes queued jobs: each begins a new attempt, leased to the worker. A worker that dies after it leaves the
    /// leases to run out. A repeat with the same number gets the same jobs. A number below the latest gets nothing: the
    /// caller no longer waits for that claim, so no process would hold its jobs.
    async fn claim(&self, claim: &Claim) -> Result<Claims, QueueError>;

    /// Waits up to two seconds for a wake token of one of the lanes, and takes it; `None` where none came. A lost token
    /// costs two seconds, so callers claim after every return. Dropping the future loses at most one token.
    async fn await_work(&self, lanes: &[Lane]) -> Result<Option<WakeToken>, QueueError>;

    /// Whether [`Work::claim_when_woken`] is supported: in a namespace of one shard on one server.
    fn claims_when_woken(&self) -> bool;

    /// [`Work::await_work`] on the lanes of the claim and then [`Work::claim`], in one round trip: the claim is made with or
    /// without a token. `None` for a claim that was refused. It may be repeated under its number by [`Work::claim`], and must be
    /// where the answer is missing or the future was dropped: then it was made or not, and a late one takes nothing.
    async fn claim_when_woken(
        &self,
        claim: &Claim,
    ) -> Result<(Option<WakeToken>, Option<Claims>), QueueError>;

    /// Returns a token to its lane, for another worker: the caller cannot claim. A repeat wakes one worker more than
    /// needed.
    async fn return_wake(&self, token: WakeToken) -> Result<(), QueueError>;

    /// Sets the fences of claimed jobs, and reads what earlier attempts left; `None` where a later attempt has begun. A
    /// first attempt needs no call: nothing is left, and its first append sets the fence. A crash after it changes
    /// nothing: the next attempt sets its own fence.
    async fn begin(&self, claimed: &[(Lease, u32)]) -> Result<Vec<Option<Begun>>, QueueError>;

    /// Renews leases, in one call for each shard and 400 leases. Answers jobs and sessions, each in the order of
    /// `renewal`.
    async fn renew(&self, renewal: &Renewal) -> Result<(Vec<Renewed>, Vec<Renewed>), QueueError>;

    /// Appends for several jobs in one round trip. A repeat appends only what is missing. What was appended before a
    /// crash is kept for the next attempt.
    async fn append(&self, appends: &[Append]) -> Result<Vec<Appended>, QueueError>;

    /// Gives the job's slot back while it waits for its own jobs. It keeps its lease.
    async fn park(&self, lease: Lease) -> Result<Parked, QueueError>;

    /// Takes a slot again after [`Work::park`].
    async fn resume(&self, lease: Lease) -> Result<Parked, QueueError>;

    /// Ends the quarantine of a running job, which has finished a turn: a crash from now on is one like any other. False
    /// where the attempt no longer holds the job. A worker that dies before it leaves the job in quarantine, for a finished
    /// turn to be counted when it is reclaimed.
    async fn leave_quarantine(&self, lease: Lease) -> Result<bool, QueueError>;

    /// Ends attempts, and with a retryable failure schedules the next one. A crash before it leaves the lease to run
    /// out, and the job gets another attempt. A job that failed with a tree below it has the tree swept after that; a
    /// crash in between leaves that to `reap`. A job with mail to hear does not complete: see [`Finished::Mail`].
    async fn finish(&self, finishes: &[Finish]) -> Result<Vec<Finished>, QueueError>;

    /// Waits until the end of an attempt, which [`Work::finish`] has recorded, is confirmed by the server's file and the
    /// replicas that the connection asks for. Where a failover has lost the end it is recorded again. Answers what became of
    /// the job; `None` where the connection asks for no confirmation. A crash before it leaves the end as it is: a failover
    /// may lose it, and then the lease runs out and the job gets another attempt.
    async fn confirm(&self, finish: &Finish) -> Result<Option<Finished>, QueueError>;

    /// Whether ends are to be confirmed.
    fn confirms(&self) -> bool;

    /// Gives a job back to the queue. A crash before it leaves the lease to run out, which counts as a crash of the
    /// job.
    async fn release(&self, release: &Release) -> Result<Finished, QueueError>;

    /// Records in every shard that the worker lives. Without it the worker is removed from the fleet after three
    /// leases.
    ///
    /// The answer is whether an operator asked this worker to drain; it stays so until the worker is gone.
    async fn heartbeat(&self, heartbeat: &Heartbeat) -> Result<bool, QueueError>;

    /// Removes a worker that ends from the fleet.
    async fn goodbye(&self, worker: &WorkerId) -> Result<(), QueueError>;

    /// Reads a mailbox, oldest first, at most 1,000 entries. They stay until they are acknowledged.
    async fn mail(&self, session: SessionId, of: Dispatcher) -> Result<Vec<MailEntry>, QueueError>;

    /// Drops mail that was delivered to its agent. A crash before it delivers the mail again.
    async fn acknowledge(
        &self,
        session: SessionId,
        of: Dispatcher,
        mail: &[MailId],
    ) -> Result<(), QueueError>;

    /// Reads a stored team's JSON; `None` where it is not stored in the session's shard.
    async fn team(&self, session: SessionId, digest: &TeamDigest) -> Result<Option<String>, QueueError>;

    /// Reads all turn entries of a job after `sequence`, in pages.
    async fn turns(&self, id: JobId, after: u64) -> Result<Vec<(u64, String)>, QueueError>;

    /// How long ago a turn entry was stored, by Redis' clock; `None` where there is none.
    async fn turn_age(&self, id: JobId, sequence: u64) -> Result<Option<Duration>, QueueError>;
}
