//! Reads a team from the text of an agent file.

mod agent;
mod hooks;
mod limits;
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
use super::source::excerpt;
use super::tree;
use super::tree::Node;
use super::tree::Value;

/// The newest version of the schema. A file without `version` has this version.
const NEWEST_VERSION: u8 = 7;

/// A parsed agent file.
#[derive(Debug, Clone, PartialEq)]
pub struct Parsed {
    /// The resolved team.
    pub team: Team,
    /// The settings that have no effect, sorted by position.
    pub warnings: Vec<Warning>,
}

/// Parses an agent file. `file_name` appears in messages only. Pure, and fast for every input: files that
/// exceed the limits are rejected early.
///
/// # Errors
///
/// [`TeamErrors`] with all errors that were found. A syntax error of the YAML itself hides the errors after it.
pub fn parse(file_name: &str, bytes: &[u8]) -> Result<Parsed, TeamErrors> {
    let source = Source::new(file_name, bytes).map_err(|error| TeamErrors::one(*error))?;
    let root = tree::read(source.text)
        .map_err(|error| TeamErrors::new(source, vec![yaml_error(source, &error)], 0))?;
    let mut reader = Reader::new(source, NEWEST_VERSION);
    let parts = read_file(&mut reader, &root);
    if reader.error_count() > 0 {
        return Err(reader.into_errors());
    }
    match Team::try_from(parts) {
        Ok(team) => Ok(Parsed { team, warnings: reader.into_warnings() }),
        Err(broken) => Err(TeamErrors::one(source.error(None, broken.to_string(), None))),
    }
}

/// Reads the top level of the file.
fn read_file(reader: &mut Reader<'_>, root: &Node) -> Parts {
    let empty = Parts {
        agents: Vec::new(),
        models: BTreeMap::new(),
        permissions: Permissions::default(),
        metadata: Metadata::default(),
        rag: BTreeMap::new(),
    };
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
    let agents = read_agents(reader, &fields, &models, &mcps, &rag);
    Parts {
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
    let found =
        text.as_deref().and_then(|text| text.parse().ok()).filter(|version| *version <= NEWEST_VERSION);
    if found.is_none() && entry.node.value != Value::Null {
        let text = excerpt(&text.unwrap_or_else(|| "a list or a map".to_owned()));
        let message = format!("unsupported config version: {text} (valid versions: 0, 1, 2, 3, 4, 5, 6, 7)");
        let hint = "omit `version` to use the newest version".to_owned();
        reader.error(entry.node.at, message, Some(hint));
    }
    found.unwrap_or(NEWEST_VERSION)
}

/// Reads all agents, in the order of the file.
fn read_agents(
    reader: &mut Reader<'_>,
    fields: &Fields<'_>,
    models: &Models,
    mcps: &toolset::Definitions<'_>,
    rag: &BTreeMap<String, serde_json::Value>,
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
    let references = agent::References { models, mcps, rag, names: &names };
    entries.iter().filter_map(|entry| agent::read(reader, &references, entry)).collect()
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
    }
}

/// Checks a RAG source. The team keeps the section as JSON, because nothing uses it yet.
fn check_rag_source(reader: &mut Reader<'_>, node: &Node) {
    let Some(fields) = reader.fields(node, &keys::RAG) else { return };
    fields.json_object(reader, "tool");
    fields.strings(reader, "docs");
    fields.bool(reader, "respect_vcs");
    fields.list(reader, "strategies");
    fields.json_object(reader, "results");
    if reader.version == 2 {
        fields.string(reader, "description");
    }
}
