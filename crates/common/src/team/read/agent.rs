//! Reads an entry of `agents`.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use super::Files;
use super::commands::check_commands;
use super::harness::read_harness;
use super::hooks::read_hooks;
use super::hooks::read_structured_output;
use super::instruction::read_instruction;
use super::limits::read_limits;
use super::model::Models;
use super::shared::Shared;
use super::toolset;
use super::toolset::Definitions;
use crate::team::agent::Agent;
use crate::team::agent::AgentKind;
use crate::team::agent::Fallback;
use crate::team::agent::ResponseCache;
use crate::team::agent::SafetyMode;
use crate::team::fields::Fields;
use crate::team::keys;
use crate::team::names::quoted_list;
use crate::team::reader::Reader;
use crate::team::resolved::Budget;
use crate::team::source::excerpt;
use crate::team::toolset::Toolset;
use crate::team::toolset::ToolsetKind;
use crate::team::tree::Entry;
use crate::team::tree::Node;
use crate::team::tree::Value;

/// The names of all agents of the file, in their order and for lookup.
#[derive(Debug)]
pub(super) struct AgentNames {
    in_order: Vec<String>,
    set: BTreeSet<String>,
}

impl AgentNames {
    pub(super) fn new(entries: &[Entry]) -> Self {
        let in_order: Vec<String> = entries.iter().map(|entry| entry.key.clone()).collect();
        Self { set: in_order.iter().cloned().collect(), in_order }
    }

    fn contain(&self, name: &str) -> bool {
        self.set.contains(name)
    }

    fn iter(&self) -> impl Iterator<Item = &str> + Clone {
        self.in_order.iter().map(String::as_str)
    }

    /// The hint for the name of an agent that does not exist.
    fn hint(&self, reader: &Reader<'_>, name: &str) -> String {
        match reader.closest(name, self.iter()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("agents in this file: {}", quoted_list(self.iter())),
        }
    }
}

/// The definitions of the file that an agent may refer to.
#[derive(Clone, Copy)]
pub(super) struct References<'a> {
    pub(super) models: &'a Models,
    pub(super) mcps: &'a Definitions<'a>,
    pub(super) rag: &'a BTreeMap<String, serde_json::Value>,
    pub(super) names: &'a AgentNames,
    pub(super) shared: &'a Shared,
    pub(super) budgets: &'a BTreeMap<String, Budget>,
    pub(super) files: Files<'a>,
}

/// Reads an agent. Returns `None` when its model, its command or its map is invalid; other errors are only
/// recorded, so that one pass finds as many as possible.
pub(super) fn read(reader: &mut Reader<'_>, references: &References<'_>, entry: &Entry) -> Option<Agent> {
    let subject = format!("agent '{}'", excerpt(&entry.key));
    if entry.key.trim().is_empty() {
        reader.error(entry.key_at, "an agent needs a name", None);
    }
    let fields = reader.fields(&entry.node, &keys::AGENT)?;
    let kind = read_kind(reader, references, &fields, entry, &subject);
    let (sub_agents, mut external_agents) = read_agents(reader, references, &fields, "sub_agents", &subject);
    let (handoffs, external_handoffs) = read_agents(reader, references, &fields, "handoffs", &subject);
    external_agents.extend(external_handoffs);
    let toolsets = read_toolsets(reader, references, &fields, &subject);
    let commands = references.shared.commands_of(reader, &fields, &subject);
    let has_others = [!sub_agents.is_empty(), !handoffs.is_empty()];
    if let Some(entry) = fields.entry("commands").or_else(|| fields.entry("use_commands")) {
        check_commands(reader, entry.key_at, &commands, &subject, &toolsets, has_others);
    }
    check_unused(reader, &fields);
    let max = i64::from(u32::MAX);
    // Zero means no limit, as in docker-agent.
    let limit = |number: Option<i64>| number.and_then(|n| u32::try_from(n).ok()).filter(|n| *n > 0);
    Some(Agent {
        name: entry.key.clone(),
        description: fields.string_or_empty(reader, "description"),
        instruction: read_instruction(reader, references.files, &fields, &subject),
        toolsets,
        sub_agents,
        force_handoff: read_force_handoff(reader, references, &fields, entry, &subject),
        handoffs,
        external_agents,
        budgets: read_budget_names(reader, references, &fields, entry),
        max_iterations: fields
            .integer(reader, "max_iterations", 0, max)
            .and_then(|number| u32::try_from(number).ok()),
        limits: read_limits(reader, references, &fields, &subject),
        num_history_items: limit(fields.integer(reader, "num_history_items", 0, max)),
        readonly: fields.bool(reader, "readonly").unwrap_or(false),
        safety: read_safety(reader, &fields),
        redact_secrets: fields.bool(reader, "redact_secrets"),
        add_date: fields.bool(reader, "add_date").unwrap_or(false),
        add_environment_info: fields.bool(reader, "add_environment_info").unwrap_or(false),
        add_description_parameter: fields.bool(reader, "add_description_parameter").unwrap_or(false),
        code_mode_tools: fields.bool(reader, "code_mode_tools").unwrap_or(false),
        add_prompt_files: fields.strings(reader, "add_prompt_files"),
        add_prompt_files_depth: limit(fields.integer(reader, "add_prompt_files_depth", 0, max)),
        cache: read_cache(reader, &fields),
        commands,
        welcome_message: fields.string(reader, "welcome_message"),
        rag: read_rag(reader, references, &fields, &subject),
        fallback: read_fallback(reader, references, &fields, &subject),
        skills: references.shared.skills_of(reader, references, &fields, &subject),
        hooks: read_hooks(reader, references, &subject, &fields),
        structured_output: read_structured_output(reader, &fields),
        kind: kind?,
    })
}

