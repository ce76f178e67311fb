//! A fake model provider over HTTP with prepared answers. It speaks five APIs: OpenAI's chat completions and Responses,
//! Anthropic's Messages, Google's Gemini and Bedrock's Converse.

pub mod bedrock;
mod gemini;

use std::collections::VecDeque;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use axum::Router;
use axum::body::Body;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::Uri;
use axum::response::Response;
use axum::routing::post;
use futures::StreamExt;
use futures::stream;
use serde_json::Value;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// How the provider answers one request.
#[derive(Debug, Clone)]
pub enum Answer {
    /// Streams chunks of text, then chunks of tool-call arguments, and ends normally.
    Reply {
        /// Reasoning that is streamed before the text.
        reasoning: Option<&'static str>,
        /// The chunks of the text.
        text: Vec<&'static str>,
        /// The tool calls after the text.
        calls: Vec<Call>,
    },
    /// Streams words at a fixed pace, then complete tool calls (name and arguments), and ends normally. Only over chat
    /// completions.
    Spoken {
        /// The words, each with its trailing space.
        words: Vec<String>,
        /// Delay before each word.
        every: Duration,
        /// The tool calls after the text.
        calls: Vec<(String, String)>,
    },
    /// Streams a text and closes the stream without its end marker.
    Cut(&'static str),
    /// Streams a text and then an error event of this type.
    ErrorInside(&'static str, &'static str),
    /// Responds with an error status, headers and a body.
    Status(u16, Vec<(&'static str, &'static str)>, &'static str),
    /// Streams a text and then keeps the stream open without sending anything.
    Hang(&'static str),
    /// Sends these bytes, whatever the API.
    Raw(Raw),
}

/// A response of any bytes.
#[derive(Debug, Clone)]
pub struct Raw {
    /// Status of the response.
    pub status: u16,
    /// Headers of the response.
    pub headers: Vec<(&'static str, &'static str)>,
    /// The segments of the body.
    pub segments: Vec<Vec<u8>>,
    /// Delay before each segment.
    pub every: Duration,
    /// Whether the connection breaks after the last segment.
    pub breaks: bool,
}

/// A tool call whose arguments are streamed in chunks.
#[derive(Debug, Clone)]
pub struct Call {
    /// Id of the call, chosen by the provider.
    pub id: &'static str,
    /// Name of the tool.
    pub name: &'static str,
    /// Chunks of the JSON arguments; chunks of different calls are interleaved.
    pub arguments: Vec<&'static str>,
}

impl Answer {
    /// A reply of these chunks of text.
    pub fn text(chunks: &[&'static str]) -> Self {
        Self::Reply { reasoning: None, text: chunks.to_vec(), calls: Vec::new() }
    }
}

/// A request that the provider received.
#[derive(Debug, Clone)]
pub struct Asked {
    /// Path and query.
    pub path: String,
    /// All headers, for checks of authentication.
    pub headers: HeaderMap,
    /// The JSON body.
    pub body: Value,
}

/// Chooses the answer to a request from its body.
type Choose = Box<dyn Fn(&Value) -> Answer + Send + Sync>;

struct ProviderState {
    choose: Choose,
    asked: Mutex<Vec<Asked>>,
}

impl std::fmt::Debug for ProviderState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ProviderState").field("asked", &self.asked).finish_non_exhaustive()
    }
}

/// The provider. Dropping the value stops the server.
#[derive(Debug)]
pub struct FakeProvider {
    /// Base URL, with `/v1`.
    pub url: String,
    shared: Arc<ProviderState>,
    _serving: JoinSet<()>,
}

impl FakeProvider {
    /// Serves these answers in order, one per request, on a free port. Later requests get status 500.
    pub async fn start(answers: Vec<Answer>) -> Self {
        let answers = Mutex::new(VecDeque::from(answers));
        let none = || Answer::Status(500, Vec::new(), "no answer is prepared");
        Self::choosing(move |_| answers.lock().unwrap().pop_front().unwrap_or_else(none)).await
    }

    /// Answers each request with what `choose` returns for its body.
    pub async fn choosing(choose: impl Fn(&Value) -> Answer + Send + Sync + 'static) -> Self {
        let shared = Arc::new(ProviderState { choose: Box::new(choose), asked: Mutex::default() });
        let router = Router::new()
            .route("/v1/chat/completions", post(openai))
            .route("/v1/messages", post(anthropic))
            .route("/v1/responses", post(responses))
            .route("/openai/deployments/{deployment}/chat/completions", post(openai))
            .route("/v1/models/{call}", post(gemini::gemini))
            .route("/v1/publishers/google/models/{call}", post(gemini::gemini))
            .route("/v1/model/{model}/converse-stream", post(bedrock::bedrock))
            .with_state(Arc::clone(&shared));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let url = format!("http://{}/v1", listener.local_addr().unwrap());
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            axum::serve(listener, router).await.unwrap();
        });
        Self { url, shared, _serving: serving }
    }

