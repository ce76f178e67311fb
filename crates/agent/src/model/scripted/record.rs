//! Turns the recorded entries of runs into a script. Pure.

use std::sync::Arc;

use legwork_common::secrets::Secrets;
use legwork_common::team::Team;
use serde_json::Value;

use super::placeholders::OPEN;
use super::placeholders::Placeholders;
use super::placeholders::pieces;
use super::script::Call;
use super::script::Reply;
use super::script::Run;
use super::script::Script;
use super::script::without_job_ids;
use crate::active_agent::ActiveAgent;
use crate::assignment::Opening;
use crate::history;
use crate::journal::TurnEntry;
use crate::message::AssistantMessage;
use crate::message::Message;
use crate::message::ToolCall;
use crate::turn::Transcript;

/// The replies of models in some runs, as a script that replays them.
///
/// Job ids are replaced by placeholders, because a replay has other jobs. Secrets are replaced by their names.
#[derive(Debug, Clone, Default)]
pub struct Recording {
    script: Script,
    secrets: Secrets,
    ambiguous_agents: Vec<String>,
}

impl Recording {
    /// An empty recording that hides these secrets.
    pub fn new(secrets: Secrets) -> Self {
        Self { script: Script::default(), secrets, ambiguous_agents: Vec::new() }
    }

    /// Adds a run that `agent` began, with the replies of the agents that the conversation was handed to.
    pub fn add(&mut self, team: &Arc<Team>, agent: &str, opening: Opening, entries: &[TurnEntry]) {
        let mut transcript = Transcript::new(opening.messages(), &[]);
        let task = self.hidden(&without_job_ids(Placeholders::of(transcript.messages()).task()));
        let mut active = ActiveAgent::new(Arc::clone(team), agent, &[]);
        for entry in entries {
            active.apply(entry);
            let reply = match entry {
                TurnEntry::Reply { turn, message } => {
                    let limit = team.agent(active.name()).and_then(|agent| agent.num_history_items);
                    let seen = history::latest(transcript.messages(), limit);
                    Some(self.reply(*turn, message, &seen))
                }
                TurnEntry::Compacted { turn, summary, .. } if !entry.is_tokens_only() => {
                    active.complete_handoff();
                    let text = self.templated(&summary_without_job_ids(summary), &Placeholders::default());
                    Some(Reply { turn: Some(*turn), summary: true, text, ..Reply::default() })
                }
                TurnEntry::Compacted { .. }
                | TurnEntry::Result { .. }
                | TurnEntry::Delivered { .. }
                | TurnEntry::Stderr { .. }
                | TurnEntry::Asked { .. }
                | TurnEntry::Decided { .. }
                | TurnEntry::Retried { .. } => None,
            };
            if let Some(reply) = reply {
                self.add_reply(active.name(), &task, reply);
            }
            transcript.apply(entry);
        }
    }

    /// Agents that gave different replies to the same task in two runs: a replay gives both the replies of the
    /// first.
    pub fn ambiguous_agents(&self) -> &[String] {
        &self.ambiguous_agents
    }

    /// The script, as indented JSON.
    ///
    /// # Errors
    ///
    /// None in practice: every part of a script is valid JSON.
    pub fn to_json(&self) -> Result<String, serde_json::Error> {
        Ok(serde_json::to_string_pretty(&self.script)? + "\n")
    }

    /// Adds a reply to the list of its agent and task, unless the list has one for that turn.
    fn add_reply(&mut self, agent: &str, task: &str, reply: Reply) {
        let runs = &mut self.script.runs;
        let at = runs.iter().position(|run| run.agent == agent && run.task == task).unwrap_or_else(|| {
            runs.push(Run { agent: agent.to_owned(), task: task.to_owned(), replies: Vec::new() });
            runs.len() - 1
        });
        let same = |known: &&Reply| known.turn == reply.turn && known.summary == reply.summary;
        match runs[at].replies.iter().find(same) {
            None => runs[at].replies.push(reply),
            Some(known) if *known != reply && !self.ambiguous_agents.iter().any(|twin| twin == agent) => {
                self.ambiguous_agents.push(agent.to_owned());
            }
            Some(_) => {}
        }
    }

    fn reply(&self, turn: u32, message: &AssistantMessage, seen: &[Arc<Message>]) -> Reply {
        let placeholders = Placeholders::of(seen);
        let call = |call: &ToolCall| Call {
            name: call.name.clone(),
            arguments: match serde_json::from_str(&call.arguments) {
                Ok(arguments @ Value::Object(_)) => self.templated_value(&arguments, &placeholders),
                // Malformed arguments are replayed as they were.
                Ok(_) | Err(_) => Value::String(self.templated(&call.arguments, &placeholders)),
            },
        };
        Reply {
            turn: Some(turn),
            reasoning: message.reasoning.as_deref().map(|text| self.hidden(text)),
            text: self.templated(&message.text, &placeholders),
            tool_calls: message.tool_calls.iter().map(call).collect(),
            input_tokens: message.usage.input_tokens,
            cached_tokens: message.usage.cached_tokens,
            output_tokens: message.usage.output_tokens,
            ..Reply::default()
        }
    }

    /// `text` with secrets hidden, job ids replaced by placeholders, and braces escaped that are not placeholders.
    fn templated(&self, text: &str, placeholders: &Placeholders<'_>) -> String {
        let text = self.hidden(text).replace("{{", &format!("{{{{{OPEN}}}}}"));
        let replaced = |(piece, id): (&str, Option<_>)| {
            id.and_then(|id| placeholders.placeholder(id)).unwrap_or_else(|| piece.to_owned())
        };
        pieces(&text).map(replaced).collect()
    }

    fn templated_value(&self, value: &Value, placeholders: &Placeholders<'_>) -> Value {
        match value {
            Value::String(text) => Value::String(self.templated(text, placeholders)),
            Value::Array(items) => {
                items.iter().map(|item| self.templated_value(item, placeholders)).collect()
            }
            Value::Object(entries) => entries
                .iter()
                .map(|(key, value)| (self.hidden(key), self.templated_value(value, placeholders)))
                .collect(),
            Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
        }
    }

    fn hidden(&self, text: &str) -> String {
        self.secrets.redacted(text).into_owned()
    }
}

/// A summary without job ids: placeholders have no values in the request for a summary.
fn summary_without_job_ids(summary: &str) -> String {
    pieces(summary).map(|(piece, id)| if id.is_some() { "[a job]" } else { piece }).collect()
}
