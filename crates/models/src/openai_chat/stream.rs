//! A chunk of a chat completion, or a whole one: they differ in a word.

use serde_json::Value;

use super::reasoning;
use crate::error::ProviderError;
use crate::openai::counted;
use crate::reply::Assembly;
use crate::reply::Stop;
use crate::tool_calls::CallDelta;
use crate::tool_calls::CallKey;
use crate::tool_calls::arguments_of;
use crate::wire::Event;

/// Where chunks have usage: at the top, with the choice, or in a vendor's own place.
const USAGE: [&str; 3] = ["/usage", "/choices/0/usage", "/x_groq/usage"];

/// Reads a chunk.
pub(super) fn event(_: &mut (), event: Event<'_>, reply: &mut Assembly) -> Result<(), ProviderError> {
    chunk(&event.data, reply)
}

/// Reads a whole completion.
pub(super) fn whole(body: Value, reply: &mut Assembly) -> Result<(), ProviderError> {
    if !body["choices"].is_array() {
        return Err(ProviderError::not_a_reply(&body.to_string()));
    }
    chunk(&body, reply)
}

fn chunk(data: &Value, reply: &mut Assembly) -> Result<(), ProviderError> {
    for usage in USAGE.iter().filter_map(|place| data.pointer(place)).filter(|usage| usage.is_object()) {
        reply.usage(counted(usage));
    }
    // One choice is asked for.
    let choice = &data["choices"][0];
    if choice["error"].is_object()
        && let Some(error) = ProviderError::in_json(choice)
    {
        return Err(error);
    }
    match (&choice["delta"], &choice["message"]) {
        (delta @ Value::Object(_), _) => message(delta, reply)?,
        // Some close a stream with all of it again.
        (_, whole @ Value::Object(_)) if reply.is_empty() => message(whole, reply)?,
        _ => {}
    }
    if let Some(reason) = choice["finish_reason"].as_str().filter(|reason| !reason.is_empty()) {
        reply.stop(stop(reason));
    }
    Ok(())
}

fn message(delta: &Value, reply: &mut Assembly) -> Result<(), ProviderError> {
    reasoning::read(delta, reply)?;
    match &delta["content"] {
        Value::String(text) => reply.text(text)?,
        Value::Array(parts) => parts.iter().try_for_each(|part| content_part(part, reply))?,
        _ => {}
    }
    if let Some(words) = delta["refusal"].as_str() {
        reply.refusal(words)?;
    }
    match &delta["tool_calls"] {
        Value::Array(calls) => calls.iter().try_for_each(|call| tool_call(call, reply))?,
        call @ Value::Object(_) => tool_call(call, reply)?,
        _ => {}
    }
    match &delta["function_call"] {
        function @ Value::Object(_) => reply.call(&CallDelta {
            name: function["name"].as_str().unwrap_or_default(),
            arguments: arguments_of(&function["arguments"]),
            ..CallDelta::default()
        }),
        _ => Ok(()),
    }
}

/// Mistral's form: text and thinking in one list, the thinking a list again.
fn content_part(part: &Value, reply: &mut Assembly) -> Result<(), ProviderError> {
    match &part["thinking"] {
        Value::String(text) => reply.thinking(text),
        Value::Array(inner) => {
            inner.iter().filter_map(|part| part["text"].as_str()).try_for_each(|text| reply.thinking(text))
        }
        _ => reply.text(part["text"].as_str().unwrap_or_default()),
    }
}

fn tool_call(call: &Value, reply: &mut Assembly) -> Result<(), ProviderError> {
    if !call.is_object() {
        return Ok(());
    }
    let function = if call["function"].is_object() { &call["function"] } else { call };
    let id = match &call["id"] {
        Value::Number(number) => number.to_string(),
        id => id.as_str().unwrap_or_default().to_owned(),
    };
    reply.call(&CallDelta {
        key: CallKey::of(&call["index"]),
        id: id.trim(),
        name: function["name"].as_str().unwrap_or_default(),
        arguments: arguments_of(&function["arguments"]),
        thought_signature: call.pointer("/extra_content/google/thought_signature").and_then(Value::as_str),
    })
}

/// What the finish reasons of OpenAI and of others mean. One that is not known is an end.
fn stop(reason: &str) -> Stop {
    match reason.to_ascii_lowercase().as_str() {
        "tool_calls" | "function_call" | "tool_use" => Stop::Tools,
        "length" | "max_tokens" | "max_output_tokens" => Stop::OutputLimit,
        "model_length" | "model_context_window_exceeded" => Stop::WindowFull,
        "content_filter" | "sensitive" | "safety" | "recitation" | "prohibited_content" | "blocklist"
        | "spii" => Stop::Filtered,
        "refusal" => Stop::Refused,
        "pause_turn" => Stop::Paused,
        "error"
        | "abort"
        | "aborted"
        | "cancelled"
        | "network_error"
        | "insufficient_system_resource"
        | "malformed_function_call" => Stop::Broken(format!("the provider ended it with `{reason}`")),
        _ => Stop::End,
    }
}
