//! Which agent of a team has the floor, decided from what is recorded. Pure.
//!
//! An agent hands the conversation over by the tool [`HANDOFF`]: whom it named takes the next model call, with its own
//! instruction, tools and model. Of several in one turn the last counts.

use std::collections::BTreeSet;
use std::sync::Arc;

use legwork_common::team::Agent;
use legwork_common::team::AgentKind;
use legwork_common::team::Team;
use serde_json::Value;

use crate::journal::TurnEntry;
use crate::message::ToolCall;

/// The tool that hands the conversation over.
pub const HANDOFF: &str = "handoff";

/// Who has the floor after some turns.
#[derive(Debug, Clone)]
pub struct ActiveAgent {
    team: Arc<Team>,
    holder: String,
    /// The last turn before the holder took over, or before a new prompt.
    since: u32,
    turn: u32,
    calls: Vec<ToolCall>,
    /// Who takes the next model call, and which call said so.
    next: Option<(u32, String)>,
    seen: BTreeSet<String>,
}

impl ActiveAgent {
    /// `first` has the floor, and `recorded` has happened since.
    pub fn new(team: Arc<Team>, first: &str, recorded: &[TurnEntry]) -> Self {
        let mut active = Self {
            team,
            holder: first.to_owned(),
            since: 0,
            turn: 0,
            calls: Vec::new(),
            next: None,
            seen: BTreeSet::from([first.to_owned()]),
        };
        for entry in recorded {
            active.apply(entry);
        }
        active
    }

    /// Takes in one entry. A reply means that the floor was passed before it.
    pub fn apply(&mut self, entry: &TurnEntry) {
        match entry {
            TurnEntry::Reply { turn, message } => {
                self.pass();
                self.turn = *turn;
                self.calls.clone_from(&message.tool_calls);
            }
            TurnEntry::Result { turn, index, is_error, .. } => {
                let later = self.next.as_ref().is_none_or(|(before, _)| before < index);
                if *turn == self.turn && !is_error && later {
                    self.next = self.target(*index).map(|name| (*index, name)).or(self.next.take());
                }
            }
            // What another job did, and what earlier prompts took, counts for no limit.
            TurnEntry::Retried { .. } => self.since = self.turn,
            TurnEntry::Delivered { mail, .. } if mail.is_empty() => self.since = self.turn,
            TurnEntry::Delivered { .. } | TurnEntry::Compacted { .. } | TurnEntry::Stderr { .. } => {}
        }
    }

    /// Lets whoever was named last take the floor: a model call begins.
    pub fn pass(&mut self) {
        if let Some((_, name)) = self.next.take() {
            self.seen.insert(name.clone());
            self.holder = name;
            self.since = self.turn;
        }
    }

    /// Whom a call of the last reply hands the conversation to.
    fn target(&self, index: u32) -> Option<String> {
        let call = self.calls.get(index as usize).filter(|call| call.name == HANDOFF)?;
        let arguments: Value = serde_json::from_str(&call.arguments).ok()?;
        let name = arguments["agent"].as_str()?;
        // A tool of another origin may have this name too.
        let holder = self.team.agent(&self.holder)?;
        (holder.handoffs.iter().any(|one| one == name) && takes(&self.team, name)).then(|| name.to_owned())
    }

    /// The agent that has the active.
    pub fn holder(&self) -> &str {
        &self.holder
    }

    /// The last turn that does not count for the holder's limit: it took over then, or a new prompt came, or another job
    /// did all before it; 0 where all count.
    pub fn since(&self) -> u32 {
        self.since
    }

    /// The last turn that whoever takes the next model call may have, counted over the whole run: its own limit counts from
    /// when it took over.
    pub fn limit(&self) -> Option<u32> {
        let (name, since) = match &self.next {
            Some((_, name)) => (name, self.turn),
            None => (&self.holder, self.since),
        };
        let limit = self.team.agent(name)?.max_iterations?;
        Some(since.saturating_add(limit))
    }

    /// Every agent that had the active.
    pub fn seen(&self) -> impl Iterator<Item = &Agent> {
        self.seen.iter().filter_map(|name| self.team.agent(name))
    }
}

/// Whether a conversation can be handed to this agent: a program cannot take one.
pub fn takes(team: &Team, name: &str) -> bool {
    team.agent(name).is_some_and(|agent| match agent.runner {
        AgentKind::Models(_) | AgentKind::Auto => true,
        AgentKind::Command { .. } => false,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::message::AssistantMessage;
    use crate::testing::team;

    fn reply(turn: u32, targets: &[&str]) -> TurnEntry {
        let call = |agent: &&str| ToolCall {
            id: "c".into(),
            name: HANDOFF.into(),
            arguments: json!({"agent": agent}).to_string(),
        };
        let tool_calls = targets.iter().map(call).collect();
        TurnEntry::Reply { turn, message: AssistantMessage { tool_calls, ..AssistantMessage::default() } }
    }

    fn result(turn: u32, index: u32, is_error: bool) -> TurnEntry {
        let (call_id, text) = ("c".into(), String::new());
        TurnEntry::Result { turn, index, call_id, text, is_error, ended: Vec::new() }
    }

    #[test]
    fn the_last_good_handoff_counts_from_the_next_reply_on() {
        let program =
            json!({"runner": {"command": {"program": "x", "args": [], "env": {}, "working_dir": null}}});
        let team = team(&[
            ("a", &[], json!({"handoffs": ["b", "c", "p"]})),
            ("b", &[], json!({"handoffs": ["a"]})),
            ("c", &[], json!({})),
            ("p", &[], program),
        ]);
        let table: [(Vec<TurnEntry>, &str, &str, u32); 8] = [
            (vec![], "a", "a", 0),
            (vec![reply(1, &["b"])], "a", "a", 0),
            (vec![reply(1, &["b"]), result(1, 0, true)], "a", "a", 0),
            (vec![reply(1, &["b"]), result(1, 0, false)], "a", "b", 1),
            // The results of parallel calls arrive in any order.
            (vec![reply(1, &["b", "c"]), result(1, 1, false), result(1, 0, false)], "a", "c", 1),
            (
                vec![
                    reply(1, &["b", "nobody", "p"]),
                    result(1, 0, false),
                    result(1, 1, false),
                    result(1, 2, false),
                ],
                "a",
                "b",
                1,
            ),
            (vec![reply(1, &["b"]), result(1, 0, false), reply(2, &[])], "b", "b", 1),
            (vec![reply(1, &["b"]), result(1, 0, false), reply(2, &["a"]), result(2, 0, false)], "b", "a", 2),
        ];
        for (recorded, now, then, since) in table {
            let mut active = ActiveAgent::new(team.clone(), "a", &recorded);
            assert_eq!(active.holder(), now, "{recorded:?}");
            active.pass();
            assert_eq!((active.holder(), active.since()), (then, since), "{recorded:?}");
        }
    }
}
