//! Settings and a conversation as the body of a request.

mod messages;
mod thinking;
mod tools;

use std::fmt::Write as _;

use serde_json::Map;
use serde_json::Value;
use serde_json::json;

use super::vendor::Vendor;
use crate::anthropic::model::Sampling;
use crate::anthropic::request::form::closed;
use crate::json::put;
use crate::settings::Form;
use crate::settings::Settings;
use crate::wire::Ask;
use crate::wire::Note;
use crate::wire::RequestError;
use crate::wire::WireRequest;
use thinking::Thought;

/// The field of what all models take.
const INFERENCE: &str = "inferenceConfig";
/// The field of what only the models of a vendor take.
const ADDITIONAL: &str = "additionalModelRequestFields";

/// Builds the request.
pub(super) fn request(settings: &Settings, ask: &Ask<'_>) -> Result<WireRequest, RequestError> {
    let vendor = Vendor::of(&settings.model);
    let mut notes = Vec::new();
    let thought = thinking::thought(settings, vendor, ask.messages, &mut notes)?;
    let (system, messages) = messages::convert(settings, vendor, ask.messages);
    if messages.is_empty() {
        return Err(RequestError::NothingAsked);
    }
    let mut body = settings.extra.clone();
    let config = tools::config(settings, vendor, &thought, ask.tools, &messages, &mut notes);
    put(&mut body, "toolConfig", config);
    put(&mut body, "system", Some(system).filter(|system| !system.is_empty()));
    put(&mut body, "messages", Some(messages));
    let inference = inference(settings, vendor, &thought, &mut notes);
    extend(&mut body, INFERENCE, inference);
    extend(&mut body, ADDITIONAL, thought.fields);
    match &settings.form {
        Some(_) if !vendor.takes_form() => {
            notes.push(Note::left_out("structured_output", "this model does not take it here"));
        }
        form => put(&mut body, "outputConfig", form.as_ref().map(output)),
    }
    if settings.parallel_tool_calls == Some(false) {
        notes.push(Note::left_out("parallel_tool_calls", "this interface does not know it"));
    }
    let path = format!("model/{}/converse-stream", segment(&settings.model));
    Ok(WireRequest { path, headers: Vec::new(), body: Value::Object(body), notes })
}

fn inference(
    settings: &Settings,
    vendor: Vendor,
    thought: &Thought,
    notes: &mut Vec<Note>,
) -> Map<String, Value> {
    const UNKNOWN: &str = "this interface does not know it";
    let mut fields = Map::new();
    match thought.output_tokens {
        Some(_) if thought.decides_alone => {
            notes.push(Note::left_out("max_tokens", "this model refuses it along with high effort"));
        }
        tokens => put(&mut fields, "maxTokens", tokens),
    }
    let both = settings.temperature.is_some();
    for (setting, field, value, refusal) in [
        ("temperature", "temperature", settings.temperature, refusal(vendor, thought, false)),
        ("top_p", "topP", settings.top_p, refusal(vendor, thought, both)),
        ("frequency_penalty", "", settings.frequency_penalty, Some(UNKNOWN)),
        ("presence_penalty", "", settings.presence_penalty, Some(UNKNOWN)),
    ] {
        match (value, refusal) {
            (None, _) => {}
            (Some(_), Some(why)) => notes.push(Note::left_out(setting, why)),
            (Some(value), None) if value > 1.0 => {
                notes.push(Note::sent_as(setting, 1, "this provider takes no more"));
                put(&mut fields, field, Some(1.0));
            }
            (Some(value), None) => put(&mut fields, field, Some(value)),
        }
    }
    fields
}

/// Why a sampling setting is refused; `other`: along with another one.
fn refusal(vendor: Vendor, thought: &Thought, other: bool) -> Option<&'static str> {
    match vendor {
        Vendor::Anthropic(_) if thought.thinks => Some("a model that thinks before it answers refuses it"),
        Vendor::Anthropic(claude) => match claude.sampling() {
            Sampling::Neither => Some("this model refuses it"),
            Sampling::One if other => Some("this model refuses it along with `temperature`"),
            Sampling::One | Sampling::Both => None,
        },
        Vendor::Openai { model, .. } if model.reasons => {
            Some("a model that thinks before it answers refuses it")
        }
        _ if thought.decides_alone => Some("this model refuses it along with high effort"),
        _ => None,
    }
}

/// The form of the answer. Its schema is a text here.
fn output(form: &Form) -> Value {
    let mut schema = Map::new();
    put(&mut schema, "name", Some(form.name.as_str()));
    put(&mut schema, "description", form.description.as_deref());
    put(&mut schema, "schema", Some(closed(&form.schema).to_string()));
    json!({"textFormat": {"type": "json_schema", "structure": {"jsonSchema": schema}}})
}

/// Adds fields to an object of the body, whose other fields the settings may give.
fn extend(body: &mut Map<String, Value>, object: &str, fields: Map<String, Value>) {
    let mut all = match body.remove(object) {
        Some(Value::Object(given)) => given,
        _ => Map::new(),
    };
    all.extend(fields);
    put(body, object, Some(all).filter(|all| !all.is_empty()));
}

/// A name as one segment of a path: identifiers have colons, and ARNs have slashes.
fn segment(name: &str) -> String {
    name.bytes().fold(String::with_capacity(name.len()), |mut path, byte| {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                path.push(char::from(byte))
            }
            // Writing to a text cannot fail.
            _ => write!(path, "%{byte:02X}").unwrap_or_default(),
        }
        path
    })
}
