//! The conversation as every model is given it.

use legwork_common::job::Usage;
use serde::Deserialize;
use serde::Serialize;
use serde_json::Value;

/// One message of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "role", rename_all = "snake_case")]
pub enum Message {
    /// Who the agent is and what it shall do.
    System {
        /// The text.
        text: String,
    },
    /// What a person, or the runtime in a person's place, says.
    User {
        /// The text.
        text: String,
    },
    /// What the model answered.
    Assistant(AssistantMessage),
    /// What one tool call came to.
    ToolResult(ToolResult),
}

impl Message {
    /// A system message.
    pub fn system(text: impl Into<String>) -> Self {
        Self::System { text: text.into() }
    }

    /// A user message.
    pub fn user(text: impl Into<String>) -> Self {
        Self::User { text: text.into() }
    }

    /// About how many bytes of it a model reads.
    pub fn bytes(&self) -> usize {
        match self {
            Self::System { text } | Self::User { text } => text.len(),
            Self::Assistant(message) => {
                let calls = message.tool_calls.iter().map(|call| call.name.len() + call.arguments.len());
                message.text.len() + message.reasoning.as_ref().map_or(0, String::len) + calls.sum::<usize>()
            }
            Self::ToolResult(result) => result.text.len(),
        }
    }
}

/// One reply of a model, whole.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AssistantMessage {
    /// The visible text, all pieces joined.
    #[serde(default)]
    pub text: String,
    /// The reasoning, where the provider shows it. Never part of the output.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning: Option<String>,
    /// The tool calls that it asks for, in its order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<ToolCall>,
    /// What the provider wants to be sent back with this message, such as signed reasoning. Only the
    /// model port that made it understands it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub continuation: Option<Value>,
    /// What this one model call counted.
    #[serde(default)]
    pub usage: Usage,
}

/// One tool call that a model asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolCall {
    /// The provider's id, which the result repeats.
    pub id: String,
    /// The tool.
    pub name: String,
    /// The arguments as the model wrote them: JSON text, which may be broken.
    pub arguments: String,
}

/// What a tool call came to, as the model is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolResult {
    /// The id of the call.
    pub call_id: String,
    /// The tool that was called.
    pub name: String,
    /// What it says.
    pub text: String,
    /// Whether it went wrong.
    pub is_error: bool,
}
