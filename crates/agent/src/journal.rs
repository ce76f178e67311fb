//! The journal of a run: its turns, which are a write-ahead log, and its output.
//!
//! A reply is recorded before the first of its tools starts, a result and mail before the model call that sees
//! them. The next attempt is given the recorded entries and resumes after them.

mod redacted;

use std::borrow::Cow;
use std::error::Error;
use std::fmt::Debug;

use async_trait::async_trait;
use legwork_common::id::JobId;
use legwork_common::job::Usage;
use legwork_common::question::Answer;
use legwork_common::service::CallIndex;
use legwork_common::service::MailId;
use legwork_common::stored;
use legwork_common::stored::Unreadable;
use serde::Deserialize;
use serde::Serialize;
use serde_json::Map;
use serde_json::Value;
use thiserror::Error;

pub(crate) use self::redacted::RedactingJournal;
use crate::image;
use crate::image::Image;
use crate::message::AssistantMessage;

/// One entry of the turns. Unknown fields, written by a later version, are ignored when it is read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "entry", rename_all = "snake_case")]
pub enum TurnEntry {
    /// The model's reply. It begins the turn, and ends it where it has no tool calls.
    Reply {
        /// The turn, counted from 1 over all attempts.
        turn: u32,
        /// The complete message, with what the provider requires to be sent back.
        message: AssistantMessage,
    },
    /// The result of one tool call of the turn. The turn is finished when every call has one.
    Result {
        /// The turn of the reply that has the call.
        turn: u32,
        /// The call within the reply, counted from 0.
        index: u32,
        /// The provider's id of the call.
        call_id: String,
        /// The text of the result, as the model reads it.
        text: String,
        /// The images of the result. Large ones are not stored: [`stored`](Self::stored).
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        images: Vec<Image>,
        /// Whether the call failed. A failed handoff hands nothing over.
        is_error: bool,
        /// Jobs whose end this result shows, so that they are not announced again.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        ended: Vec<JobId>,
    },
    /// Mail delivered as one user message, before the model call of `turn`. Without mail it is the user's next
    /// prompt.
    Delivered {
        /// The turn whose model call sees it first.
        turn: u32,
        /// The ids of the mail in it, which make delivery idempotent.
        mail: Vec<MailId>,
        /// The text of the user message.
        text: String,
    },
    /// Before the model call of `turn`, a summary replaced the messages between the task and the last `kept` ones.
    /// The next attempt resumes from the summary; the entries before it stay readable.
    Compacted {
        /// The turn whose model call sees it first.
        turn: u32,
        /// How many messages at the end of the conversation were kept. All of them, whatever their number, where the
        /// entry only counts tokens: [`tokens_only`](Self::tokens_only).
        kept: u32,
        /// The text that replaced them.
        summary: String,
        /// The tokens of the model call that wrote the summary, or that gave nothing.
        #[serde(default)]
        usage: Usage,
    },
    /// The standard error of an agent that is a program. No model sees it.
    Stderr {
        /// The text; of a long one only the end.
        text: String,
    },
    /// A call of the turn needs a person's approval. It has not been made: an attempt that resumes asks again.
    Asked {
        /// The turn of the reply that has the call.
        turn: u32,
        /// The call within the reply, counted from 0.
        index: u32,
        /// The tool.
        tool: String,
        /// The arguments that are asked about, as hooks left them. The approval is for these.
        arguments: Map<String, Value>,
    },
    /// What was decided about a call that was [`Asked`](Self::Asked). An approved one is being made from here on.
    Decided {
        /// The turn of the reply that has the call.
        turn: u32,
        /// The call within the reply, counted from 0.
        index: u32,
        /// The answer.
        answer: Answer,
    },
    /// All entries before this one were copied from another job, which this one retries. Its mail and its usage
    /// were its own; its turns count towards neither limits nor usage here.
    Retried {
        /// The job that is retried.
        of: JobId,
    },
}

/// Stands in a stored result whose images are too large to be stored with it.
const IMAGES_NOT_STORED: &str = "[The images were shown when the call was made. They are too large to be kept; call the tool again to see them.]";

impl TurnEntry {
    /// The tokens of a model call that no turn was made of. The conversation stays as it is, and it is not a turn.
    ///
    /// Stored as a summary that replaces nothing, which every release reads.
    pub fn tokens_only(turn: u32, usage: Usage) -> Self {
        Self::Compacted { turn, kept: u32::MAX, summary: String::new(), usage: Usage { turns: 0, ..usage } }
    }

    /// Whether the entry is that of [`tokens_only`](Self::tokens_only).
    pub fn is_tokens_only(&self) -> bool {
        matches!(self, Self::Compacted { kept: u32::MAX, .. })
    }

    /// The entry as text to be recorded.
    ///
    /// # Errors
    ///
    /// [`serde_json::Error`] where it has no JSON.
    pub fn encode(&self) -> serde_json::Result<String> {
        let version = match self {
            Self::Asked { .. } | Self::Decided { .. } => 2,
            Self::Reply { .. }
            | Self::Result { .. }
            | Self::Delivered { .. }
            | Self::Compacted { .. }
            | Self::Stderr { .. }
            | Self::Retried { .. } => 1,
        };
        stored::TURN.at_version(version).to_json(self)
    }

