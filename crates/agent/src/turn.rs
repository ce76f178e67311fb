//! What a run does next, decided from what is recorded. Pure: no time, no input, no output.
//!
//! ```text
//! opening ─► delivered* ─► reply ─┬─ tool calls ─► a result for each ─► delivered* ─► reply …
//!                                 └─ none ─► mail? ─ yes ─► delivered ─► reply …
//!                                                └─ no ──► done
//! ```

mod repetition;

use std::collections::BTreeMap;
use std::collections::HashSet;
use std::sync::Arc;

use legwork_common::contract;
use legwork_common::id::JobId;
use legwork_common::job::Usage;
use legwork_common::question::Answer;
use legwork_common::service::CallIndex;
use legwork_common::service::Mail;
use legwork_common::service::MailContent;
use legwork_common::service::MailId;
use serde_json::Map;
use serde_json::Value;

use self::repetition::Repetition;
use crate::compaction;
use crate::journal::TurnEntry;
use crate::message::AssistantMessage;
use crate::message::Message;
use crate::message::ToolCall;
use crate::message::ToolResult;

/// The next step of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Call the model.
    Ask {
        /// The turn that its reply begins, counted from 1.
        turn: u32,
    },
    /// Make the calls of the last reply that have no result yet.
    Work {
        /// The calls and their places, in the order of the reply.
        open: Vec<(CallIndex, ToolCall)>,
    },
    /// The last reply has no tool calls. The run is complete once its jobs have ended and no mail is left.
    Finish {
        /// The text of the last reply: the result of the run.
        result: String,
    },
    /// A model call is due, but the turn limit is reached.
    Exhausted {
        /// The last turn that has a reply.
        turns: u32,
    },
}

/// A call that a person was asked about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AskedCall {
    /// The arguments that the approval is for.
    pub arguments: Map<String, Value>,
    /// The answer. An approved call may have been made, or begun, by an attempt that is over.
    pub answer: Option<Answer>,
}

/// A run so far: a fold of the opening messages and the recorded entries.
#[derive(Debug, Clone, Default)]
pub struct Transcript {
    messages: Vec<Arc<Message>>,
    /// How many messages at the beginning are the task. No summary replaces them.
    task_len: usize,
    /// The tokens that the provider counted for the last request and its reply, and how many messages those were.
    counted: Option<(u64, usize)>,
    /// The last turn that has a reply.
    turn: u32,
    /// The calls of the last reply; empty once all have results.
    calls: Vec<ToolCall>,
    /// Results of `calls` by their index, held back until the last one is there: a conversation with an open call
    /// is one that no provider accepts.
    results: BTreeMap<u32, ToolResult>,
    /// Those of `calls` that a person was asked about, by their index.
    asked: BTreeMap<u32, AskedCall>,
    /// How often in a row the model made the calls of its last reply.
    repetition: Repetition,
    /// Whether there is something for the model that it has not replied to.
    reply_is_due: bool,
    /// Whether that is a prompt or a task, and nothing has come after it.
    prompt_is_open: bool,
    /// Whether any reply since this run began had text.
    has_output: bool,
    last_text: String,
    /// Mail that the model has seen.
    delivered: HashSet<MailId>,
    /// Jobs whose end the model has seen in a result.
    ended: HashSet<JobId>,
    usage: Usage,
}

impl Transcript {
    /// A run with this opening, resumed after the `recorded` entries.
    pub fn new(opening: Vec<Message>, recorded: &[TurnEntry]) -> Self {
        let first = opening.iter().position(|message| matches!(message, Message::User { .. }));
        let task_len = first.map_or(opening.len(), |first| first + 1);
        let prompt_is_open = matches!(opening.last(), Some(Message::User { .. }));
        let mut messages: Vec<_> = opening.into_iter().map(Arc::new).collect();
        // Collected in the room of the messages themselves.
        messages.shrink_to_fit();
        let mut transcript =
            Self { messages, task_len, reply_is_due: true, prompt_is_open, ..Self::default() };
        for entry in recorded {
            transcript.apply(entry);
        }
        transcript.has_output = false;
        transcript
    }

    /// Applies one entry. A second result for the same call changes nothing.
    pub fn apply(&mut self, entry: &TurnEntry) {
        match entry {
            TurnEntry::Reply { turn, message } => self.reply(*turn, message),
            TurnEntry::Result { turn, index, call_id, text, images, is_error, ended } => {
                self.ended.extend(ended);
                if *turn == self.turn {
                    let (call_id, text, images) = (call_id.clone(), text.clone(), images.clone());
                    let result =
                        ToolResult { call_id, name: String::new(), text, images, is_error: *is_error };
                    self.result(*index, result);
                }
            }
            TurnEntry::Delivered { mail, text, .. } => {
                self.delivered.extend(mail.iter().cloned());
                self.messages.push(Arc::new(Message::user(text)));
                self.reply_is_due = true;
                self.prompt_is_open = mail.is_empty();
                // The answer to a user's next prompt is an output of its own, without a separator before it.
                self.has_output &= !mail.is_empty();
                if mail.is_empty() {
                    self.repetition.forget();
                }
            }
            TurnEntry::Compacted { kept, summary, usage, .. } => self.compact(*kept, summary, *usage),
            TurnEntry::Stderr { .. } => {}
            TurnEntry::Asked { turn, index, arguments, .. } => {
                if *turn == self.turn {
                    let asked = AskedCall { arguments: arguments.clone(), answer: None };
                    self.asked.entry(*index).or_insert(asked);
                }
            }
            TurnEntry::Decided { turn, index, answer } => {
                if *turn == self.turn
                    && let Some(asked) = self.asked.get_mut(index)
                {
                    asked.answer.get_or_insert_with(|| answer.clone());
                }
            }
            // The entries so far were another job's: so are their usage, their mail and the jobs that they
            // dispatched.
            TurnEntry::Retried { .. } => {
                self.usage = Usage::default();
                self.delivered.clear();
                self.ended.clear();
                self.repetition.forget();
            }
        }
    }

