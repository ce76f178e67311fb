//! The service behind every way to use background agents: the command line, MCP, and the toolset that agents call.
//!
//! A handle to [`BackgroundAgents`] is bound to one dispatcher when it is created: the root of a session, or
//! a running job. A dispatcher sees only the jobs below it; any other id is [`ServiceError::NotFound`], so an
//! id that leaks into another session is useless there.
//!
//! Operators use a different handle, `legwork_queue::operator::Operator`. It is bound to a namespace and sees
//! all of its jobs: it lists, finds, views, waits for, stops, retries and deletes them. It answers with the
//! types and the errors of this module, so that every front end shows jobs and errors the same way.

use std::fmt::Debug;
use std::time::Duration;

use async_trait::async_trait;
use serde::Deserialize;
use serde::Serialize;
use thiserror::Error;

use crate::error::Coded;
use crate::error::ExitStatus;
use crate::id::JobId;
use crate::job::Job;
use crate::job::JobOptions;
use crate::lifecycle::State;
use crate::team::SafetyMode;

/// The maximum number of output bytes in one view. The text goes into the context
/// of a model, so it is far below the 10 MiB of output that a job keeps; `since` reads the rest in pages of
/// this size.
pub const MAX_VIEW_BYTES: usize = 16 * 1024;

/// The error code of an operation that the state of its job does not allow, in every command.
pub const WRONG_STATE: &str = "wrong_state";

/// The operations of a dispatcher on its background agents.
///
/// Cancelling a call (dropping its future) stops no job. A cancelled `run`, `stop` or `send` may or may not
/// have been applied; a repeat of `run` or `send` with the same [`CallIndex`] or key is applied once, and
/// `stop` is idempotent.
///
/// # Errors
///
/// Every method returns [`ServiceError::Unavailable`] when Redis stays unreachable.
#[async_trait]
pub trait BackgroundAgents: Debug + Send + Sync {
    /// Stores a job and returns its id. It returns only once the job is durable, so an accepted job reaches a
    /// terminal state whatever crashes afterwards. A caller that crashes before it has the id repeats the
    /// request with the same [`RunRequest::call`] or key and gets the same job.
    async fn run(&self, request: RunRequest) -> Result<JobId, ServiceError>;

    /// Lists the caller's jobs: every running, waiting and stopping one, the next 50 queued ones, and the 50
    /// that ended last. The limits keep the list short enough for the context of a model.
    async fn list(&self) -> Result<JobList, ServiceError>;

    /// Returns one job with at most [`MAX_VIEW_BYTES`] of its output: from the byte offset `since`, or else the
    /// last bytes.
    async fn view(&self, id: JobId, since: Option<u64>) -> Result<JobView, ServiceError>;

    /// Requests a stop of a job and of all jobs below it. The request is durable when this returns; the jobs reach
    /// `stopped` later, also when their workers have crashed.
    async fn stop(&self, id: JobId) -> Result<StopReply, ServiceError>;

    /// Waits until all (or any) of the jobs have ended, or the timeout is over. Returns one item for each
    /// requested id, in the order of the request. It changes nothing, so it can be cancelled and repeated.
    async fn wait(&self, request: WaitRequest) -> Result<Vec<WaitItem>, ServiceError>;

    /// Sends a message to a running job. It is stored when this returns, and delivered before the job's next
    /// model call, also when the job's worker crashes first.
    async fn send(&self, request: SendRequest) -> Result<(), ServiceError>;
}

/// The mailbox of a dispatcher: notices of ended jobs and messages that its model has not received yet.
#[async_trait]
pub trait Mailbox: Debug + Send + Sync {
    /// Reads the mail, oldest first. Reading removes nothing.
    async fn mail(&self) -> Result<Vec<Mail>, ServiceError>;

    /// Removes mail that was delivered to the model. Call it only after the turn that contains the mail is
    /// durable. After a crash in between the next attempt reads the same mail again, and its recorded turns
    /// identify what was delivered already.
    async fn acknowledge(&self, mail: &[MailId]) -> Result<(), ServiceError>;

    /// Waits until every job that this dispatcher dispatched has ended.
    async fn settled(&self) -> Result<(), ServiceError>;
}

/// The position of a tool call in the turns of a job. The turns are recorded before their calls run, so a
/// call that is repeated after a crash has the same position; this makes it the idempotency key of the call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct CallIndex {
    /// The turn that requested the call, counted from 1 over all attempts.
    pub turn: u32,
    /// The index of the call within the turn, counted from 0.
    pub index: u32,
}

