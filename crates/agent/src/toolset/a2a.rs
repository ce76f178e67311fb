//! `a2a`: a remote agent that speaks the Agent2Agent protocol, as a tool.
//!
//! Where the agent's card offers it, the events of a task are streamed; a task whose stream breaks, and one of any other
//! agent, is polled.

mod stream;
mod wire;

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::BoxStream;
use legwork_common::duration;
use legwork_common::error::chain;
use legwork_common::team::StringMap;
use reqwest::Method;
use reqwest::Response;
use reqwest::StatusCode;
use reqwest::Url;
use reqwest::header::ACCEPT;
use reqwest::header::CONTENT_TYPE;
use reqwest::header::HeaderMap;
use serde::Deserialize;
use serde_json::Value;
use sse_stream::Sse;
use sse_stream::SseStream;
use tokio::runtime::Handle;
use tokio::time::sleep;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use self::stream::StreamedTask;
use self::wire::Card;
use self::wire::Reply;
use self::wire::TaskRef;
use self::wire::Version;
use super::Kit;
use super::http;
use super::http::HttpClient;
use super::limited;
use super::schema;
use super::schema::Schema;
use super::schema::provider_safe_name;
use crate::environment::Environment;
use crate::process::Nursery;
use crate::tool::Tool;
use crate::tool::ToolContext;
use crate::tool::ToolOutcome;
use crate::tool::ToolSpec;

/// The path of an agent's card, relative to the agent's URL. Fixed by the protocol.
const CARD_PATH: &str = ".well-known/agent-card.json";
/// The timeout of the card's download and of each poll.
const TIMEOUT: Duration = Duration::from_secs(30);
/// The timeout of a message. It is long because some agents ignore the request to answer immediately, and answer only
/// when the task is done.
const MESSAGE_TIMEOUT: Duration = Duration::from_secs(30 * 60);
/// The timeout of a request to cancel a task. The run waits for it when it closes, so it is short.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(2);
/// The most bytes of a response that are read. Replies may embed files as base64, which are dropped, but must be
/// parsed.
const MAX_RESPONSE_BYTES: usize = 4 * 1024 * 1024;
/// The most polls in a row that may fail before the task is given up. It spans a short restart of the agent.
const MAX_FAILED_POLLS: u32 = 5;

/// How a running task is followed. The interval between polls grows by half with each poll, from `first_interval` to
/// `max_interval`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Polling {
    pub(crate) first_interval: Duration,
    pub(crate) max_interval: Duration,
    /// How long a task may run before it is cancelled.
    pub(crate) task_timeout: Duration,
}

impl Default for Polling {
    /// Short tasks end within seconds; long ones are not polled more than four times a minute. A task that runs for a
    /// day has been lost by its agent: results of our own jobs are not kept for longer either.
    fn default() -> Self {
        Self {
            first_interval: Duration::from_secs(1),
            max_interval: Duration::from_secs(15),
            task_timeout: Duration::from_secs(24 * 60 * 60),
        }
    }
}

/// Downloads the agent's card and makes one tool of it.
///
/// # Errors
///
/// Why the agent cannot be used, for the caller's agent and the operator. The URL is left out: it may contain a key.
pub(crate) async fn open(
    environment: &Environment,
    (name, url, headers): (Option<&str>, &str, &StringMap),
    polling: Polling,
    nursery: &Nursery,
) -> Result<Kit, String> {
    let headers = http::headers(environment, headers)?;
    let agent_url = http::expanded_url(environment, url)?;
    let client = HttpClient::new(environment, TIMEOUT, &headers)?;
    let card = Card::read(&card(&client, &agent_url, &headers).await?, &agent_url)?;
    if !headers.is_empty() && !http::is_same_site(&agent_url, &card.url) {
        return Err("the agent's card names another host, to which the headers must not be sent".to_owned());
    }
    let name = name.filter(|name| !name.is_empty()).unwrap_or(&card.name);
    let name = if name.is_empty() { "a2a".to_owned() } else { provider_safe_name(name) };
    let description = if card.description.is_empty() { "Asks another agent" } else { &card.description };
    let description = description.to_owned();
    let arguments = Schema::new().required("message", schema::string(), "The message to the agent");
    let spec = schema::writing(&name, &description, arguments);
    let instruction = format!("## {name}\n\n{description}");
    let agent = RemoteAgent {
        spec,
        client: Arc::new(AgentClient { card, http: client, headers }),
        polling,
        nursery: nursery.clone(),
        awaiting_input: Mutex::default(),
    };
    Ok(Kit::new([agent]).with_instruction(instruction))
}

