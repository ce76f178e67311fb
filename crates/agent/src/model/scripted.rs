//! Models that replay their replies from a script: for tests, demonstrations and `run --script`.
//!
//! ```json
//! { "agents": {
//!     "root": [
//!       { "text": "I let another agent count.",
//!         "tool_calls": [ { "name": "run_background_agent",
//!                           "arguments": { "agent": "counter", "task": "Count to three" } } ] },
//!       { "tool_calls": [ { "name": "wait_background_agents", "arguments": { "task_ids": ["{{jobs}}"] } } ] },
//!       { "text": "It says: {{result:wait_background_agents}}" } ],
//!     "*": [ { "text": "one two three", "chunk_delay_ms": 50 } ] } }
//! ```
//!
//! The reply that begins turn *k* of a run is the *k*-th of its agent, so a resumed run continues where it was.
//! docs/scripts.md documents the whole format, which is also what [`Recording`] writes.

mod placeholders;
mod record;
mod script;

use std::time::Duration;

use async_trait::async_trait;
use legwork_common::job::Usage;
use serde_json::Value;
use thiserror::Error;
use tokio::time::sleep;

pub use self::record::Recording;

use self::placeholders::Placeholders;
use self::script::Call;
use self::script::Script;
use super::Delta;
use super::ModelCall;
use super::ModelError;
use super::ModelPort;
use super::ModelReply;
use super::ModelRequest;
use super::Purpose;
use crate::message::AssistantMessage;
use crate::message::ToolCall;

/// The bytes are not a script.
#[derive(Debug, Error)]
#[error("the script cannot be read")]
pub struct ScriptError(#[source] serde_json::Error);

/// A model port that replays a script, for every provider and model. It ignores tools and settings.
#[derive(Debug, Clone)]
pub struct ScriptedModels {
    script: Script,
}

impl ScriptedModels {
    /// Parses the JSON of a script.
    ///
    /// # Errors
    ///
    /// [`ScriptError`] with the line and the column of the first error.
    pub fn parse(bytes: &[u8]) -> Result<Self, ScriptError> {
        let script = serde_json::from_slice(bytes).map_err(ScriptError)?;
        Ok(Self { script })
    }

    /// The complete message, and how long it takes. The error is a sentence about what is missing.
    fn message(&self, request: &ModelRequest) -> Result<(AssistantMessage, Delays), String> {
        let placeholders = Placeholders::of(&request.messages);
        let (agent, turn) = (&request.agent, request.turn);
        if request.purpose == Purpose::Hook {
            return Err("a script has no answers for hooks".to_owned());
        }
        if request.purpose == Purpose::Summary {
            let recorded = self
                .script
                .summary(agent, placeholders.task(), turn)
                .map(|reply| placeholders.filled(&reply.text));
            let text = recorded.unwrap_or_else(|| Ok(format!("Summary before turn {turn}.")))?;
            return Ok((AssistantMessage { text, ..AssistantMessage::default() }, Delays::default()));
        }
        let reply = self.script.reply(agent, placeholders.task(), turn)?;
        let calls = (0..).zip(&reply.tool_calls).map(|(index, call): (u32, &Call)| {
            Ok(ToolCall {
                id: format!("call_{}_{index}", request.turn),
                name: call.name.clone(),
                arguments: arguments(&placeholders, &call.arguments)?,
                thought_signature: None,
            })
        });
        let message = AssistantMessage {
            text: placeholders.filled(&reply.text)?,
            reasoning: reply.reasoning.clone(),
            tool_calls: calls.collect::<Result<_, String>>()?,
            usage: Usage {
                input_tokens: reply.input_tokens,
                output_tokens: reply.output_tokens,
                cached_tokens: reply.cached_tokens,
                turns: 1,
            },
            ..AssistantMessage::default()
        };
        Ok((message, Delays { first_ms: reply.delay_ms, chunk_ms: reply.chunk_delay_ms }))
    }
}

/// How long a scripted reply takes, in milliseconds.
#[derive(Debug, Clone, Copy, Default)]
struct Delays {
    /// Until it begins.
    first_ms: u64,
    /// Between its words.
    chunk_ms: u64,
}

/// The arguments as JSON text, as a model writes them. A string in the script is that text, valid or not.
fn arguments(placeholders: &Placeholders<'_>, scripted: &Value) -> Result<String, String> {
    match scripted {
        Value::Null => Ok("{}".to_owned()),
        Value::String(raw) => placeholders.filled(raw),
        other => Ok(placeholders.filled_value(other)?.to_string()),
    }
}

#[async_trait]
impl ModelPort for ScriptedModels {
    async fn stream(&self, call: ModelCall<'_>) -> Result<ModelReply, ModelError> {
        let ModelCall { settings, request, deltas } = call;
        let refused = |detail| ModelError::Refused { model: settings.reference(), detail };
        let (message, delays) = self.message(request).map_err(refused)?;
        if let Some(reasoning) = message.reasoning.clone() {
            deltas.send(Delta::Reasoning(reasoning)).await;
        }
        if delays.first_ms > 0 {
            sleep(Duration::from_millis(delays.first_ms)).await;
        }
        if delays.chunk_ms == 0 {
            deltas.send(Delta::Text(message.text.clone())).await;
            return Ok(ModelReply::complete(message));
        }
        for (number, word) in message.text.split_inclusive(char::is_whitespace).enumerate() {
            if number > 0 {
                sleep(Duration::from_millis(delays.chunk_ms)).await;
            }
            deltas.send(Delta::Text(word.to_owned())).await;
        }
        Ok(ModelReply::complete(message))
    }
}

#[cfg(test)]
mod tests;
