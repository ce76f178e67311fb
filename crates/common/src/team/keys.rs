//! The table of all keys of the agent file: in which map each is valid, and whether Legwork supports it.
//!
//! A new key, or support for one, needs a change here, in the code that reads it, and in
//! `docs/compatibility.md`, which a test compares with this table.

use Effect::Supported;
use Effect::Unsupported;

/// Whether a key has an effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    /// The key has the effect that it has in docker-agent.
    Supported,
    /// The key is valid but has no effect. The text says what happens instead; it becomes part of a warning.
    Unsupported(&'static str),
}

/// A key of a map.
#[derive(Debug, Clone, Copy)]
pub(super) struct Key {
    pub(super) name: &'static str,
    pub(super) effect: Effect,
    /// The toolset types that accept this key; empty for all types.
    pub(super) only_for: &'static [&'static str],
    /// The first schema version with this key; 0 for keys of which nothing depends on it. docker-agent's versions are
    /// older than most keys, and a newer key in an older file has one meaning only.
    pub(super) first_version: u8,
    /// The last schema version with this key; `None` if the newest version has it.
    pub(super) last_version: Option<u8>,
}

impl Key {
    /// Whether a file of this schema version has the key.
    fn is_in(&self, version: u8) -> bool {
        self.first_version <= version && self.last_version.is_none_or(|last| version <= last)
    }
}

/// The keys of a map.
#[derive(Debug)]
pub(super) struct Keys {
    /// The name of the map with its article, for messages: `an agent`.
    pub(super) noun: &'static str,
    pub(super) keys: &'static [Key],
}

impl Keys {
    /// The key with this name, if a file of this schema version has it.
    pub(super) fn find(&self, name: &str, version: u8) -> Option<&'static Key> {
        self.keys.iter().find(|key| key.name == name && key.is_in(version))
    }

    /// The names of all keys in a file of this schema version.
    pub(super) fn names(&self, version: u8) -> impl Iterator<Item = &'static str> {
        self.keys.iter().filter(move |key| key.is_in(version)).map(|key| key.name)
    }
}

/// A supported key.
const fn supported(name: &'static str) -> Key {
    Key { name, effect: Supported, only_for: &[], first_version: 0, last_version: None }
}

/// A key without effect; `consequence` says what happens instead.
const fn unsupported(name: &'static str, consequence: &'static str) -> Key {
    Key { name, effect: Unsupported(consequence), only_for: &[], first_version: 0, last_version: None }
}

/// Restricts a key to some toolset types.
const fn only(key: Key, types: &'static [&'static str]) -> Key {
    Key { only_for: types, ..key }
}

/// Restricts a key to schema versions up to `version`.
const fn until(key: Key, version: u8) -> Key {
    Key { last_version: Some(version), ..key }
}

/// Restricts a key to the schema versions from `first` to `last`.
const fn between(key: Key, first: u8, last: u8) -> Key {
    Key { first_version: first, ..until(key, last) }
}

/// What happens instead of setting variables in the agent file.
const SET_ON_WORKER: &str = "set the variables in the environment of the worker";

pub(super) const FILE: Keys = Keys {
    noun: "the file",
    keys: &[
        supported("version"),
        supported("agents"),
        supported("models"),
        supported("providers"),
        supported("mcps"),
        supported("metadata"),
        unsupported("rag", "no agent searches these sources"),
        supported("permissions"),
        until(unsupported("env", SET_ON_WORKER), 1),
    ],
};

pub(super) const RAG: Keys = Keys {
    noun: "a RAG source",
    keys: &[
        supported("tool"),
        supported("docs"),
        supported("respect_vcs"),
        supported("strategies"),
        supported("results"),
        between(unsupported("description", "no agent searches this source"), 2, 2),
    ],
};

pub(super) const METADATA: Keys = Keys {
    noun: "the metadata",
    keys: &[
        supported("author"),
        supported("license"),
        supported("description"),
        supported("readme"),
        supported("version"),
    ],
};

