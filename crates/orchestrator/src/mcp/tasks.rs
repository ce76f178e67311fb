//! A job as a task of the protocol's extension `io.modelcontextprotocol/tasks` (SEP-2663).
//!
//! The task's id is the job's id and its state is read from the queue, so any replica can answer for it.

use std::time::Duration;

use legwork_common::contract;
use legwork_common::lifecycle::State;
use legwork_common::service::JobView;
use rmcp::model::CallToolResult;
use rmcp::model::ContentBlock;
use rmcp::model::DetailedTask;
use rmcp::model::JsonObject;
use rmcp::model::Task;
use rmcp::model::TaskPayload;
use rmcp::model::TaskStatus;

use crate::mcp::structured;

/// The poll interval suggested to hosts, in milliseconds. A poll is one read of Redis, and agents take seconds at
/// least.
const POLL_INTERVAL_MS: u64 = 1_000;

/// A job as a task with its result. Redis keeps both for `retention` after the job's end.
pub fn task(view: &JobView, retention: Duration) -> DetailedTask {
    DetailedTask::new(head(view, retention), payload(view))
}

/// The task that answers a dispatch.
pub fn created(view: &JobView, retention: Duration) -> Task {
    let text = contract::started(view.job.id, &view.job.agent, &view.job.task);
    task(view, retention).task.with_status_message(text)
}

fn head(view: &JobView, retention: Duration) -> Task {
    let job = &view.job;
    let updated = job.finished_at.or(job.started_at).unwrap_or(job.created_at);
    let id = job.id.to_string();
    let mut task = Task::new(id, TaskStatus::Working, job.created_at.to_string(), updated.to_string());
    task.poll_interval_ms = Some(POLL_INTERVAL_MS);
    // The retention starts at the job's end, so there is no TTL before.
    task.ttl_ms = job.finished_at.and_then(|finished| {
        let lived = Duration::try_from(finished.duration_since(job.created_at)).ok()?;
        u64::try_from((lived + retention).as_millis()).ok()
    });
    let status = contract::visible_state(job.status);
    if status.is_terminal() { task } else { task.with_status_message(status.as_str()) }
}

/// A failed job is a completed task with an error result; the protocol reserves `failed` for errors of the protocol.
fn payload(view: &JobView) -> TaskPayload {
    match view.job.status {
        State::Completed => TaskPayload::Completed { result: result(view, false) },
        State::Failed => TaskPayload::Completed { result: result(view, true) },
        State::Stopped => TaskPayload::Cancelled,
        State::Queued
        | State::Scheduled
        | State::Running
        | State::Waiting
        | State::Stopping
        | State::Reaping => TaskPayload::Working,
    }
}

fn result(view: &JobView, is_error: bool) -> JsonObject {
    let content = vec![ContentBlock::text(contract::bounded_body(view))];
    let mut result = if is_error { CallToolResult::error(content) } else { CallToolResult::success(content) };
    result.structured_content = Some(structured::ended(view));
    let value = serde_json::to_value(result).unwrap_or_default();
    value.as_object().cloned().unwrap_or_default()
}
