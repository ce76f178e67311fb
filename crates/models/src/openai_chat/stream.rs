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

/// Which of several choices is read: the one that came first. One is asked for, and some servers send more.
#[derive(Debug, Default)]
pub struct Choice {
    index: Option<CallKey>,
}

impl Choice {
    /// The choice of a chunk, null where it has only others.
    fn of<'d>(&mut self, data: &'d Value, reply: &mut Assembly) -> Result<&'d Value, ProviderError> {
        let all = data["choices"].as_array().map(Vec::as_slice).unwrap_or_default();
        let own = |choice: &&Value| {
            CallKey::of(&choice["index"]).is_none_or(|it| self.index.as_ref().is_none_or(|own| *own == it))
        };
        let choice = all.iter().find(own).unwrap_or(&Value::Null);
        if self.index.is_none() {
            self.index = CallKey::of(&choice["index"]);
            reply.account(self.index.as_ref().map_or(0, CallKey::bytes))?;
        }
        Ok(choice)
    }
}

/// Reads a chunk.
pub(super) fn event(known: &mut Choice, event: Event<'_>, reply: &mut Assembly) -> Result<(), ProviderError> {
    chunk(known, &event.data, reply)
}

/// Reads a whole completion.
pub(super) fn whole(body: Value, reply: &mut Assembly) -> Result<(), ProviderError> {
    if !body["choices"].is_array() {
        return Err(ProviderError::not_a_reply(&body.to_string()));
    }
    chunk(&mut Choice::default(), &body, reply)
}

fn chunk(known: &mut Choice, data: &Value, reply: &mut Assembly) -> Result<(), ProviderError> {
    for usage in USAGE.iter().filter_map(|place| data.pointer(place)).filter(|usage| usage.is_object()) {
        reply.usage(counted(usage));
    }
    let choice = known.of(data, reply)?;
    if choice["error"].is_object()
        && let Some(error) = ProviderError::in_json(choice)
    {
        return Err(error);
    }
    match (&choice["delta"], &choice["message"]) {
        (delta @ Value::Object(_), _) => message(delta, reply)?,
        // Some close a stream with all of it again.
        (_, whole @ Value::Object(_)) if reply.is_empty() => message(whole, reply)?,
        // The older interface, which some local servers answer with.
        _ => reply.text(choice["text"].as_str().unwrap_or_default())?,
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
        part @ Value::Object(_) => content_part(part, reply)?,
        // A model that replies with sound: its transcript is next to it.
        _ => reply.text(delta["audio"]["transcript"].as_str().unwrap_or_default())?,
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

/// Content as a list: texts, refusals, and Mistral's thinking, which is a list again.
fn content_part(part: &Value, reply: &mut Assembly) -> Result<(), ProviderError> {
    let text = part.as_str().or(part["text"].as_str()).unwrap_or_default();
    match (&part["thinking"], &part["type"]) {
        (Value::String(text), _) => reply.thinking(text),
        (Value::Array(inner), _) => {
            inner.iter().filter_map(|part| part["text"].as_str()).try_for_each(|text| reply.thinking(text))
        }
        (_, kind) if kind == "refusal" => reply.refusal(part["refusal"].as_str().unwrap_or(text)),
        (_, kind) if kind == "reasoning" || kind == "thinking" => reply.thinking(text),
        _ => reply.text(text),
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
    let lower = reason.to_ascii_lowercase();
    // Google's own interface of this wire puts its reason after a colon.
    match lower.split(':').next().unwrap_or_default().trim() {
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
        | "timeout"
        | "time_limit"
        | "malformed_function_call"
        | "unexpected_tool_call"
        | "function_call_filter" => Stop::Broken(format!("the provider ended it with `{reason}`")),
        _ => Stop::End,
    }
}
