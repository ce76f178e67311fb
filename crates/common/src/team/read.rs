//! From the text of a file to a team.

mod agent;
mod hooks;
mod mcp;
mod model;
mod settings;
mod toolset;
mod yaml_error;

use std::collections::BTreeMap;

use self::agent::AgentNames;
use self::model::Models;
use self::yaml_error::yaml_error;
use super::agent::Agent;
use super::error::TeamErrors;
use super::error::Warning;
use super::fields::Fields;
use super::keys;
use super::reader::Reader;
use super::resolved::Metadata;
use super::resolved::Parts;
use super::resolved::Permissions;
use super::resolved::Team;
use super::source::Position;
use super::source::Source;
use super::tree;
use super::tree::Node;
use super::tree::Value;

/// The newest version of the schema, which a file without `version` is read as.
const NEWEST: u8 = 7;

/// A team, and what its file says that Legwork does not act on.
#[derive(Debug, Clone, PartialEq)]
pub struct Parsed {
    /// The team.
    pub team: Team,
    /// By place in the file, each once.
    pub warnings: Vec<Warning>,
}

/// Reads an agent file. `file_name` is for messages only. Pure and quick: hostile input is refused by its limits, not by its cost.
///
/// # Errors
/// Every mistake that was found, by place. A mistake of YAML itself hides those after it.
pub fn parse(file_name: &str, bytes: &[u8]) -> Result<Parsed, TeamErrors> {
    let source = Source::new(file_name, bytes).map_err(|error| TeamErrors::one(*error))?;
    let root = tree::read(source.text)
        .map_err(|error| TeamErrors::new(source, vec![yaml_error(source, &error)], 0))?;
    let mut reader = Reader::new(source, NEWEST);
    let parts = read_file(&mut reader, &root);
    if reader.error_count() > 0 {
        return Err(reader.into_errors());
    }
    match Team::try_from(parts) {
        Ok(team) => Ok(Parsed { team, warnings: reader.into_warnings() }),
        Err(broken) => Err(TeamErrors::one(source.error(None, broken.to_string(), None))),
    }
}

/// Reads the whole tree.
fn read_file(reader: &mut Reader<'_>, root: &Node) -> Parts {
    let empty = Parts {
        agents: Vec::new(),
        models: BTreeMap::new(),
        permissions: Permissions::default(),
        metadata: Metadata::default(),
        rag: BTreeMap::new(),
    };
    if root.value == Value::Null {
        reader.error_of_file("the file is empty", EXAMPLE);
        return empty;
    }
    reader.version = version(reader, root);
    let Some(fields) = reader.fields(root, &keys::FILE) else {
        return empty;
    };
    if reader.version == 0 {
        fields.text_map(reader, "env");
    }
    for entry in fields.map(reader, "rag", "a map of names to sources") {
        check_source(reader, &entry.node);
    }
    let rag = fields.entries_as_json(reader, "rag");
    let models = Models::read(reader, &fields);
    let mcps = toolset::definitions(reader, &fields);
    let agents = read_agents(reader, &fields, &models, &mcps, &rag);
    Parts {
        agents,
        models: models.into_named(),
        permissions: read_permissions(reader, &fields),
        metadata: read_metadata(reader, &fields),
        rag,
    }
}

const EXAMPLE: &str = "the least that runs is: `agents: {root: {model: openai/gpt-4o}}`";

/// The version of the schema, from the text of a number or a string.
fn version(reader: &mut Reader<'_>, root: &Node) -> u8 {
    let Value::Map(entries) = &root.value else {
        return NEWEST;
    };
    let Some(entry) = entries.iter().find(|entry| entry.key == "version") else {
        return NEWEST;
    };
    let text = reader.text_of(&entry.node);
    let found = text.as_deref().and_then(|text| text.parse().ok()).filter(|version| *version <= NEWEST);
    if found.is_none() && entry.node.value != Value::Null {
        let text = super::source::shown(&text.unwrap_or_else(|| "a list or a map".to_owned()));
        let message = format!("unsupported config version: {text} (valid versions: 0, 1, 2, 3, 4, 5, 6, 7)");
        let hint = "leave `version` out: the file is then read as the newest".to_owned();
        reader.error(entry.node.at, message, Some(hint));
    }
    found.unwrap_or(NEWEST)
}

/// Every agent, in the order of the file.
fn read_agents(
    reader: &mut Reader<'_>,
    fields: &Fields<'_>,
    models: &Models,
    mcps: &toolset::Definitions<'_>,
    rag: &BTreeMap<String, serde_json::Value>,
) -> Vec<Agent> {
    if let Some(Node { value: Value::List(_), at, .. }) = fields.node("agents") {
        let hint = format!("put the names before the keys, without dashes; {EXAMPLE}");
        reader.error(*at, "`agents` must be a map of names to agents, not a list", Some(hint));
        return Vec::new();
    }
    let entries = fields.map(reader, "agents", "a map of names to agents");
    if entries.is_empty() && reader.error_count() == 0 {
        let at = fields.entry("agents").map_or(Position { length: 1, ..fields.at }, |entry| entry.key_at);
        reader.error(at, "the file defines no agents", Some(EXAMPLE.to_owned()));
    }
    let names = AgentNames::new(entries);
    let references = agent::References { models, mcps, rag, names: &names };
    entries.iter().filter_map(|entry| agent::read(reader, &references, entry)).collect()
}

/// `permissions`.
fn read_permissions(reader: &mut Reader<'_>, fields: &Fields<'_>) -> Permissions {
    let Some(fields) = fields.node("permissions").and_then(|node| reader.fields(node, &keys::PERMISSIONS))
    else {
        return Permissions::default();
    };
    Permissions {
        allow: fields.texts(reader, "allow"),
        ask: fields.texts(reader, "ask"),
        deny: fields.texts(reader, "deny"),
    }
}

/// `metadata`.
fn read_metadata(reader: &mut Reader<'_>, fields: &Fields<'_>) -> Metadata {
    let Some(fields) = fields.node("metadata").and_then(|node| reader.fields(node, &keys::METADATA)) else {
        return Metadata::default();
    };
    Metadata {
        author: fields.text_or_empty(reader, "author"),
        license: fields.text_or_empty(reader, "license"),
        description: fields.text_or_empty(reader, "description"),
        readme: fields.text_or_empty(reader, "readme"),
        version: fields.text_or_empty(reader, "version"),
    }
}

/// A RAG source, of which nothing is kept but its text.
fn check_source(reader: &mut Reader<'_>, node: &Node) {
    let Some(fields) = reader.fields(node, &keys::RAG) else { return };
    fields.json_object(reader, "tool");
    fields.texts(reader, "docs");
    fields.flag(reader, "respect_vcs");
    fields.list(reader, "strategies");
    fields.json_object(reader, "results");
}
