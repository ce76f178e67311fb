//! The events of a streamed message, or a whole one: its blocks are read alike.

use std::collections::HashMap;
use std::mem;

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

/// The index of a block as the stream gives it. None where it gives none.
type Index = Option<CallKey>;

/// The blocks of a message that may still grow.
#[derive(Debug, Default)]
pub struct Blocks {
    /// The calls by the index of their block. An index may be used again, so each call has a key of its own.
    calls: HashMap<Index, CallKey>,
    /// How many calls have begun.
    begun: usize,
    /// The call that the last block began.
    open: Option<CallKey>,
    /// The block of a tool of the provider that began last.
    of_server: Option<Index>,
    /// An input that came whole with the beginning of its call. It counts unless pieces follow.
    given: Option<(CallKey, String)>,
}

/// Reads an event.
pub(super) fn event(
    blocks: &mut Blocks,
    Event { name, mut data }: Event<'_>,
    reply: &mut Assembly,
) -> Result<(), ProviderError> {
    let kind = data["type"].as_str().or(name).unwrap_or_default().to_owned();
    match kind.as_str() {
        "message_start" => {
            reply.usage(counted(&data["message"]["usage"]));
            Ok(())
        }
        "content_block_start" => {
            let block = data.get_mut("content_block").map(Value::take).unwrap_or_default();
            blocks.start(CallKey::of(&data["index"]), block, reply)
        }
        "content_block_delta" => blocks.grow(&CallKey::of(&data["index"]), &data["delta"], reply),
        "content_block_stop" => blocks.stop(reply),
        "message_delta" => {
            blocks.stop(reply)?;
            reply.usage(counted(&data["usage"]));
            end(&data["delta"], reply)
        }
        "message_stop" => {
            blocks.stop(reply)?;
            reply.complete();
            Ok(())
        }
        // A gateway that does not stream.
        "message" if reply.is_empty() => whole(data, reply),
        _ => {
            reply.keep_alive();
            Ok(())
        }
    }
}

/// Reads a whole message.
pub(super) fn whole(mut body: Value, reply: &mut Assembly) -> Result<(), ProviderError> {
    let content = body.get_mut("content").map(Value::take).unwrap_or_default();
    let mut blocks = Blocks::default();
    match content {
        Value::Array(all) => {
            for (index, block) in all.into_iter().enumerate() {
                blocks.start(CallKey::of(&json!(index)), block, reply)?;
                blocks.stop(reply)?;
            }
        }
        Value::String(text) => reply.text(&text)?,
        _ if body["type"] == "message" => {}
        _ => return Err(ProviderError::not_a_reply(&body.to_string())),
    }
    reply.usage(counted(&body["usage"]));
    end(&body, reply)?;
    reply.complete();
    Ok(())
}

impl Blocks {
    /// Reads the beginning of a block, which may hold all of it.
    fn start(&mut self, index: Index, block: Value, reply: &mut Assembly) -> Result<(), ProviderError> {
        self.stop(reply)?;
        self.calls.remove(&index);
        (self.open, self.of_server) = (None, None);
        match block["type"].as_str() {
            Some("text") => reply.text(text(&block["text"])),
            Some("thinking") => {
                reply.thinking(text(&block["thinking"]))?;
                reply.signature(text(&block["signature"]))
            }
            Some("redacted_thinking") => match text(&block["data"]) {
                "" => Ok(()),
                data => reply.part(Part::RedactedThinking { data: data.to_owned() }),
            },
            Some("tool_use") => self.start_call(index, &block, reply),
            Some(_) if is_of_server(&block) => {
                self.of_server = Some(index);
                reply.part(Part::Opaque { data: block })
            }
            _ => {
                reply.keep_alive();
                Ok(())
            }
        }
    }

    fn start_call(&mut self, index: Index, block: &Value, reply: &mut Assembly) -> Result<(), ProviderError> {
        reply.account(index.as_ref().map_or(0, CallKey::bytes))?;
        self.begun += 1;
        let key = CallKey::of(&json!(self.begun));
        let (id, name) = (text(&block["id"]).trim(), text(&block["name"]));
        reply.call(&CallDelta { key: key.clone(), id, name, ..CallDelta::default() })?;
        if let Some(key) = key {
            let input = arguments_of(&block["input"]);
            let input = Some(input.into_owned()).filter(|input| !matches!(input.trim(), "" | "{}"));
            self.given = input.map(|input| (key.clone(), input));
            self.open = Some(key.clone());
            self.calls.insert(index, key);
        }
        Ok(())
    }

