//! The one service that every face translates into: the command line, MCP, HTTP, and the toolset that
//! a model sees.
//!
//! A handle is bound to a caller when it is made: the root of a session, a running job, or an
//! operator. The root and a job see only the jobs below them; for them anything else is
//! [`ServiceError::NotFound`]. An operator sees all.

use std::fmt::Debug;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use serde::Deserialize;
use serde::Serialize;
use thiserror::Error;

use crate::error::Coded;
use crate::error::ExitStatus;
use crate::id::JobId;
use crate::job::Job;
use crate::job::Placement;
use crate::lifecycle::State;

/// The most bytes of output that one view or one item of a wait carries.
pub const VIEW_BYTES: usize = 16 * 1024;

/// What a dispatcher may do with background agents.
///
/// Cancelling any of these calls (dropping its future) leaves the jobs as they are; a `run` or a
/// `stop` that was cancelled may or may not have happened, and may be repeated with the same call.
#[async_trait]
pub trait BackgroundAgents: Debug + Send + Sync {
    /// Stores a job and answers with its id. It answers only once the job is durable, so an accepted
    /// job reaches a terminal state whatever crashes afterwards. A repeat with the same
    /// [`RunRequest::call`] or key finds the same job.
    async fn run(&self, request: RunRequest) -> Result<JobId, ServiceError>;

    /// The caller's jobs: all that run, wait or stop, the next 50 queued, the newest 50 ended.
    async fn list(&self) -> Result<JobList, ServiceError>;

    /// One job with a piece of its output: from `since`, or else the tail; at most [`VIEW_BYTES`].
    async fn view(&self, id: JobId, since: Option<u64>) -> Result<JobView, ServiceError>;

    /// Asks a job and the whole tree below it to stop. The wish is durable when this answers.
    async fn stop(&self, id: JobId) -> Result<StopReply, ServiceError>;

    /// Blocks without polling until all (or any) of the jobs have ended, or the time is up. The
    /// answer has one item for each id asked for, in that order.
    async fn wait(&self, request: WaitRequest) -> Result<Vec<WaitItem>, ServiceError>;

    /// Puts a message before the job's next model call. It is kept across crashes of the job.
    async fn send(&self, request: SendRequest) -> Result<(), ServiceError>;
}

/// What reached a dispatcher and has not been given to its model yet.
#[async_trait]
pub trait Mailbox: Debug + Send + Sync {
    /// The mail that is there, oldest first. Reading removes nothing.
    async fn mail(&self) -> Result<Vec<Mail>, ServiceError>;

    /// Drops mail that the model has been given. Called after the turn that carries it is durable;
    /// a crash in between gives the next attempt the same mail again, and its turns tell it apart.
    async fn acknowledge(&self, mail: &[MailId]) -> Result<(), ServiceError>;

    /// Blocks until no job that this dispatcher dispatched is live.
    async fn settled(&self) -> Result<(), ServiceError>;
}

/// The place of a tool call in a job's life: the same place after a crash is the same call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct CallIndex {
    /// The turn that asked, counted from 1 over all attempts.
    pub turn: u32,
    /// The call within the turn, counted from 0.
    pub index: u32,
}

/// A request to run a background agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunRequest {
    /// The agent of the caller's team.
    pub agent: String,
    /// What it shall do.
    pub task: String,
    /// What its answer should look like.
    pub expected_output: Option<String>,
    /// Where the request stands in the caller's turns, when the caller is a job.
    pub call: Option<CallIndex>,
    /// An idempotency key of the caller's own.
    pub key: Option<String>,
    /// Where, when and how often it runs; `None` for what the fleet decides.
    pub placement: Option<Placement>,
}

/// The jobs of one dispatcher, oldest first, and how many more there are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JobList {
    /// The jobs shown.
    pub jobs: Vec<Job>,
    /// Queued and scheduled jobs that are not shown.
    pub more_queued: u64,
    /// Ended jobs that are not shown.
    pub more_ended: u64,
}

/// Why a queued job does not run yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QueuedReason {
    /// This many jobs of its session are before it.
    Behind(u64),
    /// It is taken as soon as a worker has a free slot.
    Next,
    /// No live worker serves its queue.
    NoWorker,
}

/// A piece of a job's output.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OutputSlice {
    /// The byte offset at which the piece begins.
    pub offset: u64,
    /// The bytes. A piece never cuts a UTF-8 character that is whole in the output.
    pub bytes: Vec<u8>,
    /// How many bytes of output are stored in all.
    pub total: u64,
}

impl OutputSlice {
    /// The offset just after this piece.
    pub fn next_offset(&self) -> u64 {
        self.offset + self.bytes.len() as u64
    }
}

/// One job as `view` shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobView {
    /// The job.
    pub job: Job,
    /// The piece of output.
    pub output: OutputSlice,
    /// Whether the output cap was reached: the head is kept, the rest is dropped.
    pub truncated: bool,
    /// Why it waits, when queued.
    pub queued: Option<QueuedReason>,
    /// When it will be queued, when scheduled.
    pub starts_at: Option<Timestamp>,
    /// What it waits for, in words, when running.
    pub waits_for: Option<String>,
    /// The offset that was asked for, if one was.
    pub since: Option<u64>,
}

