//! The specs of the background tools, and the instruction that comes with them.

use serde_json::json;

use super::Action;
use crate::tool::ToolSpec;
use crate::toolset::delegation::Delegation;
use crate::toolset::schema;
use crate::toolset::schema::Schema;

/// The system message of the toolset.
pub(super) const INSTRUCTION: &str = "\
You can let agents of your team work in the background while you continue.

- run_background_agent starts one and returns its task id immediately. Start independent tasks one after the other \
without waiting between them; each agent sees only the task that you write.
- When you need the results, wait_background_agents waits for them without polling. If you end your turn while \
tasks run, you are notified once, when they have all ended.
- view_background_agent shows a task's output so far or its result, list_background_agents all of them, \
send_background_agent sends a running task a message, stop_background_agent ends one that is no longer needed.
- Read each result before you rely on it; a failed or stopped task shows its partial output.";

pub(super) fn all() -> [(Action, ToolSpec); 6] {
    let task_id =
        || Schema::new().required("task_id", schema::string(), "The id of the background agent task");
    [
        (
            Action::Run,
            schema::idempotent(
                "run_background_agent",
                "Start an agent of your team on a task in the background. Returns the task's id immediately.",
                Delegation::schema(),
            ),
        ),
        (
            Action::List,
            schema::read_only(
                "list_background_agents",
                "List the background agent tasks with their status and runtime",
                Schema::new(),
            ),
        ),
        (
            Action::View,
            schema::read_only(
                "view_background_agent",
                "Show the status of a background agent task with its output so far, or its result when completed",
                task_id().optional(
                    "since",
                    json!({"type": "integer", "minimum": 0}),
                    "The byte offset in the output to read from",
                ),
            ),
        ),
        (
            Action::Stop,
            schema::idempotent(
                "stop_background_agent",
                "Stop a background agent task and all tasks that it started",
                task_id(),
            ),
        ),
        (Action::Wait, wait()),
        (
            Action::Send,
            schema::idempotent(
                "send_background_agent",
                "Send a message to a running background agent task. The agent reads it before its next step.",
                task_id().required("message", schema::string(), "The message"),
            ),
        ),
    ]
}

fn wait() -> ToolSpec {
    schema::read_only(
        "wait_background_agents",
        "Wait until background agent tasks have ended, and get the status and output of each. On a timeout it \
         returns their current state, and the tasks keep running.",
        Schema::new()
            .required(
                "task_ids",
                json!({"type": "array", "items": schema::string(), "minItems": 1, "maxItems": 100}),
                "The ids of the tasks",
            )
            .optional(
                "timeout",
                json!({"type": "number", "minimum": 0, "maximum": 3600}),
                "The most seconds to wait; 300 when absent or 0",
            )
            .optional(
                "mode",
                schema::one_of(&["all", "any"]),
                "Wait for all of them (the default) or for the first",
            ),
    )
}