pub(super) const PERMISSIONS: Keys =
    Keys { noun: "the permissions", keys: &[supported("allow"), supported("ask"), supported("deny")] };

pub(super) const PROVIDER: Keys = Keys {
    noun: "a provider",
    keys: &[supported("api_type"), supported("base_url"), supported("token_key")],
};

pub(super) const MODEL: Keys = Keys {
    noun: "a model",
    keys: &[
        supported("provider"),
        supported("model"),
        supported("max_tokens"),
        supported("temperature"),
        supported("top_p"),
        supported("frequency_penalty"),
        supported("presence_penalty"),
        supported("base_url"),
        supported("token_key"),
        supported("parallel_tool_calls"),
        supported("track_usage"),
        supported("thinking_budget"),
        supported("provider_opts"),
        supported("routing"),
        until(supported("type"), 0),
        until(unsupported("env", SET_ON_WORKER), 1),
    ],
};

pub(super) const THINKING: Keys =
    Keys { noun: "a thinking budget", keys: &[supported("effort"), supported("tokens")] };

pub(super) const ROUTING: Keys =
    Keys { noun: "a routing rule", keys: &[supported("model"), supported("examples")] };

pub(super) const AGENT: Keys = Keys {
    noun: "an agent",
    keys: &[
        supported("model"),
        supported("command"),
        supported("env"),
        supported("working_dir"),
        supported("description"),
        supported("instruction"),
        supported("toolsets"),
        supported("sub_agents"),
        supported("max_iterations"),
        supported("max_consecutive_tool_calls"),
        supported("max_tool_result_tokens"),
        supported("max_old_tool_call_tokens"),
        supported("session_compaction"),
        supported("compaction_model"),
        supported("compaction_threshold"),
        supported("add_date"),
        supported("add_environment_info"),
        supported("handoffs"),
        supported("commands"),
        supported("welcome_message"),
        unsupported("rag", "the agent cannot search these sources"),
        supported("add_prompt_files"),
        supported("fallback"),
        unsupported("code_mode_tools", "the tools are called one by one"),
        unsupported("skills", "no skill is loaded"),
        unsupported("hooks", "no hook runs"),
        supported("structured_output"),
        supported("num_history_items"),
        supported("add_description_parameter"),
        until(unsupported("name", "an agent is named by its key"), 0),
        until(supported("think"), 0),
        until(supported("todo"), 0),
        until(supported("memory"), 0),
    ],
};

pub(super) const COMMAND: Keys =
    Keys { noun: "a command", keys: &[supported("description"), supported("instruction")] };

pub(super) const FALLBACK: Keys =
    Keys { noun: "a fallback", keys: &[supported("models"), supported("retries"), supported("cooldown")] };

pub(super) const HOOKS: Keys = Keys {
    noun: "the hooks",
    keys: &[
        supported("pre_tool_use"),
        supported("post_tool_use"),
        supported("session_start"),
        supported("session_end"),
        supported("on_user_input"),
    ],
};

pub(super) const HOOK_MATCHER: Keys =
    Keys { noun: "a hook matcher", keys: &[supported("matcher"), supported("hooks")] };

pub(super) const HOOK: Keys =
    Keys { noun: "a hook", keys: &[supported("type"), supported("command"), supported("timeout")] };

pub(super) const STRUCTURED_OUTPUT: Keys = Keys {
    noun: "a structured output",
    keys: &[supported("name"), supported("description"), supported("strict"), supported("schema")],
};

/// The toolset types. A type that is not supported gives the agent no tools.
pub(super) const TOOLSET_TYPES: Keys = Keys {
    noun: "a toolset type",
    keys: &[
        supported("think"),
        supported("shell"),
        supported("filesystem"),
        supported("background_agents"),
        supported("todo"),
        supported("mcp"),
        supported("fetch"),
        supported("memory"),
        supported("script"),
        supported("api"),
        supported("openapi"),
        supported("a2a"),
        unsupported("lsp", "no language server runs; the agent reads and searches files with `filesystem`"),
        supported("tasks"),
        unsupported("user_prompt", "a background agent has no user to ask"),
        unsupported("model_picker", "the agent's model stays"),
    ],
};

