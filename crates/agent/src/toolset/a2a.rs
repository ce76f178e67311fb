//! `a2a`: an agent elsewhere that speaks the Agent2Agent protocol, as a tool.

mod wire;

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use async_trait::async_trait;
use legwork_common::error::chain;
use legwork_common::team::TextMap;
use reqwest::Client;
use reqwest::StatusCode;
use reqwest::Url;
use reqwest::header::CONTENT_TYPE;
use reqwest::header::HeaderMap;
use serde::Deserialize;
use serde_json::Value;
use serde_json::json;
use tokio::runtime::Handle;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use self::wire::Answer;
use self::wire::Card;
use self::wire::Thread;
use self::wire::Version;
use super::Kit;
use super::http;
use super::limited;
use super::schema;
use super::schema::Schema;
use super::schema::fitted;
use crate::environment::Environment;
use crate::process::Nursery;
use crate::tool::Tool;
use crate::tool::ToolContext;
use crate::tool::ToolOutcome;
use crate::tool::ToolSpec;

/// Where an agent's card is, below its address.
const CARD: &str = ".well-known/agent-card.json";
/// How long one question to the agent may take.
const TIMEOUT: Duration = Duration::from_secs(30);
/// How long an agent may take that answers a message only when it is done.
const MESSAGE_TIMEOUT: Duration = Duration::from_secs(30 * 60);
/// How long the agent is waited for when it is told to stop.
const STOPPING: Duration = Duration::from_secs(2);
/// The most bytes of an answer.
const ANSWER_BYTES: usize = 4 * 1024 * 1024;
/// How often in a row the agent may be out of reach while it works.
const LOST: u32 = 5;

/// How often an agent that works is asked how far it is: at first, and at last.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    pub(crate) first: Duration,
    pub(crate) last: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self { first: Duration::from_secs(1), last: Duration::from_secs(15) }
    }
}

/// The toolset: reads the agent's card.
///
/// # Errors
///
/// Why the agent cannot be spoken to, in words for the agent and the operator. They do not name the address, which may
/// hold a key.
pub(crate) async fn kit(
    environment: &Environment,
    (name, url, headers): (Option<&str>, &str, &TextMap),
    pace: Pace,
    nursery: &Nursery,
) -> Result<Kit, String> {
    let headers = http::headers(environment, headers)?;
    let home = http::address(&environment.expanded(url))?;
    let client = http::client(TIMEOUT, &headers)?;
    let card = Card::read(&card(&client, &home, &headers).await?, &home)?;
    let place = |url: &Url| (url.scheme().to_owned(), url.host_str().map(str::to_owned));
    if !headers.is_empty() && place(&home) != place(&card.address) {
        return Err("the agent's card names another host, and the headers are not for that".to_owned());
    }
    let name = name.filter(|name| !name.is_empty()).unwrap_or(&card.name);
    let name = if name.is_empty() { "a2a".to_owned() } else { fitted(name) };
    let about = if card.about.is_empty() { "Asks another agent" } else { &card.about };
    let arguments = Schema::new().required("message", json!({"type": "string"}), "What the agent is told");
    let spec = schema::writing(&name, about, arguments);
    let line = Arc::new(Line { card, client, headers });
    let tool = Arc::new(Agent { spec, line, pace, nursery: nursery.clone(), open: Mutex::default() });
    Ok(Kit { tools: vec![tool], ..Kit::default() })
}

/// The card: below the address, or else at the root of its host.
async fn card(client: &Client, home: &Url, headers: &HeaderMap) -> Result<Value, String> {
    let at = |path: &str| {
        let mut address = home.clone();
        address.set_path(path);
        address
    };
    let path = home.path().trim_end_matches('/');
    let mut places = vec![at(&format!("{path}/{CARD}")), at(CARD)];
    if path.ends_with(".json") {
        places.insert(0, home.clone());
    }
    places.dedup();
    let mut refused = StatusCode::NOT_FOUND;
    let failed =
        |error: reqwest::Error| format!("the agent's card cannot be read: {}", chain(&error.without_url()));
    for place in places {
        let response = client.get(place).headers(headers.clone()).send().await.map_err(failed)?;
        if response.status().is_success() {
            let text = http::head(response, ANSWER_BYTES).await.map_err(failed)?;
            return serde_json::from_slice(&text)
                .map_err(|error| format!("the agent's card is no JSON: {error}"));
        }
        refused = response.status();
    }
    Err(format!("the agent's card cannot be read: HTTP {refused}"))
}

#[derive(Debug, Deserialize)]
struct Arguments {
    message: String,
}

#[derive(Debug)]
struct Agent {
    spec: ToolSpec,
    line: Arc<Line>,
    pace: Pace,
    /// What tells the agent to stop outlives the call.
    nursery: Nursery,
    /// What the next message goes on with: the agent asked for it. A new attempt begins anew.
    open: Mutex<Option<Thread>>,
}

/// The way to the agent.
#[derive(Debug)]
struct Line {
    card: Card,
    client: Client,
    headers: HeaderMap,
}

