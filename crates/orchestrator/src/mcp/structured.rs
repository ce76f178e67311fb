//! The tools' answers as JSON, which accompany the contract's texts, and the schemas of these answers.

use jiff::Timestamp;
use legwork_common::contract;
use legwork_common::contract::WaitAnswer;
use legwork_common::id::JobId;
use legwork_common::job::Job;
use legwork_common::service::JobList;
use legwork_common::service::JobView;
use legwork_common::service::MAX_VIEW_BYTES;
use legwork_common::service::WaitItem;
use serde_json::Value;
use serde_json::json;

use crate::mcp::tool_name;

/// The answer of a run.
pub fn started(id: JobId, agent: &str, task: &str) -> Value {
    json!({"id": id, "agent": agent, "task": task})
}

/// The answer of a run that was answered with a task of the protocol, once the job has ended.
pub fn ended(view: &JobView) -> Value {
    let mut value = started(view.job.id, &view.job.agent, &view.job.task);
    value["status"] = json!(contract::visible_state(view.job.status).as_str());
    value["output"] = json!(contract::bounded_body(view));
    value
}

/// The answer of a list.
pub fn list(list: &JobList) -> Value {
    let tasks: Vec<Value> = list
        .jobs
        .iter()
        .map(|job| {
            let mut value = outline(job);
            value["created_at"] = json!(time(job.created_at));
            value["finished_at"] = json!(job.finished_at.map(time));
            value
        })
        .collect();
    json!({"tasks": tasks, "more_queued": list.more_queued, "more_ended": list.more_ended})
}

/// A time as in the job object of the command line: three digits of a second.
fn time(time: Timestamp) -> String {
    format!("{time:.3}")
}

/// The answer of a view.
pub fn view(view: &JobView) -> Value {
    let job = &view.job;
    let mut value = outline(job);
    value["error"] =
        json!(job.error.as_deref().map(|error| contract::head(error, contract::MAX_ERROR_BYTES)));
    value["attempt"] = json!(job.attempt);
    value["result"] = json!(job.result.as_deref().map(|result| contract::head(result, MAX_VIEW_BYTES)));
    value["result_bytes"] = json!(job.result.as_ref().map(String::len));
    value["output"] = json!(String::from_utf8_lossy(&view.output.bytes));
    value["output_offset"] = json!(view.output.offset);
    value["next_offset"] = json!(view.output.next_offset());
    value["output_bytes"] = json!(view.output.total);
    value["usage"] = json!(job.usage);
    value
}

/// What the answers of a list and a view share.
fn outline(job: &Job) -> Value {
    json!({
        "id": job.id,
        "agent": job.agent,
        "task": job.task,
        "status": contract::visible_state(job.status).as_str(),
        "cause": job.cause,
        "runtime_ms": job.runtime_ms,
    })
}

/// The answer of a wait: the contract's object, and in addition whether its condition is met (all tasks have ended, or one
/// in mode `any`), what still runs, and where it is not met the sentence that says how to continue.
pub fn waited(answer: &WaitAnswer, items: &[WaitItem], how_to_continue: Option<&str>) -> Value {
    let mut value = json!(answer);
    value["done"] = json!(how_to_continue.is_none());
    value["still_running"] = json!(still_running(items));
    if let Some(sentence) = how_to_continue {
        value["next"] = json!(sentence);
    }
    value
}

/// The ids of the jobs that have not ended, in the order of the wait.
pub fn still_running(items: &[WaitItem]) -> Vec<JobId> {
    let live = |item: &WaitItem| match item {
        WaitItem::Found(view) if !view.job.status.is_terminal() => Some(view.job.id),
        WaitItem::Found(_) | WaitItem::NotFound(_) => None,
    };
    items.iter().filter_map(live).collect()
}