/// Downloads the card: below the agent's URL, else from the root of its host. A URL of a `.json` file is tried first.
async fn card(client: &HttpClient, agent_url: &Url, headers: &HeaderMap) -> Result<Value, String> {
    let with_path = |path: &str| {
        let mut url = agent_url.clone();
        url.set_path(path);
        url
    };
    let path = agent_url.path().trim_end_matches('/');
    let mut candidates = vec![with_path(&format!("{path}/{CARD_PATH}")), with_path(CARD_PATH)];
    if path.ends_with(".json") {
        candidates.insert(0, agent_url.clone());
    }
    candidates.dedup();
    let mut status = StatusCode::NOT_FOUND;
    let failed =
        |error: reqwest::Error| format!("the agent's card cannot be read: {}", chain(&error.without_url()));
    for url in candidates {
        let request = client.request(Method::GET, url)?;
        let response = request.headers(headers.clone()).send().await.map_err(failed)?;
        if response.status().is_success() {
            let text = http::head(response, MAX_RESPONSE_BYTES).await.map_err(failed)?;
            return serde_json::from_slice(&text)
                .map_err(|error| format!("the agent's card is not JSON: {error}"));
        }
        status = response.status();
    }
    Err(format!("the agent's card cannot be read: HTTP {status}"))
}

#[derive(Debug, Deserialize)]
struct Arguments {
    message: String,
}

#[derive(Debug)]
struct RemoteAgent {
    spec: ToolSpec,
    client: Arc<AgentClient>,
    polling: Polling,
    /// Runs the request to cancel a task, which outlives the call.
    nursery: Nursery,
    /// The task that the next message continues, because the agent asked for input. A new attempt starts without one.
    awaiting_input: Mutex<Option<TaskRef>>,
}

#[derive(Debug)]
struct AgentClient {
    card: Card,
    http: HttpClient,
    headers: HeaderMap,
}

/// A running task of the agent. Unless it has ended or needs input, dropping this asks the agent to cancel it; whether
/// the agent does is not checked.
struct RunningTask<'a> {
    agent: &'a RemoteAgent,
    task: TaskRef,
    is_settled: bool,
}

impl Drop for RunningTask<'_> {
    fn drop(&mut self) {
        // Without a runtime the process is exiting, and the request could not be sent.
        if !self.is_settled && Handle::try_current().is_ok() {
            let client = Arc::clone(&self.agent.client);
            let cancel = client.card.cancel(&self.task);
            self.agent.nursery.spawn(async move {
                let _ignored = client.call(&cancel, CANCEL_TIMEOUT).await;
            });
        }
    }
}

/// Why a call has no reply.
enum CallError {
    /// The agent was unreachable or overloaded. A later call may succeed.
    Transient(String),
    /// The agent refused, or its response cannot be understood.
    Permanent(String),
}

impl CallError {
    fn into_reason(self) -> String {
        match self {
            Self::Transient(reason) | Self::Permanent(reason) => reason,
        }
    }
}

/// The events of one stream.
type Events = BoxStream<'static, Result<Sse, sse_stream::Error>>;

/// How an agent answers a message that asks for a stream.
enum Opened {
    Events(Events),
    /// As to any other message.
    Reply(Reply),
    /// It does not stream, whatever its card states. The message has not begun a task.
    Unsupported,
}

/// The codes with which agents refuse to stream: the method is unknown, or the operation is not supported.
const NOT_SUPPORTED_CODES: [i64; 2] = [-32601, -32004];

fn unreachable(error: reqwest::Error) -> CallError {
    CallError::Transient(chain(&error.without_url()))
}

