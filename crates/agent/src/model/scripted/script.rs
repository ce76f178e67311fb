//! A script as it stands in its file. Documented in docs/scripts.md.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::Serialize;
use serde_json::Value;

use super::facts::pieces;

/// The list for every agent without its own.
const EVERYONE: &str = "*";
/// What stands in a run's task for each id of a job, which differs from run to run.
const ANY_JOB: &str = "{{job}}";

/// All replies.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Script {
    /// By agent, whatever it is asked.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) agents: BTreeMap<String, Vec<Reply>>,
    /// By agent and task. These come first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) runs: Vec<Run>,
}

/// The replies to one agent with one task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Run {
    pub(super) agent: String,
    pub(super) task: String,
    pub(super) replies: Vec<Reply>,
}

/// One reply.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Reply {
    /// The turn that it begins; none: its place in the list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) turn: Option<u32>,
    /// Whether it is the summary before its turn instead.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) summary: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) reasoning: Option<String>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(super) text: String,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(super) delay_ms: u64,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(super) chunk_delay_ms: u64,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) tool_calls: Vec<Call>,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(super) input_tokens: u64,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(super) cached_tokens: u64,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(super) output_tokens: u64,
}

/// One tool call of a reply.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Call {
    pub(super) name: String,
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub(super) arguments: Value,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// A task as it stands in a script.
pub(super) fn anonymous(task: &str) -> String {
    pieces(task).map(|(piece, id)| if id.is_some() { ANY_JOB } else { piece }).collect()
}

impl Script {
    /// The reply that begins this turn of an agent with this task.
    pub(super) fn reply(&self, agent: &str, task: &str, turn: u32) -> Result<&Reply, String> {
        let task = anonymous(task);
        let own = self.runs.iter().find(|run| run.agent == agent && run.task == task);
        let of_anyone = || self.agents.get(agent).or_else(|| self.agents.get(EVERYONE));
        let replies =
            own.map(|run| &run.replies).or_else(of_anyone).ok_or_else(|| self.none_for(agent, &task))?;
        let found =
            (1..).zip(replies).find(|(place, reply)| !reply.summary && reply.turn.unwrap_or(*place) == turn);
        found.map(|(_, reply)| reply).ok_or_else(|| {
            let replies = replies.iter().filter(|reply| !reply.summary).count();
            format!("the script has {replies} replies for agent `{agent}`, and turn {turn} needs one more")
        })
    }

    /// The recorded summary before this turn, of the run that `course` tells of.
    pub(super) fn summary(&self, agent: &str, course: &str, turn: u32) -> Option<&Reply> {
        let course = anonymous(course);
        let of_it = |run: &&Run| run.agent == agent && course.contains(first_line(&run.task));
        let mut replies = self.runs.iter().filter(of_it).flat_map(|run| &run.replies);
        replies.find(|reply| reply.summary && reply.turn == Some(turn))
    }

    fn none_for(&self, agent: &str, task: &str) -> String {
        if self.runs.iter().any(|run| run.agent == agent) {
            return format!("the script has no replies for agent `{agent}` with the task `{}`", short(task));
        }
        format!("the script has no replies for agent `{agent}`")
    }
}

/// The beginning of a task, for messages.
fn short(task: &str) -> String {
    let line: String = first_line(task).chars().take(80).collect();
    if line.len() < task.len() { format!("{line}…") } else { line }
}

fn first_line(task: &str) -> &str {
    task.lines().next().unwrap_or_default()
}
