//! Settings and a conversation as the body of a request.

mod input;

use serde_json::Map;
use serde_json::Value;
use serde_json::json;

use crate::conversation::ToolSpec;
use crate::json::put;
use crate::openai;
use crate::openai::Model;
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

/// The fewest output tokens that may be asked for.
const MIN_OUTPUT_TOKENS: u32 = 16;
/// What makes reasoning items complete, so that they can go back to a provider that keeps nothing. A model that does not
/// reason refuses it.
const ENCRYPTED: &str = "reasoning.encrypted_content";

/// Builds the request.
pub(super) fn request(settings: &Settings, ask: &Ask<'_>) -> Result<WireRequest, RequestError> {
    let model = Model::of(&settings.model);
    let input = input::input(settings, model, ask.messages);
    let mut body = openai::body(settings, "input", input)?;
    let mut notes = Vec::new();
    body.entry("store").or_insert(json!(false));
    put(&mut body, "max_output_tokens", output_tokens(settings, &mut notes));
    sampling(settings, model, &mut body, &mut notes);
    reasoning(settings, model, &mut body, &mut notes);
    if !ask.tools.is_empty() {
        tools(settings, model, ask.tools, &mut body, &mut notes);
    }
    merge(&mut body, "text", "format", settings.form.as_ref().map(format));
    Ok(WireRequest { path: "responses".to_owned(), headers: Vec::new(), body: Value::Object(body), notes })
}

fn output_tokens(settings: &Settings, notes: &mut Vec<Note>) -> Option<u32> {
    let tokens = settings.max_output_tokens?;
    if tokens < MIN_OUTPUT_TOKENS {
        notes.push(Note::sent_as("max_tokens", MIN_OUTPUT_TOKENS, "this provider takes no less"));
    }
    Some(tokens.max(MIN_OUTPUT_TOKENS))
}

fn sampling(settings: &Settings, model: Model, body: &mut Map<String, Value>, notes: &mut Vec<Note>) {
    const REASONS: &str = "a model that thinks before it answers refuses it";
    const UNKNOWN: &str = "this interface does not know it";
    let refusal = model.reasons.then_some(REASONS);
    for (setting, value, refusal) in [
        ("temperature", settings.temperature, refusal),
        ("top_p", settings.top_p, refusal),
        ("frequency_penalty", settings.frequency_penalty, Some(UNKNOWN)),
        ("presence_penalty", settings.presence_penalty, Some(UNKNOWN)),
    ] {
        match (value, refusal) {
            (Some(_), Some(why)) => notes.push(Note::left_out(setting, why)),
            (value, _) => put(body, setting, value),
        }
    }
}

/// The effort, and that reasoning items come encrypted. Summaries are not asked for: OpenAI refuses them to organizations
/// that it has not verified.
fn reasoning(settings: &Settings, model: Model, body: &mut Map<String, Value>, notes: &mut Vec<Note>) {
    merge(body, "reasoning", "effort", effort(settings, model, notes));
    if !model.reasons {
        return;
    }
    let mut include = match body.remove("include") {
        Some(Value::Array(given)) => given,
        _ => Vec::new(),
    };
    if !include.iter().any(|given| given == ENCRYPTED) {
        include.push(json!(ENCRYPTED));
    }
    put(body, "include", Some(include));
}

fn tools(
    settings: &Settings,
    model: Model,
    tools: &[ToolSpec],
    body: &mut Map<String, Value>,
    notes: &mut Vec<Note>,
) {
    put(body, "tools", Some(tools.iter().map(tool).collect::<Vec<_>>()));
    let choice = openai::tool_choice(settings, "required", |name| json!({"type": "function", "name": name}));
    put(body, "tool_choice", choice);
    parallel(settings, model, body, notes);
}

fn tool(spec: &ToolSpec) -> Value {
    json!({
        "type": "function",
        "name": spec.name,
        "description": spec.description,
        "parameters": parameters(spec),
        // If this is left out, the provider makes all arguments required where the schema allows it.
        "strict": false,
    })
}

fn format(form: &Form) -> Value {
    let mut format = Map::new();
    put(&mut format, "type", Some("json_schema"));
    put(&mut format, "name", Some(form.name.as_str()));
    put(&mut format, "description", form.description.as_deref());
    put(&mut format, "strict", Some(form.strict));
    put(&mut format, "schema", Some(strict_schema::schema(form)));
    Value::Object(format)
}

/// Sets a field of an object in the body, whose other fields the settings may give.
fn merge(body: &mut Map<String, Value>, object: &str, field: &str, value: Option<impl Into<Value>>) {
    let Some(value) = value else { return };
    let mut fields = match body.remove(object) {
        Some(Value::Object(given)) => given,
        _ => Map::new(),
    };
    put(&mut fields, field, Some(value));
    put(body, object, Some(fields));
}
