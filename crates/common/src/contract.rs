//! The exact texts of the background-agent tools.
//!
//! Agent files and prompts depend on these texts, so they are written once, here. Everything that shows jobs
//! to a model uses these functions. Changing a text breaks the contract; the tests compare them character by
//! character.

mod announcement;
mod cut;
mod poll;
mod wait;
mod withheld;

use std::fmt::Write as _;

use crate::duration;
use crate::id::JobId;
use crate::job::Job;
use crate::lifecycle::State;
use crate::service::JobList;
use crate::service::JobView;
use crate::service::MAX_VIEW_BYTES;
use crate::waits_for::WaitsFor;

pub use announcement::MAX_ANNOUNCED_BYTES;
pub use announcement::MAX_ANNOUNCEMENT_BYTES;
pub use announcement::announcement;
pub use cut::head;
pub use cut::tail;
pub use poll::PollCounter;
pub use wait::MAX_WAIT_BYTES;
pub use wait::WaitAnswer;
pub use wait::WaitedTask;
pub use wait::wait_timeout;
pub use withheld::OUTPUT_WITHHELD;
pub use withheld::RESULT_WITHHELD;
pub use withheld::error_withheld;

/// The longest message of `send_background_agent`, in bytes. It enters the receiver's context whole.
pub const MAX_MESSAGE_BYTES: usize = 16 * 1024;

/// The longest error message in a view, in bytes. What is left of the view's bound shows the partial output.
pub const MAX_ERROR_BYTES: usize = 4 * 1024;

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
    for job in &list.jobs {
        if let Some(WaitsFor::Answer { questions }) = &job.waits_for {
            let asks: Vec<String> = questions.iter().map(|asked| asked.question.phrase()).collect();
            let _ = writeln!(text, "{} waits for {}.", job.id, asks.join(" and "));
        }
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

/// The result of `view_background_agent`. `polls` is the number of views in a row that showed the same output, for
/// a job that is live; see [`PollCounter`].
pub fn view(view: &JobView, polls: Option<u32>) -> String {
    let mut text = format!(
        "Task ID: {}\nAgent:   {}\nStatus:  {}\nRuntime: {}\n\n--- Output ---\n{}",
        view.job.id,
        view.job.agent,
        visible_state(view.job.status),
        duration::short(view.job.runtime()),
        bounded_body(view),
    );
    if let Some(polls) = polls {
        let _ = write!(text, "\n\n[No new output since last check — poll #{polls}]");
    }
    text
}

/// The text below `--- Output ---` in a view for a model: at most [`MAX_VIEW_BYTES`] of result, error and output, and
/// the lines that say what was cut and how to read on.
pub fn bounded_body(view: &JobView) -> String {
    body(view, MAX_VIEW_BYTES, MAX_ERROR_BYTES)
}

/// The same text for people: results and errors are whole.
pub fn view_body(view: &JobView) -> String {
    body(view, usize::MAX, usize::MAX)
}

fn body(view: &JobView, room: usize, error_room: usize) -> String {
    if view.since.is_some() {
        return page(view);
    }
    match view.job.status {
        State::Completed => completed(view, room),
        State::Failed => {
            let error = head(view.job.error.as_deref().unwrap_or("unknown"), error_room);
            with_partial(format!("<task failed>\nError: {error}"), view, room)
        }
        State::Stopped => with_partial("<task was stopped>".to_owned(), view, room),
        State::Queued => queued(view.job.waits_for.as_ref()),
        State::Scheduled => match view.job.waits_for {
            Some(WaitsFor::Schedule { at: Some(time), .. }) => format!("<starts at {time:.0}>"),
            _ => "<scheduled>".to_owned(),
        },
        State::Running | State::Reaping => live(view, "still running"),
        State::Stopping => live(view, "stopping"),
        State::Waiting => match &view.job.waits_for {
            Some(WaitsFor::Answer { questions }) => {
                let asks: Vec<String> = questions.iter().map(|asked| asked.question.phrase()).collect();
                live(view, &format!("waiting for {}", asks.join(" and ")))
            }
            _ => live(view, "waiting for its own background agents"),
        },
    }
}

/// The result of a completed job, or its first `room` bytes with the offset to read on from.
fn completed(view: &JobView, room: usize) -> String {
    let result = ResultText::of(view);
    if result.bytes == 0 {
        return "<no output>".to_owned();
    }
    let shown = head(result.head, room);
    if shown.len() as u64 == result.bytes {
        return shown.to_owned();
    }
    match result_offset(view, &result) {
        Some(begin) => {
            let to = begin + shown.len() as u64;
            let total = view.output.total;
            format!("{shown}\n\n[output truncated: {begin}–{to} of {total} bytes; read on with since={to}]")
        }
        None => format!(
            "{shown}\n\n[output truncated: 0–{} of {} bytes; read the whole output with since=0]",
            shown.len(),
            result.bytes
        ),
    }
}

/// A result without the white space around it, as far as it was read.
struct ResultText<'v> {
    /// Its beginning: all of it, unless it was cut.
    head: &'v str,
    /// Its end: all of it, unless it was cut.
    tail: &'v str,
    /// Its length.
    bytes: u64,
}

