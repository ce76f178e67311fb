//! A reply as it arrives, and how it ended.

mod assembly;

use std::fmt;

pub use assembly::Assembly;
pub use assembly::Limits;
pub use assembly::Stop;

use crate::conversation::AssistantMessage;
use crate::conversation::ToolCall;
use crate::conversation::Usage;

/// A piece of a reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReplyEvent {
    /// New visible text: only what was not sent before. Never empty.
    Text(String),
    /// New reasoning text. Never empty.
    Reasoning(String),
    /// A tool call began.
    CallBegun {
        /// Where it stands among the calls of the reply, counted from 0.
        position: usize,
        /// Its name as far as it is known.
        name: String,
    },
    /// The arguments of a tool call grew: a sign of life while a long call is written.
    CallGrew {
        /// Where the call stands.
        position: usize,
        /// By how many bytes.
        bytes: usize,
    },
    /// The tokens counted so far.
    Usage(Usage),
    /// The provider keeps the connection open and says nothing. The caller bounds how long that may last.
    KeepAlive,
}

/// A whole reply, or as much of it as came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// What the model said. It has calls only where the reply ends in [`ReplyEnd::WantsTools`].
    pub message: AssistantMessage,
    /// How it ended.
    pub end: ReplyEnd,
    /// Calls of a reply that did not end well: they may be incomplete, and are neither run nor sent back.
    pub dropped_calls: Vec<ToolCall>,
}

/// How a reply ended. Each end asks for another step, and none but the first two is a success.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReplyEnd {
    /// The model said what it had to say.
    Finished,
    /// It asks for its tools to be run.
    WantsTools,
    /// The most tokens of one reply were reached: the text is incomplete.
    CutAtOutputLimit,
    /// The model refused, with its words where it gave any.
    Refused(String),
    /// The provider filtered the reply, with its words where it gave any.
    Filtered(String),
    /// The provider made a pause: sent back as it is, the model continues.
    Paused,
    /// The conversation and the reply do not fit into the context window.
    WindowFull,
    /// There is neither text nor a call.
    Empty {
        /// Whether there was reasoning.
        reasoned: bool,
    },
    /// The reply is incomplete, and why, as a lowercase fragment.
    BrokenOff(String),
}

impl fmt::Display for ReplyEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (what, words) = match self {
            Self::Finished => ("the reply is finished", ""),
            Self::WantsTools => ("the model asks for tools", ""),
            Self::CutAtOutputLimit => ("the reply was cut at the most output tokens", ""),
            Self::Refused(words) => ("the model refused", words.as_str()),
            Self::Filtered(words) => ("the provider filtered the reply", words.as_str()),
            Self::Paused => ("the provider paused", ""),
            Self::WindowFull => ("the context window is full", ""),
            Self::Empty { reasoned: false } => ("the reply is empty", ""),
            Self::Empty { reasoned: true } => ("the reply has reasoning and no answer", ""),
            Self::BrokenOff(words) => ("the reply broke off", words.as_str()),
        };
        if words.is_empty() { f.write_str(what) } else { write!(f, "{what}: {words}") }
    }
}
