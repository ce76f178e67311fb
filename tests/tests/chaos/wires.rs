//! The five APIs of the provider: which one a request speaks, what stands in it, and a reply in events of each.

use std::collections::BTreeSet;

use legwork_tests::provider::bedrock::frame;
use serde_json::Value;
use serde_json::json;

use crate::random::Random;

/// An API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Wire {
    /// OpenAI's chat completions.
    Chat,
    /// OpenAI's Responses.
    Responses,
    /// Anthropic's Messages.
    Messages,
    /// Google's Gemini.
    Gemini,
    /// Bedrock's Converse.
    Converse,
}

/// What a reply says.
#[derive(Debug, Clone)]
pub(crate) struct Said {
    /// The words of the text, each with what follows it.
    pub(crate) words: Vec<String>,
    /// Names and arguments of the calls.
    pub(crate) calls: Vec<(String, String)>,
}

impl Wire {
    /// The API of a request.
    pub(crate) fn of(body: &Value) -> Self {
        match body {
            body if body["contents"].is_array() => Self::Gemini,
            body if body["input"].is_array() => Self::Responses,
            body if body["stream"] != true => Self::Converse,
            body if body["system"].is_array() => Self::Messages,
            _ => Self::Chat,
        }
    }

    /// The number of turns that the conversation of a request has.
    pub(crate) fn turns(self, body: &Value) -> usize {
        let count = |list: &Value, role: &str| {
            list.as_array().into_iter().flatten().filter(|message| message["role"] == role).count()
        };
        match self {
            Self::Chat | Self::Messages | Self::Converse => count(&body["messages"], "assistant"),
            Self::Gemini => count(&body["contents"], "model"),
            // The items of one turn follow each other.
            Self::Responses => {
                let of_model = |item: &Value| {
                    item["role"] == "assistant"
                        || item["type"] == "function_call"
                        || item["type"] == "reasoning"
                };
                let items: Vec<bool> = body["input"].as_array().into_iter().flatten().map(of_model).collect();
                let begins = |at: usize| items[at] && (at == 0 || !items[at - 1]);
                (0..items.len()).filter(|&at| begins(at)).count()
            }
        }
    }

    /// What is wrong with the calls and results of a request: a provider would refuse it.
    pub(crate) fn refusal(self, body: &Value) -> Option<String> {
        let (calls, results) = match self {
            Self::Chat => ("/function/arguments", "/tool_call_id"),
            _ => ("", ""),
        };
        let (mut called, mut answered) = (Vec::new(), Vec::new());
        visit(body, &mut |object| {
            let id = |place: &str| object.pointer(place).and_then(Value::as_str).map(str::to_owned);
            match self {
                Self::Chat if object.pointer(calls).is_some() => called.extend(id("/id")),
                Self::Chat => answered.extend(id(results)),
                Self::Responses if object["type"] == "function_call" => called.extend(id("/call_id")),
                Self::Responses => {
                    answered.extend(id("/call_id").filter(|_| object["type"] == "function_call_output"));
                }
                Self::Messages => {
                    called.extend(id("/id").filter(|_| object["type"] == "tool_use"));
                    answered.extend(id("/tool_use_id"));
                }
                Self::Converse => {
                    called.extend(id("/toolUse/toolUseId"));
                    answered.extend(id("/toolResult/toolUseId"));
                }
                Self::Gemini => {
                    called.extend(id("/functionCall/id"));
                    answered.extend(id("/functionResponse/id"));
                }
            }
        });
        let distinct: BTreeSet<&String> = called.iter().collect();
        if distinct.len() < called.len() {
            return Some(format!("an id of a call stands twice: {called:?}"));
        }
        let pairs = answered.iter().collect::<BTreeSet<_>>() == distinct && answered.len() == called.len();
        (!pairs).then(|| format!("calls {called:?} have results {answered:?}"))
    }

    /// The events of a reply, each with its name. `random` decides about its form.
    pub(crate) fn events(self, said: &Said, random: &mut Random) -> Vec<(String, Value)> {
        match self {
            Self::Chat => chat(said, random),
            Self::Responses => responses(said, random),
            Self::Messages => messages(said, random),
            Self::Gemini => gemini(said, random),
            Self::Converse => converse(said, random),
        }
    }

