//! The toolsets of an agent: one variant for each type, with its settings.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use serde::Serialize;

use super::model::ModelSettings;

/// Strings by name: environment variables or headers. Values may contain `${X}` or `${env.X}`, unexpanded.
pub type StringMap = BTreeMap<String, String>;

/// A toolset: its type, and the settings that every type has.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Toolset {
    /// The type, with its own settings.
    pub kind: ToolsetKind,
    /// The names of the tools that the agent gets; empty for all of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tools: Vec<String>,
    /// A system message about the tools; `None` for the default of the toolset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instruction: Option<String>,
    /// Regular expressions of tool names. The JSON results of these tools are encoded as TOON, which takes
    /// fewer tokens.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub toon: Vec<String>,
    /// The models for the turn that follows a call of these tools; where there are several, one is chosen at
    /// random. Empty for the agent's own model.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub model: Vec<ModelSettings>,
    /// The tools that the model does not see until it searches for them; `None` for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub defer: Option<Defer>,
    /// Whether only the tools that change nothing can be called.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub readonly: bool,
    /// Whether only public addresses are reached, whatever the worker's operator allows: `allow_private_ips: false` of `api`,
    /// `openapi` and `a2a`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub public_only: bool,
    /// Globs of the tools that a skill leaves to the conversation that it runs in; empty for all. Never set in a file.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left: Vec<String>,
}

impl Toolset {
    /// Whether its keys hold the agent back in a way that releases of the first stored form would leave out.
    pub(super) fn holds_back(&self) -> bool {
        let has_lists = match &self.kind {
            ToolsetKind::Filesystem { allow_list, deny_list, .. } => {
                !allow_list.is_empty() || !deny_list.is_empty()
            }
            ToolsetKind::Fetch(fetch) => {
                !fetch.allowed_domains.is_empty()
                    || !fetch.blocked_domains.is_empty()
                    || fetch.allow_private_ips == Some(false)
            }
            _ => false,
        };
        self.readonly || self.public_only || has_lists
    }
}

/// The tools of a toolset that the model does not see until it searches for them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Defer {
    /// All tools of the toolset.
    All,
    /// The tools with these names.
    Tools(Vec<String>),
}

/// The type of a toolset, with its own settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ToolsetKind {
    /// A tool in which the model writes down its thoughts.
    Think,
    /// A todo list.
    Todo {
        /// Whether all agents of the session share one list; otherwise each job has its own.
        shared: bool,
    },
    /// Shell commands, in the foreground and in the background.
    Shell {
        /// Variables to add to the environment of every command.
        env: StringMap,
    },
    /// Reading, searching and changing files.
    Filesystem {
        /// Whether files that version control ignores are hidden.
        ignore_vcs: bool,
        /// Commands to run after a file was changed.
        post_edit: Vec<PostEdit>,
        /// The folders that can be reached, as written in the file; empty for all.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        allow_list: Vec<String>,
        /// The folders that cannot be reached, as written in the file; they win over `allow_list`.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        deny_list: Vec<String>,
    },
    /// The tools of a server of the Model Context Protocol.
    Mcp(Mcp),
    /// Dispatching jobs to sub-agents, and watching, messaging and stopping them.
    BackgroundAgents,
    /// Fetching web pages.
    Fetch(Fetch),
    /// What a repository of Git has.
    Git,
    /// Documents that the agents of a machine share.
    Plan,
    /// An address for the user.
    OpenUrl {
        /// The name of the tool; `None` for `open_url`.
        name: Option<String>,
        /// The address, unexpanded.
        url: String,
    },
    /// Messages to a chat or another service.
    Webhook(Webhook),
    /// The operating system and the shell.
    Environment,
    /// A memory that outlives sessions.
    Memory {
        /// The path of the database; `None` for a folder of the team in the user's state folder.
        path: Option<String>,
    },
    /// Commands of the agent file, each as a tool.
    Script {
        /// The tools by name.
        scripts: BTreeMap<String, Script>,
    },
    /// An HTTP request as a tool.
    Api(Api),
    /// The operations of an OpenAPI description, each as a tool.
    Openapi {
        /// The URL of the description.
        url: String,
        /// Headers of every request.
        headers: StringMap,
    },
    /// A remote agent that speaks the Agent2Agent protocol, as a tool.
    A2a {
        /// The name of the tool; `None` for the name that the agent reports.
        name: Option<String>,
        /// The URL of the agent.
        url: String,
        /// Headers of every request.
        headers: StringMap,
    },
    /// A language server. It is not started yet.
    Lsp {
        /// The command that starts it.
        launch: Launch,
        /// The file name extensions that it supports.
        file_types: Vec<String>,
    },
    /// A list of tasks that is stored in a file.
    Tasks {
        /// The path of the file; `None` for the default name in the working directory.
        path: Option<String>,
    },
    /// Questions to the user. The agent gets no such tool yet.
    UserPrompt,
    /// Switching the agent's model. The agent gets no such tool yet.
    ModelPicker {
        /// The models to choose from, as written in the file.
        models: Vec<String>,
    },
    /// A type that is not part of the schema. The agent runs without it.
    Unsupported {
        /// The type, as written in the file.
        kind: String,
    },
}

