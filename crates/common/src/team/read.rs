//! Reads a team from the text of an agent file.

mod agent;
mod commands;
mod dispatch;
mod fetch;
mod harness;
mod hooks;
mod instruction;
mod limits;
mod mcp;
mod model;
mod repeated_keys;
mod runtime;
mod settings;
mod shared;
mod skills;
mod toolset;
mod webhook;
mod yaml_error;

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use self::agent::AgentNames;
use self::model::Models;
use self::shared::Shared;
use self::yaml_error::yaml_errors;
use super::agent::Agent;
use super::error::Found;
use super::error::TeamErrors;
use super::error::Warning;
use super::fields::Fields;
use super::keys;
use super::keys::NEWEST_VERSION;
use super::reader::Reader;
use super::resolved::Metadata;
use super::resolved::Parts;
use super::resolved::Permissions;
use super::resolved::Team;
use super::source::Position;
use super::source::Source;
use super::source::excerpt;
use super::tree;
use super::tree::Entry;
use super::tree::Node;
use super::tree::Value;

/// Reads another file that an agent file names by a relative path: its text, or why it cannot be read. It must not
/// follow the path out of the folder of the agent file.
pub type Files<'f> = &'f dyn Fn(&str) -> Result<String, String>;

/// A parsed agent file.
#[derive(Debug, Clone, PartialEq)]
pub struct Parsed {
    /// The resolved team.
    pub team: Team,
    /// The settings that have no effect, sorted by position.
    pub warnings: Vec<Warning>,
    /// The known keys of the file, by what Legwork does with them, then by map and name.
    pub found: Vec<Found>,
}

/// Parses an agent file that names no other file. See [`parse_with`].
///
/// # Errors
///
/// As [`parse_with`]; an `instruction_file` is an error.
pub fn parse(file_name: &str, bytes: &[u8]) -> Result<Parsed, TeamErrors> {
    parse_with(file_name, bytes, &|_| Err("this file is read without a folder".to_owned()))
}

/// Parses an agent file. `file_name` appears in messages only; `files` reads the files of `instruction_file`. Pure but for
/// those, and fast for every input: files that exceed the limits are rejected early.
///
/// # Errors
///
/// [`TeamErrors`] with all errors that were found. A syntax error of the YAML itself hides the errors after it.
pub fn parse_with(file_name: &str, bytes: &[u8], files: Files<'_>) -> Result<Parsed, TeamErrors> {
    let source = Source::new(file_name, bytes).map_err(|error| TeamErrors::one(*error))?;
    let root = tree::read(source.text)
        .map_err(|error| TeamErrors::new(source, yaml_errors(source, &error), 0, Vec::new()))?;
    let mut reader = Reader::new(source, NEWEST_VERSION);
    let parts = read_file(&mut reader, &root, files);
    if reader.error_count() > 0 {
        return Err(reader.into_errors());
    }
    match Team::try_from(parts) {
        Ok(team) => {
            let found = reader.found();
            Ok(Parsed { team, warnings: reader.into_warnings(), found })
        }
        Err(broken) => Err(TeamErrors::one(source.error(None, broken.to_string(), None))),
    }
}

/// Reads the top level of the file.
fn read_file(reader: &mut Reader<'_>, root: &Node, files: Files<'_>) -> Parts {
    let empty = Parts::default();
    if root.value == Value::Null {
        reader.error_of_file("the file is empty", MINIMAL_EXAMPLE);
        return empty;
    }
    reader.version = version(reader, root);
    let Some(fields) = reader.fields(root, &keys::FILE) else {
        return empty;
    };
    if reader.version <= 1 {
        fields.string_map(reader, "env");
    }
    for entry in fields.map(reader, "rag", "a map of names to sources") {
        check_rag_source(reader, &entry.node);
    }
    let rag = fields.entries_as_json(reader, "rag");
    let models = Models::read(reader, &fields);
    let mcps = toolset::definitions(reader, &fields);
    fields.json_object(reader, "flavors");
    let mut shared = Shared::read(reader, &fields);
    let names = AgentNames::new(&[]);
    let nothing = Shared::default();
    let budgets = runtime::read_budgets(reader, &fields);
    let references = agent::References {
        models: &models,
        mcps: &mcps,
        rag: &rag,
        names: &names,
        shared: &nothing,
        budgets: &budgets,
        files,
    };
    let toolsets = fields.map(reader, "toolsets", "a map of names to toolsets");
    shared.read_toolsets(reader, &references, toolsets);
    let agents = read_agents(reader, &fields, &agent::References { shared: &shared, ..references });
    Parts {
        safety: runtime::read(reader, &fields),
        budget: fields.node("budget").and_then(|node| runtime::read_budget(reader, node)),
        budgets,
        agents,
        models: models.into_named(),
        permissions: read_permissions(reader, &fields),
        metadata: read_metadata(reader, &fields),
        rag,
    }
}

/// The hint for a file without agents.
const MINIMAL_EXAMPLE: &str = "minimal example: `agents: {root: {model: openai/gpt-4o}}`";

