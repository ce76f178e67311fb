//! The toolsets of an agent, one variant for each type.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::Serialize;

use super::model::ModelSettings;

/// Named texts: environment variables, headers. Values may hold `${X}` or `${env.X}`, unexpanded.
pub type TextMap = BTreeMap<String, String>;

/// A toolset and what every type can have.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Toolset {
    /// The type and its own settings.
    pub kind: ToolsetKind,
    /// The tools that the agent gets; empty: all of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tools: Vec<String>,
    /// A system message about these tools; none: the toolset's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instruction: Option<String>,
    /// Regular expressions of the tools whose results are written more briefly.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub toon: Vec<String>,
    /// The model of the turn after one of these tools; of several one is drawn; none: the agent's own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub model: Vec<ModelSettings>,
    /// Which tools stay hidden until they are searched for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub defer: Option<Defer>,
}

/// Which tools stay hidden until they are searched for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Defer {
    /// All of the toolset.
    All,
    /// These.
    Tools(Vec<String>),
}

/// The type of a toolset with its own settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ToolsetKind {
    /// A place to think aloud.
    Think,
    /// A list of things to do.
    Todo {
        /// Whether all agents of the process share it.
        shared: bool,
    },
    /// Shell commands, in the foreground and as background jobs.
    Shell {
        /// Variables of every command.
        env: TextMap,
    },
    /// Files and folders.
    Filesystem {
        /// Whether what the version control ignores is hidden.
        ignore_vcs: bool,
        /// Commands to run after an edit.
        post_edit: Vec<PostEdit>,
    },
    /// A server that speaks the Model Context Protocol.
    Mcp(Mcp),
    /// Dispatching to sub-agents, and seeing after what was dispatched.
    BackgroundAgents,
    /// Reading web pages.
    Fetch {
        /// Seconds for one page; none: the tool's own.
        timeout: Option<u32>,
    },
    /// Remembering between sessions.
    Memory {
        /// The database's path; none: a usual place.
        path: Option<String>,
    },
    /// Commands of the file, each a tool.
    Script {
        /// The tools by name.
        scripts: BTreeMap<String, Script>,
    },
    /// One HTTP call as a tool.
    Api(Api),
    /// The operations of an OpenAPI description.
    Openapi {
        /// Where the description is.
        url: String,
        /// Headers of every call.
        headers: TextMap,
    },
    /// An agent that speaks the Agent2Agent protocol.
    A2a {
        /// What the tool is called; none: what the agent calls itself.
        name: Option<String>,
        /// Where the agent is.
        url: String,
        /// Headers of every call.
        headers: TextMap,
    },
    /// A language server.
    Lsp {
        /// How it is started.
        launch: Launch,
        /// The endings of the files that it understands.
        file_types: Vec<String>,
    },
    /// A list of tasks in a file.
    Tasks {
        /// The file's path; none: a usual place.
        path: Option<String>,
    },
    /// Asking the user.
    UserPrompt,
    /// Changing the agent's model.
    ModelPicker {
        /// What it can be changed to, as the file names them.
        models: Vec<String>,
    },
    /// A type that nobody knows; the agent runs without it.
    Unsupported {
        /// The type's name in the file.
        kind: String,
    },
}

/// How a server on this machine is started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Launch {
    /// The program.
    pub command: String,
    /// Its arguments.
    pub args: Vec<String>,
    /// Variables added to its environment.
    pub env: TextMap,
    /// Which version to install where it is missing; `false`: none.
    pub version: Option<String>,
}

/// An MCP server: its name and where it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Mcp {
    /// A prefix of its tools' names.
    pub name: Option<String>,
    /// Where it is.
    pub server: McpServer,
}

/// The three places where an MCP server can be.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum McpServer {
    /// A program on this machine.
    Command(Launch),
    /// A server elsewhere.
    Remote {
        /// Its address.
        url: String,
        /// How it is spoken to.
        transport: McpTransport,
        /// Headers of every call.
        headers: TextMap,
    },
    /// A server of Docker's MCP catalog.
    Docker {
        /// Its name there, without `docker:`.
        server: String,
        /// Its settings.
        config: serde_json::Value,
        /// Variables of the gateway.
        env: TextMap,
    },
}

/// How a remote MCP server is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum McpTransport {
    /// Server-sent events, the older way.
    Sse,
    /// Streamable HTTP.
    StreamableHttp,
}

/// A command to run after an edit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PostEdit {
    /// A glob on the file's name.
    pub path: String,
    /// The command; `$path` is the file.
    pub cmd: String,
}

/// A command of the file as a tool.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Script {
    /// The command; arguments are environment variables in it.
    pub cmd: String,
    /// What it is for.
    pub description: String,
    /// JSON schemas of the arguments by name.
    pub args: BTreeMap<String, serde_json::Value>,
    /// The arguments that must be given; none: all.
    pub required: Option<Vec<String>>,
    /// Variables added to its environment.
    pub env: TextMap,
    /// Where it runs; none: the agent's working directory.
    pub working_dir: Option<String>,
}

/// One HTTP call as a tool.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Api {
    /// The tool's name.
    pub name: String,
    /// The address, with `${arg}` in it.
    pub endpoint: String,
    /// `GET` or `POST`.
    pub method: String,
    /// What it is for.
    pub instruction: String,
    /// Headers of the call.
    pub headers: TextMap,
    /// JSON schemas of the arguments by name.
    pub args: BTreeMap<String, serde_json::Value>,
    /// The arguments that must be given.
    pub required: Vec<String>,
    /// A JSON schema of the answer.
    pub output_schema: Option<serde_json::Value>,
}
