//! What models are told of the background tools.

use serde_json::json;

use super::Action;
use crate::tool::ToolSpec;
use crate::toolset::schema;
use crate::toolset::schema::Schema;

/// The toolset's own system message.
pub(super) const INSTRUCTION: &str = "\
You can let agents of your team work in the background while you go on.

- run_background_agent starts one and returns its task id at once. Start independent tasks one after the other \
without waiting between them; each agent sees only the task that you write.
- When you need the results, wait_background_agents waits for them without polling. If you end your turn while \
tasks run, you are told once when they have all ended.
- view_background_agent shows a task's output so far or its result, list_background_agents all of them, \
send_background_agent gives a running task a message, stop_background_agent ends one that is no longer needed.
- Read each result before you rely on it; a failed or stopped task shows what it got done.";

/// Every tool with its description.
pub(super) fn all() -> [(Action, ToolSpec); 6] {
    let text = || json!({"type": "string"});
    let task_id = || Schema::new().required("task_id", text(), "The id of the background agent task");
    [
        (
            Action::Run,
            schema::repeatable(
                "run_background_agent",
                "Start an agent of your team on a task in the background. Returns at once with the task's id.",
                Schema::new()
                    .required("agent", text(), "The name of the agent")
                    .required("task", text(), "What it shall do, with all it needs to know")
                    .optional("expected_output", text(), "What its answer should look like"),
            ),
        ),
        (
            Action::List,
            schema::reading(
                "list_background_agents",
                "List the background agent tasks with their status and runtime",
                Schema::new(),
            ),
        ),
        (
            Action::View,
            schema::reading(
                "view_background_agent",
                "Show the status of a background agent task with its output so far, or its result when completed",
                task_id().optional(
                    "since",
                    json!({"type": "integer", "minimum": 0}),
                    "Read the output on from this byte offset",
                ),
            ),
        ),
        (
            Action::Stop,
            schema::repeatable(
                "stop_background_agent",
                "Stop a background agent task and all that it started itself",
                task_id(),
            ),
        ),
        (Action::Wait, wait()),
        (
            Action::Send,
            schema::repeatable(
                "send_background_agent",
                "Give a running background agent task a message; its agent reads it before its next step",
                task_id().required("message", text(), "What to tell it"),
            ),
        ),
    ]
}

fn wait() -> ToolSpec {
    schema::reading(
        "wait_background_agents",
        "Wait until background agent tasks have ended, and get the status and output of each. When the time is \
         up it answers with what is true then, and the tasks run on.",
        Schema::new()
            .required(
                "task_ids",
                json!({"type": "array", "items": {"type": "string"}, "minItems": 1}),
                "The ids of the tasks",
            )
            .optional(
                "timeout",
                json!({"type": "number", "minimum": 0, "maximum": 3600}),
                "Seconds to wait at most; 300 where nothing is said",
            )
            .optional(
                "mode",
                json!({"type": "string", "enum": ["all", "any"]}),
                "Wait for all of them (where nothing is said) or for the first",
            ),
    )
}
