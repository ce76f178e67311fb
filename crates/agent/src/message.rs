//! The messages of a conversation, in one form for all providers.

use legwork_common::job::Usage;
use legwork_models::conversation;
pub use legwork_models::conversation::ToolCall;
use serde::Deserialize;
use serde::Serialize;
use serde_json::Value;

use crate::image;
use crate::image::Image;

/// One message of a conversation. Held in an `Arc`, because a request has the messages of the conversation for as long as the
/// model answers; what has many parts is in a box, so that a system or user message takes little memory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "role", rename_all = "snake_case")]
pub enum Message {
    /// Who the agent is and what its task is.
    System {
        /// The text, from the agent file, a toolset or the runtime.
        text: String,
    },
    /// A prompt of the user, or a text of the runtime in its place, such as delivered mail.
    User {
        /// The text, unchanged.
        text: String,
    },
    /// A reply of the model, with its tool calls.
    Assistant(Box<AssistantMessage>),
    /// The result of one tool call.
    ToolResult(Box<ToolResult>),
}

impl Message {
    /// A system message with this text.
    pub fn system(text: impl Into<String>) -> Self {
        Self::System { text: text.into() }
    }

    /// A user message with this text.
    pub fn user(text: impl Into<String>) -> Self {
        Self::User { text: text.into() }
    }

    /// A reply of a model.
    pub fn assistant(reply: AssistantMessage) -> Self {
        Self::Assistant(Box::new(reply))
    }

    /// The result of a tool call.
    pub fn tool_result(result: ToolResult) -> Self {
        Self::ToolResult(Box::new(result))
    }

    /// About how many bytes a model reads of it: its texts, without ids and JSON around them.
    pub fn bytes(&self) -> usize {
        match self {
            Self::System { text } | Self::User { text } => text.len(),
            Self::Assistant(message) => {
                let calls = message.tool_calls.iter().map(|call| call.name.len() + call.arguments.len());
                message.text.len() + message.reasoning.as_ref().map_or(0, String::len) + calls.sum::<usize>()
            }
            Self::ToolResult(result) => {
                result.text.len() + result.images.len() * image::EQUIVALENT_TEXT_BYTES
            }
        }
    }
}

/// One complete reply of a model. Its stored form is that of [`legwork_models::conversation::AssistantMessage`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AssistantMessage {
    /// The visible text, all deltas joined.
    #[serde(default)]
    pub text: String,
    /// The reasoning, where the provider sends it. Never part of the output.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning: Option<String>,
    /// The tool calls, in the order in which the model wrote them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<ToolCall>,
    /// What older releases kept for the provider. Only the model port that made it understands it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub continuation: Option<Value>,
    /// Which model made the reply, and over which wire: what only its maker understands goes back to no other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<Value>,
    /// The order of the parts, with signatures and hidden reasoning. Text, reasoning and calls are stored once, in the
    /// fields above. Empty for the usual order: reasoning, text, calls.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub layout: Vec<Value>,
    /// The tokens of this one model call.
    #[serde(default)]
    pub usage: Usage,
}

impl AssistantMessage {
    /// The reply as the wires read it. Never fails on a stored reply; of one that cannot be read, the text is kept.
    #[must_use]
    pub(crate) fn to_wire(&self) -> conversation::AssistantMessage {
        serde_json::to_value(self)
            .and_then(serde_json::from_value)
            .unwrap_or_else(|_| conversation::AssistantMessage::text_only(self.text.as_str()))
    }

    /// A reply of a wire.
    #[must_use]
    pub(crate) fn from_wire(reply: conversation::AssistantMessage) -> Self {
        let text = reply.text();
        serde_json::to_value(reply)
            .and_then(serde_json::from_value)
            .unwrap_or_else(|_| Self { text, ..Self::default() })
    }

    /// The reply with its continuation after a pause, as one. The usage of both counts; so do both model calls.
    #[must_use]
    pub(crate) fn continued_by(self, later: &Self) -> Self {
        let mut usage = self.usage;
        usage.add(later.usage);
        let mut joined = self.to_wire();
        joined.parts.extend(later.to_wire().parts);
        Self { usage, ..Self::from_wire(joined) }
    }
}

/// The result of a tool call, as it is sent to the model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolResult {
    /// The provider's id of the call that this is the result of.
    pub call_id: String,
    /// The tool that was called.
    pub name: String,
    /// The output of the tool, or the error.
    pub text: String,
    /// The images of the result, in the order of their sentences in the text.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub images: Vec<Image>,
    /// Whether the call failed; the text is the error then.
    pub is_error: bool,
}