/// Reads the toolsets: those of the agent, then the named ones that it uses.
fn read_toolsets(
    reader: &mut Reader<'_>,
    references: &References<'_>,
    fields: &Fields<'_>,
    subject: &str,
) -> Vec<Toolset> {
    let mut toolsets = read_version_0_toolsets(reader, fields);
    for node in fields.list(reader, "toolsets") {
        toolsets.extend(toolset::read(reader, references, subject, node));
    }
    toolsets.extend(references.shared.toolsets_of(reader, fields, subject));
    toolsets
}

/// Reads `force_handoff`: another agent of the file. An external one is a warning, as in the other lists of agents.
fn read_force_handoff(
    reader: &mut Reader<'_>,
    references: &References<'_>,
    fields: &Fields<'_>,
    entry: &Entry,
    subject: &str,
) -> Option<String> {
    let name = fields.string(reader, "force_handoff")?;
    let at = fields.node("force_handoff").map_or(entry.key_at, |node| node.at);
    if name == entry.key {
        reader.error(at, format!("{subject} cannot force_handoff to itself"), None);
        return None;
    }
    if references.names.contain(&name) || is_external(&name) {
        return Some(name).filter(|name| references.names.contain(name));
    }
    let hint = references.names.hint(reader, &name);
    let message = format!("{subject} references non-existent force_handoff agent '{}'", excerpt(&name));
    reader.error(at, message, Some(hint));
    None
}

/// Checks the keys that have no effect.
fn check_unused(reader: &mut Reader<'_>, fields: &Fields<'_>) {
    fields.bool(reader, "inject_memories");
    fields.integer(reader, "max_inject_memories", 0, i64::from(u32::MAX));
}

/// Reads `cache`. One that is not enabled is none.
fn read_cache(reader: &mut Reader<'_>, fields: &Fields<'_>) -> Option<ResponseCache> {
    let cache = reader.fields(fields.node("cache")?, &keys::RESPONSE_CACHE)?;
    let is_enabled = cache.bool(reader, "enabled").unwrap_or(false);
    let settings = ResponseCache {
        case_sensitive: cache.bool(reader, "case_sensitive").unwrap_or(false),
        trim_spaces: cache.bool(reader, "trim_spaces").unwrap_or(false),
        path: cache.string(reader, "path"),
    };
    is_enabled.then_some(settings)
}

/// Reads `budgets` of an agent: names of budgets of the file.
fn read_budget_names(
    reader: &mut Reader<'_>,
    references: &References<'_>,
    fields: &Fields<'_>,
    entry: &Entry,
) -> Vec<String> {
    let mut names = Vec::new();
    for (name, at) in fields.positioned_strings(reader, "budgets") {
        if references.budgets.contains_key(&name) {
            names.push(name);
            continue;
        }
        let hint = match reader.closest(&name, references.budgets.keys().map(String::as_str)) {
            Some(near) => format!("did you mean `{near}`?"),
            None => "define it under the top-level `budgets`".to_owned(),
        };
        let message =
            format!("agents.{}: budgets: unknown budget \"{}\"", excerpt(&entry.key), excerpt(&name));
        reader.error(at, message, Some(hint));
    }
    names
}

