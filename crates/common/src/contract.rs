//! The exact texts of the tools' contract.
//!
//! Agent files, prompts and habits rely on them, so they are written once, here, and every face that
//! speaks to a model uses these functions.

use std::fmt::Write as _;

use serde_json::Value;
use serde_json::json;

use crate::duration;
use crate::id::JobId;
use crate::job::Job;
use crate::lifecycle::State;
use crate::service::JobList;
use crate::service::JobView;
use crate::service::Mail;
use crate::service::MailContent;
use crate::service::QueuedReason;
use crate::service::WaitItem;

/// Results of at most this many bytes stand in the announcement itself.
pub const ANNOUNCED_BYTES: usize = 4 * 1024;

/// The answer of `run_background_agent`.
pub fn started(id: JobId, agent: &str, task: &str) -> String {
    format!("Background agent task started with ID: {id}\nAgent: {agent}\nTask: {task}")
}

/// The answer of `stop_background_agent`.
pub fn stopped(id: JobId) -> String {
    format!("Background agent task {id} stopped.")
}

/// The answer of `send_background_agent`.
pub fn sent(id: JobId) -> String {
    format!("Message sent to background agent task {id}.")
}

/// The answer of `list_background_agents`.
pub fn list(list: &JobList) -> String {
    let mut text = "Background Agent Tasks:\n\n".to_owned();
    if list.jobs.is_empty() {
        text.push_str("No background agent tasks found.\n");
    }
    for job in &list.jobs {
        text.push_str(&block(job));
        text.push('\n');
    }
    match (list.more_queued, list.more_ended) {
        (0, 0) => {}
        (queued, ended) => {
            let _ = writeln!(text, "Not shown: {queued} queued, {ended} ended.");
        }
    }
    text
}

/// The four lines of one job in a list.
fn block(job: &Job) -> String {
    format!(
        "ID: {}\n  Agent:   {}\n  Status:  {}\n  Runtime: {}\n",
        job.id,
        job.agent,
        shown(job.status),
        duration::short(job.runtime()),
    )
}

/// The status that people see: a job that is being taken back from a lost worker still runs for them.
pub fn shown(state: State) -> State {
    match state {
        State::Reaping => State::Running,
        other => other,
    }
}

/// The answer of `view_background_agent`.
pub fn view(view: &JobView) -> String {
    format!(
        "Task ID: {}\nAgent:   {}\nStatus:  {}\nRuntime: {}\n\n--- Output ---\n{}",
        view.job.id,
        view.job.agent,
        shown(view.job.status),
        duration::short(view.job.runtime()),
        body(view),
    )
}

/// What stands below `--- Output ---`, and in the `output` of a wait.
pub fn body(view: &JobView) -> String {
    if view.since.is_some() {
        return page(view);
    }
    match view.job.status {
        State::Completed => match view.job.result.as_deref().map(str::trim) {
            None | Some("") => "<no output>".to_owned(),
            Some(result) => result.to_owned(),
        },
        State::Failed => {
            let error = view.job.error.as_deref().unwrap_or("unknown");
            with_partial(format!("<task failed>\nError: {error}"), view)
        }
        State::Stopped => with_partial("<task was stopped>".to_owned(), view),
        State::Queued => queued(view.queued, &view.job.queue),
        State::Scheduled => match view.starts_at {
            Some(time) => format!("<starts at {time:.0}>"),
            None => "<scheduled>".to_owned(),
        },
        State::Running | State::Reaping => live(view, "still running"),
        State::Stopping => live(view, "stopping"),
        State::Waiting => live(view, "waiting for its own background agents"),
    }
}

/// The line of a queued job.
fn queued(reason: Option<QueuedReason>, queue: &str) -> String {
    match reason {
        None => "<queued>".to_owned(),
        Some(QueuedReason::Behind(jobs)) => format!("<queued> behind {jobs} of this session"),
        Some(QueuedReason::Next) => "<queued> next".to_owned(),
        Some(QueuedReason::NoWorker) => format!("<queued> no worker serves queue {queue}"),
    }
}

