//! `background_agents`: dispatches tasks to sub-agents, and lists, shows, awaits, messages and stops them.
//!
//! Tool names, parameters and result texts are a contract with existing agent files. The texts are in
//! `legwork_common::contract`. A job is called a task here.

mod specs;

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;

use async_trait::async_trait;
use legwork_common::contract;
use legwork_common::id::JobId;
use legwork_common::service::BackgroundAgents;
use legwork_common::service::JobView;
use legwork_common::service::SendRequest;
use legwork_common::service::ServiceError;
use legwork_common::service::StopReply;
use legwork_common::service::WaitDetail;
use legwork_common::service::WaitItem;
use legwork_common::service::WaitMode;
use legwork_common::service::WaitRequest;
use legwork_common::team::Agent;
use serde::Deserialize;
use serde_json::Value;

use super::Kit;
use super::delegation::Delegation;
use super::schema;
use crate::tool::Tool;
use crate::tool::ToolContext;
use crate::tool::ToolOutcome;
use crate::tool::ToolSpec;

/// The toolset for `agent`, which may dispatch to its sub-agents only.
pub(crate) fn open(agent: &Agent, service: &Arc<dyn BackgroundAgents>) -> Kit {
    let tool = |(action, spec)| BackgroundTool {
        spec,
        action,
        sub_agents: agent.sub_agents.clone(),
        service: Arc::clone(service),
        polls: Mutex::default(),
    };
    Kit::new(specs::all().map(tool)).with_instruction(specs::INSTRUCTION)
}

/// The specs of the tools, which do not depend on the agent.
pub(crate) fn specs() -> Vec<ToolSpec> {
    specs::all().into_iter().map(|(_, spec)| spec).collect()
}

#[derive(Debug, Clone, Copy)]
enum Action {
    Run,
    List,
    View,
    Stop,
    Wait,
    Send,
}

#[derive(Debug)]
struct BackgroundTool {
    spec: ToolSpec,
    action: Action,
    sub_agents: Vec<String>,
    service: Arc<dyn BackgroundAgents>,
    /// The views of this tool. A std mutex, because it is never held across an await.
    polls: Mutex<contract::PollCounter>,
}

#[derive(Deserialize)]
struct View {
    task_id: String,
    /// The byte offset in the output to read from.
    since: Option<u64>,
}

#[derive(Deserialize)]
struct Stop {
    task_id: String,
}

#[derive(Deserialize)]
struct Wait {
    #[serde(default)]
    task_ids: Vec<String>,
    /// In seconds.
    timeout: Option<f64>,
    mode: Option<WaitMode>,
}

#[derive(Deserialize)]
struct Send {
    task_id: String,
    message: String,
}

/// The error outcome of a call. It lets `?` convert the errors of the service.
struct ErrorOutcome(ToolOutcome);

impl From<ServiceError> for ErrorOutcome {
    fn from(error: ServiceError) -> Self {
        Self(ToolOutcome::error(error.to_string()))
    }
}

impl From<ToolOutcome> for ErrorOutcome {
    fn from(outcome: ToolOutcome) -> Self {
        Self(outcome)
    }
}

impl BackgroundTool {
    async fn act(&self, arguments: Value, context: &ToolContext) -> Result<ToolOutcome, ErrorOutcome> {
        match self.action {
            Action::Run => self.run(schema::parse(&self.spec, arguments)?, context).await,
            Action::List => Ok(ToolOutcome::ok(contract::list(&self.service.list().await?))),
            Action::View => self.view(schema::parse(&self.spec, arguments)?).await,
            Action::Stop => self.stop(schema::parse(&self.spec, arguments)?).await,
            Action::Wait => self.wait(schema::parse(&self.spec, arguments)?, context).await,
            Action::Send => self.send(schema::parse(&self.spec, arguments)?, context).await,
        }
    }

    async fn run(&self, delegation: Delegation, context: &ToolContext) -> Result<ToolOutcome, ErrorOutcome> {
        let (agent, task) = (delegation.agent.clone(), delegation.task.clone());
        if let Some(refusal) = contract::refusal(&agent, &task, &self.sub_agents) {
            return Err(ToolOutcome::error(refusal).into());
        }
        let id = self.service.run(delegation.into_request(context)).await?;
        Ok(ToolOutcome::ok(contract::started(id, &agent, &task)))
    }

    async fn view(&self, arguments: View) -> Result<ToolOutcome, ErrorOutcome> {
        let view = self.service.view(parse_id(&arguments.task_id)?, arguments.since).await?;
        let polls = self.polls.lock().unwrap_or_else(PoisonError::into_inner).count(&view);
        Ok(ToolOutcome { ended: ended(&view).collect(), ..ToolOutcome::ok(contract::view(&view, polls)) })
    }

    async fn stop(&self, arguments: Stop) -> Result<ToolOutcome, ErrorOutcome> {
        let id = parse_id(&arguments.task_id)?;
        let outcome = match self.service.stop(id).await? {
            StopReply::Stopping => ToolOutcome::ok(contract::stopped(id)),
            StopReply::AlreadyEnded(status) => {
                ToolOutcome::error(ServiceError::NotRunning { id, status }.to_string())
            }
        };
        Ok(ToolOutcome { ended: vec![id], ..outcome })
    }

    async fn wait(&self, arguments: Wait, context: &ToolContext) -> Result<ToolOutcome, ErrorOutcome> {
        let timeout =
            contract::wait_timeout(&arguments.task_ids, arguments.timeout).map_err(ToolOutcome::error)?;
        let mode = arguments.mode.unwrap_or_default();
        let request = WaitRequest {
            ids: arguments.task_ids,
            timeout: Some(timeout),
            mode,
            call: Some(context.call),
            detail: WaitDetail::Excerpt,
        };
        let items = self.service.wait(request).await?;
        let found = items.iter().filter_map(|item| match item {
            WaitItem::Found(view) => Some(view),
            WaitItem::NotFound(_) => None,
        });
        let ended = found.flat_map(|view| ended(view)).collect();
        let answer = contract::WaitAnswer::new(&items, !mode.is_over(&items));
        Ok(ToolOutcome { ended, is_error: answer.is_error(), ..ToolOutcome::ok(answer.text()) })
    }

    async fn send(&self, arguments: Send, context: &ToolContext) -> Result<ToolOutcome, ErrorOutcome> {
        let id = parse_id(&arguments.task_id)?;
        if let Some(refusal) = contract::message_refusal(&arguments.message) {
            return Err(ToolOutcome::error(refusal).into());
        }
        let request = SendRequest { id, message: arguments.message, call: Some(context.call) };
        self.service.send(request).await?;
        Ok(ToolOutcome::ok(contract::sent(id)))
    }
}

/// Parses the id that a model wrote. A malformed one is reported like an unknown one.
fn parse_id(text: &str) -> Result<JobId, ServiceError> {
    text.trim().parse().map_err(|_| ServiceError::NotFound(text.to_owned()))
}

/// The job's id if the view shows that it ended, so that its end is not announced to the model again.
fn ended(view: &JobView) -> impl Iterator<Item = JobId> {
    view.job.status.is_terminal().then_some(view.job.id).into_iter()
}

#[async_trait]
impl Tool for BackgroundTool {
    fn spec(&self) -> &ToolSpec {
        &self.spec
    }

    async fn call(&self, arguments: Value, context: &ToolContext) -> ToolOutcome {
        self.act(arguments, context).await.unwrap_or_else(|ErrorOutcome(outcome)| outcome)
    }

    fn is_overview(&self) -> bool {
        matches!(self.action, Action::List)
    }
}

#[cfg(test)]
mod tests;