/// Reads `safety`, of an agent and of the runtime defaults.
pub(super) fn read_safety(reader: &mut Reader<'_>, fields: &Fields<'_>) -> Option<SafetyMode> {
    let word = fields.string(reader, "safety")?;
    let mode = SafetyMode::from_word(&word);
    if mode.is_none() {
        let at = fields.node("safety").map_or(fields.at, |node| node.at);
        let hint = format!("valid values: {}", quoted_list(SafetyMode::ALL.map(SafetyMode::as_str)));
        reader.error(at, format!("invalid safety mode `{}`", excerpt(&word)), Some(hint));
    }
    mode
}

/// Reads `model` or `command`.
fn read_kind(
    reader: &mut Reader<'_>,
    references: &References<'_>,
    fields: &Fields<'_>,
    entry: &Entry,
    subject: &str,
) -> Option<AgentKind> {
    if let Some(command) = fields.entry("command") {
        if let Some(model) = fields.entry("model") {
            let hint = "the command replaces the model; remove one of the two".to_owned();
            reader.error(model.key_at, format!("{subject} has both `model` and `command`"), Some(hint));
        }
        return read_command(reader, fields, command, subject);
    }
    if let Some(harness) = fields.entry("harness") {
        warn_of_unused(reader, fields, "harness");
        let env = fields.string_map(reader, "env");
        let working_dir = fields.string(reader, "working_dir");
        return read_harness(reader, &harness.node, env, working_dir);
    }
    for name in ["env", "working_dir"] {
        if let Some(entry) = fields.entry(name) {
            let hint = (name == "env")
                .then(|| "for commands of a toolset of type 'shell', set `env` in the toolset".to_owned());
            reader.error(entry.key_at, format!("`{name}` can only be used with `command`"), hint);
        }
    }
    let Some(node) = fields.node("model") else {
        let hint =
            "add `model: provider/model` (example: `openai/gpt-4o`), or `command: [program, …]`".to_owned();
        reader.error(entry.key_at, format!("{subject} has no model"), Some(hint));
        return None;
    };
    let reference = fields.string(reader, "model")?;
    if reference.trim() == "auto" && !references.models.defines("auto") {
        return Some(AgentKind::Auto);
    }
    references.models.resolve(reader, subject, &reference, node.at).map(AgentKind::Models)
}

/// Keys that have no effect in an agent that is a program.
const UNUSED_BY_PROGRAMS: [&str; 14] = [
    "toolsets",
    "use_toolsets",
    "sub_agents",
    "handoffs",
    "force_handoff",
    "max_iterations",
    "max_consecutive_tool_calls",
    "budgets",
    "fallback",
    "cache",
    "structured_output",
    "skills",
    "use_skills",
    "redact_secrets",
];

/// Warns of keys that have no effect in an agent that is a program, and refuses those that would hold it back; `key` is
/// the one that names the program.
fn warn_of_unused(reader: &mut Reader<'_>, fields: &Fields<'_>, key: &str) {
    let hint = "the program decides what it does: restrict it with its own settings, and remove the key";
    for name in ["readonly", "safety", "hooks"] {
        let asks_for_nothing = |node: &Node| {
            node.is_unset()
                || matches!(&node.value, Value::String(mode) if mode == SafetyMode::Autonomous.as_str())
        };
        if let Some(entry) = fields.entry(name).filter(|entry| !asks_for_nothing(&entry.node)) {
            reader.refuse(entry.key_at, &format!("`{name}` in an agent with `{key}`"), hint);
        }
    }
    for name in UNUSED_BY_PROGRAMS {
        if let Some(unused) = fields.entry(name) {
            let message =
                format!("`{name}` has no effect in an agent with `{key}`; configure the program itself");
            reader.warn(unused.key_at, message);
        }
    }
}

/// Reads `command`, `env` and `working_dir`.
fn read_command(
    reader: &mut Reader<'_>,
    fields: &Fields<'_>,
    command: &Entry,
    subject: &str,
) -> Option<AgentKind> {
    warn_of_unused(reader, fields, "command");
    let env = fields.string_map(reader, "env");
    let working_dir = fields.string(reader, "working_dir");
    if let Value::String(line) = &command.node.value {
        let words: Vec<&str> = line.split_whitespace().take(8).collect();
        let hint = format!(
            "write the program and each argument as an item: `command: [{}]`",
            excerpt(&words.join(", "))
        );
        reader.error(command.node.at, "`command` must be a list, not a string", Some(hint));
        return None;
    }
    let mut words = fields.strings(reader, "command").into_iter();
    let Some(program) = words.next().filter(|program| !program.trim().is_empty()) else {
        reader.error(command.node.at, format!("{subject} has an empty `command`"), None);
        return None;
    };
    Some(AgentKind::Command { program, args: words.collect(), env, working_dir })
}

