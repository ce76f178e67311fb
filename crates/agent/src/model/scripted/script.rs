//! The file format of a script. Documented in docs/scripts.md.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::Serialize;
use serde_json::Value;

use super::placeholders::pieces;

/// The key of the list for every agent without a list of its own.
const ANY_AGENT: &str = "*";
/// Replaces each job id in the task of a run: ids differ from run to run.
const ANY_JOB: &str = "{{job}}";

/// A script: replies by agent, and by agent and task.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Script {
    /// The replies of each agent, whatever its task.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) agents: BTreeMap<String, Vec<Reply>>,
    /// The replies of an agent to one task. These take precedence.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) runs: Vec<Run>,
}

/// The replies of one agent to one task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Run {
    pub(super) agent: String,
    pub(super) task: String,
    pub(super) replies: Vec<Reply>,
}

/// One reply of a model.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Reply {
    /// The turn that it begins; without one, its place in the list, counted from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) turn: Option<u32>,
    /// Whether it is not a turn, but the summary made before it.
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

/// A task with its job ids replaced, as scripts contain it.
pub(super) fn without_job_ids(task: &str) -> String {
    pieces(task).map(|(piece, id)| if id.is_some() { ANY_JOB } else { piece }).collect()
}

impl Script {
    /// The reply that begins this turn of an agent with this task.
    pub(super) fn reply(&self, agent: &str, task: &str, turn: u32) -> Result<&Reply, String> {
        let task = without_job_ids(task);
        let for_task = self.runs.iter().find(|run| run.agent == agent && run.task == task);
        let for_any_task = || self.agents.get(agent).or_else(|| self.agents.get(ANY_AGENT));
        let replies = for_task
            .map(|run| &run.replies)
            .or_else(for_any_task)
            .ok_or_else(|| self.no_replies(agent, &task))?;
        let found =
            (1..).zip(replies).find(|(place, reply)| !reply.summary && reply.turn.unwrap_or(*place) == turn);
        found.map(|(_, reply)| reply).ok_or_else(|| {
            let replies = replies.iter().filter(|reply| !reply.summary).count();
            format!("the script has {replies} replies for agent `{agent}`, and turn {turn} needs one more")
        })
    }

    /// The recorded summary before this turn. Its run is found by the first line of its task, which `history`
    /// contains.
    pub(super) fn summary(&self, agent: &str, history: &str, turn: u32) -> Option<&Reply> {
        let history = without_job_ids(history);
        let of_run = |run: &&Run| run.agent == agent && history.contains(first_line(&run.task));
        let mut replies = self.runs.iter().filter(of_run).flat_map(|run| &run.replies);
        replies.find(|reply| reply.summary && reply.turn == Some(turn))
    }

    fn no_replies(&self, agent: &str, task: &str) -> String {
        if self.runs.iter().any(|run| run.agent == agent) {
            return format!("the script has no replies for agent `{agent}` with the task `{}`", short(task));
        }
        format!("the script has no replies for agent `{agent}`")
    }
}

/// The beginning of a task, for an error message: at most 80 characters of its first line.
fn short(task: &str) -> String {
    let line: String = first_line(task).chars().take(80).collect();
    if line.len() < task.len() { format!("{line}…") } else { line }
}

fn first_line(task: &str) -> &str {
    task.lines().next().unwrap_or_default()
}