/// A request to dispatch a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunRequest {
    /// The name of an agent of the caller's team.
    pub agent: String,
    /// The task, as text for the agent's model.
    pub task: String,
    /// A description of the expected answer, for the agent's model.
    pub expected_output: Option<String>,
    /// The position of the request in the caller's turns, when the caller is an agent. It serves as the
    /// idempotency key where `key` is `None`.
    pub call: Option<CallIndex>,
    /// An idempotency key chosen by the caller: the same key and the same request return the same job for as
    /// long as the job is kept; another request under the key is a [`ServiceError::Conflict`].
    pub key: Option<String>,
    /// The scheduling options; `None` for those of the fleet's policy.
    pub job_options: Option<JobOptions>,
    /// The safety mode of the caller, which the job inherits: its own can only be stricter. `None` for no mode.
    pub safety: Option<SafetyMode>,
}

/// The jobs of one dispatcher, oldest first, with the number of omitted ones.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JobList {
    /// The listed jobs.
    pub jobs: Vec<Job>,
    /// The number of queued and scheduled jobs that are not listed.
    pub more_queued: u64,
    /// The number of ended jobs that are not listed.
    pub more_ended: u64,
}

/// A range of a job's output.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OutputSlice {
    /// The byte offset of the first byte.
    pub offset: u64,
    /// The bytes. A range never splits a UTF-8 character that is complete in the output.
    pub bytes: Vec<u8>,
    /// The total number of stored bytes.
    pub total: u64,
}

impl OutputSlice {
    /// The offset of the first byte after this range.
    pub fn next_offset(&self) -> u64 {
        self.offset + self.bytes.len() as u64
    }
}

/// A job with a range of its output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobView {
    /// A snapshot of the job.
    pub job: Job,
    /// The range of output: at most [`MAX_VIEW_BYTES`].
    pub output: OutputSlice,
    /// Whether the job reached its output cap. The output up to the cap is kept; later output is dropped.
    pub truncated: bool,
    /// The requested offset; `None` for the tail.
    pub since: Option<u64>,
    /// What was not read of the job's result, or of its error; `None` where they are whole.
    pub cut: Option<CutText>,
    /// What proves that a worker wrote the job's end, as it is stored; `None` where nothing does.
    pub seal: Option<String>,
}

/// A result or an error of which only the first and the last bytes were read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CutText {
    /// Its length in bytes.
    pub bytes: u64,
    /// Its last bytes, without the rest of a character that was cut.
    pub tail: String,
}

/// The result of a stop request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopReply {
    /// The request is durable, and the job will end `stopped`.
    Stopping,
    /// The job had already ended, in this state; nothing changed.
    AlreadyEnded(State),
}

/// Whether a wait ends when all of its jobs have ended, or when any has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WaitMode {
    /// Wait for all jobs.
    #[default]
    All,
    /// Wait for the first job that ends.
    Any,
}

impl WaitMode {
    /// Whether a wait of this mode is complete with these items. Only jobs that were found count, so that an unknown id
    /// neither blocks the wait until its timeout nor ends it; with none found it is complete.
    pub fn is_over(self, items: &[WaitItem]) -> bool {
        let mut ended = items.iter().filter_map(|item| match item {
            WaitItem::Found(view) => Some(view.job.status.is_terminal()),
            WaitItem::NotFound(_) => None,
        });
        match self {
            Self::All => ended.all(|ended| ended),
            Self::Any => match ended.next() {
                None | Some(true) => true,
                Some(false) => ended.any(|ended| ended),
            },
        }
    }
}

/// How much of each job the answer of a wait has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WaitDetail {
    /// How the job stands: no output and no result, the first bytes of a failed one's error, and only those of its task.
    Status,
    /// What the contract shows of it: the first bytes of a result or an error, the last of its output.
    Excerpt,
    /// The whole result, and the last page of output.
    Whole,
}

/// A request to wait for jobs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WaitRequest {
    /// The ids as the caller wrote them. An id that cannot be parsed is answered as not found.
    pub ids: Vec<String>,
    /// The maximum time to wait; `None` means no limit.
    pub timeout: Option<Duration>,
    /// Whether to wait for all jobs or for any.
    pub mode: WaitMode,
    /// The position of the request in the caller's turns, when the caller is a job. A wait that is repeated
    /// after a crash keeps its first deadline.
    pub call: Option<CallIndex>,
    /// How much of each job is answered, and read.
    pub detail: WaitDetail,
}

/// The result of a wait for one id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WaitItem {
    /// The job as it was when the wait ended; it may still be running.
    Found(Box<JobView>),
    /// The caller has no job with this id, which is given as the caller wrote it.
    NotFound(String),
}

/// A request to send a message to a running job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SendRequest {
    /// The receiving job.
    pub id: JobId,
    /// The text that its model receives as a user message.
    pub message: String,
    /// The position of the request in the caller's turns, when the caller is a job. It makes a repeat after a
    /// crash send nothing twice.
    pub call: Option<CallIndex>,
}

/// The id of a piece of mail, unique within its mailbox. It is the id of the entry in the stream that stores it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MailId(pub String);

/// A piece of mail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mail {
    /// The id by which it is acknowledged.
    pub id: MailId,
    /// The content.
    pub content: MailContent,
}