    fn compact(&mut self, kept: u32, summary: &str, usage: Usage) {
        self.usage.add(usage);
        let from = self.messages.len().saturating_sub(kept as usize);
        if from > self.task_len {
            self.messages.splice(self.task_len..from, [Arc::new(compaction::summary_message(summary))]);
            // What was counted was counted for the longer conversation.
            self.counted = None;
        }
    }

    fn reply(&mut self, turn: u32, message: &AssistantMessage) {
        self.turn = turn;
        self.usage.add(message.usage);
        let tokens = message.usage.input_tokens + message.usage.output_tokens;
        // Some providers count nothing.
        self.counted = (message.usage.input_tokens > 0).then_some((tokens, self.messages.len() + 1));
        self.has_output |= !message.text.is_empty();
        self.last_text.clone_from(&message.text);
        self.calls.clone_from(&message.tool_calls);
        self.repetition.count(&self.calls);
        self.results.clear();
        self.asked.clear();
        self.reply_is_due = false;
        self.prompt_is_open = false;
        self.messages.push(Arc::new(Message::assistant(message.clone())));
    }

    /// Adds a result, under the name of the tool that was called.
    fn result(&mut self, index: u32, result: ToolResult) {
        let Some(call) = self.calls.get(index as usize) else { return };
        self.results.entry(index).or_insert_with(|| ToolResult { name: call.name.clone(), ..result });
        if self.results.len() == self.calls.len() {
            let results = std::mem::take(&mut self.results);
            self.messages.extend(results.into_values().map(Message::tool_result).map(Arc::new));
            self.calls.clear();
            self.reply_is_due = true;
        }
    }

    /// The next step. `turn_limit` is the last turn that the active agent may take; `None` for no limit.
    pub fn next(&self, turn_limit: Option<u32>) -> Step {
        let open: Vec<_> = (0..)
            .zip(&self.calls)
            .filter(|(index, _)| !self.results.contains_key(index))
            .map(|(index, call)| (CallIndex { turn: self.turn, index }, call.clone()))
            .collect();
        if !open.is_empty() {
            return Step::Work { open };
        }
        if !self.reply_is_due {
            return Step::Finish { result: self.last_text.clone() };
        }
        if turn_limit.is_some_and(|limit| self.turn >= limit) {
            return Step::Exhausted { turns: self.turn };
        }
        Step::Ask { turn: self.turn + 1 }
    }

    /// What is recorded of asking a person about an open call of the last reply.
    pub fn asked(&self, call: CallIndex) -> Option<&AskedCall> {
        self.asked.get(&call.index).filter(|_| call.turn == self.turn)
    }

    /// The first tool that the last reply called, and how many replies in a row made the same calls with the same
    /// arguments. Calls that only poll background work do not count.
    pub fn repeated_calls(&self) -> (&str, u32) {
        self.repetition.repeated()
    }

    /// The conversation. While a call is open, the results of its turn are missing.
    pub fn messages(&self) -> &[Arc<Message>] {
        &self.messages
    }

    /// The opening up to its first user message: the messages that no summary replaces.
    pub fn task(&self) -> &[Arc<Message>] {
        &self.messages[..self.task_len]
    }

    /// About how many tokens the next request has, from the provider's count of the last one and the size of what
    /// was added; `None` where the provider counted nothing.
    pub(crate) fn counted_tokens(&self) -> Option<u64> {
        let (tokens, messages) = self.counted?;
        let since: usize = self.messages.get(messages..)?.iter().map(|message| message.bytes()).sum();
        Some(tokens + compaction::tokens(since))
    }

    /// The last prompt of a user; without one, the task that the agent was given.
    pub fn latest_prompt(&self) -> &str {
        let by_user = self.messages.iter().rev().find_map(|message| match &**message {
            Message::User { text } if text != contract::PROCEED => Some(text),
            _ => None,
        });
        let as_task = self.task().iter().rev().find_map(|message| match &**message {
            Message::System { text } => Some(text),
            _ => None,
        });
        by_user.or(as_task).map(String::as_str).unwrap_or_default()
    }