/// How a stop was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopReply {
    /// The wish is durable; the job ends `stopped`.
    Stopping,
    /// The job had ended before, in this state.
    AlreadyEnded(State),
}

/// Whether a wait is over when all or when any of its jobs have ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WaitMode {
    /// All of them.
    #[default]
    All,
    /// The first of them.
    Any,
}

impl WaitMode {
    /// Whether a wait of this mode is over with these answers. A job that the caller does not have is not waited for.
    pub fn is_over(self, items: &[WaitItem]) -> bool {
        let ended = |item: &WaitItem| match item {
            WaitItem::Found(view) => view.job.status.is_terminal(),
            WaitItem::NotFound(_) => true,
        };
        match self {
            Self::All => items.iter().all(ended),
            Self::Any => items.iter().any(ended) || items.is_empty(),
        }
    }
}

/// A request to wait.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WaitRequest {
    /// The jobs, as the caller wrote their ids.
    pub ids: Vec<String>,
    /// How long to wait at most; `None` for as long as it takes.
    pub timeout: Option<Duration>,
    /// All or any.
    pub mode: WaitMode,
    /// Where the request stands in the caller's turns, when the caller is a job: repeated after a crash, it keeps
    /// its first deadline.
    pub call: Option<CallIndex>,
}

/// One answer of a wait.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WaitItem {
    /// The job as it is now.
    Found(Box<JobView>),
    /// The caller has no such job.
    NotFound(String),
}

/// A request to send a message into a running job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SendRequest {
    /// The job.
    pub id: JobId,
    /// What to tell its model.
    pub message: String,
    /// Where the request stands in the caller's turns, when the caller is a job.
    pub call: Option<CallIndex>,
}

/// The name of one piece of mail within its mailbox.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MailId(pub String);

/// One piece of mail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mail {
    /// Its name.
    pub id: MailId,
    /// What it says.
    pub content: MailContent,
}

/// What a piece of mail says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MailContent {
    /// A job that this dispatcher dispatched has ended.
    Ended(Box<JobView>),
    /// Somebody sent a message.
    Message(String),
}

/// Why the service could not do what was asked.
#[derive(Debug, Error)]
pub enum ServiceError {
    /// The caller has no such job.
    #[error("task not found: {0}")]
    NotFound(String),
    /// The job has ended, or has not begun, and cannot take this.
    #[error("task {id} is not running (status: {status})")]
    NotRunning {
        /// The job.
        id: JobId,
        /// Its status.
        status: State,
    },
    /// The caller's tree is being stopped, so nothing new begins in it.
    #[error("the session or a job above is being stopped; nothing new is dispatched")]
    Stopping,
    /// The session was closed.
    #[error("session {0} is closed")]
    SessionClosed(String),
    /// The caller lost its lease; whatever it does no longer counts.
    #[error("this attempt no longer holds its lease")]
    LeaseLost,
    /// The key stands for another request.
    #[error("idempotency key `{key}` was used for another request (job {id})")]
    Conflict {
        /// The key.
        key: String,
        /// The job that it stands for.
        id: JobId,
    },
    /// Jobs may not nest deeper.
    #[error("background agents are nested at most {0} deep")]
    TooDeep(u8),
    /// A store is full and takes no more.
    #[error("{what} is full: {detail}")]
    Full {
        /// What is full.
        what: &'static str,
        /// The store's own words.
        detail: String,
    },
    /// Redis cannot be reached or refuses.
    #[error("the queue is not reachable: {0}")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl Coded for ServiceError {
    fn code(&self) -> &'static str {
        match self {
            Self::NotFound(_) => "not_found",
            Self::NotRunning { .. } => "not_running",
            Self::Stopping => "stopping",
            Self::SessionClosed(_) => "session_closed",
            Self::LeaseLost => "lease_lost",
            Self::Conflict { .. } => "conflict",
            Self::TooDeep(_) => "too_deep",
            Self::Full { .. } => "full",
            Self::Unavailable(_) => "redis_unavailable",
        }
    }

    fn exit(&self) -> ExitStatus {
        match self {
            Self::NotFound(_) => ExitStatus::NotFound,
            Self::NotRunning { .. } | Self::TooDeep(_) => ExitStatus::Usage,
            Self::Conflict { .. } | Self::Stopping | Self::SessionClosed(_) => ExitStatus::Conflict,
            Self::LeaseLost | Self::Full { .. } | Self::Unavailable(_) => ExitStatus::Redis,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::NotFound(_) => Some("`legwork list` shows the jobs that are kept".to_owned()),
            Self::SessionClosed(_) => Some("dispatch without --session to open a new one".to_owned()),
            Self::Conflict { .. } => Some("use another key, or repeat the first request exactly".to_owned()),
            Self::Full { .. } => Some("raise maxmemory; what runs can still finish".to_owned()),
            Self::Unavailable(_) => {
                Some("check --redis, or leave it away to use the embedded server".to_owned())
            }
            Self::NotRunning { .. } | Self::Stopping | Self::LeaseLost | Self::TooDeep(_) => None,
        }
    }
}
