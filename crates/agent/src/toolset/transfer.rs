//! `transfer_task`: a sub-agent does it, and the answer is waited for.
//!
//! It is a job of the same session, dispatched and waited for, so that a crash does not lose it.

use std::sync::Arc;

use async_trait::async_trait;
use legwork_common::contract;
use legwork_common::lifecycle::State;
use legwork_common::service::BackgroundAgents;
use legwork_common::service::JobView;
use legwork_common::service::RunRequest;
use legwork_common::service::ServiceError;
use legwork_common::service::WaitItem;
use legwork_common::service::WaitMode;
use legwork_common::service::WaitRequest;
use legwork_common::team::Agent;
use serde::Deserialize;
use serde_json::Value;
use serde_json::json;

use super::schema;
use super::schema::Schema;
use crate::tool::Tool;
use crate::tool::ToolContext;
use crate::tool::ToolOutcome;
use crate::tool::ToolSpec;

/// The tool.
#[derive(Debug)]
pub(crate) struct TransferTask {
    spec: ToolSpec,
    caller: String,
    sub_agents: Vec<String>,
    service: Arc<dyn BackgroundAgents>,
}

#[derive(Deserialize)]
struct Arguments {
    #[serde(default)]
    agent: String,
    #[serde(default)]
    task: String,
    expected_output: Option<String>,
}

impl TransferTask {
    /// The tool of an agent that has sub-agents.
    pub(crate) fn new(agent: &Agent, service: Arc<dyn BackgroundAgents>) -> Self {
        let text = || json!({"type": "string"});
        let schema = Schema::new()
            .required("agent", text(), "The name of the agent")
            .required("task", text(), "What it shall do, clearly and concisely, with all it needs to know")
            .optional("expected_output", text(), "What its answer should look like");
        let spec = schema::repeatable(
            "transfer_task",
            "Give a task to one agent of your team and wait for its answer. The agent sees nothing of this \
             conversation, so the task must stand for itself.",
            schema,
        );
        Self { spec, caller: agent.name.clone(), sub_agents: agent.sub_agents.clone(), service }
    }

    async fn transfer(
        &self,
        arguments: Arguments,
        context: &ToolContext,
    ) -> Result<ToolOutcome, ServiceError> {
        let id = self
            .service
            .run(RunRequest {
                agent: arguments.agent,
                task: arguments.task,
                expected_output: arguments.expected_output,
                call: Some(context.call),
                key: None,
                placement: None,
            })
            .await?;
        let request =
            WaitRequest { ids: vec![id.to_string()], timeout: None, mode: WaitMode::All, call: None };
        match self.service.wait(request).await?.into_iter().next() {
            Some(WaitItem::Found(view)) => Ok(answer(&view)),
            Some(WaitItem::NotFound(_)) | None => Err(ServiceError::NotFound(id.to_string())),
        }
    }
}

/// The sub-agent's last message, or how it ended otherwise.
fn answer(view: &JobView) -> ToolOutcome {
    let ended = vec![view.job.id];
    match view.job.status {
        State::Completed => {
            ToolOutcome { text: view.job.result.clone().unwrap_or_default(), is_error: false, ended }
        }
        _ => ToolOutcome { text: contract::body(view), is_error: true, ended },
    }
}

#[async_trait]
impl Tool for TransferTask {
    fn spec(&self) -> &ToolSpec {
        &self.spec
    }

    async fn call(&self, arguments: Value, context: &ToolContext) -> ToolOutcome {
        let arguments: Arguments = match schema::read(&self.spec, arguments) {
            Ok(arguments) => arguments,
            Err(outcome) => return outcome,
        };
        if !self.sub_agents.contains(&arguments.agent) {
            return ToolOutcome::error(format!(
                "Agent {} cannot transfer task to {}: target agent not in sub-agents list. Available agent IDs are: {}",
                self.caller,
                arguments.agent,
                self.sub_agents.join(", ")
            ));
        }
        if arguments.task.trim().is_empty() {
            return ToolOutcome::error("task must not be empty");
        }
        self.transfer(arguments, context).await.unwrap_or_else(|error| ToolOutcome::error(error.to_string()))
    }
}