impl<'v> ResultText<'v> {
    fn of(view: &'v JobView) -> Self {
        let text = view.job.result.as_deref().unwrap_or_default();
        let Some(cut) = &view.cut else {
            let text = text.trim();
            return Self { head: text, tail: text, bytes: text.len() as u64 };
        };
        let (head, tail) = (text.trim_start(), cut.tail.trim_end());
        let space = (text.len() - head.len()) + (cut.tail.len() - tail.len());
        Self { head, tail, bytes: cut.bytes.saturating_sub(space as u64) }
    }
}

/// Where the result begins in the output, which ends with it: the last message is streamed as output too. `None` when
/// the output does not contain all of it, because the output cap was reached.
fn result_offset(view: &JobView, result: &ResultText<'_>) -> Option<u64> {
    let text = String::from_utf8_lossy(&view.output.bytes);
    let end = text.trim_end();
    if end.is_empty() || !(result.tail.ends_with(end) || end.ends_with(result.tail)) {
        return None;
    }
    (view.output.offset + end.len() as u64).checked_sub(result.bytes)
}

/// The length of [`view_body`], of a job that was read in part too.
fn body_bytes(view: &JobView) -> u64 {
    if view.job.status == State::Completed {
        return ResultText::of(view).bytes;
    }
    let read = view.job.error.as_ref().map_or(0, String::len) as u64;
    let unread = view.cut.as_ref().map_or(0, |cut| cut.bytes.saturating_sub(read));
    view_body(view).len() as u64 + unread
}

/// The line of a queued job, with the reason when it is known.
fn queued(reason: Option<&WaitsFor>) -> String {
    match reason {
        Some(WaitsFor::SessionCap { ahead, .. }) => format!("<queued> behind {ahead} of this session"),
        Some(WaitsFor::Turn { .. }) => "<queued> next".to_owned(),
        Some(WaitsFor::NoWorker { queue, .. }) => format!("<queued> no worker serves queue {queue}"),
        _ => "<queued>".to_owned(),
    }
}

/// The output of a job that has not ended, with a last line that says so.
fn live(view: &JobView, activity: &str) -> String {
    if view.output.total == 0 {
        return format!("<no output yet — {activity}>");
    }
    let output = output_tail(view, MAX_VIEW_BYTES);
    if view.truncated {
        format!("{output}\n\n[output truncated at 10MB limit — {activity}...]")
    } else {
        format!("{output}\n\n[{activity}...]")
    }
}

/// A first line, followed by the partial output of the job, if any. Together they have at most `room` bytes.
fn with_partial(first: String, view: &JobView, room: usize) -> String {
    if view.output.total == 0 {
        return first;
    }
    let output = output_tail(view, room.saturating_sub(first.len()));
    format!("{first}\n\n{output}")
}

/// The last `room` bytes of the range of output, preceded by a line with their offset when the beginning is missing.
fn output_tail(view: &JobView, room: usize) -> String {
    let text = String::from_utf8_lossy(&view.output.bytes);
    let shown = tail(&text, room);
    let offset = view.output.offset + (text.len() - shown.len()) as u64;
    if offset == 0 {
        return text.into_owned();
    }
    format!("[output from byte {offset} of {}]\n{shown}", view.output.total)
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

/// The error of `send_background_agent` for an empty message or one that is too long; `None` for a valid one.
pub fn message_refusal(message: &str) -> Option<String> {
    if message.trim().is_empty() {
        Some("message must not be empty".to_owned())
    } else if message.len() > MAX_MESSAGE_BYTES {
        Some(format!("message must not exceed {MAX_MESSAGE_BYTES} bytes; it has {}", message.len()))
    } else {
        None
    }
}

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
