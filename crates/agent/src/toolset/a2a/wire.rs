//! The Agent2Agent protocol as it is written, in its versions 0.3 and 1.0. Pure.

use reqwest::Url;
use serde_json::Value;
use serde_json::json;

use crate::toolset::boundary;

/// The most bytes of what an agent says of itself.
const ABOUT_BYTES: usize = 4_000;

/// How an agent is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Version {
    /// 0.3 and what was before.
    Old,
    /// 1.0 and what follows.
    One,
}

/// What an agent says of itself.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Card {
    pub(super) name: String,
    pub(super) about: String,
    /// Where it is spoken to by JSON-RPC.
    pub(super) address: Url,
    pub(super) version: Version,
    /// Whose agent it is, where one address serves several.
    tenant: Option<String>,
}

/// Where a conversation with an agent goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Thread {
    /// Its task.
    pub(super) id: String,
    context: Option<String>,
}

/// What came of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    /// It is done.
    Done(String),
    /// It works on it.
    Working(Thread),
    /// It asks for more, and goes on with the next message.
    Asks(Thread, String),
    /// It came to nothing: the state, and what is said about it.
    Failed(String, String),
}

impl Card {
    /// Reads the card that was found at `home`.
    ///
    /// # Errors
    ///
    /// Why the agent cannot be spoken to.
    pub(super) fn read(card: &Value, home: &Url) -> Result<Self, String> {
        let listed = |list: &str, binding: &str| {
            let mut all = card[list].as_array().into_iter().flatten();
            all.find(|one| one[binding] == "JSONRPC").cloned()
        };
        // Of 0.3, whose preferred way is beside the list of others.
        let preferred = || {
            let is_json = card["preferredTransport"].as_str().is_none_or(|way| way == "JSONRPC");
            (is_json && card["url"].is_string()).then(|| card.clone())
        };
        let way = listed("supportedInterfaces", "protocolBinding")
            .or_else(preferred)
            .or_else(|| listed("additionalInterfaces", "transport"))
            .ok_or("the agent's card names no way by JSON-RPC")?;
        let number = way["protocolVersion"].as_str().or(card["protocolVersion"].as_str()).unwrap_or("0.3");
        let version = match number.split('.').next() {
            Some("0") => Version::Old,
            Some("1") => Version::One,
            _ => return Err(format!("the agent speaks version {number} of the protocol, not 0.3 or 1.0")),
        };
        let written = way["url"].as_str().unwrap_or_default();
        let address = home.join(written).map_err(|_| "the agent's card names no address that can be used")?;
        if !matches!(address.scheme(), "http" | "https") {
            return Err("the agent's card names an address that is not http or https".to_owned());
        }
        let tenant = way["tenant"].as_str().filter(|tenant| !tenant.is_empty()).map(str::to_owned);
        let name = card["name"].as_str().unwrap_or_default().to_owned();
        Ok(Self { about: about(card), name, address, version, tenant })
    }

    /// The call that sends a message. It asks for an answer at once: an agent that works for long is asked again.
    pub(super) fn send(&self, text: &str, id: &str, thread: Option<&Thread>) -> Value {
        let (method, mut message, configuration) = match self.version {
            Version::Old => (
                "message/send",
                json!({"kind": "message", "role": "user", "parts": [{"kind": "text", "text": text}]}),
                json!({"blocking": false}),
            ),
            Version::One => (
                "SendMessage",
                json!({"role": "ROLE_USER", "parts": [{"text": text}]}),
                json!({"returnImmediately": true}),
            ),
        };
        message["messageId"] = json!(id);
        if let Some(thread) = thread {
            message["taskId"] = json!(thread.id);
            if let Some(context) = &thread.context {
                message["contextId"] = json!(context);
            }
        }
        self.call(method, json!({"message": message, "configuration": configuration}))
    }

    /// The call that asks how far a task is.
    pub(super) fn get(&self, thread: &Thread) -> Value {
        let method = if self.version == Version::One { "GetTask" } else { "tasks/get" };
        self.call(method, json!({"id": thread.id}))
    }

    /// The call that stops a task.
    pub(super) fn cancel(&self, thread: &Thread) -> Value {
        let method = if self.version == Version::One { "CancelTask" } else { "tasks/cancel" };
        self.call(method, json!({"id": thread.id}))
    }

    fn call(&self, method: &str, mut params: Value) -> Value {
        if let Some(tenant) = &self.tenant {
            params["tenant"] = json!(tenant);
        }
        json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
    }
}

impl Answer {
    /// Reads the result of a call.
    ///
    /// # Errors
    ///
    /// That the agent refused, or that it is no answer of the protocol.
    pub(super) fn read(answer: &Value) -> Result<Self, String> {
        if let Some(error) = answer.get("error").filter(|error| !error.is_null()) {
            let message = error["message"].as_str().unwrap_or("no reason given");
            return Err(format!("the agent refused: {message} (code {})", error["code"]));
        }
        let result = &answer["result"];
        let message = result.get("message").unwrap_or(result);
        if message["parts"].is_array() {
            return Ok(Self::Done(texts([message])));
        }
        let task = result.get("task").unwrap_or(result);
        let (Some(id), Some(state)) = (task["id"].as_str(), task["status"]["state"].as_str()) else {
            return Err("the agent's answer is neither a message nor a task".to_owned());
        };
        let thread = Thread { id: id.to_owned(), context: task["contextId"].as_str().map(str::to_owned) };
        let said = || texts([&task["status"]["message"]]);
        let state = state.trim_start_matches("TASK_STATE_").to_lowercase().replace('_', "-");
        Ok(match state.as_str() {
            "submitted" | "working" => Self::Working(thread),
            "input-required" => Self::Asks(thread, said()),
            "completed" => Self::Done(outcome(task).unwrap_or_else(said)),
            _ => Self::Failed(state, said()),
        })
    }
}

/// What a task made, or else the last that its agent said.
fn outcome(task: &Value) -> Option<String> {
    let made = texts(task["artifacts"].as_array().into_iter().flatten());
    let is_agent = |message: &&Value| matches!(message["role"].as_str(), Some("agent" | "ROLE_AGENT"));
    let last = || {
        let messages = task["history"].as_array()?.iter();
        messages.rev().find(is_agent).map(|message| texts([message]))
    };
    let some = |text: &String| !text.is_empty();
    Some(made).filter(some).or_else(|| Some(texts([&task["status"]["message"]])).filter(some)).or_else(last)
}

/// The texts of the parts, and data as JSON.
fn texts<'a>(all: impl IntoIterator<Item = &'a Value>) -> String {
    let parts = all.into_iter().flat_map(|one| one["parts"].as_array().into_iter().flatten());
    let text = |part: &Value| match (&part["text"], &part["data"]) {
        (Value::String(text), _) => Some(text.clone()),
        (_, Value::Null) => None,
        (_, data) => Some(data.to_string()),
    };
    parts.filter_map(text).collect::<Vec<_>>().join("\n")
}

/// What a model is told of the agent: its description and its skills.
fn about(card: &Value) -> String {
    let mut about = card["description"].as_str().unwrap_or_default().to_owned();
    for skill in card["skills"].as_array().into_iter().flatten() {
        if let (Some(name), Some(text)) = (skill["name"].as_str(), skill["description"].as_str()) {
            about.push_str(&format!("\n- {name}: {text}"));
        }
    }
    about.truncate(boundary(&about, ABOUT_BYTES));
    about
}
