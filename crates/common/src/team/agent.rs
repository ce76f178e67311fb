//! An agent of a team, with all references resolved.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::Serialize;

use super::expand::variables;
use super::hooks::Hooks;
use super::limits::Limits;
use super::model::ModelSettings;
use super::skills::Skills;
use super::toolset::McpServer;
use super::toolset::StringMap;
use super::toolset::Toolset;
use super::toolset::ToolsetKind;

/// What runs an agent: a model, or a program.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AgentKind {
    /// Models. The list is never empty; where it has several, one is chosen at random for each turn.
    Models(Vec<ModelSettings>),
    /// A model that the worker chooses by the provider keys in its environment: see
    /// [`auto_model`](super::auto_model).
    Auto,
    /// A program. It gets the task on its standard input, its standard output is the output of the job, and
    /// its exit status decides whether the job completed.
    Command {
        /// The program, searched on the PATH of the worker.
        program: String,
        /// The arguments of the program.
        args: Vec<String>,
        /// Variables to add to its environment, unexpanded.
        env: StringMap,
        /// The directory in which it runs; `None` for the job's working directory.
        working_dir: Option<String>,
    },
}

/// The models to use when calls of the agent's own model fail.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Fallback {
    /// The fallback models, in the order in which they are tried.
    pub models: Vec<ModelSettings>,
    /// How often a failed call is retried before the next model is tried.
    pub retries: u32,
    /// How long a model is skipped after a failure that retries did not resolve, as written in the file (`1m`).
    pub cooldown: Option<String>,
}

/// A prompt that users run as `/name`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    /// A description for users; may be empty.
    pub description: String,
    /// The text of the prompt, a [`Template`](super::Template).
    pub instruction: String,
}

/// Which tool calls run without asking. What a file chooses holds where nothing else does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SafetyMode {
    /// Every call asks.
    Strict,
    /// Safe calls run, others ask.
    Balanced,
    /// Safe calls run, others are rejected.
    Restricted,
    /// Every call runs.
    Autonomous,
}

impl SafetyMode {
    /// All modes, the strictest first.
    pub(super) const ALL: [Self; 4] = [Self::Strict, Self::Balanced, Self::Restricted, Self::Autonomous];

    /// The word in the agent file.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Strict => "strict",
            Self::Balanced => "balanced",
            Self::Restricted => "restricted",
            Self::Autonomous => "autonomous",
        }
    }

    /// The mode with this word.
    pub(super) fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mode| mode.as_str() == word)
    }
}

/// How answers are kept, so that the same message is answered without a model call.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ResponseCache {
    /// Whether `Hello` and `hello` are different messages.
    pub case_sensitive: bool,
    /// Whether spaces around a message are ignored.
    pub trim_spaces: bool,
    /// The file of the answers; `None` for those of the conversation itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
}

/// An agent. Strings with `${X}` are unexpanded.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Agent {
    /// The name of the agent, unique in its team.
    pub name: String,
    /// A description for the agents that dispatch to it; may be empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// The system prompt; may be empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub instruction: String,
    /// What runs it.
    pub kind: AgentKind,
    /// Its toolsets, in the order of the file.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub toolsets: Vec<Toolset>,
    /// The agents of this team that it may dispatch to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sub_agents: Vec<String>,
    /// The agents of this team that it may hand the conversation over to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub handoffs: Vec<String>,
    /// Sub-agents and handoffs that the file names by URL or image. They are not loaded.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub external_agents: Vec<String>,
    /// The agent of this team that gets the conversation whenever this one has answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub force_handoff: Option<String>,
    /// Whether it gets only tools that change nothing.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub readonly: bool,
    /// The safety mode of a session that starts with it; `None` for the team's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub safety: Option<SafetyMode>,
    /// Whether secrets are removed from calls, messages and results; `None` where the file does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redact_secrets: Option<bool>,
    /// The budgets of the team that its runs draw from, by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub budgets: Vec<String>,
    /// The maximum number of model calls: `None` for
    /// [`DEFAULT_MAX_ITERATIONS`](super::DEFAULT_MAX_ITERATIONS), 0 for no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_iterations: Option<u32>,
    /// Further limits of its run, and how much of its conversation its model is shown.
    #[serde(default, skip_serializing_if = "Limits::is_default")]
    pub limits: Limits,
    /// The number of most recent messages of the history that are sent to the model; `None` for all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub num_history_items: Option<u32>,
    /// Whether the prompt contains the date.
    #[serde(default)]
    pub add_date: bool,
    /// Whether the prompt describes the machine and the working directory.
    #[serde(default)]
    pub add_environment_info: bool,
    /// Whether every tool gets an argument in which the model describes the call.
    #[serde(default)]
    pub add_description_parameter: bool,
    /// Whether the model calls tools from a script. It has no effect yet.
    #[serde(default)]
    pub code_mode_tools: bool,
    /// The names of files whose text is added to the prompt.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub add_prompt_files: Vec<String>,
    /// How many levels below the working directory such files are listed; `None` for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub add_prompt_files_depth: Option<u32>,
    /// Its kept answers; `None` where every message is answered by the model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache: Option<ResponseCache>,
    /// The prompts that users run as `/name`, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub commands: BTreeMap<String, Command>,
    /// A message for the user before the first prompt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub welcome_message: Option<String>,
    /// The `rag` sources of the agent. They have no effect yet.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rag: Vec<String>,
    /// The models to use when calls of its own model fail.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback: Option<Fallback>,
    /// Its skills; `None` for no skills.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skills: Option<Skills>,
    /// Its hooks.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub hooks: Hooks,
    /// The `structured_output` of the agent, unchanged from the file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub structured_output: Option<serde_json::Value>,
}