    /// The event of an error within a stream.
    pub(crate) fn error(self, random: &mut Random) -> (String, Value) {
        let error = match self {
            Self::Chat => json!({"error": {"code": 502, "message": "on purpose"}}),
            Self::Responses => json!({"type": "error", "code": "server_error", "message": "on purpose"}),
            Self::Messages => {
                json!({"type": "error", "error": {"type": "api_error", "message": "on purpose"}})
            }
            Self::Gemini => json!({"error": {"code": 500, "status": "INTERNAL", "message": "on purpose"}}),
            Self::Converse => json!({"message": "on purpose"}),
        };
        let name = if self == Self::Converse { "internalServerException" } else { "error" };
        let named = self == Self::Converse || random.once_in(2);
        (if named { name.to_owned() } else { String::new() }, error)
    }

    /// The bytes of some events.
    pub(crate) fn bytes(self, events: &[(String, Value)], random: &mut Random) -> Vec<u8> {
        if self != Self::Converse {
            return server_sent(events, random);
        }
        let kind = |name: &str| if name.ends_with("Exception") { "exception" } else { "event" };
        events.iter().flat_map(|(name, data)| frame(kind(name), name, data)).collect()
    }
}

/// Calls `look` with each object in a value.
fn visit(value: &Value, look: &mut impl FnMut(&Value)) {
    match value {
        Value::Object(fields) => {
            look(value);
            fields.values().for_each(|field| visit(field, look));
        }
        Value::Array(items) => items.iter().for_each(|item| visit(item, look)),
        _ => {}
    }
}

/// Events with one of the line ends, and what else servers make of the format.
fn server_sent(events: &[(String, Value)], random: &mut Random) -> Vec<u8> {
    let end = ["\n", "\r\n", "\r"][random.index(3)];
    let space = if random.once_in(3) { "" } else { " " };
    let mut text = String::from(if random.once_in(6) { "\u{feff}" } else { "" });
    for (name, data) in events {
        if random.once_in(8) {
            text += &format!(": keep-alive{end}{end}");
        }
        if !name.is_empty() {
            text += &format!("event:{space}{name}{end}");
        }
        let data = data.as_str().map_or_else(|| data.to_string(), str::to_owned);
        text += &format!("data:{space}{data}{end}{end}");
    }
    if random.once_in(6) {
        text.truncate(text.trim_end().len());
    }
    text.into_bytes()
}

/// A text in pieces at random.
fn pieces(text: &str, random: &mut Random) -> Vec<String> {
    let mut pieces = vec![String::new()];
    for character in text.chars() {
        if random.once_in(12) {
            pieces.push(String::new());
        }
        pieces.last_mut().unwrap().push(character);
    }
    pieces
}

/// One of these.
fn one_of<T: Clone>(all: &[T], random: &mut Random) -> T {
    all[random.index(all.len())].clone()
}

