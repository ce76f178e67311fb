//! The events of a streamed reply, or a whole one: their blocks are read alike.

use std::collections::HashMap;

use serde_json::Value;
use serde_json::json;

use crate::conversation::Part;
use crate::conversation::Usage;
use crate::error::ProviderError;
use crate::json;
use crate::reply::Assembly;
use crate::reply::Stop;
use crate::tool_calls::CallDelta;
use crate::tool_calls::CallKey;
use crate::tool_calls::arguments_of;
use crate::wire::Event;

/// The events that say something.
const EVENTS: [&str; 5] =
    ["contentBlockStart", "contentBlockDelta", "contentBlockStop", "messageStop", "metadata"];

/// The blocks of a reply that may still grow.
#[derive(Debug, Default)]
pub struct Blocks {
    /// The index of the block that is being written, as the stream gives it.
    current: Option<CallKey>,
    /// The calls by the index of their block. An index may be used again, so each call has a key of its own.
    calls: HashMap<Option<CallKey>, CallKey>,
    /// How many calls have begun.
    begun: usize,
}

/// Reads an event. A gateway may put it into a field that is called as it is, in place of a name.
pub(super) fn event(
    blocks: &mut Blocks,
    Event { name, data }: Event<'_>,
    reply: &mut Assembly,
) -> Result<(), ProviderError> {
    let data = &data;
    let wrapped = EVENTS.into_iter().find(|name| data[*name].is_object());
    let (name, data) = wrapped.map_or((name.unwrap_or_default(), data), |name| (name, &data[name]));
    match name {
        "contentBlockStart" => {
            blocks.enter(CallKey::of(&data["contentBlockIndex"]), reply);
            blocks.start(&data["start"], reply)
        }
        "contentBlockDelta" => {
            blocks.enter(CallKey::of(&data["contentBlockIndex"]), reply);
            blocks.grow(&data["delta"], reply)
        }
        "contentBlockStop" => {
            reply.close_part();
            blocks.current = None;
            Ok(())
        }
        "messageStop" => {
            end(data, reply);
            Ok(())
        }
        "metadata" => {
            reply.usage(counted(&data["usage"]));
            Ok(())
        }
        // A gateway that does not stream.
        _ if data["output"]["message"].is_object() && reply.is_empty() => message(data, reply),
        _ => {
            reply.keep_alive();
            Ok(())
        }
    }
}

/// Reads a whole reply.
pub(super) fn whole(body: Value, reply: &mut Assembly) -> Result<(), ProviderError> {
    message(&body, reply)
}

fn message(body: &Value, reply: &mut Assembly) -> Result<(), ProviderError> {
    let Some(content) = body["output"]["message"]["content"].as_array() else {
        return Err(ProviderError::not_a_reply(&body.to_string()));
    };
    let mut blocks = Blocks::default();
    for (index, block) in content.iter().enumerate() {
        blocks.enter(CallKey::of(&json!(index)), reply);
        match block["toolUse"].is_object() {
            true => blocks.start(block, reply)?,
            false => blocks.grow(block, reply)?,
        }
    }
    reply.usage(counted(&body["usage"]));
    end(body, reply);
    Ok(())
}

impl Blocks {
    /// The next pieces are of the block of this index.
    fn enter(&mut self, index: Option<CallKey>, reply: &mut Assembly) {
        if self.current != index {
            reply.close_part();
            self.current = index;
        }
    }

    /// The beginning of a block. Only calls have anything in theirs.
    fn start(&mut self, start: &Value, reply: &mut Assembly) -> Result<(), ProviderError> {
        let call = &start["toolUse"];
        if !call.is_object() {
            return Ok(());
        }
        reply.account(self.current.as_ref().map_or(0, CallKey::bytes))?;
        self.begun += 1;
        let key = CallKey::of(&json!(self.begun));
        let input = arguments_of(&call["input"]);
        let arguments = if input.trim() == "{}" { "".into() } else { input };
        let (id, name) = (text(&call["toolUseId"]).trim(), text(&call["name"]));
        reply.call(&CallDelta { key: key.clone(), id, name, arguments, thought_signature: None })?;
        self.calls.extend(key.map(|key| (self.current.clone(), key)));
        Ok(())
    }

    fn grow(&mut self, delta: &Value, reply: &mut Assembly) -> Result<(), ProviderError> {
        if let Some(piece) = delta["text"].as_str() {
            return reply.text(piece);
        }
        if delta["reasoningContent"].is_object() {
            return reasoning(&delta["reasoningContent"], reply);
        }
        if delta["toolUse"].is_object() {
            // One whose block did not begin as a call belongs to the last call.
            let key = self.calls.get(&self.current).cloned();
            let arguments = arguments_of(&delta["toolUse"]["input"]);
            return reply.call(&CallDelta { key, arguments, ..CallDelta::default() });
        }
        reply.keep_alive();
        Ok(())
    }
}

/// Reasoning that is shown and signed, or hidden. A whole block has the first in a field of its own.
fn reasoning(content: &Value, reply: &mut Assembly) -> Result<(), ProviderError> {
    let shown = if content["reasoningText"].is_object() { &content["reasoningText"] } else { content };
    reply.thinking(text(&shown["text"]))?;
    reply.signature(text(&shown["signature"]))?;
    match text(&content["redactedContent"]) {
        "" => Ok(()),
        data => reply.part(Part::RedactedThinking { data: data.to_owned() }),
    }
}

fn end(ended: &Value, reply: &mut Assembly) {
    let reason = text(&ended["stopReason"]);
    if !reason.is_empty() {
        reply.stop(stop(reason));
    }
}

/// What the stop reasons mean. One that is not known is an end.
fn stop(reason: &str) -> Stop {
    match reason {
        "tool_use" => Stop::Tools,
        "max_tokens" => Stop::OutputLimit,
        "model_context_window_exceeded" => Stop::WindowFull,
        "guardrail_intervened" | "content_filtered" | "content_filter" => Stop::Filtered,
        "refusal" => Stop::Refused,
        "pause_turn" => Stop::Paused,
        "malformed_model_output" | "malformed_tool_use" | "error" => {
            Stop::Broken(format!("the provider ended it with `{reason}`"))
        }
        _ => Stop::End,
    }
}

/// The tokens counted so far. What is read from the cache or written to it is among the total and not among the input.
fn counted(usage: &Value) -> Usage {
    let tokens = |field: &str| json::count(&usage[field]);
    let (input, output) = (tokens("inputTokens"), tokens("outputTokens"));
    let cached = tokens("cacheReadInputTokens");
    let written = tokens("cacheWriteInputTokens");
    let all_input = match usage["totalTokens"].as_u64() {
        Some(total) => total.saturating_sub(output),
        None => input.saturating_add(cached).saturating_add(written),
    };
    Usage {
        input_tokens: all_input.max(input),
        cached_tokens: cached,
        cache_write_tokens: written,
        output_tokens: output,
        reasoning_tokens: 0,
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