/// Where the messages of `webhook` go.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Webhook {
    /// The service, for messages: `slack`.
    pub service: String,
    /// The form of its messages.
    pub form: WebhookForm,
    /// The address, unexpanded.
    pub url: String,
    /// Headers of each request, unexpanded.
    #[serde(default, skip_serializing_if = "StringMap::is_empty")]
    pub headers: StringMap,
}

/// The JSON that a service reads a message from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WebhookForm {
    /// `text`.
    Text,
    /// `content`, as Discord reads it.
    Content,
    /// `value1` to `value3`, as IFTTT reads them.
    Values,
    /// `text` for this chat, as Telegram reads it.
    Chat(String),
}

/// The tools of `plan`.
const PLAN_TOOLS: [&str; 8] = [
    "write_plan",
    "read_plan",
    "list_plans",
    "delete_plan",
    "update_plan_from_file",
    "export_plan_to_file",
    "set_plan_status",
    "get_plan_status",
];

impl ToolsetKind {
    /// The names of the toolset's tools; `None` where they are known only once it is open.
    pub fn tool_names(&self) -> Option<Vec<&str>> {
        Some(match self {
            Self::Think => vec!["think"],
            Self::Todo { .. } => vec!["create_todo", "create_todos", "update_todos", "list_todos"],
            Self::Shell { .. } => vec![
                "shell",
                "run_background_job",
                "list_background_jobs",
                "view_background_job",
                "stop_background_job",
                "wait_background_job",
            ],
            Self::Filesystem { .. } => vec![
                "read_file",
                "read_multiple_files",
                "list_directory",
                "directory_tree",
                "search_files_content",
                "write_file",
                "edit_file",
                "create_directory",
                "remove_directory",
            ],
            Self::BackgroundAgents => vec![
                "run_background_agent",
                "list_background_agents",
                "view_background_agent",
                "stop_background_agent",
                "wait_background_agents",
                "send_background_agent",
            ],
            Self::Fetch(_) => vec!["fetch"],
            Self::Git => vec!["git_status", "git_log", "git_branches", "git_show", "git_blame"],
            Self::Webhook(_) => vec!["send_webhook"],
            Self::Environment => vec!["get_environment_info"],
            Self::Plan => PLAN_TOOLS.to_vec(),
            Self::OpenUrl { name, .. } => vec![name.as_deref().unwrap_or("open_url")],
            Self::Memory { .. } => {
                vec!["add_memory", "get_memories", "search_memories", "update_memory", "delete_memory"]
            }
            Self::Script { scripts } => scripts.keys().map(String::as_str).collect(),
            Self::Api(api) => vec![api.name.as_str()],
            Self::Tasks { .. } => vec![
                "create_task",
                "get_task",
                "update_task",
                "delete_task",
                "list_tasks",
                "next_task",
                "add_dependency",
                "remove_dependency",
            ],
            Self::Mcp(_) | Self::Openapi { .. } | Self::A2a { .. } => return None,
            Self::UserPrompt => vec!["user_prompt"],
            // The agent runs without these.
            Self::Lsp { .. } | Self::ModelPicker { .. } | Self::Unsupported { .. } => Vec::new(),
        })
    }
}