fn chat(said: &Said, random: &mut Random) -> Vec<(String, Value)> {
    let chunk = |delta: Value| json!({"choices": [{"index": 0, "delta": delta, "finish_reason": null}]});
    let mut chunks = Vec::new();
    if random.once_in(2) {
        chunks.push(chunk(json!({"role": "assistant", "content": "", "refusal": null})));
    }
    if random.once_in(3) {
        chunks.push(json!({"choices": [], "prompt_filter_results": []}));
        chunks.push(chunk(json!({one_of(&["reasoning", "reasoning_content"], random): "hm"})));
    }
    for word in &said.words {
        let listed = random.once_in(8);
        let content = if listed { json!([{"type": "text", "text": word}]) } else { json!(word) };
        chunks.push(chunk(json!({"content": content})));
    }
    let form = random.below(7);
    let same_ids = random.once_in(4);
    for (index, (name, arguments)) in said.calls.iter().enumerate() {
        let key = match form {
            0 => json!(index + 1),
            1 => json!(u64::from(u32::MAX) - index as u64),
            2 => json!(index.to_string()),
            3 => Value::Null,
            4 => json!(0),
            _ => json!(index),
        };
        let id = if same_ids { "call_0".to_owned() } else { format!("call_{index}") };
        let call = |id: &str, name: &str, arguments: Value| {
            chunk(
                json!({"tool_calls": [{"index": key, "id": id, "type": "function", "function": {"name": name, "arguments": arguments}}]}),
            )
        };
        match random.below(4) {
            // Without ids and with one index for all, pieces of two calls could not be told apart.
            0 | 1 if !same_ids => {
                let empty = if random.once_in(3) { "{}" } else { "" };
                chunks.push(call(&id, name, json!(empty)));
                chunks.extend(pieces(arguments, random).iter().map(|piece| call("", "", json!(piece))));
            }
            2 => chunks.push(call(&id, name, serde_json::from_str(arguments).unwrap())),
            _ => chunks.push(call(&id, name, json!(arguments))),
        }
    }
    let reason = if said.calls.is_empty() {
        one_of(&["stop", "STOP", "eos"], random)
    } else {
        one_of(&["tool_calls", "stop"], random)
    };
    chunks.push(json!({"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]}));
    chunks.push(json!({"choices": [], "usage": {"prompt_tokens": 20, "completion_tokens": 9}}));
    if random.once_in(2) {
        chunks.push(json!("[DONE]"));
    }
    chunks.into_iter().map(|chunk| (String::new(), chunk)).collect()
}

/// The name of an event whose data has it too.
fn named(events: Vec<Value>, random: &mut Random) -> Vec<(String, Value)> {
    let unnamed = random.once_in(3);
    let name = |event: &Value| event["type"].as_str().filter(|_| !unnamed).unwrap_or_default().to_owned();
    events.into_iter().map(|event| (name(&event), event)).collect()
}

fn messages(said: &Said, random: &mut Random) -> Vec<(String, Value)> {
    let mut events = vec![
        json!({"type": "message_start", "message": {"type": "message", "content": [], "usage": {"input_tokens": 20, "output_tokens": 1}}}),
    ];
    let same_index = random.once_in(4);
    let mut index = random.below(9);
    let mut block = |events: &mut Vec<Value>, start: Value, deltas: Vec<Value>| {
        index += u64::from(!same_index);
        events.push(json!({"type": "content_block_start", "index": index, "content_block": start}));
        events.extend(
            deltas
                .into_iter()
                .map(|delta| json!({"type": "content_block_delta", "index": index, "delta": delta})),
        );
        events.push(json!({"type": "content_block_stop", "index": index}));
    };
    if random.once_in(2) {
        let thinking = vec![
            json!({"type": "thinking_delta", "thinking": "hm"}),
            json!({"type": "signature_delta", "signature": "s"}),
        ];
        block(&mut events, json!({"type": "thinking", "thinking": "", "signature": ""}), thinking);
        block(&mut events, json!({"type": "redacted_thinking", "data": "xyz"}), Vec::new());
    }
    if random.once_in(4) {
        block(&mut events, json!({"type": "hologram"}), vec![json!({"type": "hologram_delta"})]);
    }
    let words = said.words.iter().map(|word| json!({"type": "text_delta", "text": word})).collect();
    block(&mut events, json!({"type": "text", "text": ""}), words);
    events.push(json!({"type": "ping"}));
    for (at, (name, arguments)) in said.calls.iter().enumerate() {
        let id = one_of(&[format!("toolu_{at}"), String::new(), "toolu_0".into()], random);
        let start = |input: Value| json!({"type": "tool_use", "id": id, "name": name, "input": input});
        let deltas = pieces(arguments, random)
            .into_iter()
            .map(|piece| json!({"type": "input_json_delta", "partial_json": piece}));
        match random.once_in(3) {
            true => block(&mut events, start(serde_json::from_str(arguments).unwrap()), Vec::new()),
            false => block(&mut events, start(json!({})), deltas.collect()),
        }
    }
    let reason =
        if said.calls.is_empty() { one_of(&["end_turn", "stop_sequence"], random) } else { "tool_use" };
    events.push(
        json!({"type": "message_delta", "delta": {"stop_reason": reason}, "usage": {"output_tokens": 9}}),
    );
    if !random.once_in(4) {
        events.push(json!({"type": "message_stop"}));
    }
    named(events, random)
}

fn responses(said: &Said, random: &mut Random) -> Vec<(String, Value)> {
    let event = |kind: &str, place: usize, more: Value| {
        let mut event = json!({"type": format!("response.{kind}"), "output_index": place});
        event.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        event
    };
    let text = said.words.concat();
    let message = json!({"type": "message", "id": "msg", "role": "assistant", "content": [{"type": "output_text", "text": text}]});
    let mut events = vec![event("created", 0, json!({"response": {"status": "in_progress", "output": []}}))];
    let mut output = vec![message.clone()];
    events.extend(
        said.words.iter().map(|word| event("output_text.delta", 0, json!({"item_id": "msg", "delta": word}))),
    );
    if random.once_in(2) {
        events.push(event("output_text.done", 0, json!({"item_id": "msg", "text": text})));
        events.push(event("output_item.done", 0, json!({"item": message})));
    }
    for (at, (name, arguments)) in said.calls.iter().enumerate() {
        let place = at + 1;
        let item = |arguments: &str| json!({"type": "function_call", "id": format!("fc_{at}"), "call_id": format!("call_{at}"), "name": name, "arguments": arguments});
        let whole = event("output_item.done", place, json!({"item": item(arguments)}));
        let form = random.below(3);
        if form < 2 {
            events.push(event("output_item.added", place, json!({"item": item("")})));
            let pieces = pieces(arguments, random);
            events.extend(pieces.iter().map(|piece| {
                event(
                    "function_call_arguments.delta",
                    place,
                    json!({"item_id": format!("fc_{at}"), "delta": piece}),
                )
            }));
        }
        if form > 0 {
            events.push(whole);
        }
        output.push(item(arguments));
    }
    let output = if random.once_in(2) { json!(output) } else { json!([]) };
    let usage = json!({"input_tokens": 20, "output_tokens": 9});
    events.push(event(
        "completed",
        0,
        json!({"response": {"status": "completed", "output": output, "usage": usage}}),
    ));
    named(events, random)
}

fn gemini(said: &Said, random: &mut Random) -> Vec<(String, Value)> {
    let chunk =
        |parts: Value| json!({"candidates": [{"index": 0, "content": {"role": "model", "parts": parts}}]});
    let mut chunks = Vec::new();
    if random.once_in(2) {
        chunks.push(chunk(json!([{"text": "hm", "thought": true}])));
        chunks.push(json!({"candidates": [], "usageMetadata": {"promptTokenCount": 20}}));
    }
    chunks.extend(said.words.iter().map(|word| chunk(json!([{"text": word}]))));
    for (at, (name, arguments)) in said.calls.iter().enumerate() {
        let args = one_of(&[serde_json::from_str(arguments).unwrap(), json!(arguments)], random);
        let mut function = json!({"name": name, "args": args});
        if random.once_in(2) {
            function["id"] = json!(one_of(&[format!("id{at}"), "id0".to_owned()], random));
        }
        let mut part = json!({"functionCall": function});
        if at == 0 {
            part["thoughtSignature"] = json!("s");
        }
        chunks.push(chunk(json!([part])));
    }
    let usage = json!({"promptTokenCount": 20, "candidatesTokenCount": 9});
    chunks.push(json!({"candidates": [{"finishReason": "STOP"}], "usageMetadata": usage}));
    chunks.into_iter().map(|chunk| (String::new(), chunk)).collect()
}

fn converse(said: &Said, random: &mut Random) -> Vec<(String, Value)> {
    let mut events = vec![("messageStart".to_owned(), json!({"role": "assistant"}))];
    let same_index = random.once_in(4);
    let delta = |index: usize, delta: Value| {
        ("contentBlockDelta".to_owned(), json!({"contentBlockIndex": index, "delta": delta}))
    };
    let stop = |index: usize| ("contentBlockStop".to_owned(), json!({"contentBlockIndex": index}));
    if random.once_in(2) {
        events.push(delta(0, json!({"reasoningContent": {"text": "hm"}})));
        events.push(delta(0, json!({"reasoningContent": {"signature": "s"}})));
        events.push(stop(0));
    }
    events.extend(said.words.iter().map(|word| delta(1, json!({"text": word}))));
    events.push(stop(1));
    for (at, (name, arguments)) in said.calls.iter().enumerate() {
        let index = if same_index { 1 } else { at + 2 };
        let id = one_of(&[format!("tooluse_{at}"), String::new(), "tooluse_0".into()], random);
        let start =
            json!({"contentBlockIndex": index, "start": {"toolUse": {"toolUseId": id, "name": name}}});
        events.push(("contentBlockStart".to_owned(), start));
        let pieces = pieces(arguments, random);
        events.extend(pieces.iter().map(|piece| delta(index, json!({"toolUse": {"input": piece}}))));
        events.push(stop(index));
    }
    let reason = if said.calls.is_empty() { "end_turn" } else { "tool_use" };
    events.push(("messageStop".to_owned(), json!({"stopReason": reason})));
    let usage = json!({"inputTokens": 20, "outputTokens": 9, "totalTokens": 29});
    events.push(("metadata".to_owned(), json!({"usage": usage})));
    events
}