impl AgentClient {
    async fn post(&self, call: &Value, timeout: Duration, accept: &str) -> Result<Response, CallError> {
        let request = self.http.request(Method::POST, self.card.url.clone()).map_err(CallError::Permanent)?;
        let mut request = request.timeout(timeout).header(ACCEPT, accept);
        if self.card.version == Version::V1 {
            request = request.header("A2A-Version", "1.0");
        }
        request.json(call).headers(self.headers.clone()).send().await.map_err(unreachable)
    }

    /// Makes one call of the protocol, within `timeout`.
    async fn call(&self, call: &Value, timeout: Duration) -> Result<Reply, CallError> {
        let response = self.post(call, timeout, "application/json").await?;
        let (status, text) = body(response).await?;
        reply(status, &text)
    }

    /// Makes a call that is answered by a stream of events.
    async fn open_stream(&self, call: &Value) -> Result<Opened, CallError> {
        let response = self.post(call, MESSAGE_TIMEOUT, "text/event-stream, application/json").await?;
        let content_type = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let is_stream = content_type.is_some_and(|name| name.starts_with("text/event-stream"));
        if response.status().is_success() && is_stream {
            let mut left = MAX_RESPONSE_BYTES;
            // A stream that is too long ends here; the task is then polled.
            let bytes = response.bytes_stream().take_while(move |chunk| {
                let length = chunk.as_ref().map_or(0, |chunk| chunk.len());
                let fits = length <= left;
                left = left.saturating_sub(length);
                std::future::ready(fits)
            });
            return Ok(Opened::Events(SseStream::from_bytes_stream(bytes).boxed()));
        }
        let (status, text) = body(response).await?;
        let code =
            serde_json::from_slice::<Value>(&text).ok().and_then(|body| body["error"]["code"].as_i64());
        if code.is_some_and(|code| NOT_SUPPORTED_CODES.contains(&code)) {
            return Ok(Opened::Unsupported);
        }
        reply(status, &text).map(Opened::Reply)
    }
}

/// The status and the beginning of the body.
async fn body(response: Response) -> Result<(StatusCode, Vec<u8>), CallError> {
    let status = response.status();
    Ok((status, http::head(response, MAX_RESPONSE_BYTES).await.map_err(unreachable)?))
}

/// Reads the response to one call.
fn reply(status: StatusCode, text: &[u8]) -> Result<Reply, CallError> {
    match serde_json::from_slice::<Value>(text) {
        // Some agents send errors of the protocol with an HTTP error status.
        Ok(response) if status.is_success() || response["error"].is_object() => {
            Reply::read(&response).map_err(CallError::Permanent)
        }
        Err(error) if status.is_success() => {
            Err(CallError::Permanent(format!("the agent's response is not JSON: {error}")))
        }
        Ok(_) | Err(_) => {
            let reason = format!("HTTP {status}\n\n{}", String::from_utf8_lossy(text));
            let is_transient = status.is_server_error();
            Err(if is_transient { CallError::Transient(reason) } else { CallError::Permanent(reason) })
        }
    }
}

impl RemoteAgent {
    /// Sends a message and waits until the agent's task has ended or needs input. When the call is cancelled or
    /// dropped, the agent is asked to cancel its task, if it has named one by then.
    async fn send(&self, message: &str, cancel: &CancellationToken) -> Result<Reply, String> {
        let reply = self.send_and_follow(message);
        cancel.run_until_cancelled(reply).await.unwrap_or_else(|| Err("cancelled".to_owned()))
    }

    async fn send_and_follow(&self, message: &str) -> Result<Reply, String> {
        let task = self.awaiting_input.lock().unwrap_or_else(PoisonError::into_inner).take();
        let id = format!("{:032x}", rand::random::<u128>());
        // A message is not sent again: the agent may have received it, even where no reply came.
        let reply = if self.client.card.streams {
            let stream = self.client.card.stream(message, &id, task.as_ref());
            match self.client.open_stream(&stream).await.map_err(CallError::into_reason)? {
                Opened::Events(events) => return self.within_limit(self.read_events(events)).await,
                Opened::Reply(reply) => reply,
                Opened::Unsupported => {
                    let send = self.client.card.send(message, &id, task.as_ref());
                    self.client.call(&send, MESSAGE_TIMEOUT).await.map_err(CallError::into_reason)?
                }
            }
        } else {
            let send = self.client.card.send(message, &id, task.as_ref());
            self.client.call(&send, MESSAGE_TIMEOUT).await.map_err(CallError::into_reason)?
        };
        match reply {
            Reply::Working(task) => self.within_limit(self.follow(self.running(task))).await,
            reply => Ok(reply),
        }
    }