    /// Reads a piece of a block.
    fn grow(&mut self, index: &Index, delta: &Value, reply: &mut Assembly) -> Result<(), ProviderError> {
        match delta["type"].as_str() {
            Some("text_delta") => reply.text(text(&delta["text"])),
            Some("thinking_delta") => reply.thinking(text(&delta["thinking"])),
            Some("signature_delta") => reply.signature(text(&delta["signature"])),
            Some("input_json_delta") => self.input(index, &arguments_of(&delta["partial_json"]), reply),
            _ => {
                reply.keep_alive();
                Ok(())
            }
        }
    }

    /// A piece of the input of a call. One whose index is of no call belongs to the call that is being written.
    fn input(&mut self, index: &Index, piece: &str, reply: &mut Assembly) -> Result<(), ProviderError> {
        if self.of_server.as_ref() == Some(index) {
            return input_of_server(piece, reply);
        }
        let Some(key) = self.calls.get(index).or(self.open.as_ref()) else { return Ok(()) };
        if piece.is_empty() {
            return Ok(());
        }
        self.given.take_if(|(call, _)| call == key);
        let delta = CallDelta { key: Some(key.clone()), arguments: piece.into(), ..CallDelta::default() };
        reply.call(&delta)
    }

    /// The block that is being written has ended.
    fn stop(&mut self, reply: &mut Assembly) -> Result<(), ProviderError> {
        reply.close_part();
        match mem::take(&mut self.given) {
            Some((key, input)) => {
                reply.call(&CallDelta { key: Some(key), arguments: input.into(), ..CallDelta::default() })
            }
            None => Ok(()),
        }
    }
}

/// A piece of the input of a call that the provider runs itself. It is kept as text.
fn input_of_server(piece: &str, reply: &mut Assembly) -> Result<(), ProviderError> {
    let block = reply.last_opaque(piece.len())?.and_then(Value::as_object_mut);
    if let Some(block) = block {
        match block.get_mut("input") {
            Some(Value::String(input)) => input.push_str(piece),
            _ => {
                block.insert("input".to_owned(), json!(piece));
            }
        }
    }
    Ok(())
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// Why the message ended, and in a refusal the words of the provider.
fn end(ended: &Value, reply: &mut Assembly) -> Result<(), ProviderError> {
    let Some(reason) = ended["stop_reason"].as_str().filter(|reason| !reason.is_empty()) else {
        return Ok(());
    };
    let stop = stop(reason);
    if stop == Stop::Refused {
        let details = &ended["stop_details"];
        let words = ["explanation", "category"].iter().find_map(|field| details[*field].as_str());
        reply.refusal(words.unwrap_or_default())?;
    }
    reply.stop(stop);
    Ok(())
}

/// What the stop reasons of Anthropic and of gateways mean. One that is not known is an end.
fn stop(reason: &str) -> Stop {
    match reason {
        "tool_use" | "tool_calls" => Stop::Tools,
        "max_tokens" | "length" => Stop::OutputLimit,
        "model_context_window_exceeded" => Stop::WindowFull,
        "refusal" => Stop::Refused,
        "content_filter" | "content_filtered" | "guardrail_intervened" | "sensitive" => Stop::Filtered,
        "pause_turn" | "pause_run" | "compaction" => Stop::Paused,
        "error" | "abort" | "aborted" | "cancelled" => {
            Stop::Broken(format!("the provider ended it with `{reason}`"))
        }
        _ => Stop::End,
    }
}

/// The tokens counted so far. What is read from the cache or written to it is not among the provider's input tokens.
fn counted(usage: &Value) -> Usage {
    let tokens = |field: &str| json::count(&usage[field]);
    let (read, written) = (tokens("cache_read_input_tokens"), tokens("cache_creation_input_tokens"));
    Usage {
        input_tokens: tokens("input_tokens").saturating_add(read).saturating_add(written),
        cached_tokens: read,
        cache_write_tokens: written,
        output_tokens: tokens("output_tokens"),
        reasoning_tokens: json::count(&usage["output_tokens_details"]["thinking_tokens"]),
    }
}