/// The settings of `fetch`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Fetch {
    /// The timeout for one page in seconds; `None` for the tool's default.
    pub timeout: Option<u32>,
    /// Headers of every request for a page.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: StringMap,
    /// The hosts that can be reached, as written in the file; empty for all. At most one of the two lists has entries.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allowed_domains: Vec<String>,
    /// The hosts that cannot be reached, as written in the file.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub blocked_domains: Vec<String>,
    /// Whether addresses of private networks can be reached, where the worker's operator allows them; `None` where the
    /// file does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allow_private_ips: Option<bool>,
}

/// The command that starts a local server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Launch {
    /// The program, searched on the PATH of the worker.
    pub command: String,
    /// The arguments of the program.
    pub args: Vec<String>,
    /// Variables to add to its environment.
    pub env: StringMap,
    /// The version to install when the program is missing, or `false`. It has no effect: nothing is installed.
    pub version: Option<String>,
    /// The directory in which it runs, unexpanded; `None` for the job's working directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub working_dir: Option<String>,
}

/// A server of the Model Context Protocol.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Mcp {
    /// A prefix for the names of its tools.
    pub name: Option<String>,
    /// How the server is reached.
    pub server: McpServer,
    /// How it is started and restarted; `None` for the defaults.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lifecycle: Option<Lifecycle>,
}

/// How a server is started, restarted and waited for. `None` is the default of the profile.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Lifecycle {
    /// `resilient`, `strict` or `best-effort`; `None` for `resilient`.
    pub profile: Option<String>,
    /// `never`, `on_failure` or `always`.
    pub restart: Option<String>,
    /// The most restarts in a row; -1 for no limit.
    pub max_restarts: Option<i64>,
    /// How long a start may take.
    pub startup_timeout: Option<Duration>,
    /// How long a call may take.
    pub call_timeout: Option<Duration>,
    /// The wait before the first restart.
    pub backoff_initial: Option<Duration>,
    /// The longest wait before a restart.
    pub backoff_max: Option<Duration>,
    /// By how much each wait is longer than the one before.
    pub backoff_multiplier: Option<f64>,
    /// The share of a wait that is random, from 0 to 1.
    pub backoff_jitter: Option<f64>,
}

/// How an MCP server is reached.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum McpServer {
    /// A program on the worker's machine, over its standard input and output.
    Command(Launch),
    /// A remote server, over HTTP.
    Remote {
        /// The URL of the server.
        url: String,
        /// The transport.
        transport: McpTransport,
        /// Headers of every request.
        headers: StringMap,
    },
    /// A server of Docker's MCP catalog, through the gateway of the `docker` command.
    Docker {
        /// The name in the catalog, without `docker:`.
        server: String,
        /// The settings of the server; null for none.
        config: serde_json::Value,
        /// Variables to add to the environment of the gateway.
        env: StringMap,
    },
}

/// The transport of a remote MCP server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum McpTransport {
    /// Server-sent events, the transport of older servers.
    Sse,
    /// Streamable HTTP.
    StreamableHttp,
}

/// A command to run after a file was changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PostEdit {
    /// A glob that the file name must match.
    pub path: String,
    /// The shell command; `$path` is the changed file.
    pub cmd: String,
}

/// A command of the agent file as a tool.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Script {
    /// The shell command. The arguments of a call are environment variables.
    pub cmd: String,
    /// A description for the model.
    pub description: String,
    /// The JSON schemas of the arguments, by name.
    pub args: BTreeMap<String, serde_json::Value>,
    /// The required arguments; none where the file does not list them.
    pub required: Option<Vec<String>>,
    /// Variables to add to its environment.
    pub env: StringMap,
    /// The directory in which it runs; `None` for the job's working directory.
    pub working_dir: Option<String>,
}

/// An HTTP request as a tool.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Api {
    /// The name of the tool.
    pub name: String,
    /// The URL; `${arg}` is replaced by the argument of that name.
    pub endpoint: String,
    /// The HTTP method, as written in the file.
    pub method: String,
    /// A description for the model.
    pub instruction: String,
    /// Headers of the request.
    pub headers: StringMap,
    /// The JSON schemas of the arguments, by name.
    pub args: BTreeMap<String, serde_json::Value>,
    /// The required arguments.
    pub required: Vec<String>,
    /// The JSON schema of the response.
    pub output_schema: Option<serde_json::Value>,
}
