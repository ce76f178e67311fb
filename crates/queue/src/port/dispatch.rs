//! Sessions, storing jobs and stopping them.

use std::fmt::Debug;
use std::time::Duration;

use async_trait::async_trait;
use legwork_common::id::JobId;
use legwork_common::id::RunToken;
use legwork_common::id::SessionId;
use legwork_common::job::Cause;
use legwork_common::job::JobOptions;
use legwork_common::job::JobSpec;
use legwork_common::job::TeamDigest;
use legwork_common::lifecycle::State;
use legwork_common::money::Money;
use legwork_signing::JobSigner;

use crate::error::QueueError;

/// What the end of a session's owner means for its jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionEnd {
    /// They are stopped, cause `session_end`.
    Stop,
    /// They continue, until they end or are stopped.
    Keep,
}

/// A session to open.
#[derive(Debug, Clone)]
pub struct OpenSession {
    /// Its id, made by the caller, so that a repeat opens the same one.
    pub session: SessionId,
    /// The secret of its owner, which renews its lease; `None` for a session without an owner.
    pub owner: Option<RunToken>,
    /// How long its owner may be away, without renewing its lease, before it counts as gone; at least a lease.
    pub owner_grace: Duration,
    /// What the owner's end means for its jobs.
    pub on_end: SessionEnd,
    /// How many of its jobs are admitted at once for each queue; 0 for no cap.
    pub cap: u32,
    /// How many of its jobs may be unfinished at once, those of its jobs too; 0 for no limit. Set when the session is
    /// new.
    pub quota: u32,
    /// Whether its jobs go to a lane of its own, which only its own workers serve.
    pub own_lane: bool,
    /// How many tokens the models of all its agents may use together; `None` for no limit. Set when the session is new.
    pub budget: Option<u64>,
    /// What they may cost together; `None` for no limit. Set when the session is new.
    pub max_cost: Option<Money>,
}

impl OpenSession {
    /// A session without an owner and without limits, whose jobs are kept.
    pub fn unlimited(session: SessionId) -> Self {
        Self {
            session,
            owner: None,
            owner_grace: Duration::ZERO,
            on_end: SessionEnd::Keep,
            cap: 0,
            quota: 0,
            own_lane: false,
            budget: None,
            max_cost: None,
        }
    }
}

/// The outcome of opening a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opened {
    /// It is open, for this owner where one was given.
    Open,
    /// Another live owner holds it.
    Owned,
    /// It was closed and takes no new jobs.
    Closed,
}

/// A dispatcher: the root of the session, or one of its running jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DispatchedBy {
    /// The session's root, which needs no proof.
    Root,
    /// A running job, identified by its run token.
    Job {
        /// The job that dispatches.
        id: JobId,
        /// The secret of its current attempt.
        token: RunToken,
    },
}

/// Makes a repeated dispatch find the job of the first one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdempotencyKey {
    /// The hashed key: 64 hexadecimal digits.
    pub key: String,
    /// The hashed request; another request under the same key is a conflict.
    pub request: String,
    /// Whether the key is unique in the whole namespace; else in its session.
    pub in_namespace: bool,
}

/// A job to store.
#[derive(Debug, Clone)]
pub struct NewJob {
    /// Its id, in the session's shard.
    pub id: JobId,
    /// The task and all else that is dispatched.
    pub spec: JobSpec,
    /// Where and when it runs, and how often it is retried.
    pub job_options: JobOptions,
    /// The key under which a repeat finds it.
    pub idempotency_key: Option<IdempotencyKey>,
    /// Whether a job that retries another is stored even if that one was retried before.
    pub again: bool,
}

/// Jobs to store, all of one dispatcher and one team.
#[derive(Debug, Clone)]
pub struct Enqueue {
    /// The session they belong to.
    pub session: SessionId,
    /// Their dispatcher, which must still hold its lease.
    pub by: DispatchedBy,
    /// Their team, stored before.
    pub team: TeamDigest,
    /// The jobs, the oldest first.
    pub jobs: Vec<NewJob>,
    /// Signs each job as it is stored; `None` stores them without an envelope.
    pub signer: Option<JobSigner>,
}

/// What became of one job of an [`Enqueue`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Enqueued {
    /// It is stored under this id: its own, or that of the first request with the same key.
    Stored(JobId),
    /// Its key was used by another request, for this job.
    Conflict(JobId),
    /// It would retry a job that was retried as this one before; nothing was stored.
    Retried(JobId),
}

