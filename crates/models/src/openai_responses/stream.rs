//! The events of a streamed response, or a whole one: its items are read alike.
//!
//! The same text comes several times: in pieces, when its part ends, when its item ends, and with the whole response. It is
//! taken once, from whichever comes first. For the arguments of a call, what comes at the end replaces the pieces.

use serde_json::Map;
use serde_json::Value;
use serde_json::json;

use super::OF_SERVER;
use super::items::Items;
use super::items::Kind;
use crate::conversation::Part;
use crate::error::ProviderError;
use crate::openai::counted;
use crate::reply::Assembly;
use crate::reply::Stop;
use crate::tool_calls::CallDelta;
use crate::tool_calls::CallKey;
use crate::tool_calls::arguments_of;
use crate::wire::Event;

/// What a piece is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Of {
    Text,
    Refusal,
    Reasoning,
}

/// Reads an event.
pub(super) fn event(
    items: &mut Items,
    Event { name, mut data }: Event<'_>,
    reply: &mut Assembly,
) -> Result<(), ProviderError> {
    let kind = data["type"].as_str().or(name).unwrap_or_default().to_owned();
    match kind.strip_prefix("response.").unwrap_or(&kind) {
        "output_item.added" => {
            let place = CallKey::of(&data["output_index"]);
            let at = items.of_beginning(&data["item"], place, reply)?;
            begin(items, at, &data["item"], reply)
        }
        "output_item.done" => {
            let place = CallKey::of(&data["output_index"]);
            let at = items.of_end(&data["item"], place, reply)?;
            end(items, at, data["item"].take(), reply)
        }
        "output_text.delta" | "output_audio_transcript.delta" | "audio.transcript.delta" => {
            delta(items, &data, Of::Text, reply)
        }
        "output_text.done" => done(items, &data, Of::Text, &data["text"], reply),
        "refusal.delta" => delta(items, &data, Of::Refusal, reply),
        "refusal.done" => done(items, &data, Of::Refusal, &data["refusal"], reply),
        "reasoning_summary_text.delta"
        | "reasoning_text.delta"
        | "reasoning_summary.delta"
        | "reasoning.delta" => delta(items, &data, Of::Reasoning, reply),
        "reasoning_summary_text.done" | "reasoning_text.done" => {
            done(items, &data, Of::Reasoning, &data["text"], reply)
        }
        "function_call_arguments.delta" => {
            let key = key(items.of_piece(&data, Kind::Call, reply)?);
            reply.call(&CallDelta { key, arguments: arguments_of(&data["delta"]), ..CallDelta::default() })
        }
        "function_call_arguments.done" => {
            let at = items.of_piece(&data, Kind::Call, reply)?;
            whole_call(items, at, &data, reply)
        }
        "completed" | "incomplete" | "failed" | "cancelled" | "done" if data["response"].is_object() => {
            finish(items, data["response"].take(), &kind, reply)
        }
        "failed" => Err(failure(&data)),
        "error" => Err(ProviderError::in_error_event(&data.to_string())),
        // A gateway that does not stream.
        _ if data["output"].is_array() && reply.is_empty() => whole(data, reply),
        _ => {
            reply.keep_alive();
            Ok(())
        }
    }
}

/// Reads a whole response.
pub(super) fn whole(body: Value, reply: &mut Assembly) -> Result<(), ProviderError> {
    if !body["output"].is_array() {
        return Err(ProviderError::not_a_reply(&body.to_string()));
    }
    finish(&mut Items::default(), body, "", reply)
}

/// A piece of text.
fn delta(items: &mut Items, data: &Value, of: Of, reply: &mut Assembly) -> Result<(), ProviderError> {
    // An older event has the piece of reasoning in an object.
    let in_object = if of == Of::Reasoning { text(&data["delta"]["text"]) } else { "" };
    let piece = data["delta"].as_str().unwrap_or(in_object);
    if piece.is_empty() {
        return Ok(());
    }
    let at = items.of_piece(data, of.kind(), reply)?;
    section(items, at, data, of, reply)?;
    of.write(at, piece, reply)
}

