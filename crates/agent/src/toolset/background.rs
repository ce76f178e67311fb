//! `background_agents`: dispatching to sub-agents, and seeing after what was dispatched.
//!
//! Names, parameters and texts are the contract; the texts come from `legwork_common::contract`.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use legwork_common::contract;
use legwork_common::id::JobId;
use legwork_common::service::BackgroundAgents;
use legwork_common::service::JobView;
use legwork_common::service::RunRequest;
use legwork_common::service::SendRequest;
use legwork_common::service::ServiceError;
use legwork_common::service::StopReply;
use legwork_common::service::WaitItem;
use legwork_common::service::WaitMode;
use legwork_common::service::WaitRequest;
use legwork_common::team::Agent;
use serde::Deserialize;
use serde_json::Value;

use super::Kit;
use super::schema;
use crate::tool::Tool;
use crate::tool::ToolContext;
use crate::tool::ToolOutcome;
use crate::tool::ToolSpec;

mod specs;

/// How long a wait lasts where the model does not say, in seconds.
const WAIT_DEFAULT: f64 = 300.0;
/// How long a wait lasts at most, in seconds.
const WAIT_LONGEST: f64 = 3600.0;

/// The toolset of an agent.
pub(crate) fn kit(agent: &Agent, service: Arc<dyn BackgroundAgents>) -> Kit {
    let tool = |(action, spec)| {
        let sub_agents = agent.sub_agents.clone();
        Arc::new(Background { spec, action, sub_agents, service: Arc::clone(&service) }) as Arc<dyn Tool>
    };
    let tools = specs::all().into_iter().map(tool).collect();
    Kit { tools, instruction: Some(specs::INSTRUCTION.to_owned()), ..Kit::default() }
}

/// What is said of each tool to whoever calls it.
pub(crate) fn specs() -> Vec<ToolSpec> {
    specs::all().into_iter().map(|(_, spec)| spec).collect()
}

/// Which of the tools.
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
struct Background {
    spec: ToolSpec,
    action: Action,
    sub_agents: Vec<String>,
    service: Arc<dyn BackgroundAgents>,
}

#[derive(Deserialize)]
struct Run {
    #[serde(default)]
    agent: String,
    #[serde(default)]
    task: String,
    expected_output: Option<String>,
}

#[derive(Deserialize)]
struct View {
    task_id: String,
    since: Option<u64>,
}

#[derive(Deserialize)]
struct Stop {
    task_id: String,
}

#[derive(Deserialize)]
struct Wait {
    task_ids: Vec<String>,
    timeout: Option<f64>,
    mode: Option<WaitMode>,
}

#[derive(Deserialize)]
struct Send {
    task_id: String,
    message: String,
}

/// A call that went wrong, as the model is told.
struct Wrong(ToolOutcome);

impl From<ServiceError> for Wrong {
    fn from(error: ServiceError) -> Self {
        Self(ToolOutcome::error(error.to_string()))
    }
}

impl From<ToolOutcome> for Wrong {
    fn from(outcome: ToolOutcome) -> Self {
        Self(outcome)
    }
}

impl Background {
    async fn act(&self, arguments: Value, context: &ToolContext) -> Result<ToolOutcome, Wrong> {
        match self.action {
            Action::Run => self.run(schema::read(&self.spec, arguments)?, context).await,
            Action::List => Ok(ToolOutcome::ok(contract::list(&self.service.list().await?))),
            Action::View => self.view(schema::read(&self.spec, arguments)?).await,
            Action::Stop => self.stop(schema::read(&self.spec, arguments)?).await,
            Action::Wait => self.wait(schema::read(&self.spec, arguments)?, context).await,
            Action::Send => self.send(schema::read(&self.spec, arguments)?, context).await,
        }
    }

    async fn run(&self, arguments: Run, context: &ToolContext) -> Result<ToolOutcome, Wrong> {
        let Run { agent, task, expected_output } = arguments;
        if let Some(refusal) = contract::refusal(&agent, &task, &self.sub_agents) {
            return Err(ToolOutcome::error(refusal).into());
        }
        let request = RunRequest {
            agent: agent.clone(),
            task: task.clone(),
            expected_output,
            call: Some(context.call),
            key: None,
            placement: None,
        };
        let id = self.service.run(request).await?;
        Ok(ToolOutcome::ok(contract::started(id, &agent, &task)))
    }

    async fn view(&self, arguments: View) -> Result<ToolOutcome, Wrong> {
        let view = self.service.view(id(&arguments.task_id)?, arguments.since).await?;
        Ok(ToolOutcome { text: contract::view(&view), is_error: false, ended: ended(&view).collect() })
    }

    async fn stop(&self, arguments: Stop) -> Result<ToolOutcome, Wrong> {
        let id = id(&arguments.task_id)?;
        let outcome = match self.service.stop(id).await? {
            StopReply::Stopping => ToolOutcome::ok(contract::stopped(id)),
            StopReply::AlreadyEnded(status) => {
                ToolOutcome::error(ServiceError::NotRunning { id, status }.to_string())
            }
        };
        Ok(ToolOutcome { ended: vec![id], ..outcome })
    }

    async fn wait(&self, arguments: Wait, context: &ToolContext) -> Result<ToolOutcome, Wrong> {
        if arguments.task_ids.is_empty() {
            return Err(ToolOutcome::error(contract::NO_IDS).into());
        }
        let seconds = arguments.timeout.unwrap_or(WAIT_DEFAULT).clamp(0.0, WAIT_LONGEST);
        let request = WaitRequest {
            ids: arguments.task_ids,
            timeout: Some(Duration::from_secs_f64(seconds)),
            mode: arguments.mode.unwrap_or_default(),
            call: Some(context.call),
        };
        let items = self.service.wait(request).await?;
        let found = items.iter().filter_map(|item| match item {
            WaitItem::Found(view) => Some(view),
            WaitItem::NotFound(_) => None,
        });
        let ended = found.flat_map(|view| ended(view)).collect();
        Ok(ToolOutcome { text: contract::waited(&items).to_string(), is_error: false, ended })
    }

    async fn send(&self, arguments: Send, context: &ToolContext) -> Result<ToolOutcome, Wrong> {
        let id = id(&arguments.task_id)?;
        if arguments.message.trim().is_empty() {
            return Err(ToolOutcome::error(contract::NO_MESSAGE).into());
        }
        let request = SendRequest { id, message: arguments.message, call: Some(context.call) };
        self.service.send(request).await?;
        Ok(ToolOutcome::ok(contract::sent(id)))
    }
}

/// The id that a model wrote. One that is no id at all names no job.
fn id(text: &str) -> Result<JobId, ServiceError> {
    text.trim().parse().map_err(|_| ServiceError::NotFound(text.to_owned()))
}

/// The job's id, where the view shows its end.
fn ended(view: &JobView) -> impl Iterator<Item = JobId> {
    view.job.status.is_terminal().then_some(view.job.id).into_iter()
}

#[async_trait]
impl Tool for Background {
    fn spec(&self) -> &ToolSpec {
        &self.spec
    }

    async fn call(&self, arguments: Value, context: &ToolContext) -> ToolOutcome {
        self.act(arguments, context).await.unwrap_or_else(|Wrong(outcome)| outcome)
    }
}

#[cfg(test)]
mod tests;
