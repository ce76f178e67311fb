//! A provider over HTTP that gives prepared answers, on five wires: OpenAI's chat completions and Responses, Anthropic's
//! Messages, Google's Gemini and Bedrock's Converse.

mod bedrock;
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

/// What the provider does when it is asked.
#[derive(Debug, Clone)]
pub enum Answer {
    /// Streams pieces of text, then pieces of the arguments of tool calls, to a good end.
    Reply {
        /// What it thinks first.
        reasoning: Option<&'static str>,
        /// The pieces of the text.
        text: Vec<&'static str>,
        /// The tool calls.
        calls: Vec<Call>,
    },
    /// Streams words, one after the other in this time, and then whole tool calls (name and arguments), to a good
    /// end; on the wire of chat completions only.
    Spoken {
        /// The words, with the spaces between them.
        words: Vec<String>,
        /// The time before each word.
        every: Duration,
        /// The tool calls.
        calls: Vec<(String, String)>,
    },
    /// Streams a text and ends in the middle.
    Cut(&'static str),
    /// Streams a text and then an error of this type.
    ErrorInside(&'static str, &'static str),
    /// Refuses with a status and headers.
    Status(u16, Vec<(&'static str, &'static str)>, &'static str),
    /// Streams a text and then says nothing more.
    Hang(&'static str),
}

/// A tool call whose arguments arrive in pieces.
#[derive(Debug, Clone)]
pub struct Call {
    /// The provider's id of it.
    pub id: &'static str,
    /// The tool.
    pub name: &'static str,
    /// The arguments, in pieces.
    pub arguments: Vec<&'static str>,
}

impl Answer {
    /// A text in pieces.
    pub fn text(pieces: &[&'static str]) -> Self {
        Self::Reply { reasoning: None, text: pieces.to_vec(), calls: Vec::new() }
    }
}

/// A request as it arrived.
#[derive(Debug, Clone)]
pub struct Asked {
    /// Its path, with what follows a question mark.
    pub path: String,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Value,
}

/// Chooses the answer to a request.
type Choose = Box<dyn Fn(&Value) -> Answer + Send + Sync>;

struct Shared {
    choose: Choose,
    asked: Mutex<Vec<Asked>>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("asked", &self.asked).finish_non_exhaustive()
    }
}

/// The provider. It ends when it is dropped.
#[derive(Debug)]
pub struct FakeProvider {
    /// Its base URL, with the version.
    pub url: String,
    shared: Arc<Shared>,
    _serving: JoinSet<()>,
}

impl FakeProvider {
    /// Serves these answers, one for each request, on a free port of this machine.
    pub async fn start(answers: Vec<Answer>) -> Self {
        let answers = Mutex::new(VecDeque::from(answers));
        let none = || Answer::Status(500, Vec::new(), "no answer is prepared");
        Self::choosing(move |_| answers.lock().unwrap().pop_front().unwrap_or_else(none)).await
    }

    /// Answers each request with what `choose` says to its body.
    pub async fn choosing(choose: impl Fn(&Value) -> Answer + Send + Sync + 'static) -> Self {
        let shared = Arc::new(Shared { choose: Box::new(choose), asked: Mutex::default() });
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

    /// The requests so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.shared.asked.lock().unwrap().clone()
    }
}

impl Shared {
    fn next(&self, uri: &Uri, headers: HeaderMap, body: &str) -> Answer {
        let body: Value = serde_json::from_str(body).unwrap();
        let answer = (self.choose)(&body);
        let path = uri.path_and_query().map(ToString::to_string).unwrap_or_default();
        self.asked.lock().unwrap().push(Asked { path, headers, body });
        answer
    }
}

async fn openai(State(shared): State<Arc<Shared>>, uri: Uri, headers: HeaderMap, body: String) -> Response {
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
            paced(words.iter().map(|word| text(word)).collect(), every, spoken_end(&calls))
        }
        Answer::Cut(piece) => streamed(vec![text(piece)], false),
        Answer::Hang(piece) => streamed(vec![text(piece)], true),
        Answer::ErrorInside(piece, kind) => {
            let error = json!({"error": {"type": kind, "message": "in the middle"}});
            streamed(vec![text(piece), format!("data: {error}\n\n")], false)
        }
        Answer::Status(status, headers, body) => refused(status, &headers, body),
    }
}

/// The calls and the end of what was spoken.
fn spoken_end(calls: &[(String, String)]) -> Vec<String> {
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

/// The pieces of all calls, those of one call not next to each other.
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
    State(shared): State<Arc<Shared>>,
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
    }
}

fn event(data: Value) -> String {
    format!("event: {}\ndata: {data}\n\n", data["type"].as_str().unwrap())
}

async fn responses(
    State(shared): State<Arc<Shared>>,
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
    }
}

/// One content block in pieces, closed or left open.
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

/// The events as a stream, each a piece of the body; one that hangs never ends.
fn streamed(events: Vec<String>, hangs: bool) -> Response {
    let pieces = stream::iter(events.into_iter().map(Ok::<_, std::io::Error>));
    let body =
        if hangs { Body::from_stream(pieces.chain(stream::pending())) } else { Body::from_stream(pieces) };
    Response::builder().header("content-type", "text/event-stream").body(body).unwrap()
}

/// Events in this time after each other, and then their end.
fn paced(events: Vec<String>, every: Duration, end: Vec<String>) -> Response {
    let slowly = stream::iter(events).then(move |event| async move {
        tokio::time::sleep(every).await;
        event
    });
    let pieces = slowly.chain(stream::iter(end)).map(Ok::<_, std::io::Error>);
    Response::builder().header("content-type", "text/event-stream").body(Body::from_stream(pieces)).unwrap()
}

fn refused(status: u16, headers: &[(&str, &str)], body: &'static str) -> Response {
    let mut response = Response::builder().status(status);
    for (name, value) in headers {
        response = response.header(*name, *value);
    }
    response.body(Body::from(body)).unwrap()
}
