//! The conversation as every wire is given it, and as it is stored.

mod content;
mod origin;
mod paired;
mod stored;
mod usage;

use serde::Deserialize;
use serde::Serialize;
use serde_json::Map;
use serde_json::Value;
use serde_json::json;

pub use content::Content;
pub use content::ContentPart;
pub use content::Image;
pub use origin::Origin;
pub use paired::paired;
pub use usage::Usage;

use stored::StoredAssistant;

/// One message of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "role", rename_all = "snake_case")]
pub enum Message {
    /// Who the agent is and what it is there for.
    System {
        /// The text.
        text: String,
    },
    /// What a person, or the runtime in a person's place, says.
    User {
        /// The words and images. Stored under its older name.
        #[serde(rename = "text")]
        content: Content,
    },
    /// What the model answered.
    Assistant(AssistantMessage),
    /// The outcome of one tool call.
    ToolResult(ToolResult),
}

impl Message {
    /// A system message.
    pub fn system(text: impl Into<String>) -> Self {
        Self::System { text: text.into() }
    }

    /// A user message.
    pub fn user(content: impl Into<Content>) -> Self {
        Self::User { content: content.into() }
    }

    /// About how many bytes of it a model reads. An image counts as its encoded bytes.
    pub fn bytes(&self) -> usize {
        match self {
            Self::System { text } => text.len(),
            Self::User { content } => content.bytes(),
            Self::Assistant(message) => message.parts.iter().map(Part::bytes).sum(),
            Self::ToolResult(result) => result.content.bytes(),
        }
    }
}

/// One reply of a model, whole: its parts in the order in which they came.
///
/// Stored as its joined text, its joined reasoning and its calls, so that releases before this form read it too; the
/// order, and what only the provider understands, are stored next to them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "StoredAssistant", into = "StoredAssistant")]
pub struct AssistantMessage {
    /// The parts in their order.
    pub parts: Vec<Part>,
    /// Which model made it; none: not known, and nothing that only its maker understands goes back.
    pub origin: Option<Origin>,
    /// What this one model call counted.
    pub usage: Usage,
}

impl AssistantMessage {
    /// A reply of nothing but text, as scripts and summaries make it.
    pub fn text_only(text: impl Into<String>) -> Self {
        Self { parts: vec![Part::Text(text.into())], ..Self::default() }
    }

    /// The visible text, all pieces joined.
    #[must_use]
    pub fn text(&self) -> String {
        self.parts.iter().filter_map(Part::as_text).collect()
    }

    /// The reasoning, all pieces joined; none where the provider shows none. Never part of the output.
    #[must_use]
    pub fn reasoning(&self) -> Option<String> {
        let shown = |part: &&Part| matches!(part, Part::Thinking { .. });
        let mut pieces = self.parts.iter().filter(shown).peekable();
        pieces.peek()?;
        Some(pieces.filter_map(Part::as_thinking).collect())
    }

    /// The tool calls that it asks for, in its order.
    pub fn tool_calls(&self) -> impl Iterator<Item = &ToolCall> {
        self.parts.iter().filter_map(|part| match part {
            Part::ToolCall(call) => Some(call),
            _ => None,
        })
    }

    /// Whether a model would read anything of it: text that is not blank, or a call.
    #[must_use]
    pub fn says_anything(&self) -> bool {
        self.parts.iter().any(|part| match part {
            Part::Text(text) => !text.trim().is_empty(),
            Part::ToolCall(_) => true,
            Part::Thinking { .. } | Part::RedactedThinking { .. } | Part::Opaque { .. } => false,
        })
    }
}

/// One part of a reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// Visible text.
    Text(String),
    /// Reasoning that the provider shows.
    Thinking {
        /// The text; may be empty where only the signature is given.
        text: String,
        /// What proves to the provider that the text is its own. A provider that signs refuses thinking without it.
        signature: Option<String>,
    },
    /// Reasoning that the provider hides.
    RedactedThinking {
        /// Its own encrypted form.
        data: String,
    },
    /// A call of a tool.
    ToolCall(ToolCall),
    /// What the maker wants back as it is, and no other wire understands.
    Opaque {
        /// In the form of the wire that made it; [`AssistantMessage::origin`] says which.
        data: Value,
    },
}

impl Part {
    /// Its visible text.
    #[must_use]
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    fn as_thinking(&self) -> Option<&str> {
        match self {
            Self::Thinking { text, .. } => Some(text),
            _ => None,
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Text(text) | Self::Thinking { text, .. } => text.len(),
            Self::ToolCall(call) => call.name.len() + call.arguments.len(),
            Self::RedactedThinking { .. } | Self::Opaque { .. } => 0,
        }
    }
}

/// One tool call that a model asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolCall {
    /// The id, which the result repeats: the provider's, or one that was made where it gave none. Distinct within a
    /// reply.
    pub id: String,
    /// The tool; there may be no such tool.
    pub name: String,
    /// The arguments as the model wrote them: JSON text, which may be broken.
    pub arguments: String,
    /// What Gemini wants back with the call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thought_signature: Option<String>,
}

impl ToolCall {
    /// The arguments as a JSON object. Nulls are dropped: under OpenAI's strict schemas they stand for absent options.
    ///
    /// # Errors
    ///
    /// What is wrong with them, in words for the model.
    pub fn parsed_arguments(&self) -> Result<Map<String, Value>, String> {
        let text = self.arguments.trim();
        if text.is_empty() {
            return Ok(Map::new());
        }
        match serde_json::from_str(text) {
            Ok(Value::Object(mut arguments)) => {
                arguments.retain(|_, value| !value.is_null());
                Ok(arguments)
            }
            Ok(Value::Null) => Ok(Map::new()),
            Ok(_) => Err(format!("the arguments of {} are not a JSON object", self.name)),
            Err(error) => Err(format!("the arguments of {} are not valid JSON: {error}", self.name)),
        }
    }

    /// The arguments as the text of a JSON object, which is all that providers take back: what the model wrote if it is
    /// one, `{}` for nothing, and else an object that holds what it wrote.
    #[must_use]
    pub fn object(&self) -> String {
        let written = self.arguments.trim();
        match serde_json::from_str::<Value>(written) {
            Ok(Value::Object(_)) => written.to_owned(),
            Ok(Value::Null) => "{}".to_owned(),
            Ok(_) | Err(_) if written.is_empty() => "{}".to_owned(),
            Ok(_) | Err(_) => json!({"invalid_json": written}).to_string(),
        }
    }
}

/// The outcome of a tool call, as the model sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolResult {
    /// The id of the call.
    pub call_id: String,
    /// The tool that was called.
    pub name: String,
    /// What it says. Stored under its older name.
    #[serde(rename = "text")]
    pub content: Content,
    /// Whether it went wrong.
    pub is_error: bool,
}

/// What a model is told of a tool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToolSpec {
    /// Its name.
    pub name: String,
    /// What it does, in words for the model.
    pub description: String,
    /// The JSON schema of its arguments.
    pub parameters: Value,
}

#[cfg(test)]
mod tests;
