//! The agent file: docker-agent's YAML format, and the team that it resolves to.
//!
//! [`parse`] takes the bytes of a file. It returns a [`Team`] in which every reference is resolved, or all
//! errors that it found, each with its position and a hint. It reads no other file and no environment: `${X}`
//! stays unexpanded.
//!
//! The stages: `source` (text with positions) → `tree` (YAML with positions) → `fields` (typed values,
//! checked against the table in `keys`) → `read` (agents, models, toolsets) → [`Team`].

mod agent;
mod compatibility;
mod error;
mod expand;
mod fields;
mod fix_hint;
mod hook_prompt;
mod hooks;
mod keys;
mod limits;
mod model;
mod names;
mod needs;
mod read;
mod reader;
mod resolved;
mod skills;
mod source;
mod template;
mod toolset;
mod tree;

pub use agent::Agent;
pub use agent::AgentKind;
pub use agent::Command;
pub use agent::Fallback;
pub use agent::RequiredKey;
pub use agent::ResponseCache;
pub use agent::SafetyMode;
pub use compatibility::Row;
pub use compatibility::explain;
pub use compatibility::markdown as compatibility_tables;
pub use compatibility::rows as compatibility_rows;
pub use error::Class;
pub use error::Found;
pub use error::TeamError;
pub use error::TeamErrors;
pub use error::Warning;
pub use expand::MissingVariable;
pub use expand::expand_address;
pub use expand::expand_shell;
pub use expand::expand_template;
pub use hook_prompt::hook_prompt;
pub use hooks::HOLDING_EVENTS;
pub use hooks::Hook;
pub use hooks::HookKind;
pub use hooks::HookRule;
pub use hooks::Hooks;
pub use hooks::OnHookError;
pub use keys::Support;
pub use limits::DEFAULT_MAX_CONSECUTIVE_TOOL_CALLS;
pub use limits::DEFAULT_MAX_ITERATIONS;
pub use limits::Limits;
pub use model::Api;
pub use model::FIRST_BYTE_TIMEOUT;
pub use model::IDLE_TIMEOUT;
pub use model::ModelSettings;
pub use model::RoutingRule;
pub use model::ThinkingBudget;
pub use model::auto_model;
pub use needs::RequiredProgram;
pub use read::Files;
pub use read::Parsed;
pub use read::parse;
pub use read::parse_with;
pub use resolved::Budget;
pub use resolved::InvalidTeam;
pub use resolved::Metadata;
pub use resolved::Permissions;
pub use resolved::Team;
pub use skills::Skill;
pub use skills::Skills;
pub use template::BangArgument;
pub use template::BangCall;
pub use template::BinaryOperator;
pub use template::Expression;
pub use template::Method;
pub use template::Template;
pub use template::TemplatePart;
pub use template::split_arguments;
pub use toolset::Api as ApiTool;
pub use toolset::Defer;
pub use toolset::Fetch;
pub use toolset::Launch;
pub use toolset::Lifecycle;
pub use toolset::Mcp;
pub use toolset::McpServer;
pub use toolset::McpTransport;
pub use toolset::PostEdit;
pub use toolset::Script;
pub use toolset::StringMap;
pub use toolset::Toolset;
pub use toolset::ToolsetKind;
pub use toolset::Webhook;
pub use toolset::WebhookForm;
pub use tree::yaml_to_json;

#[cfg(test)]
mod tests;
