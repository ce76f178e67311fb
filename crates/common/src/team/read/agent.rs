//! Reads an entry of `agents`.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use super::hooks::read_hooks;
use super::hooks::read_structured_output;
use super::limits::read_limits;
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
use crate::team::names::quoted_list;
use crate::team::reader::Reader;
use crate::team::source::Position;
use crate::team::source::excerpt;
use crate::team::template::Template;
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
}

/// The definitions of the file that an agent may refer to.
#[derive(Debug, Clone, Copy)]
pub(super) struct References<'a> {
    pub(super) models: &'a Models,
    pub(super) mcps: &'a Definitions<'a>,
    pub(super) rag: &'a BTreeMap<String, serde_json::Value>,
    pub(super) names: &'a AgentNames,
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
    let mut toolsets = read_version_0_toolsets(reader, &fields);
    for node in fields.list(reader, "toolsets") {
        toolsets.extend(toolset::read(reader, references, &subject, node));
    }
    let commands = read_commands(reader, &fields);
    check_commands(
        reader,
        &fields,
        &commands,
        &subject,
        &toolsets,
        [!sub_agents.is_empty(), !handoffs.is_empty()],
    );
    let max = i64::from(u32::MAX);
    // Zero means no limit, as in docker-agent.
    let limit = |number: Option<i64>| number.and_then(|n| u32::try_from(n).ok()).filter(|n| *n > 0);
    Some(Agent {
        name: entry.key.clone(),
        description: fields.string_or_empty(reader, "description"),
        instruction: fields.string_or_empty(reader, "instruction"),
        toolsets,
        sub_agents,
        handoffs,
        external_agents,
        max_iterations: fields
            .integer(reader, "max_iterations", 0, max)
            .and_then(|number| u32::try_from(number).ok()),
        limits: read_limits(reader, references, &fields, &subject),
        num_history_items: limit(fields.integer(reader, "num_history_items", 0, max)),
        add_date: fields.bool(reader, "add_date").unwrap_or(false),
        add_environment_info: fields.bool(reader, "add_environment_info").unwrap_or(false),
        add_description_parameter: fields.bool(reader, "add_description_parameter").unwrap_or(false),
        code_mode_tools: fields.bool(reader, "code_mode_tools").unwrap_or(false),
        add_prompt_files: fields.strings(reader, "add_prompt_files"),
        commands,
        welcome_message: fields.string(reader, "welcome_message"),
        rag: read_rag(reader, references, &fields, &subject),
        fallback: read_fallback(reader, references, &fields, &subject),
        skills: read_skills(reader, &fields),
        hooks: read_hooks(reader, &fields),
        structured_output: read_structured_output(reader, &fields),
        kind: kind?,
    })
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