/// The keys of a toolset, and of an entry of `mcps`.
pub(super) const TOOLSET: Keys = Keys {
    noun: "a toolset",
    keys: &[
        supported("type"),
        supported("tools"),
        supported("instruction"),
        supported("toon"),
        supported("model"),
        supported("defer"),
        only(supported("command"), &["mcp", "lsp"]),
        only(supported("args"), &["mcp", "lsp"]),
        only(
            unsupported("version", "the program on the PATH is used, and nothing is installed"),
            &["mcp", "lsp"],
        ),
        only(supported("ref"), &["mcp"]),
        only(supported("remote"), &["mcp"]),
        only(supported("config"), &["mcp"]),
        only(supported("name"), &["mcp", "a2a"]),
        only(supported("env"), &["shell", "script", "mcp", "lsp"]),
        only(supported("url"), &["a2a", "openapi"]),
        only(supported("headers"), &["a2a", "openapi"]),
        only(supported("path"), &["memory", "tasks"]),
        only(supported("shared"), &["todo"]),
        only(supported("shell"), &["script"]),
        only(supported("post_edit"), &["filesystem"]),
        only(supported("ignore_vcs"), &["filesystem"]),
        only(supported("file_types"), &["lsp"]),
        only(supported("models"), &["model_picker"]),
        supported("timeout"),
        supported("api_config"),
        until(unsupported("env_file", SET_ON_WORKER), 1),
        between(
            only(
                unsupported(
                    "sandbox",
                    "commands run directly on the worker, in no container; isolate the worker itself",
                ),
                &["shell"],
            ),
            3,
            5,
        ),
    ],
};

/// Keys that docker-agent accepts in every toolset but that have an effect in one type only, with that type.
pub(super) const EFFECTIVE_IN: &[(&str, &str)] = &[("timeout", "fetch"), ("api_config", "api")];

pub(super) const REMOTE: Keys =
    Keys { noun: "a remote", keys: &[supported("url"), supported("transport_type"), supported("headers")] };

pub(super) const POST_EDIT: Keys =
    Keys { noun: "a post-edit rule", keys: &[supported("path"), supported("cmd")] };

pub(super) const SCRIPT: Keys = Keys {
    noun: "a script",
    keys: &[
        supported("cmd"),
        supported("description"),
        supported("args"),
        supported("required"),
        supported("env"),
        supported("working_dir"),
    ],
};

pub(super) const API: Keys = Keys {
    noun: "an API",
    keys: &[
        supported("name"),
        supported("endpoint"),
        supported("method"),
        supported("instruction"),
        supported("headers"),
        supported("args"),
        supported("required"),
        supported("output_schema"),
    ],
};

pub(super) const SANDBOX: Keys = Keys { noun: "a sandbox", keys: &[supported("image"), supported("paths")] };

pub(super) const TODO_LIST: Keys = Keys { noun: "a todo list", keys: &[supported("shared")] };

pub(super) const MEMORY: Keys = Keys { noun: "a memory", keys: &[supported("path")] };

/// The maps that are searched for a misplaced key, each with a description of its place for the hint.
pub(super) const KEY_LOCATIONS: &[(&Keys, &str)] = &[
    (&AGENT, "an agent, below `agents: <name>:`"),
    (&MODEL, "a model, below `models: <name>:`"),
    (&TOOLSET, "a toolset, in the list `toolsets:` of an agent"),
    (&FILE, "the file itself, at its left margin"),
];

/// Every map of the schema, for tests.
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
    &SANDBOX,
    &TODO_LIST,
    &MEMORY,
];