/// The output of a job that is not over, with a last line that says so.
fn live(view: &JobView, doing: &str) -> String {
    if view.output.total == 0 {
        return format!("<no output yet — {doing}>");
    }
    let output = tail(view);
    if view.truncated {
        format!("{output}\n\n[output truncated at 10MB limit — {doing}...]")
    } else {
        format!("{output}\n\n[{doing}...]")
    }
}

/// A head line, and below it the output that the job had.
fn with_partial(head: String, view: &JobView) -> String {
    if view.output.total == 0 {
        return head;
    }
    format!("{head}\n\n{}", tail(view))
}

/// The piece of output, with a line before it when it is not the whole.
fn tail(view: &JobView) -> String {
    let text = String::from_utf8_lossy(&view.output.bytes);
    if view.output.offset == 0 {
        return text.into_owned();
    }
    format!("[output from byte {} of {}]\n{text}", view.output.offset, view.output.total)
}

/// The piece that was asked for by offset, with a line that says how to read on.
fn page(view: &JobView) -> String {
    let text = String::from_utf8_lossy(&view.output.bytes);
    let next = view.output.next_offset();
    if next >= view.output.total && view.job.status.is_terminal() {
        return format!("{text}\n\n[end of output at byte {next}]");
    }
    format!("{text}\n\n[read on with since={next}]")
}

/// The answer of `wait_background_agents`: an ordered JSON array.
pub fn waited(items: &[WaitItem]) -> Value {
    items
        .iter()
        .map(|item| match item {
            WaitItem::Found(view) => json!({
                "id": view.job.id.to_string(),
                "status": shown(view.job.status).as_str(),
                "output": body(view),
                "output_offset": view.output.offset,
            }),
            WaitItem::NotFound(id) => json!({
                "id": id,
                "status": "not_found",
                "output": format!("task not found: {id}"),
                "output_offset": 0,
            }),
        })
        .collect()
}

/// The user message that tells a dispatcher what ended since its last turn; `None` for no endings.
pub fn announcement(mail: &[Mail]) -> Option<String> {
    let mut text = String::new();
    for piece in mail {
        if let MailContent::Ended(view) = &piece.content {
            text.push_str(&block(&view.job));
            let body = body(view);
            if body.len() <= ANNOUNCED_BYTES {
                let _ = write!(text, "  Output:\n{body}\n\n");
            } else {
                let bytes = body.len();
                let _ = write!(text, "  Output: {bytes} bytes, read them with view_background_agent\n\n");
            }
        }
    }
    if text.is_empty() {
        return None;
    }
    Some(format!("Background agent tasks finished since your last turn:\n\n{text}"))
}

/// The system message that gives a sub-agent its task.
pub fn assignment(task: &str, expected_output: Option<&str>) -> String {
    let mut text = format!(
        "You are a member of a team of agents. Your goal is to complete the following task:\n\n<task>\n{task}\n</task>"
    );
    if let Some(expected) = expected_output {
        let _ = write!(text, "\n\n<expected_output>\n{expected}\n</expected_output>");
    }
    text
}

/// The user message that starts a sub-agent.
pub const PROCEED: &str = "Please proceed.";

/// Why `run_background_agent` refuses these arguments; `None` where it does not. The first that is wrong is told.
pub fn refusal(agent: &str, task: &str, sub_agents: &[String]) -> Option<String> {
    if agent.trim().is_empty() {
        Some("agent name must not be empty".to_owned())
    } else if task.trim().is_empty() {
        Some("task must not be empty".to_owned())
    } else if !sub_agents.iter().any(|name| name == agent) {
        Some(not_a_sub_agent(agent, sub_agents))
    } else {
        None
    }
}

/// How `wait_background_agents` refuses a list without ids.
pub const NO_IDS: &str = "task_ids must not be empty";

/// How `send_background_agent` refuses a message without words.
pub const NO_MESSAGE: &str = "message must not be empty";

/// The refusal of an agent that is not among the caller's sub-agents, for `run_background_agent`.
fn not_a_sub_agent(agent: &str, available: &[String]) -> String {
    if available.is_empty() {
        format!("agent \"{agent}\" is not in the sub-agents list. This agent has no sub-agents configured.")
    } else {
        format!("agent \"{agent}\" is not in the sub-agents list. Available: {}", available.join(", "))
    }
}

#[cfg(test)]
mod tests;