    /// Whether an earlier call of the same tool with the same arguments had this result, and the model still sees it.
    pub fn has_shown(&self, call: &ToolCall, text: &str) -> bool {
        let is_same = |earlier: &ToolCall| earlier.name == call.name && earlier.arguments == call.arguments;
        let replies = self.messages.iter().filter_map(|message| match &**message {
            Message::Assistant(reply) => Some(&reply.tool_calls),
            Message::System { .. } | Message::User { .. } | Message::ToolResult(_) => None,
        });
        let ids: HashSet<&str> =
            replies.flatten().filter(|call| is_same(call)).map(|call| call.id.as_str()).collect();
        !ids.is_empty()
            && self.messages.iter().any(|message| {
                matches!(&**message, Message::ToolResult(result) if ids.contains(result.call_id.as_str()) && result.text == text)
            })
    }

    /// The call of this tool in the last reply whose result is not an error; `None` once anything came after it.
    pub fn accepted_call(&self, tool: &str) -> Option<&ToolCall> {
        let mut accepted = HashSet::new();
        for message in self.messages.iter().rev() {
            match &**message {
                Message::ToolResult(result) if result.name == tool && !result.is_error => {
                    accepted.insert(result.call_id.as_str());
                }
                Message::ToolResult(_) => {}
                Message::Assistant(reply) => {
                    let is_accepted =
                        |call: &&ToolCall| call.name == tool && accepted.contains(call.id.as_str());
                    return reply.tool_calls.iter().find(is_accepted);
                }
                Message::User { .. } | Message::System { .. } => return None,
            }
        }
        None
    }

    /// Whether the model has not replied to the last prompt of a user, or to its task, and no mail has come since.
    pub fn is_prompted(&self) -> bool {
        self.prompt_is_open
    }

    /// The last answer to an earlier message of a user that is the same one; `None` where there was none.
    pub fn earlier_answer(&self, is_same: impl Fn(&str) -> bool) -> Option<&str> {
        let mut answers = false;
        let mut found = None;
        for message in &self.messages {
            match &**message {
                Message::User { text } => answers = is_same(text),
                Message::Assistant(reply)
                    if answers && reply.tool_calls.is_empty() && !reply.text.is_empty() =>
                {
                    found = Some(reply.text.as_str());
                }
                Message::Assistant(_) | Message::ToolResult(_) | Message::System { .. } => {}
            }
        }
        found
    }

    /// The names of the tools that the last reply called.
    pub fn last_called_tools(&self) -> impl Iterator<Item = &str> {
        let last = self.messages.iter().rev().find_map(|message| match &**message {
            Message::Assistant(reply) => Some(&reply.tool_calls),
            Message::System { .. } | Message::User { .. } | Message::ToolResult(_) => None,
        });
        last.into_iter().flatten().map(|call| call.name.as_str())
    }

    /// The last turn that has a reply; 0 before the first.
    pub fn turn(&self) -> u32 {
        self.turn
    }

    /// Whether this run has written output that the text of the next reply must be separated from. Output of
    /// earlier attempts does not count: the caller separates that.
    pub fn has_output(&self) -> bool {
        self.has_output
    }

    /// The usage of all model calls so far, earlier attempts included.
    pub fn usage(&self) -> Usage {
        self.usage
    }

    /// Sorts mail into what is new to the model and what it has seen.
    pub fn sort_mail(&self, mail: Vec<Mail>) -> SortedMail {
        let mut known = Vec::new();
        let mut fresh = Vec::new();
        for item in mail {
            if self.knows(&item) {
                known.push(item.id);
            } else {
                fresh.push(item);
            }
        }
        SortedMail { known, deliveries: deliveries(self.turn + 1, &fresh) }
    }

    /// Whether the model has seen this mail, or the end that it announces in a tool result.
    pub(crate) fn knows(&self, mail: &Mail) -> bool {
        self.delivered.contains(&mail.id)
            || match &mail.content {
                MailContent::Ended(view) => self.ended.contains(&view.job.id),
                MailContent::Message(_) => false,
            }
    }
}

/// Mail, sorted by whether the model has seen it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SortedMail {
    /// Mail that the model has seen: it can be acknowledged.
    pub known: Vec<MailId>,
    /// Entries that deliver the rest, each as one user message. They must be recorded before their mail is
    /// acknowledged.
    pub deliveries: Vec<TurnEntry>,
}

/// One entry for all ends of jobs, then one for each message.
fn deliveries(turn: u32, fresh: &[Mail]) -> Vec<TurnEntry> {
    let ended = |mail: &&Mail| matches!(mail.content, MailContent::Ended(_));
    let announcement = contract::announcement(fresh).map(|text| TurnEntry::Delivered {
        turn,
        mail: fresh.iter().filter(ended).map(|mail| mail.id.clone()).collect(),
        text,
    });
    let messages = fresh.iter().filter_map(|mail| match &mail.content {
        MailContent::Ended(_) => None,
        MailContent::Message(text) => {
            Some(TurnEntry::Delivered { turn, mail: vec![mail.id.clone()], text: text.clone() })
        }
    });
    announcement.into_iter().chain(messages).collect()
}

#[cfg(test)]
mod tests;
