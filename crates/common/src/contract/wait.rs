//! The answer of `wait_background_agents`, and the checks of its arguments.

use std::collections::HashSet;
use std::time::Duration;

use serde::Serialize;

use super::ResultText;
use super::head;
use super::result_offset;
use super::tail;
use super::visible_state;
use crate::job::Cause;
use crate::lifecycle::State;
use crate::service::JobView;
use crate::service::WaitItem;

/// The maximum length of the output, and of the error, of one task in an answer, in bytes.
pub const MAX_WAIT_BYTES: usize = 4 * 1024;

/// The most ids of one wait. Fixed by the contract.
const MAX_IDS: usize = 100;
/// The timeout of a wait that names none or zero, in seconds. Fixed by the contract.
const DEFAULT_SECONDS: f64 = 300.0;
/// The longest timeout of a wait, in seconds. Fixed by the contract.
const MAX_SECONDS: f64 = 3600.0;

/// Checks the arguments of a wait, in the contract's order, and returns its timeout. `seconds` is the `timeout` argument.
///
/// # Errors
///
/// The text of the contract for the first invalid argument.
pub fn wait_timeout(ids: &[String], seconds: Option<f64>) -> Result<Duration, String> {
    if ids.is_empty() || ids.len() > MAX_IDS {
        return Err(format!("task_ids must contain 1 to {MAX_IDS} distinct task IDs"));
    }
    let mut seen = HashSet::new();
    for id in ids.iter().map(|id| id.trim()) {
        if id.is_empty() {
            return Err("task IDs must not be empty".to_owned());
        }
        if !seen.insert(id) {
            return Err(format!("duplicate task ID: {id}"));
        }
    }
    let seconds = seconds.filter(|seconds| *seconds != 0.0).unwrap_or(DEFAULT_SECONDS);
    if !(0.0..=MAX_SECONDS).contains(&seconds) {
        return Err("timeout must be between 0 and 3600 seconds".to_owned());
    }
    Ok(Duration::from_secs_f64(seconds))
}

/// The answer of a wait, as JSON in the order of the fields. Optional fields are absent when false or empty.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct WaitAnswer {
    /// Whether all tasks have ended. A task that was not found has not.
    pub all_done: bool,
    /// Whether the timeout ended the wait.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub timed_out: bool,
    /// One for each id, in the order of the request.
    pub tasks: Vec<WaitedTask>,
}

/// One task of an answer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct WaitedTask {
    /// The id as the caller wrote it.
    pub task_id: String,
    /// The state, or `not_found`.
    pub status: String,
    /// Whether the job has ended.
    pub done: bool,
    /// The head of a completed job's result, or the tail of another job's output; at most [`MAX_WAIT_BYTES`].
    #[serde(skip_serializing_if = "String::is_empty")]
    pub output: String,
    /// The message of a failed job, at most [`MAX_WAIT_BYTES`].
    #[serde(skip_serializing_if = "String::is_empty")]
    pub error: String,
    /// Whether the output or the error was cut.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub truncated: bool,
    /// The byte offset at which `output` begins, when it was cut.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output_offset: Option<u64>,
    /// The bytes that there are in all, when `output` was cut.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output_bytes: Option<u64>,
    /// Why the job failed or was stopped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<Cause>,
}

impl WaitAnswer {
    /// The answer for the items of a wait that was, or was not, ended by its timeout.
    pub fn new(items: &[WaitItem], timed_out: bool) -> Self {
        let tasks: Vec<WaitedTask> = items.iter().map(WaitedTask::new).collect();
        Self { all_done: tasks.iter().all(|task| task.done), timed_out, tasks }
    }

    /// The answer as the text that a model gets.
    pub fn text(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Whether the answer is an error result: an id was not found.
    pub fn is_error(&self) -> bool {
        self.tasks.iter().any(|task| task.status == NOT_FOUND)
    }
}

/// The status of an id that names no job of the caller.
const NOT_FOUND: &str = "not_found";

impl WaitedTask {
    fn new(item: &WaitItem) -> Self {
        match item {
            WaitItem::Found(view) => Self::found(view),
            WaitItem::NotFound(id) => Self {
                task_id: id.clone(),
                status: NOT_FOUND.to_owned(),
                error: "Task not found; it may have been pruned.".to_owned(),
                ..Self::default()
            },
        }
    }

    fn found(view: &JobView) -> Self {
        let job = &view.job;
        let mut task = Self {
            task_id: job.id.to_string(),
            status: visible_state(job.status).as_str().to_owned(),
            done: job.status.is_terminal(),
            cause: job.cause,
            ..Self::default()
        };
        let (shown, begin, total) = output(view);
        let size = if job.status == State::Completed { begin + shown.len() as u64 } else { total - begin };
        let cut = size < total;
        task.output = shown;
        if cut {
            (task.output_offset, task.output_bytes) = (Some(begin), Some(total));
        }
        let error = job.error.as_deref().filter(|_| job.status == State::Failed).unwrap_or_default();
        task.error = head(error, MAX_WAIT_BYTES).to_owned();
        let unread = view.cut.is_some() && !error.is_empty();
        task.truncated = cut || unread || task.error.len() < error.len();
        task
    }
}

/// The shown part of a job's result or output, where it begins, and where the whole ends.
fn output(view: &JobView) -> (String, u64, u64) {
    if view.job.status == State::Completed {
        let result = ResultText::of(view);
        let shown = head(result.head, MAX_WAIT_BYTES);
        let is_cut = (shown.len() as u64) < result.bytes;
        let begin = if is_cut { result_offset(view, &result).unwrap_or(0) } else { 0 };
        return (shown.to_owned(), begin, begin + result.bytes);
    }
    let text = String::from_utf8_lossy(&view.output.bytes);
    let shown = tail(&text, MAX_WAIT_BYTES);
    (shown.to_owned(), view.output.offset + (text.len() - shown.len()) as u64, view.output.total)
}
