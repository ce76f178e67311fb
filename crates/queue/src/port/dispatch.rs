//! Storing jobs and stopping them.

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

use crate::error::QueueError;

/// What the end of a session's owner means for its jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionEnd {
    /// They are stopped, cause `session_end`.
    Stop,
    /// They go on.
    Keep,
}

/// A session to open.
#[derive(Debug, Clone)]
pub struct OpenSession {
    /// Its id; whoever opens it made it.
    pub session: SessionId,
    /// The secret of its owner, who renews its lease; `None` for a session without an owner.
    pub owner: Option<RunToken>,
    /// What the owner's end means.
    pub on_end: SessionEnd,
    /// How many of its jobs are admitted at once for each queue; 0 for no cap.
    pub cap: u32,
    /// Whether its jobs go to lanes of its own, which only its own workers serve.
    pub own_lane: bool,
    /// How many tokens all its agents' models may count together; `None` for no limit. Set when the session is new.
    pub budget: Option<u64>,
}

/// How opening a session went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opened {
    /// It is open.
    Open,
    /// Another live owner holds it.
    Owned,
    /// It was closed; nothing new is dispatched into it.
    Closed,
}

/// Who dispatches: the root of the session, or one of its running jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DispatchedBy {
    /// The session's root.
    Root,
    /// A running job, proved by its run token.
    Job {
        /// The job.
        id: JobId,
        /// The secret of its current attempt.
        token: RunToken,
    },
}

/// What makes a repeated dispatch find the first one's job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdempotencyKey {
    /// The hashed key: 64 hexadecimal digits.
    pub key: String,
    /// The hashed request; another request under the same key is a conflict.
    pub request: String,
    /// Whether the key holds in the whole namespace and not just in the session.
    pub in_namespace: bool,
}

/// A job to store.
#[derive(Debug, Clone)]
pub struct NewJob {
    /// Its id, in the session's shard.
    pub id: JobId,
    /// What is asked.
    pub spec: JobSpec,
    /// Where, when and how often it runs.
    pub job_options: JobOptions,
    /// What makes a repeat find it.
    pub idempotency_key: Option<IdempotencyKey>,
}

/// Jobs to store, all of one dispatcher and one team.
#[derive(Debug, Clone)]
pub struct Enqueue {
    /// The session they belong to.
    pub session: SessionId,
    /// Who dispatches them.
    pub by: DispatchedBy,
    /// Their team, stored before.
    pub team: TeamDigest,
    /// The jobs.
    pub jobs: Vec<NewJob>,
}

/// What became of one job of an [`Enqueue`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Enqueued {
    /// It is stored under this id: its own, or that of the first request with the same key.
    Stored(JobId),
    /// Its key stands for another request, whose job this is.
    Conflict(JobId),
}

/// Why an [`Enqueue`] was refused. Pieces of it that came before may be stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EnqueueRefusal {
    /// No such session.
    NoSession,
    /// The session is closed.
    Closed,
    /// The dispatching job lost its lease.
    Stale,
    /// Jobs nest too deep.
    TooDeep,
    /// The dispatcher's tree is being stopped.
    Stopping,
    /// The team is not stored (any more); store it and repeat.
    NoTeam,
}

/// The top of a tree to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StopRoot {
    /// A job and all below it.
    Job(JobId),
    /// All jobs of a session.
    Session {
        /// The session.
        id: SessionId,
        /// Whether it takes no new jobs from now on.
        close: bool,
    },
}

/// Who asks for a stop; they are not told of the ends that they asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asker {
    /// A person, or a program outside any session.
    Operator,
    /// The root of the session.
    Root,
    /// A job.
    Job(JobId),
}

/// How a stop was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopOutcome {
    /// The mark is durable; the cause that counts (the first asker's) is given.
    Marked(Cause),
    /// The job had ended before.
    AlreadyEnded(State),
    /// No such job or session.
    NotFound,
}

/// How a message was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SendOutcome {
    /// It is in the mailbox.
    Sent,
    /// The job is in a state that takes no messages.
    NotRunning(State),
    /// No such job.
    NotFound,
}

/// What a dispatcher asks of the queue.
#[async_trait]
pub trait Dispatch: Debug + Send + Sync {
    /// Opens a session, or takes it over from an owner that is gone. Until this is answered the session
    /// may or may not exist; a repeat settles it.
    async fn open(&self, session: &OpenSession) -> Result<Opened, QueueError>;

    /// Closes a session to new jobs and gives up its ownership. Jobs that run go on; stopping them is
    /// a step of its own. A session that another owner took over stays as it is. A crash before it leaves the owner's lease to run out.
    async fn close(&self, session: SessionId, owner: RunToken) -> Result<(), QueueError>;

    /// Gives up the ownership of a session whose jobs shall go on, on the lanes that it has.
    async fn detach(&self, session: SessionId, owner: RunToken) -> Result<(), QueueError>;

    /// Stores a team beside its jobs. Without a job it is dropped after an hour.
    async fn store_team(&self, session: SessionId, digest: &TeamDigest, json: &str)
    -> Result<(), QueueError>;

    /// Stores and queues jobs, one step for each 200. IdempotencyKey answered they are durable and will reach a terminal state; a crash
    /// of the caller before the answer may leave them stored, and a repeat finds them.
    async fn enqueue(&self, request: &Enqueue) -> Result<Result<Vec<Enqueued>, EnqueueRefusal>, QueueError>;

    /// Writes a tree's stop mark, and then ends the records below in pages. The mark is durable when
    /// the first page begins; if the caller dies, `reap` goes on with the rest.
    async fn stop(&self, root: StopRoot, asker: Asker, why: Cause) -> Result<StopOutcome, QueueError>;

    /// Goes over the records below a stop mark once more, and drops the mark when nothing below it lives.
    /// Answers how many live.
    async fn sweep(&self, root: StopRoot) -> Result<u64, QueueError>;

    /// Puts a message before a running job's next model call. `request` names the call: a repeat sends
    /// nothing again.
    async fn send(
        &self,
        id: JobId,
        message: &str,
        request: &str,
        keep: Duration,
    ) -> Result<SendOutcome, QueueError>;
}