/// The content of a piece of mail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MailContent {
    /// A job of this dispatcher has ended. The view is read when the mail is read.
    Ended(Box<JobView>),
    /// A message for the dispatcher, sent by an operator or by another agent.
    Message(String),
}

/// Why an operation of the service failed.
#[derive(Debug, Error)]
pub enum ServiceError {
    /// The job does not exist, or is not below the caller.
    #[error("task not found: {0}")]
    NotFound(String),
    /// The operation needs a running job, but the job has not started or has ended.
    #[error("task {id} is not running (status: {status})")]
    NotRunning {
        /// The job.
        id: JobId,
        /// Its state.
        status: State,
    },
    /// The job's agent is a program (`command:`), which hears no messages.
    #[error("task {0} runs a program, which hears no messages")]
    HearsNothing(JobId),
    /// The caller's session, or the caller or one of its ancestors, is being stopped; it can dispatch no more
    /// jobs.
    #[error("the session or a parent job is being stopped; no new job can be dispatched")]
    Stopping,
    /// The session is closed to new jobs.
    #[error("session {0} is closed")]
    SessionClosed(String),
    /// The calling attempt lost its lease. Another attempt has the job, or will; nothing that this one does
    /// is stored.
    #[error("this attempt no longer holds its lease")]
    LeaseLost,
    /// The idempotency key was used before with a different request.
    #[error("idempotency key `{key}` was used for another request (job {id})")]
    Conflict {
        /// The key, as the caller wrote it.
        key: String,
        /// The job of the first request.
        id: JobId,
    },
    /// The job would be nested deeper than allowed.
    #[error("delegation depth limit exceeded: background agents can be nested at most {0} levels deep")]
    TooDeep(u8),
    /// The job's agent is on the way down from the root already, and the policy does not allow recursion.
    #[error("delegation cycle detected: {}", way.join(" -> "))]
    Cycle {
        /// The agents from the root, or from the first job, down to the refused one.
        way: Vec<String>,
    },
    /// The session has its quota of unfinished jobs, or would exceed it with the jobs of this call. None of them was
    /// stored.
    #[error(
        "the session is full: {unfinished} of its jobs have not ended, and it may have {quota}; no job was started"
    )]
    SessionFull {
        /// How many of its jobs have not ended.
        unfinished: u64,
        /// How many may.
        quota: u64,
    },
    /// A store has reached its capacity; nothing was stored.
    #[error("{what} is full: {detail}")]
    Full {
        /// The store, for the message: `Redis`.
        what: &'static str,
        /// The details, for example the error of Redis.
        detail: String,
    },
    /// Redis cannot be reached, or rejected the request. The operation may or may not have been applied.
    #[error("the queue is unavailable: {0}")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl Coded for ServiceError {
    fn code(&self) -> &'static str {
        match self {
            Self::NotFound(_) => "not_found",
            Self::NotRunning { .. } => WRONG_STATE,
            Self::HearsNothing(_) => "hears_nothing",
            Self::Stopping => "stopping",
            Self::SessionClosed(_) => "session_closed",
            Self::LeaseLost => "lease_lost",
            Self::Conflict { .. } => "conflict",
            Self::TooDeep(_) => "too_deep",
            Self::Cycle { .. } => "delegation_cycle",
            Self::SessionFull { .. } => "session_full",
            Self::Full { .. } => "full",
            Self::Unavailable(_) => "redis_unavailable",
        }
    }

    fn exit(&self) -> ExitStatus {
        match self {
            Self::NotFound(_) => ExitStatus::NotFound,
            Self::NotRunning { .. } | Self::HearsNothing(_) | Self::TooDeep(_) | Self::Cycle { .. } => {
                ExitStatus::Usage
            }
            Self::Conflict { .. } | Self::Stopping | Self::SessionClosed(_) | Self::SessionFull { .. } => {
                ExitStatus::Conflict
            }
            Self::LeaseLost | Self::Full { .. } | Self::Unavailable(_) => ExitStatus::Redis,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::NotFound(_) => Some("`legwork list` shows the jobs that are kept".to_owned()),
            Self::SessionClosed(_) => Some("dispatch without --session to open a new session".to_owned()),
            Self::Conflict { .. } => {
                Some("use another key, or repeat the original request unchanged".to_owned())
            }
            Self::SessionFull { .. } => Some(
                "wait until some have ended, or dispatch into a new session; --session-jobs sets its quota"
                    .to_owned(),
            ),
            Self::Full { .. } => Some("raise maxmemory; running jobs can still finish".to_owned()),
            Self::Unavailable(_) => Some("check --redis, or omit it to use the embedded server".to_owned()),
            Self::Cycle { .. } => Some("write `recursion: true` into the policy file to allow it".to_owned()),
            Self::NotRunning { .. }
            | Self::HearsNothing(_)
            | Self::Stopping
            | Self::LeaseLost
            | Self::TooDeep(_) => None,
        }
    }
}
