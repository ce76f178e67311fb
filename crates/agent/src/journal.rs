//! What a run writes down as it goes, and how: the turns are a write-ahead log.
//!
//! A reply is recorded before the first of its tools starts, mail before the model call that sees it.
//! Whoever runs the agent again gives the recorded entries back and the run goes on after them.

use std::error::Error;
use std::fmt::Debug;

use async_trait::async_trait;
use legwork_common::id::JobId;
use legwork_common::job::Usage;
use legwork_common::service::CallIndex;
use legwork_common::service::MailId;
use serde::Deserialize;
use serde::Serialize;
use thiserror::Error;

use crate::message::AssistantMessage;

/// One entry of the turns. Unknown fields of later versions are ignored when it is read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "entry", rename_all = "snake_case")]
pub enum TurnEntry {
    /// The model's reply: it begins the turn, and ends it where it asks for no tools.
    Reply {
        /// The turn, counted from 1 over all attempts.
        turn: u32,
        /// The whole message.
        message: AssistantMessage,
    },
    /// What one tool call of the turn came to. A turn is finished when every call has one.
    Result {
        /// The turn.
        turn: u32,
        /// The call within the reply, counted from 0.
        index: u32,
        /// The provider's id of the call.
        call_id: String,
        /// What the model is told.
        text: String,
        /// Whether it went wrong.
        is_error: bool,
        /// Jobs whose end this result shows, so that they are not announced again.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        ended: Vec<JobId>,
    },
    /// One user message made of mail, before the model call of `turn`. Without mail it is a user's next prompt.
    Delivered {
        /// The turn whose model call sees it first.
        turn: u32,
        /// The mail that it is made of.
        mail: Vec<MailId>,
        /// The text of the user message.
        text: String,
    },
    /// Before the model call of `turn`, a summary took the place of the conversation between the task and its last
    /// messages. Whoever resumes goes on from it; the entries before it stay readable.
    Compacted {
        /// The turn whose model call sees it first.
        turn: u32,
        /// How many of the last messages stayed.
        kept: u32,
        /// The summary.
        summary: String,
        /// What the summary cost.
        #[serde(default)]
        usage: Usage,
    },
    /// What a program that is an agent wrote to standard error, or its end. It says nothing to any model.
    Stderr {
        /// The text.
        text: String,
    },
    /// All entries before this one were recorded by another job, which this one tries again. Its mail and
    /// what its models cost were its own; its turns count for neither limits nor usage here.
    Retried {
        /// The other job.
        of: JobId,
    },
}

/// Why an entry or output could not be written.
#[derive(Debug, Error)]
pub enum JournalError {
    /// The attempt no longer holds its lease: nothing it does counts, and it must stop at once.
    #[error("this attempt no longer holds its lease")]
    Lost,
    /// The store refused for good.
    #[error("the run cannot be recorded")]
    Refused(#[source] Box<dyn Error + Send + Sync>),
}

/// Where a run writes.
///
/// Dropping a future of these leaves the entry or the text written or not; the run is over then.
#[async_trait]
pub trait Journal: Debug + Send + Sync {
    /// Appends visible text. Returns when a bounded buffer has taken it, so a slow store slows the
    /// model down instead of filling memory.
    async fn output(&self, text: &str) -> Result<(), JournalError>;

    /// Appends an entry to the turns; returns once it is durable.
    async fn record(&self, entry: &TurnEntry) -> Result<(), JournalError>;

    /// Something for eyes only, which may be dropped.
    fn note(&self, _event: RunEvent) {}

    /// Asked before each model call and each tool call: may this attempt still act? Blocks while
    /// that is not known.
    async fn gate(&self) -> Result<(), JournalError> {
        Ok(())
    }
}

/// What happens in a run, for the eyes of a person who follows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RunEvent {
    /// A model call begins.
    ModelAsked {
        /// The turn.
        turn: u32,
        /// `provider/model`.
        model: String,
    },
    /// A model call failed and is tried again.
    ModelRetried {
        /// The turn.
        turn: u32,
        /// Why.
        reason: String,
    },
    /// A model call has to wait before it can begin.
    ModelWaits {
        /// Why, in words; `None` once it goes on.
        why: Option<String>,
    },
    /// A tool call begins.
    ToolStarted {
        /// Where it stands.
        call: CallIndex,
        /// The tool.
        name: String,
        /// The arguments as the model wrote them.
        arguments: String,
    },
    /// A tool call ended.
    ToolEnded {
        /// Where it stands.
        call: CallIndex,
        /// The tool.
        name: String,
        /// Whether it went wrong.
        is_error: bool,
    },
    /// Something the operator should know, such as a toolset that the agent does without.
    Warning(String),
}
