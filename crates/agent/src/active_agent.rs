//! Which agent of a team is active, decided from the recorded turns. Pure.
//!
//! The active agent hands the conversation over with the tool [`HANDOFF`]. The agent that it names makes the next
//! model call, with its own instruction, tools and model. Of several handoffs in one turn the last one counts.

use std::sync::Arc;

use legwork_common::team::Agent;
use legwork_common::team::AgentKind;
use legwork_common::team::DEFAULT_MAX_ITERATIONS;
use legwork_common::team::Team;
use serde_json::Value;

use crate::journal::TurnEntry;
use crate::message::ToolCall;

/// The tool that hands the conversation over.
pub const HANDOFF: &str = "handoff";
/// Begins the id of the message with which an agent passes the conversation on at its end (`force_handoff`). No mail of the
/// queue has such an id.
pub(crate) const FORCE_HANDOFF: &str = "force_handoff:";

/// The active agent after some turns, and its turn limit.
#[derive(Debug, Clone)]
pub struct ActiveAgent {
    team: Arc<Team>,
    /// The name of the active agent.
    name: String,
    /// How many turns do not count towards its limit: those before it became active, or before the last prompt.
    uncounted_turns: u32,
    /// The last turn that has a reply.
    turn: u32,
    /// The calls of that reply.
    calls: Vec<ToolCall>,
    /// The handoff that the next model call completes: the index of its call, and the agent that it names.
    pending_handoff: Option<(u32, String)>,
    /// The names of all agents that are or were active. They are few: a set would take ten times the memory for one.
    past_and_present: Vec<String>,
}

impl ActiveAgent {
    /// The active agent of a run that `first` began, after the `recorded` entries.
    pub fn new(team: Arc<Team>, first: &str, recorded: &[TurnEntry]) -> Self {
        let mut active = Self {
            team,
            name: first.to_owned(),
            uncounted_turns: 0,
            turn: 0,
            calls: Vec::new(),
            pending_handoff: None,
            past_and_present: vec![first.to_owned()],
        };
        for entry in recorded {
            active.apply(entry);
        }
        active
    }

    /// Applies one entry. A reply completes the handoff before it.
    pub fn apply(&mut self, entry: &TurnEntry) {
        match entry {
            TurnEntry::Reply { turn, message } => {
                self.complete_handoff();
                self.turn = *turn;
                self.calls.clone_from(&message.tool_calls);
            }
            TurnEntry::Result { turn, index, is_error, .. } => {
                // The results of parallel calls arrive in any order; the order of the calls decides.
                let is_later = self.pending_handoff.as_ref().is_none_or(|(before, _)| before < index);
                if *turn == self.turn && !is_error && is_later {
                    let handoff = self.handoff_target(*index).map(|name| (*index, name));
                    self.pending_handoff = handoff.or(self.pending_handoff.take());
                }
            }
            // The turns of another job, and those that earlier prompts took, count towards no limit.
            TurnEntry::Retried { .. } => self.uncounted_turns = self.turn,
            TurnEntry::Delivered { mail, .. } if mail.is_empty() => self.uncounted_turns = self.turn,
            TurnEntry::Delivered { mail, .. } if mail.iter().any(|id| id.0.starts_with(FORCE_HANDOFF)) => {
                let next = self.team.agent(&self.name).and_then(|agent| agent.force_handoff.clone());
                self.pending_handoff = next.map(|name| (0, name));
            }
            TurnEntry::Delivered { .. }
            | TurnEntry::Compacted { .. }
            | TurnEntry::Asked { .. }
            | TurnEntry::Decided { .. }
            | TurnEntry::Stderr { .. } => {}
        }
    }

    /// Makes the agent that the pending handoff names the active one. Called when a model call begins: until then
    /// the calls that are still open are those of the agent before it.
    pub fn complete_handoff(&mut self) {
        if let Some((_, name)) = self.pending_handoff.take() {
            if !self.past_and_present.contains(&name) {
                self.past_and_present.push(name.clone());
            }
            self.name = name;
            self.uncounted_turns = self.turn;
        }
    }

    /// The agent that a call of the last reply hands the conversation to; `None` where it is not a valid handoff.
    fn handoff_target(&self, index: u32) -> Option<String> {
        let call = self.calls.get(index as usize).filter(|call| call.name == HANDOFF)?;
        let arguments: Value = serde_json::from_str(&call.arguments).ok()?;
        let name = arguments["agent"].as_str()?;
        // A tool of another origin, such as an MCP server, may have this name too.
        let active = self.team.agent(&self.name)?;
        (active.handoffs.iter().any(|one| one == name) && accepts_handoff(&self.team, name))
            .then(|| name.to_owned())
    }

    /// The name of the active agent.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How many turns of the run do not count towards the active agent's limit: those before it became active,
    /// before the user's last prompt, or of a job that this one retries.
    pub fn uncounted_turns(&self) -> u32 {
        self.uncounted_turns
    }

    /// The last turn that the agent of the next model call may take, counted over the whole run; `None` for no
    /// limit (`max_iterations: 0`). A pending handoff is taken into account: the next agent's `max_iterations` count from when it becomes
    /// active.
    pub fn turn_limit(&self) -> Option<u32> {
        let (name, uncounted) = match &self.pending_handoff {
            Some((_, name)) => (name, self.turn),
            None => (&self.name, self.uncounted_turns),
        };
        let limit = self.team.agent(name)?.max_iterations.unwrap_or(DEFAULT_MAX_ITERATIONS);
        (limit > 0).then(|| uncounted.saturating_add(limit))
    }

    /// Every agent that is or was active in this run.
    pub fn past_and_present(&self) -> impl Iterator<Item = &Agent> {
        self.past_and_present.iter().filter_map(|name| self.team.agent(name))
    }
}

/// Whether a conversation can be handed to this agent: an agent that is a program cannot continue one.
pub fn accepts_handoff(team: &Team, name: &str) -> bool {
    team.agent(name).is_some_and(|agent| match agent.kind {
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
            thought_signature: None,
        };
        let tool_calls = targets.iter().map(call).collect();
        TurnEntry::Reply { turn, message: AssistantMessage { tool_calls, ..AssistantMessage::default() } }
    }

    fn result(turn: u32, index: u32, is_error: bool) -> TurnEntry {
        let (call_id, text) = ("c".into(), String::new());
        TurnEntry::Result { turn, index, call_id, text, images: Vec::new(), is_error, ended: Vec::new() }
    }

    #[test]
    fn the_last_valid_handoff_of_a_turn_takes_effect_with_the_next_model_call() {
        let program =
            json!({"kind": {"command": {"program": "x", "args": [], "env": {}, "working_dir": null}}});
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
            (vec![reply(1, &["b", "c"]), result(1, 1, false), result(1, 0, false)], "a", "c", 1),
            (
                vec![
                    reply(1, &["b", "missing", "p"]),
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
        for (recorded, now, then, uncounted) in table {
            let mut active = ActiveAgent::new(team.clone(), "a", &recorded);
            assert_eq!(active.name(), now, "{recorded:?}");
            active.complete_handoff();
            assert_eq!((active.name(), active.uncounted_turns()), (then, uncounted), "{recorded:?}");
        }
    }
}