/// Reads `command`, `env` and `working_dir`.
fn read_command(
    reader: &mut Reader<'_>,
    fields: &Fields<'_>,
    command: &Entry,
    subject: &str,
) -> Option<AgentKind> {
    for name in ["toolsets", "sub_agents", "handoffs", "max_iterations"] {
        if let Some(unused) = fields.entry(name) {
            let message =
                format!("`{name}` has no effect in an agent with `command`; configure the program itself");
            reader.warn(unused.key_at, message);
        }
    }
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
            let hint = match reader.closest(&name, references.names.iter()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("agents in this file: {}", quoted_list(references.names.iter())),
            };
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

/// Reads `commands`: a map, or a list of maps.
fn read_commands(reader: &mut Reader<'_>, fields: &Fields<'_>) -> BTreeMap<String, Command> {
    let mut commands = BTreeMap::new();
    let maps = match fields.node("commands") {
        None => return commands,
        Some(Node { value: Value::List(items), .. }) => items.as_slice(),
        Some(node) => std::slice::from_ref(node),
    };
    for node in maps {
        for entry in reader.entries_of("commands", "a map of names to prompts", node) {
            if let Some(text) = reader.string_of(&entry.node) {
                let command = Command { description: String::new(), instruction: text };
                commands.insert(entry.key.clone(), command);
            } else if let Some(command) = reader.fields(&entry.node, &keys::COMMAND) {
                let description = command.string_or_empty(reader, "description");
                let instruction = command.string_or_empty(reader, "instruction");
                commands.insert(entry.key.clone(), Command { description, instruction });
            }
        }
    }
    commands
}

/// Warns of what cannot be run in the prompts of `commands`: expressions that cannot be read, and calls of tools that no
/// toolset of the agent has. `has` tells whether it has sub-agents and handoffs.
fn check_commands(
    reader: &mut Reader<'_>,
    fields: &Fields<'_>,
    commands: &BTreeMap<String, Command>,
    subject: &str,
    toolsets: &[Toolset],
    has: [bool; 2],
) {
    let Some(entry) = fields.entry("commands") else { return };
    let known = known_tools(toolsets, has);
    for (name, command) in commands {
        let template = Template::parse(&command.instruction);
        let name = excerpt(name);
        for problem in &template.problems {
            reader.warn(entry.key_at, format!("command '{name}' is sent as it is written: {problem}"));
        }
        let Some(known) = &known else { continue };
        for tool in template.tools().into_iter().filter(|tool| !known.contains(*tool)) {
            let tool = excerpt(tool);
            let message =
                format!("command '{name}' calls the tool `{tool}`, which no toolset of {subject} has");
            reader.warn(entry.key_at, message);
        }
    }
}

/// The tools that an agent has; `None` where some are known only when it runs.
fn known_tools(toolsets: &[Toolset], [has_sub_agents, has_handoffs]: [bool; 2]) -> Option<BTreeSet<String>> {
    let mut known = BTreeSet::new();
    for toolset in toolsets {
        let names = toolset.kind.tool_names()?;
        let is_listed =
            |name: &&str| toolset.tools.is_empty() || toolset.tools.iter().any(|tool| tool == *name);
        known.extend(names.into_iter().filter(is_listed).map(str::to_owned));
        if toolset.defer.is_some() {
            known.extend(["search_tool", "add_tool"].map(str::to_owned));
        }
    }
    known.extend(has_sub_agents.then(|| "transfer_task".to_owned()));
    known.extend(has_handoffs.then(|| "handoff".to_owned()));
    Some(known)
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
    if let (Some(text), Some(node)) = (&cooldown, fields.node("cooldown"))
        && duration::parse(text).is_err()
    {
        let hint = "examples: 30s, 5m, 1h30m".to_owned();
        reader.error(node.at, format!("`cooldown` must be a duration, not `{}`", excerpt(text)), Some(hint));
    }
    Some(Fallback { models, retries, cooldown })
}

/// Checks a source of skills: the machine's own, or a URL.
fn check_skills_source(reader: &mut Reader<'_>, source: &str, at: Position) {
    let is_url = ["http://", "https://"]
        .iter()
        .any(|scheme| source.strip_prefix(scheme).is_some_and(|rest| !rest.is_empty()));
    if source != "local" && !is_url {
        let hint = "valid sources: `local`, or an http or https URL".to_owned();
        reader.error(at, format!("unknown skills source `{}`", excerpt(source)), Some(hint));
    }
}

/// Reads `skills`: a boolean, or a list of sources.
fn read_skills(reader: &mut Reader<'_>, fields: &Fields<'_>) -> Option<Skills> {
    match fields.node("skills")? {
        Node { value: Value::Bool(on), .. } => on.then_some(Skills::Local),
        Node { value: Value::List(_), .. } => {
            let sources = fields.positioned_strings(reader, "skills");
            for (source, at) in &sources {
                check_skills_source(reader, source, *at);
            }
            Some(Skills::Sources(sources.into_iter().map(|(source, _)| source).collect()))
        }
        node => {
            reader.wrong_type("skills", "`true`, `false` or a list of sources", node);
            None
        }
    }
}
