//! The one table of the agent file's keys: which keys there are, where, and which of them Legwork acts on.
//!
//! Adding a key, or beginning to act on one, is a change of this file and of the code that reads it.

use Effect::Acted;
use Effect::Instead;

/// What a key does here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    /// Legwork does what docker-agent does.
    Acted,
    /// Accepted with a warning that tells what happens instead.
    Instead(&'static str),
}

/// One key of a map in the file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Key {
    pub(super) name: &'static str,
    pub(super) effect: Effect,
    /// The toolset types that take this key; empty: all.
    pub(super) only_for: &'static [&'static str],
    /// The last schema version that has this key; none: the newest has it.
    pub(super) last_version: Option<u8>,
}

/// The keys of one kind of map.
#[derive(Debug)]
pub(super) struct Keys {
    /// What the map is, with its article, for messages: `an agent`.
    pub(super) noun: &'static str,
    pub(super) keys: &'static [Key],
}

impl Keys {
    /// The key of this name, in a file of this version.
    pub(super) fn find(&self, name: &str, version: u8) -> Option<&'static Key> {
        self.keys.iter().find(|key| key.name == name && key.last_version.is_none_or(|last| version <= last))
    }

    /// The names that a file of this version may use.
    pub(super) fn names(&self, version: u8) -> impl Iterator<Item = &'static str> {
        let in_version = move |key: &&Key| key.last_version.is_none_or(|last| version <= last);
        self.keys.iter().filter(in_version).map(|key| key.name)
    }
}

/// A key that Legwork acts on.
const fn acted(name: &'static str) -> Key {
    Key { name, effect: Acted, only_for: &[], last_version: None }
}

/// A key that is accepted, and what happens instead.
const fn instead(name: &'static str, what: &'static str) -> Key {
    Key { name, effect: Instead(what), only_for: &[], last_version: None }
}

/// The same key, for some toolset types only.
const fn only(key: Key, types: &'static [&'static str]) -> Key {
    Key { only_for: types, ..key }
}

/// The same key, up to a schema version only.
const fn until(key: Key, version: u8) -> Key {
    Key { last_version: Some(version), ..key }
}

pub(super) const FILE: Keys = Keys {
    noun: "the file",
    keys: &[
        acted("version"),
        acted("agents"),
        acted("models"),
        acted("providers"),
        acted("mcps"),
        acted("metadata"),
        instead("rag", "no agent searches these sources"),
        acted("permissions"),
        until(instead("env", "set the variables in the environment of the worker"), 0),
    ],
};

pub(super) const RAG: Keys = Keys {
    noun: "a RAG source",
    keys: &[acted("tool"), acted("docs"), acted("respect_vcs"), acted("strategies"), acted("results")],
};

pub(super) const METADATA: Keys = Keys {
    noun: "the metadata",
    keys: &[acted("author"), acted("license"), acted("description"), acted("readme"), acted("version")],
};

pub(super) const PERMISSIONS: Keys =
    Keys { noun: "the permissions", keys: &[acted("allow"), acted("ask"), acted("deny")] };

pub(super) const PROVIDER: Keys =
    Keys { noun: "a provider", keys: &[acted("api_type"), acted("base_url"), acted("token_key")] };

pub(super) const MODEL: Keys = Keys {
    noun: "a model",
    keys: &[
        acted("provider"),
        acted("model"),
        acted("max_tokens"),
        acted("temperature"),
        acted("top_p"),
        acted("frequency_penalty"),
        acted("presence_penalty"),
        acted("base_url"),
        acted("token_key"),
        acted("parallel_tool_calls"),
        acted("track_usage"),
        acted("thinking_budget"),
        acted("provider_opts"),
        acted("routing"),
        until(acted("type"), 0),
    ],
};

pub(super) const THINKING: Keys =
    Keys { noun: "a thinking budget", keys: &[acted("effort"), acted("tokens")] };

pub(super) const ROUTING: Keys = Keys { noun: "a routing rule", keys: &[acted("model"), acted("examples")] };

pub(super) const AGENT: Keys = Keys {
    noun: "an agent",
    keys: &[
        acted("model"),
        acted("command"),
        acted("env"),
        acted("working_dir"),
        acted("description"),
        acted("instruction"),
        acted("toolsets"),
        acted("sub_agents"),
        acted("max_iterations"),
        acted("add_date"),
        acted("add_environment_info"),
        acted("handoffs"),
        acted("commands"),
        acted("welcome_message"),
        instead("rag", "the agent cannot search these sources"),
        acted("add_prompt_files"),
        acted("fallback"),
        instead("code_mode_tools", "the tools are called one by one"),
        instead("skills", "no skill is loaded"),
        instead("hooks", "no hook runs"),
        acted("structured_output"),
        acted("num_history_items"),
        acted("add_description_parameter"),
        until(acted("think"), 0),
        until(acted("todo"), 0),
        until(acted("memory"), 0),
    ],
};

pub(super) const COMMAND: Keys =
    Keys { noun: "a command", keys: &[acted("description"), acted("instruction")] };

pub(super) const FALLBACK: Keys =
    Keys { noun: "a fallback", keys: &[acted("models"), acted("retries"), acted("cooldown")] };