/// Reads a list of agents. Returns the agents of the team and the external ones separately.
fn read_agents(
    reader: &mut Reader<'_>,
    references: &References<'_>,
    fields: &Fields<'_>,
    key: &str,
    subject: &str,
) -> (Vec<String>, Vec<String>) {
    let role = if key == "handoffs" { "handoff agent" } else { "sub-agent" };
    let (mut own, mut external, mut seen) = (Vec::new(), Vec::new(), BTreeSet::new());
    for (name, at) in fields.positioned_strings(reader, key) {
        if references.names.contain(&name) {
            if seen.insert(name.clone()) {
                own.push(name);
            }
        } else if is_external(&name) {
            let message = format!(
                "{subject} names the external {role} '{}', which is not loaded; the agent runs without it",
                excerpt(&name)
            );
            reader.warn(at, message);
            external.push(name);
        } else {
            let hint = references.names.hint(reader, &name);
            reader.error(
                at,
                format!("{subject} references non-existent {role} '{}'", excerpt(&name)),
                Some(hint),
            );
        }
    }
    (own, external)
}

/// Whether a name refers to an external agent: by URL, or by an image in a registry.
fn is_external(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "._-/:@".contains(c);
    let image =
        name.contains('/') && name.chars().all(allowed) && name.split('/').all(|part| !part.is_empty());
    name.starts_with("https://") || name.starts_with("http://") || image
}

/// Reads the toolsets that version 0 of the schema has as keys of the agent.
fn read_version_0_toolsets(reader: &mut Reader<'_>, fields: &Fields<'_>) -> Vec<Toolset> {
    let mut kinds = Vec::new();
    if reader.version > 0 {
        return Vec::new();
    }
    fields.string(reader, "name");
    if fields.bool(reader, "think") == Some(true) {
        kinds.push(ToolsetKind::Think);
    }
    match fields.node("todo") {
        None | Some(Node { value: Value::Bool(false), .. }) => {}
        Some(Node { value: Value::Bool(true), .. }) => kinds.push(ToolsetKind::Todo { shared: false }),
        Some(node) => {
            if let Some(todo) = reader.fields(node, &keys::TODO_LIST) {
                let shared = todo.bool(reader, "shared").unwrap_or(false);
                kinds.push(ToolsetKind::Todo { shared });
            }
        }
    }
    if let Some(memory) = fields.node("memory").and_then(|node| reader.fields(node, &keys::MEMORY)) {
        kinds.push(ToolsetKind::Memory { path: memory.string(reader, "path") });
    }
    kinds.into_iter().map(toolset::plain).collect()
}

/// Reads `rag`: a list of names of sources.
fn read_rag(
    reader: &mut Reader<'_>,
    references: &References<'_>,
    fields: &Fields<'_>,
    subject: &str,
) -> Vec<String> {
    let mut sources = Vec::new();
    for (name, at) in fields.positioned_strings(reader, "rag") {
        if !references.rag.contains_key(&name) {
            let hint = reader
                .closest(&name, references.rag.keys().map(String::as_str))
                .map(|near| format!("did you mean `{near}`?"));
            reader.error(
                at,
                format!("{subject} references non-existent RAG source '{}'", excerpt(&name)),
                hint,
            );
        }
        sources.push(name);
    }
    sources
}

/// Reads `fallback`. As in docker-agent, 0 retries means the default of two, and -1 means none.
fn read_fallback(
    reader: &mut Reader<'_>,
    references: &References<'_>,
    fields: &Fields<'_>,
    subject: &str,
) -> Option<Fallback> {
    let fields = reader.fields(fields.node("fallback")?, &keys::FALLBACK)?;
    let mut models = Vec::new();
    for (reference, at) in fields.positioned_strings(reader, "models") {
        models.extend(references.models.resolve(reader, subject, &reference, at).unwrap_or_default());
    }
    let retries = match fields.integer(reader, "retries", -1, 1000) {
        None | Some(0) => 2,
        Some(retries) => u32::try_from(retries).unwrap_or(0),
    };
    let cooldown = fields.string(reader, "cooldown");
    fields.duration(reader, "cooldown");
    Some(Fallback { models, retries, cooldown })
}
