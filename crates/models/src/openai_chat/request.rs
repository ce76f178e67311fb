//! Settings and a conversation as the body of a chat completion.

mod messages;

use serde_json::Map;
use serde_json::Value;
use serde_json::json;

use super::dialect::Dialect;
use crate::conversation::ToolSpec;
use crate::json::put;
use crate::openai;
use crate::openai::effort;
use crate::openai::parallel;
use crate::openai::parameters;
use crate::openai::strict_schema;
use crate::settings::Form;
use crate::settings::Settings;
use crate::wire::Ask;
use crate::wire::Note;
use crate::wire::RequestError;
use crate::wire::WireRequest;

/// Builds the request.
pub(super) fn request(settings: &Settings, ask: &Ask<'_>) -> Result<WireRequest, RequestError> {
    let dialect = Dialect::of(settings);
    let messages = messages::messages(settings, &dialect, ask.messages);
    let mut body = openai::body(settings, "messages", messages)?;
    let mut notes = Vec::new();
    if settings.track_usage && dialect.asks_for_usage {
        put(&mut body, "stream_options", Some(json!({"include_usage": true})));
    }
    put(&mut body, dialect.output_limit, settings.max_output_tokens);
    sampling(settings, &dialect, &mut body, &mut notes);
    put(&mut body, "reasoning_effort", effort(settings, dialect.model, &mut notes));
    if !ask.tools.is_empty() {
        tools(settings, &dialect, ask.tools, &mut body, &mut notes);
    }
    put(&mut body, "response_format", settings.form.as_ref().map(form));
    Ok(WireRequest {
        path: "chat/completions".to_owned(),
        headers: Vec::new(),
        body: Value::Object(body),
        notes,
    })
}

fn sampling(settings: &Settings, dialect: &Dialect, body: &mut Map<String, Value>, notes: &mut Vec<Note>) {
    let fields = [
        ("temperature", settings.temperature),
        ("top_p", settings.top_p),
        ("frequency_penalty", settings.frequency_penalty),
        ("presence_penalty", settings.presence_penalty),
    ];
    for (setting, value) in fields {
        match value {
            Some(_) if !dialect.sampling => {
                notes.push(Note::left_out(setting, "a model that thinks before it answers refuses it"));
            }
            value => put(body, setting, value),
        }
    }
}

fn tools(
    settings: &Settings,
    dialect: &Dialect,
    tools: &[ToolSpec],
    body: &mut Map<String, Value>,
    notes: &mut Vec<Note>,
) {
    put(body, "tools", Some(tools.iter().map(tool).collect::<Vec<_>>()));
    let choice = openai::tool_choice(
        settings,
        dialect.any_tool,
        |name| json!({"type": "function", "function": {"name": name}}),
    );
    put(body, "tool_choice", choice);
    parallel(settings, dialect.model, body, notes);
}

fn tool(spec: &ToolSpec) -> Value {
    json!({
        "type": "function",
        "function": {"name": spec.name, "description": spec.description, "parameters": parameters(spec)},
    })
}

fn form(form: &Form) -> Value {
    let mut schema = Map::new();
    put(&mut schema, "name", Some(form.name.as_str()));
    put(&mut schema, "description", form.description.as_deref());
    put(&mut schema, "strict", Some(form.strict));
    put(&mut schema, "schema", Some(strict_schema::schema(form)));
    json!({"type": "json_schema", "json_schema": schema})
}
