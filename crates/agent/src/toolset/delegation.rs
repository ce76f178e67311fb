//! Giving a task to a sub-agent: the arguments that `run_background_agent` and `transfer_task` share.

use legwork_common::service::RunRequest;
use serde::Deserialize;

use super::schema;
use super::schema::Schema;
use crate::tool::ToolContext;

/// The arguments. Absent strings are empty, so that the contract's checks can report them in their order.
#[derive(Deserialize)]
pub(super) struct Delegation {
    #[serde(default)]
    pub(super) agent: String,
    #[serde(default)]
    pub(super) task: String,
    expected_output: Option<String>,
}

impl Delegation {
    /// The schema of the arguments.
    pub(super) fn schema() -> Schema {
        Schema::new()
            .required("agent", schema::string(), "The name of the agent")
            .required("task", schema::string(), "The task, with everything the agent needs to know")
            .optional("expected_output", schema::string(), "What the agent's answer should look like")
    }

    /// The request to dispatch the task. The call makes it idempotent: the same call after a crash finds the same job.
    pub(super) fn into_request(self, context: &ToolContext) -> RunRequest {
        RunRequest {
            agent: self.agent,
            task: self.task,
            expected_output: self.expected_output,
            call: Some(context.call),
            key: None,
            job_options: None,
            safety: context.safety,
        }
    }
}