pub(super) const HOOKS: Keys = Keys {
    noun: "the hooks",
    keys: &[
        acted("pre_tool_use"),
        acted("post_tool_use"),
        acted("session_start"),
        acted("session_end"),
        acted("on_user_input"),
    ],
};

pub(super) const HOOK_MATCHER: Keys =
    Keys { noun: "a hook matcher", keys: &[acted("matcher"), acted("hooks")] };

pub(super) const HOOK: Keys =
    Keys { noun: "a hook", keys: &[acted("type"), acted("command"), acted("timeout")] };

pub(super) const STRUCTURED_OUTPUT: Keys = Keys {
    noun: "a structured output",
    keys: &[acted("name"), acted("description"), acted("strict"), acted("schema")],
};

/// Every toolset type, and which of them give the agent tools.
pub(super) const TOOLSET_TYPES: Keys = Keys {
    noun: "a toolset type",
    keys: &[
        acted("think"),
        acted("shell"),
        acted("filesystem"),
        acted("background_agents"),
        acted("todo"),
        acted("mcp"),
        acted("fetch"),
        acted("memory"),
        acted("script"),
        acted("api"),
        acted("openapi"),
        acted("a2a"),
        instead("lsp", "no language server runs; the agent reads and searches files with `filesystem`"),
        acted("tasks"),
        instead("user_prompt", "the agent cannot ask the user: nobody can answer a background agent"),
        instead("model_picker", "the agent's model stays"),
    ],
};

/// The keys of a toolset and of an entry of `mcps`.
pub(super) const TOOLSET: Keys = Keys {
    noun: "a toolset",
    keys: &[
        acted("type"),
        acted("tools"),
        acted("instruction"),
        acted("toon"),
        acted("model"),
        acted("defer"),
        only(acted("command"), &["mcp", "lsp"]),
        only(acted("args"), &["mcp", "lsp"]),
        only(instead("version", "the program on the PATH is used, none is installed"), &["mcp", "lsp"]),
        only(acted("ref"), &["mcp"]),
        only(acted("remote"), &["mcp"]),
        only(acted("config"), &["mcp"]),
        only(acted("name"), &["mcp", "a2a"]),
        only(acted("env"), &["shell", "script", "mcp", "lsp"]),
        only(acted("url"), &["a2a", "openapi"]),
        only(acted("headers"), &["a2a", "openapi"]),
        only(acted("path"), &["memory", "tasks"]),
        only(acted("shared"), &["todo"]),
        only(acted("shell"), &["script"]),
        only(acted("post_edit"), &["filesystem"]),
        only(acted("ignore_vcs"), &["filesystem"]),
        only(acted("file_types"), &["lsp"]),
        only(acted("models"), &["model_picker"]),
        acted("timeout"),
        acted("api_config"),
        until(instead("env_file", "set the variables in the environment of the worker"), 1),
    ],
};

/// Keys that docker-agent takes in every toolset and that mean something in one type only.
pub(super) const MEANT_FOR: &[(&str, &str)] = &[("timeout", "fetch"), ("api_config", "api")];

pub(super) const REMOTE: Keys =
    Keys { noun: "a remote", keys: &[acted("url"), acted("transport_type"), acted("headers")] };

pub(super) const POST_EDIT: Keys = Keys { noun: "a post-edit rule", keys: &[acted("path"), acted("cmd")] };

pub(super) const SCRIPT: Keys = Keys {
    noun: "a script",
    keys: &[
        acted("cmd"),
        acted("description"),
        acted("args"),
        acted("required"),
        acted("env"),
        acted("working_dir"),
    ],
};

pub(super) const API: Keys = Keys {
    noun: "an API",
    keys: &[
        acted("name"),
        acted("endpoint"),
        acted("method"),
        acted("instruction"),
        acted("headers"),
        acted("args"),
        acted("required"),
        acted("output_schema"),
    ],
};

pub(super) const TODO_LIST: Keys = Keys { noun: "a todo list", keys: &[acted("shared")] };

pub(super) const MEMORY: Keys = Keys { noun: "a memory", keys: &[acted("path")] };

/// The maps in which a misplaced key is looked for, with the place to put it.
pub(super) const HOMES: &[(&Keys, &str)] = &[
    (&AGENT, "an agent, below `agents: <name>:`"),
    (&MODEL, "a model, below `models: <name>:`"),
    (&TOOLSET, "a toolset, in the list `toolsets:` of an agent"),
    (&FILE, "the file itself, at its left margin"),
];

/// Every map of the schema.
#[cfg(test)]
pub(super) const ALL: &[&Keys] = &[
    &FILE,
    &RAG,
    &METADATA,
    &PERMISSIONS,
    &PROVIDER,
    &MODEL,
    &THINKING,
    &ROUTING,
    &AGENT,
    &COMMAND,
    &FALLBACK,
    &HOOKS,
    &HOOK_MATCHER,
    &HOOK,
    &STRUCTURED_OUTPUT,
    &TOOLSET_TYPES,
    &TOOLSET,
    &REMOTE,
    &POST_EDIT,
    &SCRIPT,
    &API,
    &TODO_LIST,
    &MEMORY,
];
