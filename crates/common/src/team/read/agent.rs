//! One entry of `agents`.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use super::hooks::read_hooks;
use super::hooks::read_structured_output;
use super::model::Models;
use super::toolset;
use super::toolset::Definitions;
use crate::duration;
use crate::team::agent::Agent;
use crate::team::agent::AgentKind;
use crate::team::agent::Command;
use crate::team::agent::Fallback;
use crate::team::agent::Skills;
use crate::team::fields::Fields;
use crate::team::keys;
use crate::team::names::listed;
use crate::team::reader::Reader;
use crate::team::source::shown;
use crate::team::toolset::Toolset;
use crate::team::toolset::ToolsetKind;
use crate::team::tree::Entry;
use crate::team::tree::Node;
use crate::team::tree::Value;

/// The names of the agents of the file.
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
}

/// What an agent may refer to.
#[derive(Debug, Clone, Copy)]
pub(super) struct References<'a> {
    pub(super) models: &'a Models,
    pub(super) mcps: &'a Definitions<'a>,
    pub(super) rag: &'a BTreeMap<String, serde_json::Value>,
    pub(super) names: &'a AgentNames,
}

/// Reads an agent; none where mistakes were noted that leave nothing to build on.
pub(super) fn read(reader: &mut Reader<'_>, references: &References<'_>, entry: &Entry) -> Option<Agent> {
    let who = format!("agent '{}'", shown(&entry.key));
    if entry.key.trim().is_empty() {
        reader.error(entry.key_at, "an agent needs a name", None);
    }
    let fields = reader.fields(&entry.node, &keys::AGENT)?;
    let runner = read_runner(reader, references, &fields, entry, &who);
    let (sub_agents, mut external_agents) = read_agents(reader, references, &fields, "sub_agents", &who);
    let (handoffs, more) = read_agents(reader, references, &fields, "handoffs", &who);
    external_agents.extend(more);
    let mut toolsets = read_old_toolsets(reader, &fields);
    for node in fields.list(reader, "toolsets") {
        toolsets.extend(toolset::read(reader, references, &who, node));
    }
    let at_most = i64::from(u32::MAX);
    let positive = |number: Option<i64>| number.and_then(|n| u32::try_from(n).ok()).filter(|n| *n > 0);
    Some(Agent {
        name: entry.key.clone(),
        description: fields.text_or_empty(reader, "description"),
        instruction: fields.text_or_empty(reader, "instruction"),
        toolsets,
        sub_agents,
        handoffs,
        external_agents,
        max_iterations: positive(fields.integer(reader, "max_iterations", 0, at_most)),
        num_history_items: positive(fields.integer(reader, "num_history_items", 0, at_most)),
        add_date: fields.flag(reader, "add_date").unwrap_or(false),
        add_environment_info: fields.flag(reader, "add_environment_info").unwrap_or(false),
        add_description_parameter: fields.flag(reader, "add_description_parameter").unwrap_or(false),
        code_mode_tools: fields.flag(reader, "code_mode_tools").unwrap_or(false),
        add_prompt_files: fields.texts(reader, "add_prompt_files"),
        commands: read_commands(reader, &fields),
        welcome_message: fields.text(reader, "welcome_message"),
        rag: read_rag(reader, references, &fields, &who),
        fallback: read_fallback(reader, references, &fields, &who),
        skills: read_skills(reader, &fields),
        hooks: read_hooks(reader, &fields),
        structured_output: read_structured_output(reader, &fields),
        runner: runner?,
    })
}

