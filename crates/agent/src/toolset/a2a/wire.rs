//! The messages of the Agent2Agent protocol, in its versions 0.3 and 1.0. Pure.

use reqwest::Url;
use serde_json::Value;
use serde_json::json;

use crate::toolset::boundary;
use crate::toolset::http::is_http;

/// The most bytes of the tool's description, which comes from the remote agent and is part of every model call.
const MAX_DESCRIPTION_BYTES: usize = 4_000;

/// The major version of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Version {
    /// 0.3 and earlier.
    V0,
    /// 1.0 and later minor versions.
    V1,
}

/// What an agent's card states, as far as it is used here.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Card {
    pub(super) name: String,
    /// With the agent's skills, one a line.
    pub(super) description: String,
    /// The JSON-RPC endpoint.
    pub(super) url: Url,
    pub(super) version: Version,
    /// Whether the agent streams the events of a task.
    pub(super) streams: bool,
    /// Selects the agent where several share one endpoint.
    tenant: Option<String>,
}

/// A task of an agent, with the conversation that it belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TaskRef {
    pub(super) id: String,
    context: Option<String>,
}

impl TaskRef {
    /// The task that a JSON object describes.
    pub(super) fn of(task: &Value) -> Option<Self> {
        let id = task["id"].as_str()?.to_owned();
        Some(Self { id, context: task["contextId"].as_str().map(str::to_owned) })
    }
}

/// An agent's reply to a message or a poll.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Reply {
    /// The result.
    Completed(String),
    /// The agent is working on it.
    Working(TaskRef),
    /// The agent's question. The task continues with the next message.
    InputRequired(TaskRef, String),
    /// The task failed, was rejected or cancelled, or needs an authentication that is not supported.
    Failed { state: String, text: String },
}

impl Card {
    /// Reads a card. A relative endpoint in it is resolved against `agent_url`.
    ///
    /// # Errors
    ///
    /// The agent does not speak JSON-RPC over HTTP, or not a version that is supported.
    pub(super) fn read(card: &Value, agent_url: &Url) -> Result<Self, String> {
        let listed = |list: &str, binding: &str| {
            let mut all = card[list].as_array().into_iter().flatten();
            all.find(|interface| interface[binding] == "JSONRPC").cloned()
        };
        // In 0.3 the card itself is the preferred interface, next to a list of additional ones.
        let preferred = || {
            let is_json_rpc = card["preferredTransport"].as_str().is_none_or(|name| name == "JSONRPC");
            (is_json_rpc && card["url"].is_string()).then(|| card.clone())
        };
        let interface = listed("supportedInterfaces", "protocolBinding")
            .or_else(preferred)
            .or_else(|| listed("additionalInterfaces", "transport"))
            .ok_or("the agent's card has no JSON-RPC interface")?;
        let number =
            interface["protocolVersion"].as_str().or(card["protocolVersion"].as_str()).unwrap_or("0.3");
        let version = match number.split('.').next() {
            Some("0") => Version::V0,
            Some("1") => Version::V1,
            _ => return Err(format!("the agent speaks version {number} of the protocol, not 0.3 or 1.0")),
        };
        let url = interface["url"].as_str().unwrap_or_default();
        let url = agent_url.join(url).map_err(|_| "the URL in the agent's card is not valid")?;
        if !is_http(&url) {
            return Err("the URL in the agent's card is not http or https".to_owned());
        }
        let tenant = interface["tenant"].as_str().filter(|tenant| !tenant.is_empty()).map(str::to_owned);
        let name = card["name"].as_str().unwrap_or_default().to_owned();
        let streams = card["capabilities"]["streaming"] == true;
        Ok(Self { description: description(card), name, url, version, streams, tenant })
    }

    /// The call that sends a message, which continues `task` if there is one. It asks the agent to reply immediately; a
    /// task that takes longer is polled.
    pub(super) fn send(&self, text: &str, id: &str, task: Option<&TaskRef>) -> Value {
        let (method, configuration) = match self.version {
            Version::V0 => ("message/send", json!({"blocking": false})),
            Version::V1 => ("SendMessage", json!({"returnImmediately": true})),
        };
        self.call(method, json!({"message": self.message(text, id, task), "configuration": configuration}))
    }

    /// The call that sends a message and is answered by a stream of events.
    pub(super) fn stream(&self, text: &str, id: &str, task: Option<&TaskRef>) -> Value {
        let method = if self.version == Version::V1 { "SendStreamingMessage" } else { "message/stream" };
        self.call(method, json!({"message": self.message(text, id, task)}))
    }

    fn message(&self, text: &str, id: &str, task: Option<&TaskRef>) -> Value {
        let mut message = match self.version {
            Version::V0 => {
                json!({"kind": "message", "role": "user", "parts": [{"kind": "text", "text": text}]})
            }
            Version::V1 => json!({"role": "ROLE_USER", "parts": [{"text": text}]}),
        };
        message["messageId"] = json!(id);
        if let Some(task) = task {
            message["taskId"] = json!(task.id);
            if let Some(context) = &task.context {
                message["contextId"] = json!(context);
            }
        }
        message
    }