/// The whole text of a section that has ended.
fn done(
    items: &mut Items,
    data: &Value,
    of: Of,
    whole: &Value,
    reply: &mut Assembly,
) -> Result<(), ProviderError> {
    if text(whole).is_empty() {
        return Ok(());
    }
    let at = items.of_piece(data, of.kind(), reply)?;
    if section(items, at, data, of, reply)? {
        of.write(at, text(whole), reply)?;
    }
    Ok(())
}

/// Marks the section that `data` counts. Returns whether nothing of it had come. Sections of reasoning are set apart.
fn section(
    items: &mut Items,
    at: usize,
    data: &Value,
    of: Of,
    reply: &mut Assembly,
) -> Result<bool, ProviderError> {
    let Some(item) = items.get(at) else { return Ok(false) };
    let was_blank = item.is_blank();
    let number = ["content_index", "summary_index"].iter().find_map(|field| CallKey::of(&data[*field]));
    let is_new = item.mark(number, reply)?;
    if is_new && !was_blank && of == Of::Reasoning {
        of.write(at, "\n\n", reply)?;
    }
    Ok(is_new)
}

impl Of {
    fn kind(self) -> Kind {
        match self {
            Self::Text | Self::Refusal => Kind::Message,
            Self::Reasoning => Kind::Reasoning,
        }
    }

    fn write(self, at: usize, piece: &str, reply: &mut Assembly) -> Result<(), ProviderError> {
        reply.select(at);
        match self {
            Self::Text => reply.text(piece),
            Self::Refusal => reply.refusal(piece),
            Self::Reasoning => reply.thinking(piece),
        }
    }
}

/// An item begins.
fn begin(items: &mut Items, at: usize, item: &Value, reply: &mut Assembly) -> Result<(), ProviderError> {
    match Kind::of(item) {
        Kind::Call => whole_call(items, at, item, reply),
        Kind::Message => begin_message(items, at, item, reply),
        Kind::Reasoning | Kind::Other => Ok(()),
    }
}

/// What is known of a call: its ids and its name the first time, and the arguments that came.
fn whole_call(items: &mut Items, at: usize, item: &Value, reply: &mut Assembly) -> Result<(), ProviderError> {
    let Some(known) = items.get(at) else { return Ok(()) };
    let arguments = arguments_of(&item["arguments"]);
    // Before the pieces, an empty object stands for nothing.
    let arguments = if known.is_named || arguments.trim() != "{}" { arguments } else { "".into() };
    let mut call = CallDelta { key: key(at), arguments, ..CallDelta::default() };
    if !known.is_named {
        let ids = ["call_id", "id"].map(|field| text(&item[field]).trim());
        call.id = ids.into_iter().find(|id| !id.is_empty()).unwrap_or_default();
        call.name = text(&item["name"]);
        known.is_named = !call.name.is_empty();
    }
    reply.whole_call(&call)
}

/// Keeps what the provider says of the purpose of a message, which it wants back. It stands before the text.
fn begin_message(
    items: &mut Items,
    at: usize,
    item: &Value,
    reply: &mut Assembly,
) -> Result<(), ProviderError> {
    let Some(known) = items.get(at) else { return Ok(()) };
    let phase = text(&item["phase"]);
    if phase.is_empty() || known.has_phase || !known.is_blank() {
        return Ok(());
    }
    known.has_phase = true;
    reply.select(at);
    reply.part(Part::Opaque { data: json!({"type": "message", "phase": phase}) })
}

/// An item has ended: takes what has not come of it.
fn end(items: &mut Items, at: usize, item: Value, reply: &mut Assembly) -> Result<(), ProviderError> {
    if items.get(at).is_none_or(|known| known.is_done) {
        return Ok(());
    }
    let is_cut = item["status"] == "incomplete";
    begin(items, at, &item, reply)?;
    match Kind::of(&item) {
        Kind::Message => {
            rest(items, at, &item["content"], Of::Text, "text", reply)?;
            rest(items, at, &item["content"], Of::Refusal, "refusal", reply)?;
        }
        Kind::Reasoning => {
            rest(items, at, &item["summary"], Of::Reasoning, "text", reply)?;
            rest(items, at, &item["content"], Of::Reasoning, "text", reply)?;
            keep(at, reasoning(item), reply)?;
        }
        Kind::Call => {}
        Kind::Other => keep(at, of_server(item), reply)?,
    }
    if let Some(known) = items.get(at) {
        known.is_done = !is_cut;
    }
    Ok(())
}