/// `model` or `command`.
fn read_runner(
    reader: &mut Reader<'_>,
    references: &References<'_>,
    fields: &Fields<'_>,
    entry: &Entry,
    who: &str,
) -> Option<AgentKind> {
    if let Some(command) = fields.entry("command") {
        if let Some(model) = fields.entry("model") {
            let hint = "a command brings its own model; remove one of the two".to_owned();
            reader.error(model.key_at, format!("{who} has both `model` and `command`"), Some(hint));
        }
        return read_command(reader, fields, command, who);
    }
    for name in ["env", "working_dir"] {
        if let Some(lonely) = fields.entry(name) {
            let hint =
                (name == "env").then(|| "a toolset of type 'shell' takes `env` for its commands".to_owned());
            reader.error(lonely.key_at, format!("`{name}` can only be used with `command`"), hint);
        }
    }
    let Some(node) = fields.node("model") else {
        let hint = "add `model: provider/model` (for example `openai/gpt-4o`), or `command: [program, …]`"
            .to_owned();
        reader.error(entry.key_at, format!("{who} has no model"), Some(hint));
        return None;
    };
    let reference = fields.text(reader, "model")?;
    if reference.trim() == "auto" && !references.models.defines("auto") {
        return Some(AgentKind::Auto);
    }
    references.models.resolve(reader, who, &reference, node.at).map(AgentKind::Models)
}

/// `command` with `env` and `working_dir`.
fn read_command(
    reader: &mut Reader<'_>,
    fields: &Fields<'_>,
    command: &Entry,
    who: &str,
) -> Option<AgentKind> {
    for name in ["toolsets", "sub_agents", "handoffs", "max_iterations"] {
        if let Some(idle) = fields.entry(name) {
            let message =
                format!("`{name}` has no effect in an agent with `command`: the program decides for itself");
            reader.warn(idle.key_at, message);
        }
    }
    let env = fields.text_map(reader, "env");
    let working_dir = fields.text(reader, "working_dir");
    if let Value::Text(line) = &command.node.value {
        let words: Vec<&str> = line.split_whitespace().take(8).collect();
        let hint = format!(
            "write the program and each argument by itself: `command: [{}]`",
            shown(&words.join(", "))
        );
        reader.error(command.node.at, "`command` must be a list, not one text", Some(hint));
        return None;
    }
    let mut words = fields.texts(reader, "command").into_iter();
    let Some(program) = words.next().filter(|program| !program.trim().is_empty()) else {
        reader.error(command.node.at, format!("{who} has an empty `command`"), None);
        return None;
    };
    Some(AgentKind::Command { program, args: words.collect(), env, working_dir })
}

/// A list of agents: those of the team, and those by address.
fn read_agents(
    reader: &mut Reader<'_>,
    references: &References<'_>,
    fields: &Fields<'_>,
    key: &str,
    who: &str,
) -> (Vec<String>, Vec<String>) {
    let role = if key == "handoffs" { "handoff agent" } else { "sub-agent" };
    let (mut own, mut external, mut seen) = (Vec::new(), Vec::new(), BTreeSet::new());
    for (name, at) in fields.placed_texts(reader, key) {
        if references.names.contain(&name) {
            if seen.insert(name.clone()) {
                own.push(name);
            }
        } else if is_address(&name) {
            let message = format!(
                "{who} names the external {role} '{}', which is not loaded: it runs without it",
                shown(&name)
            );
            reader.warn(at, message);
            external.push(name);
        } else {
            let hint = match reader.nearest(&name, references.names.iter()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("the agents of this file are: {}", listed(references.names.iter())),
            };
            reader.error(at, format!("{who} references non-existent {role} '{}'", shown(&name)), Some(hint));
        }
    }
    (own, external)
}

/// Whether a name is the address of an agent elsewhere: a URL, or an image in a registry.
fn is_address(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "._-/:@".contains(c);
    let image =
        name.contains('/') && name.chars().all(allowed) && name.split('/').all(|part| !part.is_empty());
    name.starts_with("https://") || name.starts_with("http://") || image
}

