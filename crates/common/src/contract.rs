//! The exact texts of the background-agent tools.
//!
//! Agent files and prompts depend on these texts, so they are written once, here. Everything that shows jobs
//! to a model uses these functions. Changing a text breaks the contract; the tests compare them character by
//! character.

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

/// The maximum length of a result that an announcement includes, in bytes. A longer one is only mentioned, so
/// that many jobs that end together do not flood the context of their dispatcher.
pub const MAX_ANNOUNCED_BYTES: usize = 4 * 1024;

/// The result of `run_background_agent`.
pub fn started(id: JobId, agent: &str, task: &str) -> String {
    format!("Background agent task started with ID: {id}\nAgent: {agent}\nTask: {task}")
}

/// The result of `stop_background_agent`. It is returned as soon as the stop is durable, while the job may
/// still be `stopping`.
pub fn stopped(id: JobId) -> String {
    format!("Background agent task {id} stopped.")
}

/// The result of `send_background_agent`.
pub fn sent(id: JobId) -> String {
    format!("Message sent to background agent task {id}.")
}

/// The result of `list_background_agents`.
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

/// The four lines that describe a job in a list and in an announcement.
fn block(job: &Job) -> String {
    format!(
        "ID: {}\n  Agent:   {}\n  Status:  {}\n  Runtime: {}\n",
        job.id,
        job.agent,
        visible_state(job.status),
        duration::short(job.runtime()),
    )
}

/// The state that models and users see. A job that is being reclaimed from a lost worker is shown as
/// `running`, because its next attempt resumes it and no user has to act.
pub fn visible_state(state: State) -> State {
    match state {
        State::Reaping => State::Running,
        other => other,
    }
}

/// The result of `view_background_agent`.
pub fn view(view: &JobView) -> String {
    format!(
        "Task ID: {}\nAgent:   {}\nStatus:  {}\nRuntime: {}\n\n--- Output ---\n{}",
        view.job.id,
        view.job.agent,
        visible_state(view.job.status),
        duration::short(view.job.runtime()),
        view_body(view),
    )
}

/// The text below `--- Output ---` in a view, which is also the `output` of a wait.
pub fn view_body(view: &JobView) -> String {
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

/// The line of a queued job, with the reason when it is known.
fn queued(reason: Option<QueuedReason>, queue: &str) -> String {
    match reason {
        None => "<queued>".to_owned(),
        Some(QueuedReason::Behind(jobs)) => format!("<queued> behind {jobs} of this session"),
        Some(QueuedReason::Next) => "<queued> next".to_owned(),
        Some(QueuedReason::NoWorker) => format!("<queued> no worker serves queue {queue}"),
    }
}

/// The output of a job that has not ended, with a last line that says so.
fn live(view: &JobView, activity: &str) -> String {
    if view.output.total == 0 {
        return format!("<no output yet — {activity}>");
    }
    let output = tail(view);
    if view.truncated {
        format!("{output}\n\n[output truncated at 10MB limit — {activity}...]")
    } else {
        format!("{output}\n\n[{activity}...]")
    }
}

/// A first line, followed by the partial output of the job, if any.
fn with_partial(head: String, view: &JobView) -> String {
    if view.output.total == 0 {
        return head;
    }
    format!("{head}\n\n{}", tail(view))
}

/// The range of output, preceded by a line with its offset when the beginning is missing.
fn tail(view: &JobView) -> String {
    let text = String::from_utf8_lossy(&view.output.bytes);
    if view.output.offset == 0 {
        return text.into_owned();
    }
    format!("[output from byte {} of {}]\n{text}", view.output.offset, view.output.total)
}

/// The range of output that was requested by offset, followed by a line with the offset of the next one.
fn page(view: &JobView) -> String {
    let text = String::from_utf8_lossy(&view.output.bytes);
    let next = view.output.next_offset();
    if next >= view.output.total && view.job.status.is_terminal() {
        return format!("{text}\n\n[end of output at byte {next}]");
    }
    format!("{text}\n\n[read on with since={next}]")
}

/// The result of `wait_background_agents`: a JSON array in the order of the request.
pub fn wait_result(items: &[WaitItem]) -> Value {
    items
        .iter()
        .map(|item| match item {
            WaitItem::Found(view) => json!({
                "id": view.job.id.to_string(),
                "status": visible_state(view.job.status).as_str(),
                "output": view_body(view),
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

/// The user message that announces the jobs that have ended since the dispatcher's last turn; `None` when the mail
/// contains no ended job.
pub fn announcement(mail: &[Mail]) -> Option<String> {
    let mut text = String::new();
    for piece in mail {
        if let MailContent::Ended(view) = &piece.content {
            text.push_str(&block(&view.job));
            let body = view_body(view);
            if body.len() <= MAX_ANNOUNCED_BYTES {
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

/// The system message that contains a sub-agent's task.
pub fn assignment(task: &str, expected_output: Option<&str>) -> String {
    let mut text = format!(
        "You are a member of a team of agents. Your goal is to complete the following task:\n\n<task>\n{task}\n</task>"
    );
    if let Some(expected) = expected_output {
        let _ = write!(text, "\n\n<expected_output>\n{expected}\n</expected_output>");
    }
    text
}

/// The first user message of a sub-agent. Some providers reject a conversation without one.
pub const PROCEED: &str = "Please proceed.";

/// The error of `run_background_agent` for invalid arguments; `None` for valid ones. The arguments are
/// checked in the order that the contract fixes, and only the first error is reported.
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

/// The error of `wait_background_agents` for an empty list of ids.
pub const EMPTY_TASK_IDS: &str = "task_ids must not be empty";

/// The error of `send_background_agent` for an empty message.
pub const EMPTY_MESSAGE: &str = "message must not be empty";

/// The error of `run_background_agent` for an agent that is not one of the caller's sub-agents.
fn not_a_sub_agent(agent: &str, available: &[String]) -> String {
    if available.is_empty() {
        format!("agent \"{agent}\" is not in the sub-agents list. This agent has no sub-agents configured.")
    } else {
        format!("agent \"{agent}\" is not in the sub-agents list. Available: {}", available.join(", "))
    }
}

#[cfg(test)]
mod tests;
