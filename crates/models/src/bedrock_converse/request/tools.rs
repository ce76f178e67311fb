//! The tools of a request, and which of them must be called.

use std::collections::BTreeSet;

use serde_json::Map;
use serde_json::Value;
use serde_json::json;

use super::thinking::Thought;
use crate::bedrock_converse::vendor::Choices;
use crate::bedrock_converse::vendor::Vendor;
use crate::conversation::ToolSpec;
use crate::json::put;
use crate::settings::Settings;
use crate::settings::ToolChoice;
use crate::wire::Note;

/// The setting, as the agent file names it.
const SETTING: &str = "tool_choice";

/// The tools and the choice; none: no tools are on offer and none were called.
///
/// A conversation with calls and without tools is refused, so tools that are withdrawn are still described.
pub(super) fn config(
    settings: &Settings,
    vendor: Vendor,
    thought: &Thought,
    tools: &[ToolSpec],
    messages: &[Value],
    notes: &mut Vec<Note>,
) -> Option<Value> {
    let called = called(messages);
    let offered: Vec<Value> = match tools {
        [] => called.iter().map(|name| withdrawn(name)).collect(),
        // No choice forbids calls: only an absence of tools does.
        _ if settings.tool_choice == ToolChoice::Never && called.is_empty() => Vec::new(),
        tools => tools.iter().map(|spec| tool(spec, vendor)).collect(),
    };
    if offered.is_empty() {
        return None;
    }
    let mut config = json!({"tools": offered});
    if let Some(choice) = choice(settings, vendor, thought, notes).filter(|_| !tools.is_empty()) {
        config["toolChoice"] = choice;
    }
    Some(config)
}

/// The names of the tools that were called.
fn called(messages: &[Value]) -> BTreeSet<&str> {
    let blocks = messages.iter().filter_map(|message| message["content"].as_array()).flatten();
    blocks.filter_map(|block| block["toolUse"]["name"].as_str()).collect()
}

fn withdrawn(name: &str) -> Value {
    let schema = json!({"json": {"type": "object", "properties": {}}});
    json!({"toolSpec": {"name": name, "description": "No longer available.", "inputSchema": schema}})
}

fn choice(settings: &Settings, vendor: Vendor, thought: &Thought, notes: &mut Vec<Note>) -> Option<Value> {
    let refused = |notes: &mut Vec<Note>, why: &str| {
        notes.push(Note::left_out(SETTING, why));
        None
    };
    match (&settings.tool_choice, vendor.choices()) {
        (ToolChoice::Auto, _) => None,
        (ToolChoice::Never, _) => refused(notes, "this interface cannot forbid calls once tools were called"),
        _ if thought.thinks => refused(notes, "a model that thinks cannot be made to call a tool"),
        (ToolChoice::Required, Choices::Any | Choices::AnyOrOne) => Some(json!({"any": {}})),
        (ToolChoice::Tool(name), Choices::AnyOrOne) => Some(json!({"tool": {"name": name}})),
        (ToolChoice::Required | ToolChoice::Tool(_), _) => {
            refused(notes, "this model cannot be made to call a tool")
        }
    }
}

fn tool(spec: &ToolSpec, vendor: Vendor) -> Value {
    let mut tool = Map::new();
    put(&mut tool, "name", Some(spec.name.as_str()));
    // An empty description is refused.
    put(&mut tool, "description", Some(spec.description.as_str()).filter(|words| !words.trim().is_empty()));
    put(&mut tool, "inputSchema", Some(json!({"json": schema(spec, vendor)})));
    json!({"toolSpec": tool})
}

/// A schema as its vendor takes it. At the top, the models take an object, and Nova takes nothing else.
fn schema(spec: &ToolSpec, vendor: Vendor) -> Map<String, Value> {
    let mut schema = match &spec.parameters {
        Value::Object(schema) => schema.clone(),
        _ => Map::new(),
    };
    match vendor {
        Vendor::Amazon { .. } => {
            schema.retain(|key, _| ["type", "properties", "required"].contains(&key.as_str()))
        }
        _ => schema.retain(|key, _| !["oneOf", "anyOf", "allOf"].contains(&key.as_str())),
    }
    put(&mut schema, "type", Some("object"));
    schema.entry("properties").or_insert_with(|| json!({}));
    schema
}
