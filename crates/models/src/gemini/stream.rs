//! A chunk of a stream, or a whole response: they have one form.

use serde_json::Value;
use serde_json::json;

use super::is_of_server;
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

/// What was read of a reply.
#[derive(Debug, Default)]
pub struct Progress {
    /// How many calls. Each comes whole, so that each has a key of its own.
    calls: usize,
    /// Whether the reason of a filter was read: it may be repeated.
    is_filtered: bool,
}

/// Reads a chunk, or several that a gateway puts into one event.
pub(super) fn event(
    progress: &mut Progress,
    event: Event<'_>,
    reply: &mut Assembly,
) -> Result<(), ProviderError> {
    chunk(progress, &event.data, reply)
}

fn chunk(progress: &mut Progress, data: &Value, reply: &mut Assembly) -> Result<(), ProviderError> {
    if let Value::Array(chunks) = data {
        return chunks.iter().try_for_each(|one| response(progress, one, reply));
    }
    response(progress, data, reply)
}

/// Reads a whole response, or the array of chunks that comes where no events are asked for.
pub(super) fn whole(body: Value, reply: &mut Assembly) -> Result<(), ProviderError> {
    let body = &body;
    let is_response = |body: &Value| {
        let body = inner(body);
        ["candidates", "promptFeedback", "usageMetadata"].iter().any(|field| !body[*field].is_null())
    };
    let found = match body {
        Value::Array(chunks) => chunks.iter().any(is_response),
        body => is_response(body),
    };
    if !found {
        return Err(ProviderError::not_a_reply(&body.to_string()));
    }
    chunk(&mut Progress::default(), body, reply)
}

/// The response, which some gateways wrap.
fn inner(data: &Value) -> &Value {
    if data["response"].is_object() { &data["response"] } else { data }
}

fn response(progress: &mut Progress, data: &Value, reply: &mut Assembly) -> Result<(), ProviderError> {
    if let Some(error) = ProviderError::in_json(data) {
        return Err(error);
    }
    let data = inner(data);
    if data["usageMetadata"].is_object() {
        reply.usage(counted(&data["usageMetadata"]));
    }
    let blocked = &data["promptFeedback"];
    if let Some(reason) = reason(&blocked["blockReason"]) {
        filtered(progress, reason, &blocked["blockReasonMessage"], reply)?;
    }
    // One candidate is asked for.
    let candidate = &data["candidates"][0];
    let parts = candidate["content"]["parts"].as_array().map(Vec::as_slice).unwrap_or_default();
    parts.iter().try_for_each(|one| part(progress, one, reply))?;
    match reason(&candidate["finishReason"]) {
        Some(reason) => end(progress, reason, &candidate["finishMessage"], reply),
        None => Ok(()),
    }
}

fn part(progress: &mut Progress, part: &Value, reply: &mut Assembly) -> Result<(), ProviderError> {
    let signature = part["thoughtSignature"].as_str().filter(|signature| !signature.is_empty());
    let text = part["text"].as_str().unwrap_or_default();
    if part["functionCall"].is_object() {
        // Some gateways put a text into the same part.
        if part["thought"] != true {
            reply.text(text)?;
        }
        return call(progress, &part["functionCall"], signature, reply);
    }
    if is_of_server(part) {
        return reply.part(Part::Opaque { data: part.clone() });
    }
    let is_thought = part["thought"] == true;
    match signature {
        None if is_thought => reply.thinking(text),
        None => reply.text(text),
        Some(_) if text.is_empty() => reply.part(Part::Opaque { data: part.clone() }),
        Some(signature) => signed(text, is_thought, signature, reply),
    }
}

/// A text or a thought with its signature. The parts around it stay apart from it.
fn signed(text: &str, is_thought: bool, signature: &str, reply: &mut Assembly) -> Result<(), ProviderError> {
    if is_thought {
        reply.thinking(text)?;
        reply.signature(signature)?;
    } else {
        // A signature that stands before a text is the text's own.
        reply.close_part();
        reply.signature(signature)?;
        reply.text(text)?;
    }
    reply.close_part();
    Ok(())
}

fn call(
    progress: &mut Progress,
    function: &Value,
    signature: Option<&str>,
    reply: &mut Assembly,
) -> Result<(), ProviderError> {
    progress.calls += 1;
    reply.call(&CallDelta {
        key: CallKey::of(&json!(progress.calls)),
        id: function["id"].as_str().unwrap_or_default().trim(),
        name: function["name"].as_str().unwrap_or_default(),
        arguments: arguments_of(&function["args"]),
        // Some gateways put it inside.
        thought_signature: signature.or(function["thoughtSignature"].as_str()),
    })
}

/// A reason that is given, in whichever case.
fn reason(value: &Value) -> Option<&str> {
    value.as_str().filter(|reason| !reason.is_empty() && !reason.ends_with("UNSPECIFIED"))
}

/// Why the reply ended. All reasons but two are failures, and so is one that is not known.
fn end(
    progress: &mut Progress,
    reason: &str,
    message: &Value,
    reply: &mut Assembly,
) -> Result<(), ProviderError> {
    match reason.to_ascii_uppercase().as_str() {
        "STOP" | "END_TURN" | "TOOL_CALLS" | "FUNCTION_CALL" => reply.stop(Stop::End),
        "MAX_TOKENS" | "LENGTH" => reply.stop(Stop::OutputLimit),
        "SAFETY"
        | "RECITATION"
        | "LANGUAGE"
        | "BLOCKLIST"
        | "PROHIBITED_CONTENT"
        | "SPII"
        | "CONTENT_FILTER"
        | "MODEL_ARMOR"
        | "IMAGE_SAFETY"
        | "IMAGE_PROHIBITED_CONTENT"
        | "IMAGE_RECITATION" => return filtered(progress, reason, message, reply),
        _ => {
            let words = message.as_str().map(|words| format!(": {words}")).unwrap_or_default();
            reply.stop(Stop::Broken(format!("the provider ended it with `{reason}`{words}")));
        }
    }
    Ok(())
}

fn filtered(
    progress: &mut Progress,
    reason: &str,
    message: &Value,
    reply: &mut Assembly,
) -> Result<(), ProviderError> {
    if !progress.is_filtered {
        let words = message.as_str().map(|words| format!("{reason}: {words}"));
        reply.refusal(words.as_deref().unwrap_or(reason))?;
        progress.is_filtered = true;
    }
    reply.stop(Stop::Filtered);
    Ok(())
}

/// The tokens counted so far. Thinking is not among the provider's output tokens.
fn counted(usage: &Value) -> Usage {
    let tokens = |field: &str| json::count(&usage[field]);
    let reasoning_tokens = tokens("thoughtsTokenCount");
    Usage {
        input_tokens: tokens("promptTokenCount").saturating_add(tokens("toolUsePromptTokenCount")),
        cached_tokens: tokens("cachedContentTokenCount"),
        cache_write_tokens: 0,
        output_tokens: tokens("candidatesTokenCount").saturating_add(reasoning_tokens),
        reasoning_tokens,
    }
}
