//! What the tests of every wire use: a stream as text, how it is cut, and what it must come to.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use proptest::prelude::*;
use serde_json::Value;
use serde_json::json;

use crate::conversation::Content;
use crate::conversation::Message;
use crate::conversation::Part;
use crate::conversation::ToolCall;
use crate::conversation::ToolResult;
use crate::error::ProviderError;
use crate::reader::Close;
pub(crate) use crate::reader::read_segments as read;
use crate::reply::Limits;
use crate::reply::Reply;
use crate::reply::ReplyEvent;
use crate::settings::Form;
use crate::wire::Wire;
use crate::work;

/// A form that any object has.
pub(crate) fn any_object() -> Form {
    Form { name: "answer".into(), description: None, strict: true, schema: json!({"type": "object"}) }
}

/// A call of the tool `note`.
pub(crate) fn note(id: &str) -> ToolCall {
    ToolCall { id: id.into(), name: "note".into(), arguments: "{\"a\":1}".into(), thought_signature: None }
}

/// The result of a call of it.
pub(crate) fn result(call_id: &str, content: impl Into<Content>, is_error: bool) -> Message {
    let (call_id, name) = (call_id.into(), "note".into());
    Message::ToolResult(ToolResult { call_id, name, content: content.into(), is_error })
}

/// The outcome of a response: its events, and the reply or the error.
pub(crate) type Came = (Vec<ReplyEvent>, Result<Reply, ProviderError>);

/// A row of a wire's table: what it is about, the body, and what it comes to in the words of [`told`].
pub(crate) type Case<'a> = (&'a str, String, &'a str);

/// Reads each body whole, by bytes and in pieces of odd sizes, and holds all that comes of it to the row.
pub(crate) fn hold<W: Wire + 'static>(cases: &[Case<'_>]) {
    for (name, body, expected) in cases {
        hold_bytes::<W>(name, body.as_bytes(), expected);
    }
}

/// Holds one body of any bytes to what it must come to.
pub(crate) fn hold_bytes<W: Wire + 'static>(name: &str, bytes: &[u8], expected: &str) {
    let whole = read::<W>(&[bytes], Close::Clean, Limits::default());
    assert_eq!(told(&whole), expected, "{name}");
    for size in [1, 7, 64] {
        let segments: Vec<&[u8]> = bytes.chunks(size).collect();
        assert_eq!(
            read::<W>(&segments, Close::Clean, Limits::default()),
            whole,
            "{name} in pieces of {size}"
        );
    }
}

/// The outcome of a response, in one line: the visible text that was sent, each part of the reply, its end.
///
/// `text` stands as `"text"`, thinking as `(text)` with `#signature`, hidden thinking as `(##data)`, a call as
/// `name[id](arguments)`, what only its maker understands as its JSON; calls that are dropped after `dropped`; usage as
/// `in/cached/out`; then the end, or `kind: error`.
pub(crate) fn told((events, reply): &Came) -> String {
    let sent: String = events
        .iter()
        .filter_map(|event| match event {
            ReplyEvent::Text(text) => Some(text.as_str()),
            _ => None,
        })
        .collect();
    let reply = match reply {
        Ok(reply) => reply,
        Err(error) if sent.is_empty() => return format!("{:?}: {error}", error.kind),
        Err(error) => return format!("{sent:?} {:?}: {error}", error.kind),
    };
    assert_eq!(sent, reply.message.text());
    let mut told: String = reply.message.parts.iter().map(|part| part_told(part) + " ").collect();
    if !reply.dropped_calls.is_empty() {
        told.push_str("dropped ");
        told.extend(reply.dropped_calls.iter().map(|call| part_told(&Part::ToolCall(call.clone())) + " "));
    }
    let usage = reply.message.usage;
    if usage.output_tokens > 0 {
        write!(told, "{}/{}/{} ", usage.input_tokens, usage.cached_tokens, usage.output_tokens).unwrap();
    }
    write!(told, "{:?}", reply.end).unwrap();
    told
}

fn part_told(part: &Part) -> String {
    let mark =
        |signature: &Option<String>| signature.as_ref().map(|text| format!("#{text}")).unwrap_or_default();
    match part {
        Part::Text(text) => format!("{text:?}"),
        Part::Thinking { text, signature } => format!("({text}{})", mark(signature)),
        Part::RedactedThinking { data } => format!("(##{data})"),
        Part::ToolCall(call) => {
            format!("{}[{}]({}){}", call.name, call.id, call.arguments, mark(&call.thought_signature))
        }
        Part::Opaque { data } => sorted(data).to_string(),
    }
}

/// A value with the keys of its objects in order. Another crate of a build may switch on `serde_json/preserve_order`,
/// which prints them as they came.
fn sorted(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let fields: BTreeMap<&String, Value> =
                fields.iter().map(|(key, value)| (key, sorted(value))).collect();
            serde_json::to_value(fields).unwrap()
        }
        Value::Array(items) => items.iter().map(sorted).collect(),
        other => other.clone(),
    }
}

/// Bytes that are a stream or nearly so: pieces that the wire knows, in any order, and any bytes between them.
pub(crate) fn hostile(pieces: Vec<&'static str>) -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        8 => prop::sample::select(pieces).prop_map(|piece| piece.as_bytes().to_vec()),
        2 => prop::sample::select(vec!["data: ", "\n", "\r\n", "\n\n", "event: error\n", ": ping\n", "{", "\u{feff}"])
            .prop_map(|piece| piece.as_bytes().to_vec()),
        1 => prop::collection::vec(any::<u8>(), 0..4),
    ];
    prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

/// Whatever the bytes and however they are cut: the same events and the same end, and never more than the limits.
pub(crate) fn holds_for_any_cut<W: Wire + 'static>(bytes: &[u8], size: usize, broken: bool) {
    let limits = Limits { line_bytes: 400, reply_bytes: 1500, calls: 4 };
    let close = if broken { Close::Broken("reset") } else { Close::Clean };
    let whole = read::<W>(&[bytes], close, limits);
    let segments: Vec<&[u8]> = bytes.chunks(size).collect();
    assert_eq!(read::<W>(&segments, close, limits), whole, "{}", String::from_utf8_lossy(bytes));
    let kept: usize = whole
        .0
        .iter()
        .map(|event| match event {
            ReplyEvent::Text(text) | ReplyEvent::Reasoning(text) => text.len(),
            ReplyEvent::CallGrew { bytes, .. } => *bytes,
            ReplyEvent::CallBegun { .. } | ReplyEvent::Usage(_) | ReplyEvent::KeepAlive => 0,
        })
        .sum();
    assert!(kept <= limits.reply_bytes, "{kept} bytes");
}

/// The bytes that are examined when a body is read in pieces of `size`, for each of its bytes.
pub(crate) fn work_per_byte<W: Wire + 'static>(body: &[u8], size: usize) -> usize {
    let segments: Vec<&[u8]> = body.chunks(size).collect();
    let work = work::counted(|| {
        let (_, reply) = read::<W>(&segments, Close::Clean, Limits::default());
        assert!(reply.is_ok(), "{reply:?}");
    });
    work.div_ceil(body.len())
}
