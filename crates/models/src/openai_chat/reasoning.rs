//! Reasoning in chat completions, for which the standard has no place.
//!
//! It comes as `reasoning_content`, as `reasoning` or under another name, or as OpenRouter's `reasoning_details`, which go back as they came.

use serde_json::Map;
use serde_json::Value;
use serde_json::json;

use crate::conversation::AssistantMessage;
use crate::conversation::Part;
use crate::error::ProviderError;
use crate::reply::Assembly;

/// The field of a message that goes back as it came.
const DETAILS: &str = "reasoning_details";
/// Fields of a detail that come in pieces.
const PIECES: [&str; 3] = ["text", "summary", "data"];

/// Reads the reasoning of a delta. The same text may stand in two fields; it is taken once.
pub(super) fn read(delta: &Value, reply: &mut Assembly) -> Result<(), ProviderError> {
    let plain = ["reasoning_content", "reasoning", "reasoning_text", "thinking"]
        .iter()
        .find_map(|field| delta[*field].as_str().filter(|text| !text.is_empty()));
    let details = delta[DETAILS].as_array().map(Vec::as_slice).unwrap_or_default();
    let shown = details.iter().filter_map(|detail| detail["text"].as_str().or(detail["summary"].as_str()));
    details.iter().filter(|detail| detail.is_object()).try_for_each(|detail| keep(detail, reply))?;
    match plain {
        Some(text) => reply.thinking(text),
        None => shown.into_iter().try_for_each(|text| reply.thinking(text)),
    }
}

fn keep(detail: &Value, reply: &mut Assembly) -> Result<(), ProviderError> {
    let bytes = detail.to_string().len();
    let Some(list) = reply.last_opaque(bytes)?.and_then(|data| data[DETAILS].as_array_mut()) else {
        return reply.part(Part::Opaque { data: json!({DETAILS: [detail]}) });
    };
    match list.last_mut().and_then(Value::as_object_mut).filter(|last| continues(last, detail)) {
        Some(last) => join(last, detail),
        None => list.push(detail.clone()),
    }
    Ok(())
}

/// Whether a detail is more of the last one.
fn continues(last: &Map<String, Value>, detail: &Value) -> bool {
    let same = |field: &str| last.get(field).unwrap_or(&Value::Null) == &detail[field];
    detail["type"] != "reasoning.encrypted" && ["type", "index", "id"].iter().all(|field| same(field))
}

fn join(last: &mut Map<String, Value>, detail: &Value) {
    for (field, value) in detail.as_object().into_iter().flatten().filter(|(_, value)| !value.is_null()) {
        match (last.get_mut(field), value) {
            (Some(Value::String(text)), Value::String(more)) if PIECES.contains(&field.as_str()) => {
                text.push_str(more);
            }
            _ => {
                last.insert(field.clone(), value.clone());
            }
        }
    }
}

/// The details of a reply as they go back; none where there are none.
pub(super) fn details(message: &AssistantMessage) -> Option<Value> {
    let lists = message.parts.iter().filter_map(|part| match part {
        Part::Opaque { data } => data[DETAILS].as_array(),
        _ => None,
    });
    let all: Vec<Value> = lists.flatten().cloned().collect();
    (!all.is_empty()).then_some(Value::Array(all))
}
