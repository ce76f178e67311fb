//! `transfer_task`: gives a task to a sub-agent and waits for its answer.
//!
//! The task is a job of the same session, so a crash of the caller does not lose it: the repeated call finds the job.

use std::sync::Arc;

use async_trait::async_trait;
use legwork_common::contract;
use legwork_common::lifecycle::State;
use legwork_common::service::BackgroundAgents;
use legwork_common::service::JobView;
use legwork_common::service::ServiceError;
use legwork_common::service::WaitDetail;
use legwork_common::service::WaitItem;
use legwork_common::service::WaitMode;
use legwork_common::service::WaitRequest;
use legwork_common::team::Agent;
use serde_json::Value;

use super::delegation::Delegation;
use super::schema;
use crate::tool::Tool;
use crate::tool::ToolContext;
use crate::tool::ToolOutcome;
use crate::tool::ToolSpec;

/// The tool `transfer_task` of one agent.
#[derive(Debug)]
pub(crate) struct TransferTask {
    spec: ToolSpec,
    caller: String,
    sub_agents: Vec<String>,
    service: Arc<dyn BackgroundAgents>,
}

impl TransferTask {
    /// The tool for `agent`, which has sub-agents.
    pub(crate) fn new(agent: &Agent, service: Arc<dyn BackgroundAgents>) -> Self {
        let spec = schema::idempotent(
            "transfer_task",
            "Give a task to one agent of your team and wait for its answer. The agent sees nothing of this \
             conversation, so the task must be complete in itself.",
            Delegation::schema(),
        );
        Self { spec, caller: agent.name.clone(), sub_agents: agent.sub_agents.clone(), service }
    }

    /// The outcome for the model where the arguments name no sub-agent or no task.
    fn refusal(&self, delegation: &Delegation) -> Option<ToolOutcome> {
        if !self.sub_agents.contains(&delegation.agent) {
            return Some(ToolOutcome::error(format!(
                "Agent {} cannot transfer task to {}: target agent not in sub-agents list. Available agent IDs are: {}",
                self.caller,
                delegation.agent,
                self.sub_agents.join(", ")
            )));
        }
        delegation.task.trim().is_empty().then(|| ToolOutcome::error("task must not be empty"))
    }

    /// Dispatches the task and waits, without a timeout, until its job has ended. Dropping the future leaves the job
    /// running.
    async fn transfer(
        &self,
        delegation: Delegation,
        context: &ToolContext,
    ) -> Result<ToolOutcome, ServiceError> {
        let id = self.service.run(delegation.into_request(context)).await?;
        let request = WaitRequest {
            ids: vec![id.to_string()],
            timeout: None,
            mode: WaitMode::All,
            call: None,
            detail: WaitDetail::Whole,
        };
        match self.service.wait(request).await?.into_iter().next() {
            Some(WaitItem::Found(view)) => Ok(answer(&view)),
            Some(WaitItem::NotFound(_)) | None => Err(ServiceError::NotFound(id.to_string())),
        }
    }
}

/// The sub-agent's last message, or an error with the reason and the partial output.
fn answer(view: &JobView) -> ToolOutcome {
    let ended = vec![view.job.id];
    match view.job.status {
        State::Completed => {
            ToolOutcome { ended, ..ToolOutcome::ok(view.job.result.clone().unwrap_or_default()) }
        }
        _ => ToolOutcome { ended, ..ToolOutcome::error(contract::bounded_body(view)) },
    }
}

#[async_trait]
impl Tool for TransferTask {
    fn spec(&self) -> &ToolSpec {
        &self.spec
    }

    async fn call(&self, arguments: Value, context: &ToolContext) -> ToolOutcome {
        let delegation: Delegation = match schema::parse(&self.spec, arguments) {
            Ok(delegation) => delegation,
            Err(invalid) => return invalid,
        };
        if let Some(refusal) = self.refusal(&delegation) {
            return refusal;
        }
        self.transfer(delegation, context).await.unwrap_or_else(|error| ToolOutcome::error(error.to_string()))
    }
}