/// Why an [`Enqueue`] was refused. Earlier batches of it may be stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EnqueueRefusal {
    /// The session does not exist, or expired.
    NoSession,
    /// The session was closed to new jobs.
    Closed,
    /// The dispatching job lost its lease.
    Stale,
    /// The tree would be deeper than ten jobs.
    TooDeep,
    /// The dispatcher's tree is being stopped.
    Stopping,
    /// The session has its quota of unfinished jobs, or would exceed it with this batch.
    Full {
        /// How many of its jobs are unfinished.
        unfinished: u64,
        /// How many may be.
        quota: u64,
    },
    /// The team is not stored, or expired: store it and repeat.
    NoTeam,
}

/// The top of a tree to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StopRoot {
    /// A job and all jobs below it.
    Job(JobId),
    /// All jobs of a session.
    Session {
        /// The session whose jobs are stopped.
        id: SessionId,
        /// Whether it takes no new jobs from now on.
        close: bool,
    },
}

/// The requester of a stop. A dispatcher gets no mail about the ends that it requested itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asker {
    /// A user, or a program outside any session.
    Operator,
    /// The root of the session.
    Root,
    /// A running job, with one of its tools.
    Job(JobId),
}

/// The outcome of a stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopOutcome {
    /// The stop mark is durable. The cause is that of the first request.
    Marked(Cause),
    /// The job had ended before.
    AlreadyEnded(State),
    /// The job or session does not exist, or was forgotten.
    NotFound,
}

/// The outcome of stopping a job that may be waiting for a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WaitingStop {
    /// It waited, and has ended `stopped` now.
    Stopped,
    /// It had ended before.
    AlreadyEnded(State),
    /// A worker holds it, or it dispatched jobs: its tree needs a stop mark.
    Tree,
    /// It does not exist, or was forgotten.
    NotFound,
}

/// The outcome of sending a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SendOutcome {
    /// It is in the mailbox.
    Sent,
    /// The job is in a state that takes no messages.
    NotRunning(State),
    /// The job does not exist, or was forgotten.
    NotFound,
}

/// What a dispatcher asks of the queue.
#[async_trait]
pub trait Dispatch: Debug + Send + Sync {
    /// Opens a session, or takes it over from an owner that is gone. A caller that dies before the answer leaves the
    /// session open or not; an open one expires an hour after it was opened, or when its owner's lease has run out.
    async fn open(&self, session: &OpenSession) -> Result<Opened, QueueError>;

    /// Closes a session to new jobs and gives up its ownership. Its jobs continue: stopping them is a step of its own.
    /// A session that another owner took over stays as it is. A crash before it leaves the owner's lease to run out.
    async fn close(&self, session: SessionId, owner: RunToken) -> Result<(), QueueError>;

    /// Gives up the ownership of a session without closing it. Its jobs continue on the lanes that they have.
    async fn detach(&self, session: SessionId, owner: RunToken) -> Result<(), QueueError>;

    /// Stores a team in the session's shard, before its jobs. It expires after an hour without a job.
    async fn store_team(&self, session: SessionId, digest: &TeamDigest, json: &str)
    -> Result<(), QueueError>;

    /// Stores and queues jobs, in one step for each batch of 200. Once this answers they are durable and will reach a
    /// terminal state. A caller that dies before leaves the batches stored that were done, and a repeat with the same
    /// ids or idempotency keys finds them.
    async fn enqueue(&self, request: &Enqueue) -> Result<Result<Vec<Enqueued>, EnqueueRefusal>, QueueError>;

    /// Marks a tree as being stopped, and then ends the records below in pages. The mark is durable when the first page
    /// begins: if the caller dies after that, `reap` resumes with the rest.
    async fn stop(&self, root: StopRoot, asker: Asker, why: Cause) -> Result<StopOutcome, QueueError>;

    /// Stops those of the jobs that wait for a worker and have dispatched none, without marks, in one step for each 200 of
    /// a shard. One outcome for each id. A caller that dies leaves the steps done that were sent.
    async fn stop_waiting(&self, ids: &[JobId], why: Cause) -> Result<Vec<WaitingStop>, QueueError>;

    /// Goes through the records below a stop mark once more, and drops the mark when no job below it lives. Returns how
    /// many live; where the whole tree was swept before, only whether any does. May be cut off between pages; `reap` resumes.
    async fn sweep(&self, root: StopRoot) -> Result<u64, QueueError>;

    /// Puts a message, with its seal where it has one, into a job's mailbox, to be delivered before its next model call.
    /// `request` names the call: within `keep` a repeat sends nothing again.
    async fn send(
        &self,
        id: JobId,
        sealed: (&str, Option<&str>),
        request: &str,
        keep: Duration,
    ) -> Result<SendOutcome, QueueError>;
}
