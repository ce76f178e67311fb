//! Google's API `streamGenerateContent` with server-sent events, by API key and on Vertex.

use std::sync::Arc;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::Uri;
use axum::response::Response;
use serde_json::Value;
use serde_json::json;

use super::Answer;
use super::ProviderState;
use super::raw;
use super::refused;
use super::streamed;

/// Handles one `streamGenerateContent` request.
pub(super) async fn gemini(
    State(shared): State<Arc<ProviderState>>,
    uri: Uri,
    headers: HeaderMap,
    body: String,
) -> Response {
    let chunk = |part: Value| {
        let content = json!({"role": "model", "parts": [part]});
        let counted = json!({"promptTokenCount": 31});
        format!("data: {}\n\n", json!({"candidates": [{"content": content}], "usageMetadata": counted}))
    };
    let text = |text: &str| chunk(json!({"text": text}));
    match shared.next(&uri, headers, &body) {
        Answer::Reply { reasoning, text: pieces, calls } => {
            let mut events: Vec<String> = Vec::new();
            events.extend(reasoning.map(|piece| chunk(json!({"text": piece, "thought": true}))));
            events.extend(pieces.into_iter().map(text));
            for call in &calls {
                let written = call.arguments.concat();
                let args: Value =
                    if written.is_empty() { json!({}) } else { serde_json::from_str(&written).unwrap() };
                let function = json!({"id": call.id, "name": call.name, "args": args});
                events.push(chunk(json!({"functionCall": function, "thoughtSignature": "signed"})));
            }
            let counted = json!({"promptTokenCount": 31, "cachedContentTokenCount": 12, "candidatesTokenCount": 13,
                "thoughtsTokenCount": 4, "totalTokenCount": 48});
            let end = json!({"content": {"role": "model", "parts": [{"text": ""}]}, "finishReason": "STOP"});
            events.push(format!("data: {}\n\n", json!({"candidates": [end], "usageMetadata": counted})));
            streamed(events, false)
        }
        Answer::Spoken { .. } => refused(400, &[], "only chat completions are spoken"),
        Answer::Cut(piece) => streamed(vec![text(piece)], false),
        Answer::Hang(piece) => streamed(vec![text(piece)], true),
        Answer::ErrorInside(piece, kind) => {
            let error = json!({"error": {"status": kind, "code": 503, "message": "in the middle"}});
            streamed(vec![text(piece), format!("data: {error}\n\n")], false)
        }
        Answer::Status(status, headers, body) => refused(status, &headers, body),
        Answer::Raw(answer) => raw(answer),
    }
}
