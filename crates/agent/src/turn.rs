//! What a run does next, decided from what is recorded. Pure: no time, no input, no output.
//!
//! ```text
//! opening ─► told* ─► reply ─┬─ tool calls ─► a result for each ─► told* ─► reply …
//!                            └─ none ─► mail? ─ yes ─► told ─► reply …
//!                                           └─ no ──► done
//! ```

use std::collections::BTreeMap;
use std::collections::HashSet;

use legwork_common::contract;
use legwork_common::id::JobId;
use legwork_common::job::Usage;
use legwork_common::service::CallIndex;
use legwork_common::service::Mail;
use legwork_common::service::MailContent;
use legwork_common::service::MailId;

use crate::compaction;
use crate::journal::TurnEntry;
use crate::message::AssistantMessage;
use crate::message::Message;
use crate::message::ToolCall;
use crate::message::ToolResult;

/// What comes next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// The model is asked; its reply begins this turn.
    Ask {
        /// The turn, counted from 1.
        turn: u32,
    },
    /// These calls of the last reply have no result yet.
    Work {
        /// In the reply's order.
        open: Vec<(CallIndex, ToolCall)>,
    },
    /// The last reply asks for nothing: its text is the result, if no mail waits.
    Rest {
        /// The last message of the agent.
        result: String,
    },
    /// The model would be asked, and may not be asked again.
    Exhausted {
        /// The last turn.
        turns: u32,
    },
}

/// A run so far: the opening messages, and what was recorded since.
#[derive(Debug, Clone, Default)]
pub struct Transcript {
    messages: Vec<Message>,
    /// How many messages at the beginning say what is asked; they stay for ever.
    task: usize,
    /// What the last model call and its reply counted, and how many messages that was.
    measured: Option<(u64, usize)>,
    turn: u32,
    /// The calls of the last reply, and where their results go.
    calls: Vec<ToolCall>,
    results: BTreeMap<u32, ToolResult>,
    /// Whether something was said to the model since its last reply.
    spoken: bool,
    /// Whether any reply after the recorded ones had text.
    wrote: bool,
    last_text: String,
    told: HashSet<MailId>,
    ended: HashSet<JobId>,
    usage: Usage,
}

impl Transcript {
    /// A run that begins with `opening` and has done what `recorded` says.
    pub fn new(opening: Vec<Message>, recorded: &[TurnEntry]) -> Self {
        let first = opening.iter().position(|message| matches!(message, Message::User { .. }));
        let task = first.map_or(opening.len(), |first| first + 1);
        let mut transcript = Self { messages: opening, task, spoken: true, ..Self::default() };
        for entry in recorded {
            transcript.apply(entry);
        }
        transcript.wrote = false;
        transcript
    }

    /// Takes in one entry. A second result for the same call changes nothing.
    pub fn apply(&mut self, entry: &TurnEntry) {
        match entry {
            TurnEntry::Reply { turn, message } => self.reply(*turn, message),
            TurnEntry::Result { turn, index, call_id, text, is_error, ended } => {
                self.ended.extend(ended);
                if *turn == self.turn {
                    self.result(*index, call_id, text, *is_error);
                }
            }
            TurnEntry::Delivered { mail, text, .. } => {
                self.told.extend(mail.iter().cloned());
                self.messages.push(Message::user(text));
                self.spoken = true;
                // A new prompt: its answer is an output of its own.
                self.wrote &= !mail.is_empty();
            }
            TurnEntry::Compacted { kept, summary, usage, .. } => self.compact(*kept, summary, *usage),
            TurnEntry::Stderr { .. } => {}
            TurnEntry::Retried { .. } => {
                self.usage = Usage::default();
                self.told.clear();
                self.ended.clear();
            }
        }
    }

    fn compact(&mut self, kept: u32, summary: &str, usage: Usage) {
        self.usage.add(usage);
        let from = self.messages.len().saturating_sub(kept as usize);
        if from > self.task {
            self.messages.splice(self.task..from, [compaction::in_place(summary)]);
        }
        self.measured = None;
    }

    fn reply(&mut self, turn: u32, message: &AssistantMessage) {
        self.turn = turn;
        self.usage.add(message.usage);
        let read = message.usage.input_tokens + message.usage.output_tokens;
        self.measured = (message.usage.input_tokens > 0).then_some((read, self.messages.len() + 1));
        self.wrote |= !message.text.is_empty();
        self.last_text.clone_from(&message.text);
        self.calls.clone_from(&message.tool_calls);
        self.results.clear();
        self.spoken = false;
        self.messages.push(Message::Assistant(message.clone()));
    }