    /// All requests received so far, oldest first.
    pub fn asked(&self) -> Vec<Asked> {
        self.shared.asked.lock().unwrap().clone()
    }
}

impl ProviderState {
    fn next(&self, uri: &Uri, headers: HeaderMap, body: &str) -> Answer {
        let body: Value = serde_json::from_str(body).unwrap();
        let answer = (self.choose)(&body);
        let path = uri.path_and_query().map(ToString::to_string).unwrap_or_default();
        self.asked.lock().unwrap().push(Asked { path, headers, body });
        answer
    }
}

async fn openai(
    State(shared): State<Arc<ProviderState>>,
    uri: Uri,
    headers: HeaderMap,
    body: String,
) -> Response {
    let chunk = |delta: Value| format!("data: {}\n\n", json!({"choices": [{"index": 0, "delta": delta}]}));
    let text = |text: &str| chunk(json!({"content": text}));
    match shared.next(&uri, headers, &body) {
        Answer::Reply { reasoning, text: pieces, calls } => {
            let mut events: Vec<String> = vec![chunk(json!({"role": "assistant", "content": ""}))];
            events.extend(reasoning.map(|piece| chunk(json!({"reasoning_content": piece}))));
            events.extend(pieces.into_iter().map(text));
            events.extend(openai_calls(&calls).into_iter().map(|call| chunk(json!({"tool_calls": [call]}))));
            let reason = if calls.is_empty() { "stop" } else { "tool_calls" };
            let end = json!({"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]});
            events.push(format!("data: {end}\n\n"));
            let usage = json!({"prompt_tokens": 31, "completion_tokens": 17, "total_tokens": 48, "prompt_tokens_details": {"cached_tokens": 12}});
            events.push(format!("data: {}\n\ndata: [DONE]\n\n", json!({"choices": [], "usage": usage})));
            streamed(events, false)
        }
        Answer::Spoken { words, every, calls } => {
            paced(words.iter().map(|word| text(word)).collect(), every, paced_end(&calls))
        }
        Answer::Cut(piece) => streamed(vec![text(piece)], false),
        Answer::Hang(piece) => streamed(vec![text(piece)], true),
        Answer::ErrorInside(piece, kind) => {
            let error = json!({"error": {"type": kind, "message": "in the middle"}});
            streamed(vec![text(piece), format!("data: {error}\n\n")], false)
        }
        Answer::Status(status, headers, body) => refused(status, &headers, body),
        Answer::Raw(answer) => raw(answer),
    }
}

/// The final events of a paced reply: its tool calls, the finish reason and the end marker.
fn paced_end(calls: &[(String, String)]) -> Vec<String> {
    let mut choices = Vec::new();
    for (index, (name, arguments)) in calls.iter().enumerate() {
        let function = json!({"name": name, "arguments": arguments});
        let call =
            json!({"index": index, "id": format!("call_{index}"), "type": "function", "function": function});
        choices.push(json!({"index": 0, "delta": {"tool_calls": [call]}}));
    }
    let reason = if calls.is_empty() { "stop" } else { "tool_calls" };
    choices.push(json!({"index": 0, "delta": {}, "finish_reason": reason}));
    let mut events: Vec<String> =
        choices.iter().map(|choice| format!("data: {}\n\n", json!({"choices": [choice]}))).collect();
    events.push("data: [DONE]\n\n".to_owned());
    events
}

/// The chunks of all calls, interleaved: clients must assemble them by index.
fn openai_calls(calls: &[Call]) -> Vec<Value> {
    let mut pieces = Vec::new();
    for (index, call) in calls.iter().enumerate() {
        let function = json!({"name": call.name, "arguments": ""});
        pieces.push(json!({"index": index, "id": call.id, "type": "function", "function": function}));
    }
    let longest = calls.iter().map(|call| call.arguments.len()).max().unwrap_or(0);
    for round in 0..longest {
        for (index, call) in calls.iter().enumerate() {
            if let Some(piece) = call.arguments.get(round) {
                pieces.push(json!({"index": index, "function": {"arguments": piece}}));
            }
        }
    }
    pieces
}

async fn anthropic(
    State(shared): State<Arc<ProviderState>>,
    uri: Uri,
    headers: HeaderMap,
    body: String,
) -> Response {
    let begin = event(
        json!({"type": "message_start", "message": {"usage": {"input_tokens": 20, "cache_read_input_tokens": 100, "cache_creation_input_tokens": 50, "output_tokens": 1}}}),
    );
    let open = |text: &str| {
        let mut events = vec![begin.clone()];
        events.extend(block(0, &json!({"type": "text", "text": ""}), "text_delta", "text", &[text], false));
        events
    };
    match shared.next(&uri, headers, &body) {
        Answer::Reply { reasoning, text, calls } => {
            let mut events = vec![begin];
            if let Some(thought) = reasoning {
                let start = json!({"type": "thinking", "thinking": "", "signature": ""});
                let signature = json!({"type": "content_block_delta", "index": 0, "delta": {"type": "signature_delta", "signature": "signed"}});
                events.extend(block(0, &start, "thinking_delta", "thinking", &[thought], false));
                events.push(event(signature));
                events.push(event(json!({"type": "content_block_stop", "index": 0})));
            }
            events.extend(block(1, &json!({"type": "text", "text": ""}), "text_delta", "text", &text, true));
            for (index, call) in (2..).zip(&calls) {
                let start = json!({"type": "tool_use", "id": call.id, "name": call.name, "input": {}});
                events.extend(block(
                    index,
                    &start,
                    "input_json_delta",
                    "partial_json",
                    &call.arguments,
                    true,
                ));
            }
            let reason = if calls.is_empty() { "end_turn" } else { "tool_use" };
            events.push(event(json!({"type": "message_delta", "delta": {"stop_reason": reason}, "usage": {"output_tokens": 17}})));
            events.push(event(json!({"type": "message_stop"})));
            streamed(events, false)
        }
        Answer::Spoken { .. } => refused(400, &[], "only chat completions are spoken"),
        Answer::Cut(piece) => streamed(open(piece), false),
        Answer::Hang(piece) => streamed(open(piece), true),
        Answer::ErrorInside(piece, kind) => {
            let mut events = open(piece);
            events.push(event(json!({"type": "error", "error": {"type": kind, "message": "in the middle"}})));
            streamed(events, false)
        }
        Answer::Status(status, headers, body) => refused(status, &headers, body),
        Answer::Raw(answer) => raw(answer),
    }
}

fn event(data: Value) -> String {
    format!("event: {}\ndata: {data}\n\n", data["type"].as_str().unwrap())
}

async fn responses(
    State(shared): State<Arc<ProviderState>>,
    uri: Uri,
    headers: HeaderMap,
    body: String,
) -> Response {
    let text = |piece: &str| event(json!({"type": "response.output_text.delta", "delta": piece}));
    match shared.next(&uri, headers, &body) {
        Answer::Reply { text: pieces, calls, .. } => {
            let mut events: Vec<String> = pieces.into_iter().map(text).collect();
            for (index, call) in (1..).zip(&calls) {
                let item = |arguments: &str| json!({"type": "function_call", "call_id": call.id, "name": call.name, "arguments": arguments});
                let part = |kind: &str, item: Value| {
                    event(
                        json!({"type": format!("response.output_item.{kind}"), "output_index": index, "item": item}),
                    )
                };
                events.push(part("added", item("")));
                events.extend(call.arguments.iter().map(|piece| {
                    event(json!({"type": "response.function_call_arguments.delta", "output_index": index, "delta": piece}))
                }));
                events.push(part("done", item(&call.arguments.concat())));
            }
            let usage = json!({"input_tokens": 31, "input_tokens_details": {"cached_tokens": 12}, "output_tokens": 17, "total_tokens": 48});
            let response =
                json!({"id": "r", "status": "completed", "model": "m", "output": [], "usage": usage});
            events.push(event(json!({"type": "response.completed", "response": response})));
            streamed(events, false)
        }
        Answer::Spoken { .. } => refused(400, &[], "only chat completions are spoken"),
        Answer::Cut(piece) => streamed(vec![text(piece)], false),
        Answer::Hang(piece) => streamed(vec![text(piece)], true),
        Answer::ErrorInside(piece, kind) => {
            let error = event(json!({"type": "error", "code": kind, "message": "in the middle"}));
            streamed(vec![text(piece), error], false)
        }
        Answer::Status(status, headers, body) => refused(status, &headers, body),
        Answer::Raw(answer) => raw(answer),
    }
}

/// The events of one content block; without its end if `close` is false.
fn block(index: u32, start: &Value, delta: &str, key: &str, pieces: &[&str], close: bool) -> Vec<String> {
    let mut events =
        vec![event(json!({"type": "content_block_start", "index": index, "content_block": start}))];
    events.extend(pieces.iter().map(|piece| {
        event(json!({"type": "content_block_delta", "index": index, "delta": {"type": delta, key: piece}}))
    }));
    if close {
        events.push(event(json!({"type": "content_block_stop", "index": index})));
    }
    events
}

/// The events as a streamed body, one chunk each. A stream that hangs stays open after the last one.
fn streamed(events: Vec<String>, hangs: bool) -> Response {
    let pieces = stream::iter(events.into_iter().map(Ok::<_, std::io::Error>));
    let body =
        if hangs { Body::from_stream(pieces.chain(stream::pending())) } else { Body::from_stream(pieces) };
    Response::builder().header("content-type", "text/event-stream").body(body).unwrap()
}

/// Events with this delay before each, followed at once by the events in `end`.
fn paced(events: Vec<String>, every: Duration, end: Vec<String>) -> Response {
    let slowly = stream::iter(events).then(move |event| async move {
        tokio::time::sleep(every).await;
        event
    });
    let pieces = slowly.chain(stream::iter(end)).map(Ok::<_, std::io::Error>);
    Response::builder().header("content-type", "text/event-stream").body(Body::from_stream(pieces)).unwrap()
}

fn raw(Raw { status, headers, segments, every, breaks }: Raw) -> Response {
    let segments = stream::iter(segments).then(move |segment| async move {
        tokio::time::sleep(every).await;
        Ok(segment)
    });
    let end = breaks.then(|| Err(std::io::Error::other("broken on purpose")));
    let mut response = Response::builder().status(status);
    for (name, value) in headers {
        response = response.header(name, value);
    }
    response.body(Body::from_stream(segments.chain(stream::iter(end)))).unwrap()
}

fn refused(status: u16, headers: &[(&str, &str)], body: &'static str) -> Response {
    let mut response = Response::builder().status(status);
    for (name, value) in headers {
        response = response.header(*name, *value);
    }
    response.body(Body::from(body)).unwrap()
}