/// A task that nobody waits for once this is dropped: the agent is told to stop it. Whether it does is its own affair.
struct Waiting<'a> {
    agent: &'a Agent,
    thread: Thread,
    over: bool,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        // Without a runtime the whole program ends.
        if !self.over && Handle::try_current().is_ok() {
            let (line, call) = (Arc::clone(&self.agent.line), self.agent.line.card.cancel(&self.thread));
            self.agent.nursery.spawn(async move {
                let _told = line.ask(&call, STOPPING).await;
            });
        }
    }
}

/// Why a call has no answer.
enum Trouble {
    /// The agent may be reached later.
    Lost(String),
    /// It will not be otherwise.
    Final(String),
}

impl Line {
    /// One call of the protocol.
    async fn ask(&self, call: &Value, limit: Duration) -> Result<Answer, Trouble> {
        let lost = |error: reqwest::Error| Trouble::Lost(chain(&error.without_url()));
        let mut request = self.client.post(self.card.address.clone()).timeout(limit);
        if self.card.version == Version::One {
            request = request.header("A2A-Version", "1.0");
        }
        let request = request.header(CONTENT_TYPE, "application/json").body(call.to_string());
        let response = request.headers(self.headers.clone()).send().await.map_err(lost)?;
        let status = response.status();
        let text = http::head(response, ANSWER_BYTES).await.map_err(lost)?;
        match serde_json::from_slice::<Value>(&text) {
            Ok(answer) if status.is_success() || answer["error"].is_object() => {
                Answer::read(&answer).map_err(Trouble::Final)
            }
            Err(error) if status.is_success() => {
                Err(Trouble::Final(format!("the agent's answer is no JSON: {error}")))
            }
            Ok(_) | Err(_) => {
                let told = format!("HTTP {status}\n\n{}", String::from_utf8_lossy(&text));
                Err(if status.is_server_error() { Trouble::Lost(told) } else { Trouble::Final(told) })
            }
        }
    }
}

impl Agent {
    /// Sends the message, and waits until the agent is done with it. A call that is cancelled, or a future that is
    /// dropped, has the agent told to stop its task, if it has named one by then.
    async fn tell(&self, message: &str, cancel: &CancellationToken) -> Result<Answer, String> {
        let telling = self.tell_to_the_end(message);
        cancel.run_until_cancelled(telling).await.unwrap_or_else(|| Err("cancelled".to_owned()))
    }

    async fn tell_to_the_end(&self, message: &str) -> Result<Answer, String> {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner).take();
        let id = format!("{:032x}", rand::random::<u128>());
        let send = self.line.card.send(message, &id, open.as_ref());
        let sent = self.line.ask(&send, MESSAGE_TIMEOUT).await;
        match sent.map_err(|(Trouble::Lost(why) | Trouble::Final(why))| why)? {
            Answer::Working(thread) => self.follow(thread).await,
            answer => Ok(answer),
        }
    }

    /// Asks how far a task is until it is over.
    async fn follow(&self, thread: Thread) -> Result<Answer, String> {
        let get = self.line.card.get(&thread);
        let mut waiting = Waiting { agent: self, thread, over: false };
        let (mut pause, mut lost) = (self.pace.first, 0);
        loop {
            sleep(pause).await;
            pause = (pause * 3 / 2).min(self.pace.last);
            match self.line.ask(&get, TIMEOUT).await {
                Ok(Answer::Working(_)) => lost = 0,
                Ok(answer) => {
                    waiting.over = true;
                    return Ok(answer);
                }
                Err(Trouble::Lost(_)) if lost < LOST => lost += 1,
                Err(Trouble::Lost(why) | Trouble::Final(why)) => {
                    return Err(format!("its task {} was lost: {why}", waiting.thread.id));
                }
            }
        }
    }
}

#[async_trait]
impl Tool for Agent {
    fn spec(&self) -> &ToolSpec {
        &self.spec
    }

    async fn call(&self, arguments: Value, context: &ToolContext) -> ToolOutcome {
        let Arguments { message } = match schema::read(&self.spec, arguments) {
            Ok(arguments) => arguments,
            Err(refused) => return refused,
        };
        match self.tell(&message, &context.cancel).await {
            Ok(Answer::Done(text)) => ToolOutcome::ok(limited(text)),
            Ok(Answer::Asks(thread, text)) => {
                *self.open.lock().unwrap_or_else(PoisonError::into_inner) = Some(thread);
                ToolOutcome::ok(limited(format!(
                    "The agent needs more; the next message answers it:\n\n{text}"
                )))
            }
            Ok(Answer::Failed(state, text)) => ToolOutcome::error(limited(
                format!("The agent's task is {state}. {text}").trim_end().to_owned(),
            )),
            Ok(Answer::Working(thread)) => ToolOutcome::error(format!("its task {} goes on", thread.id)),
            Err(why) => ToolOutcome::error(limited(format!("Error calling {}: {why}", self.spec.name))),
        }
    }
}

#[cfg(test)]
mod tests;
