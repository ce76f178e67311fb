//! Models that read their replies from a script: for tests, demonstrations and `run --script`.
//!
//! ```json
//! { "agents": {
//!     "root": [
//!       { "text": "I let somebody count.",
//!         "tool_calls": [ { "name": "run_background_agent",
//!                           "arguments": { "agent": "counter", "task": "Count to three" } } ] },
//!       { "tool_calls": [ { "name": "wait_background_agents", "arguments": { "task_ids": ["{{jobs}}"] } } ] },
//!       { "text": "It says: {{result:wait_background_agents}}" } ],
//!     "*": [ { "text": "one two three", "chunk_delay_ms": 50 } ] } }
//! ```
//!
//! The reply that begins turn *k* of a run is the *k*-th of its agent, so that a resumed run goes on where it was.
//! `*` stands for every agent without a list of its own. In a reply, `delay_ms` passes before the first word and
//! `chunk_delay_ms` between words; `input_tokens` and `output_tokens` are what it counts. Arguments that are a string are
//! sent as they are, broken JSON too. A summary of a long conversation is no turn: its text is made up here.
//!
//! Texts and the strings in arguments may hold
//!
//! - `{{task}}`: what a sub-agent was asked, or the user's first message;
//! - `{{last_user}}`: the last user message, such as the announcement of ended jobs;
//! - `{{result:N}}`: the N-th tool result since the last reply, counted from 0; `{{results}}`: all of them;
//! - `{{result:NAME}}`: the last result of the tool of that name;
//! - `{{job:N}}`: the N-th background job that a tool result names; the list item `{{jobs}}`: all of them.

mod facts;

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use legwork_common::job::Usage;
use legwork_common::team::ModelSettings;
use serde::Deserialize;
use serde_json::Value;
use thiserror::Error;
use tokio::sync::mpsc;
use tokio::time::sleep;

use self::facts::Facts;
use super::Delta;
use super::ModelError;
use super::ModelPort;
use super::ModelRequest;
use super::Purpose;
use crate::message::AssistantMessage;
use crate::message::ToolCall;

/// The list for every agent without its own.
const EVERYONE: &str = "*";

/// Bytes that are not a script.
#[derive(Debug, Error)]
#[error("the script cannot be read")]
pub struct ScriptError(#[source] serde_json::Error);

/// Replies from a script.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScriptedModels {
    agents: BTreeMap<String, Vec<Reply>>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Reply {
    #[serde(default)]
    text: String,
    #[serde(default)]
    delay_ms: u64,
    #[serde(default)]
    chunk_delay_ms: u64,
    #[serde(default)]
    tool_calls: Vec<Call>,
    #[serde(default)]
    input_tokens: u64,
    #[serde(default)]
    output_tokens: u64,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Call {
    name: String,
    #[serde(default)]
    arguments: Value,
}

impl ScriptedModels {
    /// Reads a script.
    ///
    /// # Errors
    ///
    /// [`ScriptError`] with the line and the column of the first mistake.
    pub fn parse(bytes: &[u8]) -> Result<Self, ScriptError> {
        serde_json::from_slice(bytes).map_err(ScriptError)
    }

    /// The reply that begins this turn.
    fn reply(&self, agent: &str, turn: u32) -> Result<&Reply, String> {
        let replies = self
            .agents
            .get(agent)
            .or_else(|| self.agents.get(EVERYONE))
            .ok_or_else(|| format!("the script has no replies for agent `{agent}`"))?;
        turn.checked_sub(1).and_then(|before| replies.get(before as usize)).ok_or_else(|| {
            format!(
                "the script has {} replies for agent `{agent}`, and turn {turn} needs one more",
                replies.len()
            )
        })
    }

    /// The whole message.
    fn message(&self, request: &ModelRequest) -> Result<(AssistantMessage, Reply), String> {
        if request.purpose == Purpose::Summary {
            let text = format!("All of it before turn {}.", request.turn);
            return Ok((AssistantMessage { text, ..AssistantMessage::default() }, Reply::default()));
        }
        let reply = self.reply(&request.agent, request.turn)?.clone();
        let facts = Facts::of(&request.messages);
        let calls = (0..).zip(&reply.tool_calls).map(|(index, call): (u32, &Call)| {
            Ok(ToolCall {
                id: format!("call_{}_{index}", request.turn),
                name: call.name.clone(),
                arguments: arguments(&facts, &call.arguments)?,
            })
        });
        let message = AssistantMessage {
            text: facts.filled(&reply.text)?,
            tool_calls: calls.collect::<Result<_, String>>()?,
            usage: Usage {
                input_tokens: reply.input_tokens,
                output_tokens: reply.output_tokens,
                cached_tokens: 0,
                turns: 1,
            },
            ..AssistantMessage::default()
        };
        Ok((message, reply))
    }
}

/// The arguments as a model would write them.
fn arguments(facts: &Facts<'_>, written: &Value) -> Result<String, String> {
    match written {
        Value::Null => Ok("{}".to_owned()),
        Value::String(raw) => facts.filled(raw),
        other => Ok(facts.filled_value(other)?.to_string()),
    }
}

#[async_trait]
impl ModelPort for ScriptedModels {
    async fn stream(
        &self,
        settings: &ModelSettings,
        request: &ModelRequest,
        deltas: mpsc::Sender<Delta>,
    ) -> Result<AssistantMessage, ModelError> {
        let refused = |detail| ModelError::Refused { model: settings.reference(), detail };
        let (message, reply) = self.message(request).map_err(refused)?;
        if reply.delay_ms > 0 {
            sleep(Duration::from_millis(reply.delay_ms)).await;
        }
        if reply.chunk_delay_ms == 0 {
            deltas.send(Delta::Text(message.text.clone())).await.ok();
            return Ok(message);
        }
        for (number, word) in message.text.split_inclusive(char::is_whitespace).enumerate() {
            if number > 0 {
                sleep(Duration::from_millis(reply.chunk_delay_ms)).await;
            }
            deltas.send(Delta::Text(word.to_owned())).await.ok();
        }
        Ok(message)
    }
}

#[cfg(test)]
mod tests;