    /// The call that polls a task.
    pub(super) fn get(&self, task: &TaskRef) -> Value {
        let method = if self.version == Version::V1 { "GetTask" } else { "tasks/get" };
        self.call(method, json!({"id": task.id}))
    }

    /// The call that cancels a task.
    pub(super) fn cancel(&self, task: &TaskRef) -> Value {
        let method = if self.version == Version::V1 { "CancelTask" } else { "tasks/cancel" };
        self.call(method, json!({"id": task.id}))
    }

    fn call(&self, method: &str, mut params: Value) -> Value {
        if let Some(tenant) = &self.tenant {
            params["tenant"] = json!(tenant);
        }
        json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
    }
}

impl Reply {
    /// Reads the response to a call.
    ///
    /// # Errors
    ///
    /// The agent refused, or the response is neither a message nor a task.
    pub(super) fn read(response: &Value) -> Result<Self, String> {
        if let Some(error) = response.get("error").filter(|error| !error.is_null()) {
            let message = error["message"].as_str().unwrap_or("no reason given");
            return Err(format!("the agent refused: {message} (code {})", error["code"]));
        }
        let result = &response["result"];
        let message = result.get("message").unwrap_or(result);
        if message["parts"].is_array() {
            return Ok(Self::Completed(texts([message])));
        }
        let task = result.get("task").unwrap_or(result);
        let (Some(task_ref), Some(state)) = (TaskRef::of(task), task["status"]["state"].as_str()) else {
            return Err("the agent's response is neither a message nor a task".to_owned());
        };
        let status_text = || texts([&task["status"]["message"]]);
        // Version 1.0 writes `TASK_STATE_INPUT_REQUIRED`, 0.3 `input-required`.
        let state = state.trim_start_matches("TASK_STATE_").to_lowercase().replace('_', "-");
        Ok(match state.as_str() {
            "submitted" | "working" => Self::Working(task_ref),
            "input-required" => Self::InputRequired(task_ref, status_text()),
            "completed" => Self::Completed(result_text(task).unwrap_or_else(status_text)),
            _ => Self::Failed { state, text: status_text() },
        })
    }
}

/// The text of a completed task: its artifacts, else its status message, else the agent's last message.
fn result_text(task: &Value) -> Option<String> {
    let artifacts: Vec<String> =
        task["artifacts"].as_array().into_iter().flatten().map(artifact_text).collect();
    let artifacts = artifacts.into_iter().filter(|text| !text.is_empty()).collect::<Vec<_>>().join("\n");
    let is_agent = |message: &&Value| matches!(message["role"].as_str(), Some("agent" | "ROLE_AGENT"));
    let last = || {
        let messages = task["history"].as_array()?.iter();
        messages.rev().find(is_agent).map(|message| texts([message]))
    };
    let is_present = |text: &String| !text.is_empty();
    let status_text = || Some(texts([&task["status"]["message"]])).filter(is_present);
    Some(artifacts).filter(is_present).or_else(status_text).or_else(last)
}

/// The text of an artifact. Its text parts may be the chunks in which it was streamed, so nothing is put between them;
/// data is JSON on a line of its own. Files are skipped.
fn artifact_text(artifact: &Value) -> String {
    let mut text = String::new();
    let mut after_data = false;
    for part in artifact["parts"].as_array().into_iter().flatten() {
        let (piece, is_data) = match (&part["text"], &part["data"]) {
            (Value::String(piece), _) => (piece.clone(), false),
            (_, Value::Null) => continue,
            (_, data) => (data.to_string(), true),
        };
        if (is_data || after_data) && !text.is_empty() && !text.ends_with('\n') {
            text.push('\n');
        }
        text.push_str(&piece);
        after_data = is_data;
    }
    text
}

/// The text parts of messages, one a line, with data parts as JSON. Files are skipped.
fn texts<'a>(containers: impl IntoIterator<Item = &'a Value>) -> String {
    let parts =
        containers.into_iter().flat_map(|container| container["parts"].as_array().into_iter().flatten());
    let text = |part: &Value| match (&part["text"], &part["data"]) {
        (Value::String(text), _) => Some(text.clone()),
        (_, Value::Null) => None,
        (_, data) => Some(data.to_string()),
    };
    parts.filter_map(text).collect::<Vec<_>>().join("\n")
}

/// The agent's description and its skills, as the description of the tool.
fn description(card: &Value) -> String {
    let mut description = card["description"].as_str().unwrap_or_default().to_owned();
    for skill in card["skills"].as_array().into_iter().flatten() {
        if let (Some(name), Some(text)) = (skill["name"].as_str(), skill["description"].as_str()) {
            description.push_str(&format!("\n- {name}: {text}"));
        }
    }
    description.truncate(boundary(&description, MAX_DESCRIPTION_BYTES));
    description
}