/// Reads `version`, which may be a number or a string.
fn version(reader: &mut Reader<'_>, root: &Node) -> u8 {
    let Value::Map(entries) = &root.value else {
        return NEWEST_VERSION;
    };
    let Some(entry) = entries.iter().find(|entry| entry.key == "version") else {
        return NEWEST_VERSION;
    };
    let text = reader.string_of(&entry.node);
    let number = text.as_deref().and_then(|text| text.parse::<u32>().ok());
    match number.map(|number| u8::try_from(number).unwrap_or(u8::MAX)) {
        Some(known) if known <= NEWEST_VERSION => known,
        Some(_) => {
            let message = format!(
                "`version` {} is newer than {NEWEST_VERSION}, the newest that is known; the file is read as {NEWEST_VERSION}",
                excerpt(&text.unwrap_or_default())
            );
            reader.warn(entry.node.at, message);
            NEWEST_VERSION
        }
        None if entry.node.value == Value::Null => NEWEST_VERSION,
        None => {
            let text = excerpt(&text.unwrap_or_else(|| "a list or a map".to_owned()));
            let message =
                format!("unsupported config version: {text} (valid versions: 0 to {NEWEST_VERSION})");
            let hint = "omit `version` to use the newest version".to_owned();
            reader.error(entry.node.at, message, Some(hint));
            NEWEST_VERSION
        }
    }
}

/// Reads all agents, in the order of the file.
fn read_agents(
    reader: &mut Reader<'_>,
    fields: &Fields<'_>,
    references: &agent::References<'_>,
) -> Vec<Agent> {
    if let Some(Node { value: Value::List(_), at, .. }) = fields.node("agents") {
        let hint = format!("write the name of each agent before its keys, without dashes; {MINIMAL_EXAMPLE}");
        reader.error(*at, "`agents` must be a map of names to agents, not a list", Some(hint));
        return Vec::new();
    }
    let entries = fields.map(reader, "agents", "a map of names to agents");
    if entries.is_empty() && reader.error_count() == 0 {
        let at = fields.entry("agents").map_or(Position { length: 1, ..fields.at }, |entry| entry.key_at);
        reader.error(at, "the file defines no agents", Some(MINIMAL_EXAMPLE.to_owned()));
    }
    let names = AgentNames::new(entries);
    let references = agent::References { names: &names, ..*references };
    check_circles(reader, entries);
    let agents: Vec<Agent> =
        entries.iter().filter_map(|entry| agent::read(reader, &references, entry)).collect();
    dispatch::warn(reader, entries, &agents);
    agents
}

/// Reports each circle of `force_handoff` once, at the agent that is named first: a conversation would never end.
fn check_circles(reader: &mut Reader<'_>, entries: &[Entry]) {
    let target = |entry: &Entry| match &entry.node.value {
        Value::Map(keys) => {
            keys.iter().find(|key| key.key == "force_handoff").and_then(|key| reader.string_of(&key.node))
        }
        _ => None,
    };
    let next: BTreeMap<&str, String> =
        entries.iter().filter_map(|entry| Some((entry.key.as_str(), target(entry)?))).collect();
    let mut reported = BTreeSet::new();
    for entry in entries {
        let mut seen = BTreeSet::new();
        let mut name = entry.key.as_str();
        while let Some(following) = next.get(name).filter(|_| seen.insert(name)) {
            name = following;
        }
        // An agent that hands off to itself has an error of its own.
        if seen.len() > 1 && seen.contains(name) && name == entry.key && reported.is_disjoint(&seen) {
            reported.extend(seen);
            let message = format!("force_handoff cycle detected involving agent '{}'", excerpt(name));
            reader.error(entry.key_at, message, None);
        }
    }
}

/// Reads `permissions`.
fn read_permissions(reader: &mut Reader<'_>, fields: &Fields<'_>) -> Permissions {
    let Some(fields) = fields.node("permissions").and_then(|node| reader.fields(node, &keys::PERMISSIONS))
    else {
        return Permissions::default();
    };
    Permissions {
        allow: fields.strings(reader, "allow"),
        ask: fields.strings(reader, "ask"),
        deny: fields.strings(reader, "deny"),
    }
}

/// Reads `metadata`.
fn read_metadata(reader: &mut Reader<'_>, fields: &Fields<'_>) -> Metadata {
    let Some(fields) = fields.node("metadata").and_then(|node| reader.fields(node, &keys::METADATA)) else {
        return Metadata::default();
    };
    Metadata {
        author: fields.string_or_empty(reader, "author"),
        license: fields.string_or_empty(reader, "license"),
        description: fields.string_or_empty(reader, "description"),
        readme: fields.string_or_empty(reader, "readme"),
        version: fields.string_or_empty(reader, "version"),
        tags: fields.strings(reader, "tags"),
    }
}

/// Checks a RAG source. The team keeps the section as JSON, because nothing uses it yet.
fn check_rag_source(reader: &mut Reader<'_>, node: &Node) {
    let Some(fields) = reader.fields(node, &keys::RAG) else { return };
    fields.string(reader, "instruction");
    fields.string(reader, "name");
    fields.strings(reader, "tools");
    toolset::read_defer(reader, &fields);
    toolset::check_rag(reader, &fields);
    if reader.version == 2 {
        fields.string(reader, "description");
    }
}
