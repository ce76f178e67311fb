//! The tools' answers as JSON, beside the texts of the contract, and the schemas that they keep to.

use legwork_common::contract;
use legwork_common::id::JobId;
use legwork_common::service::JobList;
use legwork_common::service::JobView;
use legwork_common::service::WaitItem;
use serde_json::Value;
use serde_json::json;

use crate::mcp::offer::name;

/// The answer of a run.
pub fn started(id: JobId, agent: &str, task: &str) -> Value {
    json!({"id": id, "agent": agent, "task": task})
}

/// The answer of a run that was a task of the protocol, once the job has ended.
pub fn ended(view: &JobView) -> Value {
    let mut value = started(view.job.id, &view.job.agent, &view.job.task);
    value["status"] = json!(contract::shown(view.job.status).as_str());
    value["output"] = json!(contract::body(view));
    value
}

/// The answer of a list.
pub fn list(list: &JobList) -> Value {
    let tasks: Vec<Value> = list
        .jobs
        .iter()
        .map(|job| {
            json!({
                "id": job.id,
                "agent": job.agent,
                "task": job.task,
                "status": contract::shown(job.status).as_str(),
                "cause": job.cause,
                "runtime_ms": job.runtime_ms,
                "created_at": job.created_at,
                "finished_at": job.finished_at,
            })
        })
        .collect();
    json!({"tasks": tasks, "more_queued": list.more_queued, "more_ended": list.more_ended})
}

/// The answer of a view.
pub fn view(view: &JobView) -> Value {
    let job = &view.job;
    json!({
        "id": job.id,
        "agent": job.agent,
        "task": job.task,
        "status": contract::shown(job.status).as_str(),
        "cause": job.cause,
        "error": job.error,
        "attempt": job.attempt,
        "runtime_ms": job.runtime_ms,
        "result": job.result,
        "output": String::from_utf8_lossy(&view.output.bytes),
        "output_offset": view.output.offset,
        "next_offset": view.output.next_offset(),
        "output_bytes": view.output.total,
        "usage": job.usage,
    })
}

/// The answer of a wait; `over` says whether it has what was waited for.
pub fn waited(items: &[WaitItem], over: bool) -> Value {
    json!({"tasks": contract::waited(items), "done": over, "still_running": still_running(items)})
}

/// The ids of those that have not ended.
pub fn still_running(items: &[WaitItem]) -> Vec<JobId> {
    let live = |item: &WaitItem| match item {
        WaitItem::Found(view) if !view.job.status.is_terminal() => Some(view.job.id),
        WaitItem::Found(_) | WaitItem::NotFound(_) => None,
    };
    items.iter().filter_map(live).collect()
}

/// The schema of a tool's answer.
pub fn schema(tool: &str) -> Value {
    match tool {
        name::RUN => object(
            json!({
                "id": text("The task's id"),
                "agent": text("The agent that works on it"),
                "task": text("What it was asked to do"),
                "status": text("How it ended, where this answer came at its end"),
                "output": text("Its result, where this answer came at its end"),
            }),
            &["id", "agent", "task"],
        ),
        name::LIST => object(
            json!({
                "tasks": {"type": "array", "items": list_item()},
                "more_queued": count("Queued tasks that are not shown"),
                "more_ended": count("Ended tasks that are not shown"),
            }),
            &["tasks", "more_queued", "more_ended"],
        ),
        name::VIEW => viewed(),
        name::WAIT => object(
            json!({
                "tasks": {"type": "array", "items": wait_item(), "description": "One for each id asked for, in that order"},
                "done": {"type": "boolean", "description": "Whether what was waited for has come"},
                "still_running": {
                    "type": "array",
                    "items": {"type": "string"},
                    "description": "Those to wait for again",
                },
            }),
            &["tasks", "done", "still_running"],
        ),
        name::STOP => object(
            json!({"id": text("The task's id"), "status": text("stopping, and stopped soon")}),
            &["id", "status"],
        ),
        _ => object(json!({"id": text("The task's id")}), &["id"]),
    }
}

fn list_item() -> Value {
    let mut properties = of_every_job();
    properties["created_at"] = text("When it was dispatched");
    properties["finished_at"] = text_or_null("When it ended");
    object(properties, &["id", "agent", "task", "status", "runtime_ms", "created_at"])
}

/// What is told of a job wherever it is shown.
fn of_every_job() -> Value {
    json!({
        "id": text("The task's id"),
        "agent": text("The agent that works on it"),
        "task": text("What it was asked to do"),
        "status": text("queued, scheduled, running, waiting, stopping, completed, failed or stopped"),
        "cause": text_or_null("Why it failed or was stopped"),
        "runtime_ms": count("Milliseconds from its start to its end, or to now"),
    })
}

fn wait_item() -> Value {
    object(
        json!({
            "id": text("The id as it was asked for"),
            "status": text("Its status, or not_found"),
            "output": text("Its result, or its output so far"),
            "output_offset": count("The byte at which the output begins"),
        }),
        &["id", "status", "output", "output_offset"],
    )
}

fn viewed() -> Value {
    let mut properties = of_every_job();
    for (name, shape) in [
        ("error", text_or_null("What went wrong")),
        ("attempt", count("The number of the attempt; 0 before the first")),
        ("result", text_or_null("The agent's last message, when completed")),
        ("output", text("A piece of the output")),
        ("output_offset", count("The byte at which the piece begins")),
        ("next_offset", count("Where to read on, as `since`")),
        ("output_bytes", count("Bytes of output that there are")),
        ("usage", json!({"type": "object", "description": "Tokens that its models counted"})),
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