/// Takes the parts of which nothing has come.
fn rest(
    items: &mut Items,
    at: usize,
    parts: &Value,
    of: Of,
    field: &str,
    reply: &mut Assembly,
) -> Result<(), ProviderError> {
    for (index, part) in parts.as_array().into_iter().flatten().enumerate() {
        let words = text(&part[field]);
        if !words.is_empty() && section(items, at, &json!({"content_index": index}), of, reply)? {
            of.write(at, words, reply)?;
        }
    }
    Ok(())
}

fn keep(at: usize, item: Option<Value>, reply: &mut Assembly) -> Result<(), ProviderError> {
    let Some(data) = item else { return Ok(()) };
    reply.select(at);
    reply.part(Part::Opaque { data })
}

/// A reasoning item as it goes back: encrypted, or else in the open. None if neither came.
fn reasoning(mut item: Value) -> Option<Value> {
    let mut kept = Map::new();
    kept.insert("type".to_owned(), json!("reasoning"));
    let summary = Some(item["summary"].take()).filter(Value::is_array);
    kept.insert("summary".to_owned(), summary.unwrap_or_else(|| json!([])));
    let (encrypted, content) = (item["encrypted_content"].take(), item["content"].take());
    if !text(&encrypted).is_empty() {
        kept.insert("encrypted_content".to_owned(), encrypted);
    } else if content.as_array().is_some_and(|parts| !parts.is_empty()) {
        kept.insert("content".to_owned(), content);
    } else {
        return None;
    }
    Some(Value::Object(kept))
}

/// An item of a tool that the provider runs itself, as it goes back.
fn of_server(mut item: Value) -> Option<Value> {
    if !OF_SERVER.contains(&text(&item["type"])) {
        return None;
    }
    item.as_object_mut()?.remove("id");
    Some(item)
}

/// The response has ended: takes what has not come of its items, the tokens, and why it ended.
fn finish(
    items: &mut Items,
    mut response: Value,
    event: &str,
    reply: &mut Assembly,
) -> Result<(), ProviderError> {
    // A kind of which something came has come, whatever names the items have here: a call must not be made twice.
    let kinds = items.kinds();
    let output = match response["output"].take() {
        Value::Array(output) => output,
        _ => Vec::new(),
    };
    for (index, item) in output.into_iter().enumerate() {
        let place = CallKey::of(&json!(index));
        let at = match items.known(&item, place.as_ref()) {
            Some(known) => known,
            None if kinds.contains(&Kind::of(&item)) => continue,
            None => items.of_beginning(&item, place, reply)?,
        };
        end(items, at, item, reply)?;
    }
    reply.usage(counted(&response["usage"]));
    let reason = text(&response["incomplete_details"]["reason"]);
    match (event, text(&response["status"])) {
        ("response.failed", _) | (_, "failed") => return Err(failure(&response)),
        ("response.cancelled", _) | (_, "cancelled") => {
            reply.stop(Stop::Broken("the provider cancelled it".to_owned()));
        }
        ("", "queued" | "in_progress") => {
            reply.stop(Stop::Broken("the provider has not finished it".to_owned()));
        }
        ("response.incomplete", _) | (_, "incomplete") => reply.stop(cut(reason)),
        _ if !reason.is_empty() => reply.stop(cut(reason)),
        _ => reply.stop(Stop::End),
    }
    reply.complete();
    Ok(())
}

/// Why a response is incomplete.
fn cut(reason: &str) -> Stop {
    match reason {
        "" | "max_output_tokens" | "max_tokens" | "length" => Stop::OutputLimit,
        "content_filter" | "safety" => Stop::Filtered,
        "max_prompt_tokens" | "context_length_exceeded" | "model_context_window_exceeded" => Stop::WindowFull,
        other => Stop::Broken(format!("the provider ended it with `{other}`")),
    }
}

fn failure(document: &Value) -> ProviderError {
    ProviderError::in_json(document)
        .unwrap_or_else(|| ProviderError::named("server_error", "the response failed, for no given reason"))
}

fn key(at: usize) -> Option<CallKey> {
    CallKey::of(&json!(at))
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
