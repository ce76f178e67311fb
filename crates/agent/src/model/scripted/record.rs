//! Writing a script from what was recorded of runs. Pure.

use std::sync::Arc;

use legwork_common::team::Team;
use serde_json::Value;

use super::facts::Facts;
use super::facts::OPEN;
use super::facts::pieces;
use super::script::Call;
use super::script::Reply;
use super::script::Run;
use super::script::Script;
use super::script::anonymous;
use crate::active_agent::ActiveAgent;
use crate::assignment::Opening;
use crate::history;
use crate::journal::TurnEntry;
use crate::message::AssistantMessage;
use crate::message::Message;
use crate::turn::Transcript;

/// Values shorter than this are too common to be found again in a text.
const SHORTEST_SECRET: usize = 6;

/// What providers answered in some runs, as a script that gives the same answers.
///
/// Ids of jobs differ from run to run: blanks stand for them. Values that were named as secret are nowhere in it.
#[derive(Debug, Clone, Default)]
pub struct Recording {
    script: Script,
    secrets: Vec<(String, String)>,
    twins: Vec<String>,
}

impl Recording {
    /// A recording that shows none of these secrets, each a name and a value.
    pub fn new(secrets: impl IntoIterator<Item = (String, String)>) -> Self {
        let mut secrets: Vec<_> =
            secrets.into_iter().filter(|(_, value)| value.len() >= SHORTEST_SECRET).collect();
        // The longest first: one may be within another.
        secrets.sort_by_key(|(_, value)| std::cmp::Reverse(value.len()));
        Self { script: Script::default(), secrets, twins: Vec::new() }
    }

    /// Adds a run of `agent` and of those that it handed the conversation to.
    pub fn add(&mut self, team: &Arc<Team>, agent: &str, opening: Opening, entries: &[TurnEntry]) {
        let messages = opening.messages();
        let task = self.hidden(&anonymous(Facts::of(&messages).task()));
        let mut transcript = Transcript::new(messages, &[]);
        let mut active = ActiveAgent::new(Arc::clone(team), agent, &[]);
        for entry in entries {
            active.apply(entry);
            let reply = match entry {
                TurnEntry::Reply { turn, message } => {
                    let limit = team.agent(active.holder()).and_then(|agent| agent.num_history_items);
                    let seen = history::latest(transcript.messages(), limit);
                    Some(self.reply(*turn, message, &seen))
                }
                TurnEntry::Compacted { turn, summary, .. } => {
                    active.pass();
                    let text = self.quoted(&nameless(summary), &Facts::default());
                    Some(Reply { turn: Some(*turn), summary: true, text, ..Reply::default() })
                }
                TurnEntry::Result { .. }
                | TurnEntry::Delivered { .. }
                | TurnEntry::Stderr { .. }
                | TurnEntry::Retried { .. } => None,
            };
            if let Some(reply) = reply {
                self.put(active.holder(), &task, reply);
            }
            transcript.apply(entry);
        }
    }

    /// The agents of which two runs had the same task and other replies: a replay gives both the first's.
    pub fn twins(&self) -> &[String] {
        &self.twins
    }

    /// The script.
    ///
    /// # Errors
    ///
    /// None that can be met: all of it has a form in JSON.
    pub fn to_json(&self) -> Result<String, serde_json::Error> {
        Ok(serde_json::to_string_pretty(&self.script)? + "\n")
    }

    fn put(&mut self, agent: &str, task: &str, reply: Reply) {
        let runs = &mut self.script.runs;
        let at = runs.iter().position(|run| run.agent == agent && run.task == task).unwrap_or_else(|| {
            runs.push(Run { agent: agent.to_owned(), task: task.to_owned(), replies: Vec::new() });
            runs.len() - 1
        });
        let same = |known: &&Reply| known.turn == reply.turn && known.summary == reply.summary;
        match runs[at].replies.iter().find(same) {
            None => runs[at].replies.push(reply),
            Some(known) if *known != reply && !self.twins.iter().any(|twin| twin == agent) => {
                self.twins.push(agent.to_owned());
            }
            Some(_) => {}
        }
    }

    fn reply(&self, turn: u32, message: &AssistantMessage, seen: &[Message]) -> Reply {
        let facts = Facts::of(seen);
        let call = |call: &crate::message::ToolCall| Call {
            name: call.name.clone(),
            arguments: match serde_json::from_str(&call.arguments) {
                Ok(arguments @ Value::Object(_)) => self.quoted_value(&arguments, &facts),
                // Broken, it is played as it came.
                Ok(_) | Err(_) => Value::String(self.quoted(&call.arguments, &facts)),
            },
        };
        Reply {
            turn: Some(turn),
            reasoning: message.reasoning.as_deref().map(|text| self.hidden(text)),
            text: self.quoted(&message.text, &facts),
            tool_calls: message.tool_calls.iter().map(call).collect(),
            input_tokens: message.usage.input_tokens,
            cached_tokens: message.usage.cached_tokens,
            output_tokens: message.usage.output_tokens,
            ..Reply::default()
        }
    }

    /// `text` without secrets, with blanks for ids, and with what looks like a blank kept as it is.
    fn quoted(&self, text: &str, facts: &Facts<'_>) -> String {
        let text = self.hidden(text).replace("{{", &format!("{{{{{OPEN}}}}}"));
        let named = |(piece, id): (&str, Option<_>)| {
            id.and_then(|id| facts.blank(id)).unwrap_or_else(|| piece.to_owned())
        };
        pieces(&text).map(named).collect()
    }

    fn quoted_value(&self, value: &Value, facts: &Facts<'_>) -> Value {
        match value {
            Value::String(text) => Value::String(self.quoted(text, facts)),
            Value::Array(items) => items.iter().map(|item| self.quoted_value(item, facts)).collect(),
            Value::Object(entries) => entries
                .iter()
                .map(|(key, value)| (self.hidden(key), self.quoted_value(value, facts)))
                .collect(),
            Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
        }
    }

    fn hidden(&self, text: &str) -> String {
        self.secrets
            .iter()
            .fold(text.to_owned(), |text, (name, value)| text.replace(value, &format!("[hidden: {name}]")))
    }
}

/// A summary with a word in place of each id of a job: who plays it has other jobs.
fn nameless(summary: &str) -> String {
    pieces(summary).map(|(piece, id)| if id.is_some() { "[a job]" } else { piece }).collect()
}