    fn result(&mut self, index: u32, call_id: &str, text: &str, is_error: bool) {
        let Some(call) = self.calls.get(index as usize) else { return };
        self.results.entry(index).or_insert_with(|| ToolResult {
            call_id: call_id.to_owned(),
            name: call.name.clone(),
            text: text.to_owned(),
            is_error,
        });
        if self.results.len() == self.calls.len() {
            let results = std::mem::take(&mut self.results);
            self.messages.extend(results.into_values().map(Message::ToolResult));
            self.calls.clear();
            self.spoken = true;
        }
    }

    /// What comes next, where `limit` is the last turn that there may be.
    pub fn next(&self, limit: Option<u32>) -> Step {
        let open: Vec<_> = (0..)
            .zip(&self.calls)
            .filter(|(index, _)| !self.results.contains_key(index))
            .map(|(index, call)| (CallIndex { turn: self.turn, index }, call.clone()))
            .collect();
        if !open.is_empty() {
            return Step::Work { open };
        }
        if !self.spoken {
            return Step::Rest { result: self.last_text.clone() };
        }
        if limit.is_some_and(|limit| self.turn >= limit) {
            return Step::Exhausted { turns: self.turn };
        }
        Step::Ask { turn: self.turn + 1 }
    }

    /// The conversation. Whole only when no call is open.
    pub fn messages(&self) -> &[Message] {
        &self.messages
    }

    /// What was asked: the messages that no summary takes the place of.
    pub fn task(&self) -> &[Message] {
        &self.messages[..self.task]
    }

    /// About how many tokens the next request has, going by what the last one counted; `None` where it counted none.
    pub(crate) fn measured(&self) -> Option<u64> {
        let (tokens, messages) = self.measured?;
        let since: usize = self.messages.get(messages..)?.iter().map(Message::bytes).sum();
        Some(tokens + compaction::tokens(since))
    }

    /// What was last said to the agent: by a user, or else by whoever gave it its task.
    pub fn said(&self) -> &str {
        let by_user = self.messages.iter().rev().find_map(|message| match message {
            Message::User { text } if text != contract::PROCEED => Some(text),
            _ => None,
        });
        let as_task = self.task().iter().rev().find_map(|message| match message {
            Message::System { text } => Some(text),
            _ => None,
        });
        by_user.or(as_task).map(String::as_str).unwrap_or_default()
    }

    /// The tools that the last reply asked for.
    pub fn called(&self) -> impl Iterator<Item = &str> {
        let last = self.messages.iter().rev().find_map(|message| match message {
            Message::Assistant(reply) => Some(&reply.tool_calls),
            Message::System { .. } | Message::User { .. } | Message::ToolResult(_) => None,
        });
        last.into_iter().flatten().map(|call| call.name.as_str())
    }

    /// The last turn that has a reply; 0 before the first.
    pub fn turn(&self) -> u32 {
        self.turn
    }

    /// Whether any reply of this run had text: what earlier runs said is set apart already.
    pub fn wrote(&self) -> bool {
        self.wrote
    }

    /// What the models counted so far.
    pub fn usage(&self) -> Usage {
        self.usage
    }

    /// Sorts mail into what the model is to be told and what it knows already.
    pub fn sort(&self, mail: Vec<Mail>) -> Sorted {
        let mut sorted = Sorted::default();
        let mut fresh = Vec::new();
        for piece in mail {
            if self.knows(&piece) {
                sorted.known.push(piece.id);
            } else {
                fresh.push(piece);
            }
        }
        let turn = self.turn + 1;
        sorted.tell = tell(turn, &fresh);
        sorted
    }

    /// Whether the model has seen what the mail says.
    fn knows(&self, mail: &Mail) -> bool {
        self.told.contains(&mail.id)
            || match &mail.content {
                MailContent::Ended(view) => self.ended.contains(&view.job.id),
                MailContent::Message(_) => false,
            }
    }
}

/// Mail, sorted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sorted {
    /// Mail that can be dropped.
    pub known: Vec<MailId>,
    /// What to tell, each entry one user message.
    pub tell: Vec<TurnEntry>,
}

/// One entry for all endings, then one for each message.
fn tell(turn: u32, fresh: &[Mail]) -> Vec<TurnEntry> {
    let ended = |mail: &&Mail| matches!(mail.content, MailContent::Ended(_));
    let announced = contract::announcement(fresh).map(|text| TurnEntry::Delivered {
        turn,
        mail: fresh.iter().filter(ended).map(|mail| mail.id.clone()).collect(),
        text,
    });
    let sent = fresh.iter().filter_map(|mail| match &mail.content {
        MailContent::Ended(_) => None,
        MailContent::Message(text) => {
            Some(TurnEntry::Delivered { turn, mail: vec![mail.id.clone()], text: text.clone() })
        }
    });
    announced.into_iter().chain(sent).collect()
}

#[cfg(test)]
mod tests;