    /// The entry of a recorded text.
    ///
    /// # Errors
    ///
    /// [`Unreadable`] where a later release recorded it, or it is damaged. The entries after it depend on it.
    pub fn decode(text: &str) -> Result<Self, Unreadable> {
        stored::TURN.from_json(text)
    }

    /// The entry as it is stored: without images that are too large, which its text then says.
    pub fn stored(&self) -> Cow<'_, Self> {
        let mut stored = Cow::Borrowed(self);
        if let Self::Result { images, .. } = self
            && !image::are_stored(images)
            && let Self::Result { text, images, .. } = stored.to_mut()
        {
            images.clear();
            text.push('\n');
            text.push_str(IMAGES_NOT_STORED);
        }
        stored
    }
}

/// Why an entry or output could not be written.
#[derive(Debug, Error)]
pub enum JournalError {
    /// The attempt no longer holds its lease, or cannot be sure that it does. It must stop at once and write
    /// nothing more.
    #[error("this attempt no longer holds its lease")]
    Lost,
    /// The store refused the entry and would again.
    #[error("the run cannot be recorded")]
    Refused(#[source] Box<dyn Error + Send + Sync>),
}

/// The journal of one run, as the run writes it.
///
/// A future that is dropped leaves its entry or text either written or not. Callers drop one only when the run
/// ends.
#[async_trait]
pub trait Journal: Debug + Send + Sync {
    /// Appends visible text. Returns when a bounded buffer has taken it, so a slow store slows the model's stream
    /// down instead of filling memory. A crash loses what was only buffered.
    async fn output(&self, text: &str) -> Result<(), JournalError>;

    /// Appends an entry to the turns; returns once it is durable.
    async fn record(&self, entry: &TurnEntry) -> Result<(), JournalError>;

    /// Reports an event to a display or a stall detector that follows the run. Events may be lost, and nothing
    /// depends on them.
    fn note(&self, _event: RunEvent) {}

    /// Confirms that this attempt may still act. Called before each model call, each tool call and each record of a
    /// result; blocks while the answer is not known.
    ///
    /// # Errors
    ///
    /// [`JournalError::Lost`] where the lease is lost or the attempt is being suspended.
    async fn confirm_lease(&self) -> Result<(), JournalError> {
        Ok(())
    }
}

/// Progress of a run, for displays and for stall detection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RunEvent {
    /// A model call begins. Each retry and each fallback model is a call of its own.
    ModelAsked {
        /// The turn that its reply begins.
        turn: u32,
        /// The model, as `provider/model`.
        model: String,
    },
    /// A model call failed and is retried after a delay.
    ModelRetried {
        /// The turn that its reply would begin.
        turn: u32,
        /// The error that is retried.
        reason: String,
    },
    /// A model call waits for a rate limit before it can begin.
    ModelWaiting {
        /// What it waits for, as a phrase; `None` when the wait is over.
        why: Option<String>,
    },
    /// A model call waits for tokens of its session's budget before it can begin.
    BudgetWaiting {
        /// What it waits for, as a phrase; `None` when the wait is over.
        why: Option<String>,
    },
    /// A tool call begins: the lease is confirmed, and the permissions are checked next.
    ToolStarted {
        /// The place of the call in the run.
        call: CallIndex,
        /// The tool's name, as the model called it.
        name: String,
        /// The arguments as the model wrote them.
        arguments: String,
    },
    /// A tool call ended. Its result is not recorded yet.
    ToolEnded {
        /// The place of the call in the run.
        call: CallIndex,
        /// The tool's name, as the model called it.
        name: String,
        /// Whether it failed.
        is_error: bool,
    },
    /// A problem that does not end the run, such as a toolset that could not be opened.
    Warning(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_entries_about_a_person_need_a_later_release() {
        let answer = Answer::Denied { why: Some("no".to_owned()) };
        let asked = TurnEntry::Asked { turn: 1, index: 0, tool: "shell".into(), arguments: Map::new() };
        for entry in [asked, TurnEntry::Decided { turn: 1, index: 0, answer }] {
            let text = entry.encode().unwrap();
            assert!(text.starts_with("{\"v\":2,"), "{text}");
            assert_eq!(TurnEntry::decode(&text), Ok(entry));
        }
        let text = TurnEntry::Stderr { text: "x".into() }.encode().unwrap();
        assert!(text.starts_with("{\"entry\""), "{text}");
    }

    #[test]
    fn images_are_stored_only_if_they_are_small() {
        let entry = |data: String| TurnEntry::Result {
            turn: 1,
            index: 0,
            call_id: "c".into(),
            text: "[an image]".into(),
            images: vec![Image { media_type: "image/png".into(), data }],
            is_error: false,
            ended: Vec::new(),
        };
        let small = entry("A".repeat(image::MAX_STORED_BYTES));
        assert_eq!(*small.stored(), small);
        let json = serde_json::to_value(&small).unwrap();
        assert_eq!(json["images"][0]["media_type"], "image/png");
        assert_eq!(serde_json::from_value::<TurnEntry>(json).unwrap(), small);
        let large = entry("A".repeat(image::MAX_STORED_BYTES + 1));
        let TurnEntry::Result { text, images, .. } = large.stored().into_owned() else { panic!("{large:?}") };
        assert!(images.is_empty() && text.starts_with("[an image]\n[The images were shown"), "{text}");
    }
}
