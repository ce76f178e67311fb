//! The hooks of an agent: what runs at which event.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::Serialize;

use super::model::ModelSettings;
use super::toolset::StringMap;

/// The hooks of an agent by event, such as `pre_tool_use`; only events with hooks.
pub type Hooks = BTreeMap<String, Vec<HookRule>>;

/// The events whose hooks can hold back or rewrite what the agent does. A hook that does not run there is refused, and one
/// that refuses at another event only warns.
pub const HOLDING_EVENTS: [&str; 9] = [
    "tool_input_transform",
    "tool_guard",
    "pre_tool_use",
    "permission_request",
    "tool_response_transform",
    "user_prompt_submit",
    "before_llm_call",
    "pre_compact",
    "before_compaction",
];

/// Hooks that run together at an event.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HookRule {
    /// A regular expression that the whole name of a tool must match; `None` for every tool, and for events that are not
    /// about a tool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub matcher: Option<String>,
    /// Whether the hooks run before the approval of calls is decided.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub preempt_yolo: bool,
    /// The hooks, in the order of the file; never empty.
    pub hooks: Vec<Hook>,
}

/// A hook. Strings with `${X}` are unexpanded.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Hook {
    /// What runs.
    pub kind: HookKind,
    /// A name for messages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The arguments of the command or of the built-in hook.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    /// The timeout in seconds; `None` for 60.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<u32>,
    /// Variables to add to its environment.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: StringMap,
    /// The directory in which it runs; `None` for the job's working directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub working_dir: Option<String>,
    /// What a failure of the hook means.
    #[serde(default)]
    pub on_error: OnHookError,
    /// Whether output that is not the JSON of a hook is a failure.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub strict_output: bool,
}

/// What a hook runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HookKind {
    /// A shell command, with the event as JSON on its standard input.
    Command(String),
    /// A hook that is part of docker-agent, by name.
    Builtin(String),
    /// A call of a model.
    Model {
        /// The model; where there are several, one is chosen at random.
        models: Vec<ModelSettings>,
        /// The prompt, a Go template over the event.
        prompt: String,
        /// The name of the form of the answer; `None` for plain text.
        schema: Option<String>,
    },
}

/// What a failure of a hook means.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnHookError {
    /// A warning.
    #[default]
    Warn,
    /// Nothing.
    Ignore,
    /// The event does not continue.
    Block,
}
