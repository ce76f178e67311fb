//! The limits of an agent's run, and how much of its conversation its model is shown.

use serde::Deserialize;
use serde::Serialize;

use super::model::ModelSettings;

/// Model calls of an agent whose file sets no `max_iterations`. Far more than any task needs, and few enough that a
/// model that never ends costs minutes and not a fortune.
pub const DEFAULT_MAX_ITERATIONS: u32 = 500;

/// How often in a row a model may make the same calls where the file sets no `max_consecutive_tool_calls`. docker-agent's
/// number.
pub const DEFAULT_MAX_CONSECUTIVE_TOOL_CALLS: u32 = 5;

/// The limits of an agent. A stored agent without them has the defaults.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Limits {
    /// How often in a row the model may make the same calls with the same arguments; `None` for
    /// [`DEFAULT_MAX_CONSECUTIVE_TOOL_CALLS`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_consecutive_tool_calls: Option<u32>,
    /// The most tokens of one tool result, of four bytes each; of a longer one the model is shown both ends. `None` for
    /// no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_tool_result_tokens: Option<u32>,
    /// The tokens, of four bytes each, of the newest calls and results that a model is shown in full. Older ones are
    /// replaced by a few words. `None` for no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_old_tool_call_tokens: Option<u32>,
    /// Whether the conversation is never summarized (`session_compaction: false`): the run fails when the window is full.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub keeps_whole_conversation: bool,
    /// The models that write summaries; empty for the agent's own.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub compaction_models: Vec<ModelSettings>,
    /// The share of the window, above 0 and at most 1, that a request may fill before the conversation is summarized;
    /// `None` for the default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compaction_threshold: Option<f64>,
}

impl Limits {
    /// How often in a row the model may make the same calls.
    #[must_use]
    pub fn consecutive_tool_calls(&self) -> u32 {
        self.max_consecutive_tool_calls.unwrap_or(DEFAULT_MAX_CONSECUTIVE_TOOL_CALLS)
    }

    /// Whether all limits have their defaults.
    #[must_use]
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}