/// A requirement of an agent: environment variables of which at least one must be set.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct RequiredKey {
    /// The alternatives; never empty.
    pub any_of: Vec<String>,
    /// What requires it, for messages: `model openai/gpt-4o`.
    pub needed_by: String,
}

impl Agent {
    /// Whether something in it holds the agent back that releases of the first stored form would leave out. Toolset types
    /// that those do not know are not meant: they cannot read such a team at all.
    pub(super) fn holds_back(&self) -> bool {
        self.readonly
            || self.safety.is_some_and(|mode| mode != SafetyMode::Autonomous)
            || self.redact_secrets == Some(true)
            || !self.budgets.is_empty()
            || self.limits.max_consecutive_tool_calls.is_some()
            || !self.hooks.is_empty()
            || self.toolsets.iter().any(Toolset::holds_back)
            || self
                .skills
                .iter()
                .flat_map(|skills| &skills.inline)
                .any(|skill| !skill.allowed_tools.is_empty())
    }

    /// The agent's models, each as `provider/model` and separated by commas; `auto` where the worker chooses one. `None`
    /// for a program.
    #[must_use]
    pub fn model_names(&self) -> Option<String> {
        match &self.kind {
            AgentKind::Models(models) => {
                Some(models.iter().map(ModelSettings::reference).collect::<Vec<_>>().join(","))
            }
            AgentKind::Auto => Some("auto".to_owned()),
            AgentKind::Command { .. } => None,
        }
    }

    /// The environment variables that a worker needs to run this agent: the keys of its models, and the
    /// `${X}` in the `env` of its toolsets and its program, and the `${env.X}` in the addresses of its models and
    /// toolsets. Sorted and without duplicates. `model: auto` requires no key, because it uses whatever is set;
    /// `${env.X}` elsewhere may be unset.
    #[must_use]
    pub fn required_keys(&self) -> Vec<RequiredKey> {
        let mut required = self.keys_of_addresses();
        match &self.kind {
            AgentKind::Models(models) => required.extend(keys_of_models(models)),
            AgentKind::Auto => {}
            AgentKind::Command { program, env, .. } => {
                required.extend(keys_of_env(env, &format!("command {program}")))
            }
        }
        required.extend(keys_of_models(&self.limits.compaction_models));
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
                | ToolsetKind::Fetch(_)
                | ToolsetKind::Git
                | ToolsetKind::Plan
                | ToolsetKind::OpenUrl { .. }
                | ToolsetKind::Webhook(_)
                | ToolsetKind::Environment
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

/// The keys of models, including those that their routing rules refer to.
pub(super) fn keys_of_models(models: &[ModelSettings]) -> impl Iterator<Item = RequiredKey> {
    let routed = models.iter().flat_map(|model| model.routing.iter().map(|rule| &rule.model));
    let summaries = models.iter().flat_map(|model| &model.compaction_models);
    models.iter().chain(routed).chain(summaries).filter_map(key_of_model)
}

/// The key of a model, or of one of the models in its place; `None` where one of them needs none.
fn key_of_model(model: &ModelSettings) -> Option<RequiredKey> {
    let candidates = || std::iter::once(model).chain(&model.otherwise);
    candidates().all(ModelSettings::needs_key).then(|| RequiredKey {
        any_of: candidates().flat_map(|model| model.token_keys.clone()).collect(),
        needed_by: format!("model {}", model.reference()),
    })
}

/// The variables that the environment of an MCP server refers to.
fn keys_of_mcp(server: &McpServer) -> Vec<RequiredKey> {
    match server {
        McpServer::Command(launch) => keys_of_env(&launch.env, &format!("mcp {}", launch.command)),
        McpServer::Docker { server, env, .. } => keys_of_env(env, &format!("mcp docker:{server}")),
        McpServer::Remote { .. } => Vec::new(),
    }
}

/// The variables that the values of an `env` map refer to.
fn keys_of_env(env: &StringMap, needed_by: &str) -> Vec<RequiredKey> {
    env.values()
        .flat_map(|value| variables(value))
        .map(|name| RequiredKey { any_of: vec![name], needed_by: needed_by.to_owned() })
        .collect()
}