/// The JSON schema of a tool's answer.
pub fn schema(tool: &str) -> Value {
    match tool {
        tool_name::RUN => object(
            json!({
                "id": text("The task's id"),
                "agent": text("The agent that works on it"),
                "task": text("What it was asked to do"),
                "status": text("Its final status; only in the result of a protocol task"),
                "output": text("Its result; only in the result of a protocol task"),
            }),
            &["id", "agent", "task"],
        ),
        tool_name::LIST => object(
            json!({
                "tasks": {"type": "array", "items": list_item()},
                "more_queued": count("Queued tasks that are not shown"),
                "more_ended": count("Ended tasks that are not shown"),
            }),
            &["tasks", "more_queued", "more_ended"],
        ),
        tool_name::VIEW => viewed(),
        tool_name::WAIT => object(
            json!({
                "all_done": {"type": "boolean", "description": "Whether all tasks have ended"},
                "timed_out": {"type": "boolean", "description": "Whether the timeout ended the wait"},
                "tasks": {
                    "type": "array",
                    "items": wait_item(),
                    "description": "One for each id of the request, in its order",
                },
                "done": {
                    "type": "boolean",
                    "description": "Whether the wait is over: all tasks have ended, or one of them in mode any",
                },
                "still_running": {
                    "type": "array",
                    "items": {"type": "string"},
                    "description": "The tasks that have not ended, to wait for again",
                },
                "next": text("How to keep waiting, where the wait is not over"),
            }),
            &["all_done", "tasks", "done", "still_running"],
        ),
        tool_name::STOP => object(
            json!({"id": text("The task's id"), "status": text("Always stopped: the stop is final, and the task's processes are ended")}),
            &["id", "status"],
        ),
        _ => object(json!({"id": text("The task's id")}), &["id"]),
    }
}

fn list_item() -> Value {
    let mut properties = job_fields();
    properties["created_at"] = text("When it was dispatched");
    properties["finished_at"] = text_or_null("When it ended");
    object(properties, &["id", "agent", "task", "status", "runtime_ms", "created_at"])
}

/// The fields that a listed and a viewed job have in common.
fn job_fields() -> Value {
    json!({
        "id": text("The task's id"),
        "agent": text("The agent that works on it"),
        "task": text("What it was asked to do"),
        "status": text("queued, scheduled, running, waiting, stopping, completed, failed or stopped"),
        "cause": text_or_null("Why it failed or was stopped"),
        "runtime_ms": count("Milliseconds from its start to its end or to now"),
    })
}

fn wait_item() -> Value {
    object(
        json!({
            "task_id": text("The id as given in the request"),
            "status": text("Its status, or not_found"),
            "done": {"type": "boolean", "description": "Whether it has ended"},
            "output": text("The head of its result, or the tail of its output so far"),
            "error": text("What went wrong"),
            "truncated": {"type": "boolean", "description": "Whether output or error was cut"},
            "output_offset": count("The byte offset at which a cut output begins"),
            "output_bytes": count("The size of the whole, in bytes, where the output was cut"),
            "cause": text("Why it failed or was stopped"),
        }),
        &["task_id", "status", "done"],
    )
}

fn viewed() -> Value {
    let mut properties = job_fields();
    for (name, shape) in [
        ("error", text_or_null("What went wrong")),
        ("attempt", count("The number of the current attempt; 0 before the first")),
        ("result", text_or_null("The first 16 KB of the agent's last message, when completed")),
        ("result_bytes", count_or_null("The size of the agent's last message, in bytes")),
        ("output", text("A chunk of the output")),
        ("output_offset", count("The byte offset of the chunk")),
        ("next_offset", count("The byte offset to continue from, as `since`")),
        ("output_bytes", count("The size of the output so far, in bytes")),
        ("usage", json!({"type": "object", "description": "The tokens that its models used"})),
    ] {
        properties[name] = shape;
    }
    let required =
        ["id", "agent", "task", "status", "output", "output_offset", "next_offset", "output_bytes"];
    object(properties, &required)
}

fn object(properties: Value, required: &[&str]) -> Value {
    json!({"type": "object", "properties": properties, "required": required})
}

fn text(description: &str) -> Value {
    json!({"type": "string", "description": description})
}

fn text_or_null(description: &str) -> Value {
    json!({"type": ["string", "null"], "description": description})
}

fn count(description: &str) -> Value {
    json!({"type": "integer", "minimum": 0, "description": description})
}

fn count_or_null(description: &str) -> Value {
    json!({"type": ["integer", "null"], "minimum": 0, "description": description})
}
