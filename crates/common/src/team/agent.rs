//! One agent of a team, everything in it resolved.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use serde::Deserialize;
use serde::Serialize;

use super::expand::variables;
use super::model::ModelSettings;
use super::toolset::McpServer;
use super::toolset::TextMap;
use super::toolset::Toolset;
use super::toolset::ToolsetKind;

/// What does the agent's work.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AgentKind {
    /// A model. Of several, one is drawn for each turn; the list is never empty.
    Models(Vec<ModelSettings>),
    /// A model that is chosen where the agent runs, by the keys there: see [`choose_auto`](super::choose_auto).
    Auto,
    /// A program: the task on its standard input, its standard output is the agent's, its exit status the outcome.
    Command {
        /// The program, found on the PATH of the worker.
        program: String,
        /// Its arguments.
        args: Vec<String>,
        /// Variables added to its environment, unexpanded.
        env: TextMap,
        /// Where it runs; none: the job's working directory.
        working_dir: Option<String>,
    },
}

/// Other models for when the first fails.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Fallback {
    /// In the order in which they are tried.
    pub models: Vec<ModelSettings>,
    /// Repeats of a failed call before the next model is tried.
    pub retries: u32,
    /// How long a model that failed for good is left out, as the file says it (`1m`).
    pub cooldown: Option<String>,
}

/// A prompt that the user calls by `/name`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    /// What it is for.
    pub description: String,
    /// The prompt.
    pub instruction: String,
}

/// Where an agent's skills come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Skills {
    /// The folders of this machine.
    Local,
    /// These places: `local` or addresses.
    Places(Vec<String>),
}

/// One agent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Agent {
    /// Its name in the file.
    pub name: String,
    /// What other agents are told of it; may be empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// Its system prompt; may be empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub instruction: String,
    /// What does its work.
    pub runner: AgentKind,
    /// Its tools.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub toolsets: Vec<Toolset>,
    /// The agents of this team that it may dispatch to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sub_agents: Vec<String>,
    /// The agents of this team that it may hand over to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub handoffs: Vec<String>,
    /// Agents by address that the file names as sub-agents or for handing over; they are not loaded.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub external_agents: Vec<String>,
    /// Model calls at most; none: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_iterations: Option<u32>,
    /// Messages of the history that are sent; none: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub num_history_items: Option<u32>,
    /// Whether the agent is told the date.
    #[serde(default)]
    pub add_date: bool,
    /// Whether the agent is told about the machine it runs on.
    #[serde(default)]
    pub add_environment_info: bool,
    /// Whether tool calls carry a description.
    #[serde(default)]
    pub add_description_parameter: bool,
    /// Whether tools are called from one script.
    #[serde(default)]
    pub code_mode_tools: bool,
    /// Files whose text is added to the prompt.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub add_prompt_files: Vec<String>,
    /// Prompts by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub commands: BTreeMap<String, Command>,
    /// What the user sees first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub welcome_message: Option<String>,
    /// The sources of the team's `rag` that it searches.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rag: Vec<String>,
    /// Other models for when the first fails.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback: Option<Fallback>,
    /// Where its skills come from; none: it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skills: Option<Skills>,
    /// Commands references its tool calls, as the file has them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hooks: Option<serde_json::Value>,
    /// The form of its answer, as the file has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub structured_output: Option<serde_json::Value>,
}

/// Environment variables without which an agent cannot run.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct RequiredKey {
    /// One of these must be set.
    pub any_of: Vec<String>,
    /// What needs it, for messages: `model openai/gpt-4o`.
    pub needed_by: String,
}

impl Agent {
    /// The environment variables that must be set where this agent runs: keys of its models, and the `${X}` of its tools'
    /// and its program's `env`. Sorted, each once. `model: auto` requires none, nor does `${env.X}`, which may be empty.
    #[must_use]
    pub fn required_keys(&self) -> Vec<RequiredKey> {
        let mut required = BTreeSet::new();
        match &self.runner {
            AgentKind::Models(models) => required.extend(keys_of_models(models)),
            AgentKind::Auto => {}
            AgentKind::Command { program, env, .. } => {
                required.extend(keys_of_env(env, &format!("command {program}")))
            }
        }
        for toolset in &self.toolsets {
            required.extend(keys_of_models(&toolset.model));
            match &toolset.kind {
                ToolsetKind::Shell { env } => required.extend(keys_of_env(env, "toolset shell")),
                ToolsetKind::Mcp(mcp) => required.extend(keys_of_mcp(&mcp.server)),
                ToolsetKind::Lsp { launch, .. } => required.extend(keys_of_env(&launch.env, "toolset lsp")),
                ToolsetKind::Script { scripts } => {
                    for (name, script) in scripts {
                        required.extend(keys_of_env(&script.env, &format!("script {name}")));
                    }
                }
                ToolsetKind::Think
                | ToolsetKind::Todo { .. }
                | ToolsetKind::Filesystem { .. }
                | ToolsetKind::BackgroundAgents
                | ToolsetKind::Fetch { .. }
                | ToolsetKind::Memory { .. }
                | ToolsetKind::Api(_)
                | ToolsetKind::Openapi { .. }
                | ToolsetKind::A2a { .. }
                | ToolsetKind::Tasks { .. }
                | ToolsetKind::UserPrompt
                | ToolsetKind::ModelPicker { .. }
                | ToolsetKind::Unsupported { .. } => {}
            }
        }
        required.into_iter().collect()
    }
}

/// The keys that models need, and those that their rules send turns to.
fn keys_of_models(models: &[ModelSettings]) -> impl Iterator<Item = RequiredKey> {
    let routed = models.iter().flat_map(|model| model.routing.iter().map(|rule| &rule.model));
    models.iter().chain(routed).filter_map(key_of_model)
}

/// The key that a model needs.
fn key_of_model(model: &ModelSettings) -> Option<RequiredKey> {
    model.needs_key().then(|| RequiredKey {
        any_of: model.token_keys.clone(),
        needed_by: format!("model {}", model.reference()),
    })
}

/// The variables that an MCP server's environment refers to.
fn keys_of_mcp(server: &McpServer) -> Vec<RequiredKey> {
    match server {
        McpServer::Command(launch) => keys_of_env(&launch.env, &format!("mcp {}", launch.command)),
        McpServer::Docker { server, env, .. } => keys_of_env(env, &format!("mcp docker:{server}")),
        McpServer::Remote { .. } => Vec::new(),
    }
}

/// The variables that the values of an environment refer to.
fn keys_of_env(env: &TextMap, needed_by: &str) -> Vec<RequiredKey> {
    env.values()
        .flat_map(|value| variables(value))
        .map(|name| RequiredKey { any_of: vec![name], needed_by: needed_by.to_owned() })
        .collect()
}