/// The toolsets that version 0 wrote as keys of the agent.
fn read_old_toolsets(reader: &mut Reader<'_>, fields: &Fields<'_>) -> Vec<Toolset> {
    let mut kinds = Vec::new();
    if reader.version > 0 {
        return Vec::new();
    }
    if fields.flag(reader, "think") == Some(true) {
        kinds.push(ToolsetKind::Think);
    }
    match fields.node("todo") {
        None | Some(Node { value: Value::Flag(false), .. }) => {}
        Some(Node { value: Value::Flag(true), .. }) => kinds.push(ToolsetKind::Todo { shared: false }),
        Some(node) => {
            if let Some(todo) = reader.fields(node, &keys::TODO_LIST) {
                let shared = todo.flag(reader, "shared").unwrap_or(false);
                kinds.push(ToolsetKind::Todo { shared });
            }
        }
    }
    if let Some(memory) = fields.node("memory").and_then(|node| reader.fields(node, &keys::MEMORY)) {
        kinds.push(ToolsetKind::Memory { path: memory.text(reader, "path") });
    }
    kinds.into_iter().map(toolset::plain).collect()
}

/// `commands`: a map, or a list of maps with one entry each.
fn read_commands(reader: &mut Reader<'_>, fields: &Fields<'_>) -> BTreeMap<String, Command> {
    let mut commands = BTreeMap::new();
    let maps = match fields.node("commands") {
        None => return commands,
        Some(Node { value: Value::List(items), .. }) => items.as_slice(),
        Some(node) => std::slice::from_ref(node),
    };
    for node in maps {
        for entry in reader.entries_of("commands", "a map of names to prompts", node) {
            if let Some(text) = reader.text_of(&entry.node) {
                let command = Command { description: String::new(), instruction: text };
                commands.insert(entry.key.clone(), command);
            } else if let Some(command) = reader.fields(&entry.node, &keys::COMMAND) {
                let description = command.text_or_empty(reader, "description");
                let instruction = command.text_or_empty(reader, "instruction");
                commands.insert(entry.key.clone(), Command { description, instruction });
            }
        }
    }
    commands
}

/// `rag`: names of the file's sources.
fn read_rag(
    reader: &mut Reader<'_>,
    references: &References<'_>,
    fields: &Fields<'_>,
    who: &str,
) -> Vec<String> {
    let mut sources = Vec::new();
    for (name, at) in fields.placed_texts(reader, "rag") {
        if !references.rag.contains_key(&name) {
            let hint = reader
                .nearest(&name, references.rag.keys().map(String::as_str))
                .map(|near| format!("did you mean `{near}`?"));
            reader.error(at, format!("{who} references non-existent RAG source '{}'", shown(&name)), hint);
        }
        sources.push(name);
    }
    sources
}

/// `fallback`.
fn read_fallback(
    reader: &mut Reader<'_>,
    references: &References<'_>,
    fields: &Fields<'_>,
    who: &str,
) -> Option<Fallback> {
    let fields = reader.fields(fields.node("fallback")?, &keys::FALLBACK)?;
    let mut models = Vec::new();
    for (reference, at) in fields.placed_texts(reader, "models") {
        models.extend(references.models.resolve(reader, who, &reference, at).unwrap_or_default());
    }
    let retries = match fields.integer(reader, "retries", -1, 1000) {
        None | Some(0) => 2,
        Some(retries) => u32::try_from(retries).unwrap_or(0),
    };
    let cooldown = fields.text(reader, "cooldown");
    if let (Some(text), Some(node)) = (&cooldown, fields.node("cooldown"))
        && duration::parse(text).is_err()
    {
        let hint = "write for example 30s, 5m or 1h30m".to_owned();
        reader.error(node.at, format!("`cooldown` is not a time: `{}`", shown(text)), Some(hint));
    }
    Some(Fallback { models, retries, cooldown })
}

/// `skills`: `true`, or where they are.
fn read_skills(reader: &mut Reader<'_>, fields: &Fields<'_>) -> Option<Skills> {
    match fields.node("skills")? {
        Node { value: Value::Flag(on), .. } => on.then_some(Skills::Local),
        Node { value: Value::List(_), .. } => Some(Skills::Places(fields.texts(reader, "skills"))),
        node => {
            reader.wrong_kind("skills", "`true`, `false` or a list of places", node);
            None
        }
    }
}
