//! Bedrock's API `converse-stream`, whose responses are binary frames.

use std::sync::Arc;

use axum::body::Body;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::Uri;
use axum::response::Response;
use futures::StreamExt;
use futures::stream;
use serde_json::Value;
use serde_json::json;

use super::Answer;
use super::ProviderState;
use super::raw;
use super::refused;

/// Handles one `converse-stream` request.
pub(super) async fn bedrock(
    State(shared): State<Arc<ProviderState>>,
    uri: Uri,
    headers: HeaderMap,
    body: String,
) -> Response {
    let delta = |index: usize, delta: Value| {
        frame("event", "contentBlockDelta", &json!({"contentBlockIndex": index, "delta": delta}))
    };
    let stop = |index: usize| frame("event", "contentBlockStop", &json!({"contentBlockIndex": index}));
    let begin = || frame("event", "messageStart", &json!({"role": "assistant"}));
    let text = |text: &str| delta(1, json!({"text": text}));
    match shared.next(&uri, headers, &body) {
        Answer::Reply { reasoning, text: pieces, calls } => {
            let mut frames = vec![begin()];
            if let Some(thought) = reasoning {
                frames.push(delta(0, json!({"reasoningContent": {"text": thought}})));
                frames.push(delta(0, json!({"reasoningContent": {"signature": "signed"}})));
                frames.push(stop(0));
            }
            frames.extend(pieces.into_iter().map(text));
            frames.push(stop(1));
            for (index, call) in (2..).zip(&calls) {
                let start = json!({"toolUse": {"toolUseId": call.id, "name": call.name}});
                let start = json!({"contentBlockIndex": index, "start": start});
                frames.push(frame("event", "contentBlockStart", &start));
                frames.extend(
                    call.arguments.iter().map(|piece| delta(index, json!({"toolUse": {"input": piece}}))),
                );
                frames.push(stop(index));
            }
            let reason = if calls.is_empty() { "end_turn" } else { "tool_use" };
            frames.push(frame("event", "messageStop", &json!({"stopReason": reason})));
            let usage =
                json!({"inputTokens": 31, "cacheReadInputTokens": 12, "outputTokens": 17, "totalTokens": 48});
            frames.push(frame("event", "metadata", &json!({"usage": usage})));
            framed(frames, false)
        }
        Answer::Spoken { .. } => refused(400, &[], "only chat completions are spoken"),
        Answer::Cut(piece) => framed(vec![begin(), text(piece)], false),
        Answer::Hang(piece) => framed(vec![begin(), text(piece)], true),
        Answer::ErrorInside(piece, kind) => {
            let error = frame("exception", kind, &json!({"message": "in the middle"}));
            framed(vec![begin(), text(piece), error], false)
        }
        Answer::Status(status, headers, body) => refused(status, &headers, body),
        Answer::Raw(answer) => raw(answer),
    }
}

/// One frame of AWS event streams: total length, header length, checksum, headers, payload, checksum.
pub fn frame(message: &str, event: &str, payload: &Value) -> Vec<u8> {
    let mut headers = Vec::new();
    for (name, value) in [(":message-type", message), (":event-type", event)] {
        headers.push(u8::try_from(name.len()).unwrap());
        headers.extend(name.as_bytes());
        headers.push(7);
        headers.extend(u16::try_from(value.len()).unwrap().to_be_bytes());
        headers.extend(value.as_bytes());
    }
    let payload = payload.to_string();
    let length = |bytes: usize| u32::try_from(bytes).unwrap().to_be_bytes();
    let mut frame = Vec::from(length(headers.len() + payload.len() + 16));
    frame.extend(length(headers.len()));
    frame.extend(crc32(&frame).to_be_bytes());
    frame.extend(headers);
    frame.extend(payload.as_bytes());
    frame.extend(crc32(&frame).to_be_bytes());
    frame
}

/// CRC-32 of IEEE 802.3, which the format requires.
fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32, _| if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 };
    !bytes.iter().fold(u32::MAX, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), step))
}

/// The frames as a streamed body. Each is split in two chunks, because clients must not rely on frame boundaries.
fn framed(frames: Vec<Vec<u8>>, hangs: bool) -> Response {
    let halves = frames.into_iter().flat_map(|mut frame| {
        let rest = frame.split_off(frame.len() / 2);
        [frame, rest]
    });
    let pieces = stream::iter(halves.map(Ok::<_, std::io::Error>).collect::<Vec<_>>());
    let body =
        if hangs { Body::from_stream(pieces.chain(stream::pending())) } else { Body::from_stream(pieces) };
    Response::builder().header("content-type", "application/vnd.amazon.eventstream").body(body).unwrap()
}
