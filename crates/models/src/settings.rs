//! What a request needs beyond the conversation.

use serde_json::Map;
use serde_json::Value;

/// What a request needs beyond the conversation: where the model is does not matter here.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// The provider, as the agent file names it: what signatures are tied to, and what oddities are known by.
    pub provider: String,
    /// The model's name at its provider.
    pub model: String,
    /// From 0 to 2; none: as the provider does it.
    pub temperature: Option<f64>,
    /// From 0 to 1.
    pub top_p: Option<f64>,
    /// From -2 to 2.
    pub frequency_penalty: Option<f64>,
    /// From -2 to 2.
    pub presence_penalty: Option<f64>,
    /// The most tokens of one reply, reasoning included.
    pub max_output_tokens: Option<u32>,
    /// How much the model thinks before it answers; none: as its provider's default says.
    pub thinking: Option<Thinking>,
    /// Whether the model may also think between its tool calls, where its provider wants that asked for.
    pub interleaved_thinking: bool,
    /// The form of the answer; none: free text.
    pub form: Option<Form>,
    /// Whether, and which, tools must be called.
    pub tool_choice: ToolChoice,
    /// Whether one reply may ask for several tool calls; none: as the provider does it.
    pub parallel_tool_calls: Option<bool>,
    /// Whether the tokens used are asked for.
    pub track_usage: bool,
    /// Whether the model reads images; where not, a sentence stands for each.
    pub images: bool,
    /// Fields of the body that only this provider knows. They never replace what the conversation says.
    pub extra: Map<String, Value>,
}

impl Settings {
    /// A model, with everything else as its provider does it.
    pub fn new(provider: impl Into<String>, model: impl Into<String>) -> Self {
        Self {
            provider: provider.into(),
            model: model.into(),
            temperature: None,
            top_p: None,
            frequency_penalty: None,
            presence_penalty: None,
            max_output_tokens: None,
            thinking: None,
            interleaved_thinking: false,
            form: None,
            tool_choice: ToolChoice::Auto,
            parallel_tool_calls: None,
            track_usage: true,
            images: true,
            extra: Map::new(),
        }
    }
}

/// How much a model thinks before it answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Thinking {
    /// Not at all.
    Off,
    /// As much as the model finds right.
    Adaptive,
    /// `minimal`, `low`, `medium`, `high`, `xhigh`, `max`, or a word that the provider knows.
    Effort(String),
    /// At most so many tokens.
    Tokens(u32),
}

/// The form that an answer must have (`structured_output`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Form {
    /// Its name: letters, digits, `_` and `-`.
    pub name: String,
    /// What it is for, in words for the model.
    pub description: Option<String>,
    /// Whether the provider must hold the model to each detail of the schema.
    pub strict: bool,
    /// The JSON schema.
    pub schema: Value,
}

/// Whether, and which, tools must be called.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum ToolChoice {
    /// As the model finds right.
    #[default]
    Auto,
    /// None, though they are described.
    Never,
    /// At least one.
    Required,
    /// The one of this name.
    Tool(String),
}
