//! The events of which the streams of the tests are made.

use serde_json::Value;
use serde_json::json;

pub(super) const NOTE: &str = r#"{"a":"x"}"#;
pub(super) const OTHER: &str = r#"{"b":"y"}"#;
/// What a stream without an end comes to.
pub(super) const CUT: &str = r#"BrokenOff("the stream ended in the middle of the reply")"#;

/// An event of `response.` and a kind, at a place in the output.
pub(super) fn event(kind: &str, place: Value, fields: Value) -> String {
    let mut data = json!({"type": format!("response.{kind}")});
    let given = fields.as_object().unwrap().clone();
    data.as_object_mut().unwrap().extend(given);
    if place != "none" {
        data["output_index"] = place;
    }
    format!("event: response.{kind}\ndata: {data}\n\n")
}

pub(super) fn added(place: impl Into<Value>, item: Value) -> String {
    event("output_item.added", place.into(), json!({"item": item}))
}

pub(super) fn item_done(place: impl Into<Value>, item: Value) -> String {
    event("output_item.done", place.into(), json!({"item": item}))
}

pub(super) fn message(text: &str) -> Value {
    json!({"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": [{"type": "output_text", "text": text, "annotations": []}]})
}

pub(super) fn call(id: &str, name: &str, arguments: &str) -> Value {
    json!({"type": "function_call", "id": format!("fc_{id}"), "call_id": id, "name": name, "arguments": arguments, "status": "completed"})
}

pub(super) fn text(place: impl Into<Value>, piece: &str) -> String {
    event("output_text.delta", place.into(), json!({"item_id": "msg_1", "content_index": 0, "delta": piece}))
}

pub(super) fn arguments(place: impl Into<Value>, id: &str, piece: &str) -> String {
    event(
        "function_call_arguments.delta",
        place.into(),
        json!({"item_id": format!("fc_{id}"), "delta": piece}),
    )
}

/// A whole response of this status.
pub(super) fn response(status: &str, output: Value) -> Value {
    let usage = json!({"input_tokens": 20, "input_tokens_details": {"cached_tokens": 5}, "output_tokens": 9, "output_tokens_details": {"reasoning_tokens": 4}, "total_tokens": 29});
    json!({"id": "resp_1", "object": "response", "status": status, "output": output, "usage": usage, "error": null, "incomplete_details": null})
}

pub(super) fn end(kind: &str, response: Value) -> String {
    event(kind, "none".into(), json!({"response": response}))
}

pub(super) fn begin() -> String {
    end("created", response("in_progress", json!([])))
        + &end("in_progress", response("in_progress", json!([])))
}

pub(super) fn completed() -> String {
    end("completed", response("completed", json!([])))
}

/// A message, as OpenAI streams it.
pub(super) fn spoken(place: u32, words: &str) -> String {
    let empty = json!({"type": "message", "id": "msg_1", "role": "assistant", "content": []});
    let part = json!({"type": "output_text", "text": ""});
    let whole = json!({"item_id": "msg_1", "content_index": 0, "text": words});
    [
        added(place, empty),
        event("content_part.added", place.into(), json!({"content_index": 0, "part": part})),
        text(place, &words[..2]),
        text(place, &words[2..]),
        event("output_text.done", place.into(), whole),
        event(
            "content_part.done",
            place.into(),
            json!({"content_index": 0, "part": {"type": "output_text", "text": words}}),
        ),
        item_done(place, message(words)),
    ]
    .concat()
}

/// A call, as OpenAI streams it.
pub(super) fn called(place: u32, id: &str, name: &str, whole: &str) -> String {
    let done = json!({"item_id": format!("fc_{id}"), "arguments": whole});
    [
        added(place, call(id, name, "")),
        arguments(place, id, &whole[..3]),
        arguments(place, id, &whole[3..]),
        event("function_call_arguments.done", place.into(), done),
        item_done(place, call(id, name, whole)),
    ]
    .concat()
}

pub(super) fn incomplete(reason: Value) -> String {
    let mut cut = response("incomplete", json!([message("hello")]));
    cut["incomplete_details"] = json!({"reason": reason});
    end("incomplete", cut)
}
