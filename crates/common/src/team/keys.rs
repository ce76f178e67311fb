//! The table of all keys of the agent file: in which map each is valid, and what Legwork does with it.
//!
//! A row is written once, here. The reader checks files against it, [`compatibility`](super::compatibility) prints it,
//! and `docs/compatibility.md` is made from it, which a test compares.

mod agent;
mod file;
mod hooks;
mod model;
mod toolset;

pub(super) use agent::AGENT;
pub(super) use agent::COMMAND;
pub(super) use agent::FALLBACK;
pub(super) use agent::HARNESS;
pub(super) use agent::HARNESS_TYPES;
pub(super) use agent::MEMORY;
pub(super) use agent::RESPONSE_CACHE;
pub(super) use agent::SKILL;
pub(super) use agent::STRUCTURED_OUTPUT;
pub(super) use agent::TODO_LIST;
pub(super) use file::BUDGET;
pub(super) use file::FILE;
pub(super) use file::METADATA;
pub(super) use file::PERMISSIONS;
pub(super) use file::RAG;
pub(super) use file::RUNTIME;
pub(super) use hooks::BUILTIN_HOOKS;
pub(super) use hooks::HOOK;
pub(super) use hooks::HOOK_MATCHER;
pub(super) use hooks::HOOK_TYPES;
pub(super) use hooks::HOOKS;
pub(super) use model::CAPABILITIES;
pub(super) use model::COST;
pub(super) use model::MODEL;
pub(super) use model::OUTPUT_CAPABILITIES;
pub(super) use model::PROVIDER;
pub(super) use model::ROUTING;
pub(super) use model::TASK_BUDGET;
pub(super) use model::THINKING;
pub(super) use toolset::API;
pub(super) use toolset::BACKOFF;
pub(super) use toolset::EFFECTIVE_IN;
pub(super) use toolset::LIFECYCLE;
pub(super) use toolset::OAUTH;
pub(super) use toolset::POST_EDIT;
pub(super) use toolset::RAG_CONFIG;
pub(super) use toolset::REMOTE;
pub(super) use toolset::SANDBOX;
pub(super) use toolset::SCRIPT;
pub(super) use toolset::TOOLSET;
pub(super) use toolset::TOOLSET_TYPES;
pub(super) use toolset::WEBHOOK;

/// The newest version of the schema that this table knows. A file without `version` has this version.
pub(super) const NEWEST_VERSION: u8 = 16;

/// What Legwork does with a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Support {
    /// The key works as in docker-agent.
    Yes,
    /// The key works as in docker-agent, within the limits that its note describes.
    Partly,
    /// The key is accepted with a warning and has no effect; its note says what happens instead.
    No,
    /// The key is an error, because running without its effect is not safe; its note says what to do.
    Refused,
}

impl Support {
    /// The word in tables and in JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Yes => "yes",
            Self::Partly => "partly",
            Self::No => "no",
            Self::Refused => "refused",
        }
    }
}

/// A key of a map.
#[derive(Debug, Clone, Copy)]
pub(super) struct Key {
    pub(super) name: &'static str,
    pub(super) support: Support,
    /// The limits, what happens instead, or what to do; empty where there is nothing to say.
    pub(super) note: &'static str,
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

/// A key that works as in docker-agent.
const fn yes(name: &'static str) -> Key {
    noted(name, "")
}

/// A key that works as in docker-agent, with something worth knowing.
const fn noted(name: &'static str, note: &'static str) -> Key {
    Key { name, support: Support::Yes, note, only_for: &[], first_version: 0, last_version: None }
}

/// A key that works within limits.
const fn partly(name: &'static str, limits: &'static str) -> Key {
    Key { support: Support::Partly, ..noted(name, limits) }
}

/// A key without effect; `consequence` says what happens instead.
const fn no(name: &'static str, consequence: &'static str) -> Key {
    Key { support: Support::No, ..noted(name, consequence) }
}

/// A key that is an error; `fix_hint` says what to do.
const fn refused(name: &'static str, fix_hint: &'static str) -> Key {
    Key { support: Support::Refused, ..noted(name, fix_hint) }
}

/// The limits of a key that is checked, in a map that has no effect.
const CHECKED: &str = "checked for errors; not used";

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

/// The maps that are searched for a misplaced key, each with a description of its place for the hint.
pub(super) const KEY_LOCATIONS: &[(&Keys, &str)] = &[
    (&AGENT, "an agent, below `agents: <name>:`"),
    (&MODEL, "a model, below `models: <name>:`"),
    (&TOOLSET, "a toolset, in the list `toolsets:` of an agent"),
    (&FILE, "the file itself, at its left margin"),
];

/// Every map of the schema, in the order of the documentation.
pub(super) const ALL: &[&Keys] = &[
    &FILE,
    &RUNTIME,
    &BUDGET,
    &RAG,
    &METADATA,
    &PERMISSIONS,
    &PROVIDER,
    &MODEL,
    &THINKING,
    &TASK_BUDGET,
    &COST,
    &CAPABILITIES,
    &OUTPUT_CAPABILITIES,
    &ROUTING,
    &AGENT,
    &HARNESS,
    &HARNESS_TYPES,
    &COMMAND,
    &SKILL,
    &RESPONSE_CACHE,
    &FALLBACK,
    &STRUCTURED_OUTPUT,
    &HOOKS,
    &HOOK_MATCHER,
    &HOOK,
    &HOOK_TYPES,
    &BUILTIN_HOOKS,
    &TOOLSET_TYPES,
    &TOOLSET,
    &REMOTE,
    &OAUTH,
    &LIFECYCLE,
    &BACKOFF,
    &RAG_CONFIG,
    &WEBHOOK,
    &POST_EDIT,
    &SCRIPT,
    &API,
    &SANDBOX,
    &TODO_LIST,
    &MEMORY,
];