    /// Follows a task for as long as one may take. Beyond that the agent is asked to cancel it.
    async fn within_limit(
        &self,
        following: impl Future<Output = Result<Reply, String>>,
    ) -> Result<Reply, String> {
        let limit = self.polling.task_timeout;
        let ended = timeout(limit, following).await;
        ended.unwrap_or_else(|_| Err(format!("its task did not end within {}", duration::setting(limit))))
    }

    fn running(&self, task: TaskRef) -> RunningTask<'_> {
        RunningTask { agent: self, task, is_settled: false }
    }

    /// Follows a task by its events. Where they end before the task does, it is polled.
    async fn read_events(&self, mut events: Events) -> Result<Reply, String> {
        let mut streamed = StreamedTask::default();
        let mut running: Option<RunningTask<'_>> = None;
        while let Some(Ok(event)) = events.next().await {
            let Some(event) = event.data.and_then(|data| serde_json::from_str::<Value>(&data).ok()) else {
                continue;
            };
            if let Some(reply) = streamed.apply(&event)? {
                if let Some(running) = &mut running {
                    running.is_settled = true;
                }
                return Ok(reply);
            }
            if running.is_none() {
                running = streamed.task_ref().map(|task| self.running(task));
            }
        }
        match running {
            Some(running) => self.follow(running).await,
            None => Err("its answer broke off, and its outcome is unknown".to_owned()),
        }
    }

    /// Polls a task until it has ended or needs input.
    async fn follow(&self, mut running: RunningTask<'_>) -> Result<Reply, String> {
        let get = self.client.card.get(&running.task);
        let (mut interval, mut failed_polls) = (self.polling.first_interval, 0);
        loop {
            sleep(interval).await;
            interval = (interval * 3 / 2).min(self.polling.max_interval);
            match self.client.call(&get, TIMEOUT).await {
                Ok(Reply::Working(_)) => failed_polls = 0,
                Ok(reply) => {
                    running.is_settled = true;
                    return Ok(reply);
                }
                Err(CallError::Transient(_)) if failed_polls < MAX_FAILED_POLLS => failed_polls += 1,
                Err(CallError::Transient(reason) | CallError::Permanent(reason)) => {
                    return Err(format!("its task {} was lost: {reason}", running.task.id));
                }
            }
        }
    }
}

/// The outcome for the model. `name` is the tool's.
fn outcome(name: &str, reply: Result<Reply, String>) -> ToolOutcome {
    match reply {
        Ok(Reply::Completed(text)) => ToolOutcome::ok(text),
        Ok(Reply::InputRequired(_, text)) => ToolOutcome::ok(limited(format!(
            "The agent needs more input; your next message answers it:\n\n{text}"
        ))),
        Ok(Reply::Failed { state, text }) => {
            ToolOutcome::error(limited(format!("The agent's task is {state}. {text}").trim_end().to_owned()))
        }
        Ok(Reply::Working(task)) => ToolOutcome::error(format!("its task {} is still running", task.id)),
        Err(reason) => ToolOutcome::error(limited(format!("Error calling {name}: {reason}"))),
    }
}

#[async_trait]
impl Tool for RemoteAgent {
    fn spec(&self) -> &ToolSpec {
        &self.spec
    }

    async fn call(&self, arguments: Value, context: &ToolContext) -> ToolOutcome {
        let Arguments { message } = match schema::parse(&self.spec, arguments) {
            Ok(arguments) => arguments,
            Err(invalid) => return invalid,
        };
        let reply = self.send(&message, &context.cancel).await;
        if let Ok(Reply::InputRequired(task, _)) = &reply {
            *self.awaiting_input.lock().unwrap_or_else(PoisonError::into_inner) = Some(task.clone());
        }
        outcome(&self.spec.name, reply)
    }
}

#[cfg(test)]
mod tests;
