//! One call of a tool: its arguments read, the service asked, the answer in the contract's words and as JSON.

use std::time::Duration;

use legwork_common::contract;
use legwork_common::duration;
use legwork_common::id::JobId;
use legwork_common::id::SessionId;
use legwork_common::service::BackgroundAgents as _;
use legwork_common::service::RunRequest;
use legwork_common::service::SendRequest;
use legwork_common::service::ServiceError;
use legwork_common::service::StopReply;
use legwork_common::service::WaitItem;
use legwork_common::service::WaitMode;
use legwork_common::service::WaitRequest;
use legwork_queue::Service;
use legwork_queue::retry_while_unavailable;
use rmcp::model::CallToolResult;
use rmcp::model::ContentBlock;
use rmcp::model::RequestMetaObject;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_json::json;
use tokio::time::Instant;

use crate::mcp::offer::Offer;
use crate::mcp::offer::name;
use crate::mcp::progress::Progress;
use crate::mcp::request;
use crate::mcp::sessions::McpSessions;
use crate::mcp::structured;

/// How long a wait lasts where the host's model does not say, in seconds.
const WAIT_DEFAULT: f64 = 300.0;
/// How long a wait lasts at most, in seconds, however often it is cut.
const WAIT_LONGEST: f64 = 3600.0;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Run {
    #[serde(default)]
    agent: String,
    #[serde(default)]
    task: String,
    expected_output: Option<String>,
    key: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct View {
    task_id: String,
    since: Option<u64>,
    wait_ms: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Stop {
    task_id: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wait {
    task_ids: Vec<String>,
    timeout: Option<f64>,
    mode: Option<WaitMode>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Send {
    task_id: String,
    message: String,
}

/// A good answer.
#[derive(Debug)]
pub struct Answer {
    /// The contract's text.
    pub text: String,
    /// What this face adds, as a text of its own.
    pub note: Option<String>,
    /// The same as JSON.
    pub structured: Value,
    /// The job that was dispatched.
    pub dispatched: Option<JobId>,
}

/// Why a call was refused, in words for the host's model.
#[derive(Debug)]
pub struct Refused(pub String);

impl From<ServiceError> for Refused {
    fn from(error: ServiceError) -> Self {
        Self(error.to_string())
    }
}

impl From<Answer> for CallToolResult {
    fn from(answer: Answer) -> Self {
        let texts = std::iter::once(answer.text).chain(answer.note);
        let mut result = Self::success(texts.map(ContentBlock::text).collect());
        result.structured_content = Some(answer.structured);
        result
    }
}

impl From<Refused> for CallToolResult {
    fn from(Refused(text): Refused) -> Self {
        Self::error(vec![ContentBlock::text(text)])
    }
}

/// The calls of one session.
#[derive(Debug)]
pub struct Calls<'sessions> {
    sessions: &'sessions McpSessions,
    offer: &'sessions Offer,
    longest: Duration,
    session: SessionId,
    service: Service,
}

impl<'sessions> Calls<'sessions> {
    /// The calls of `session`, each answered within `longest`.
    pub fn new(
        sessions: &'sessions McpSessions,
        offer: &'sessions Offer,
        longest: Duration,
        session: SessionId,
    ) -> Self {
        Self { sessions, offer, longest, session, service: sessions.service(session) }
    }

    /// Does what a tool is for. `meta` is what the request says beside its arguments.
    ///
    /// Dropping the future ends the call and leaves the jobs as they are.
    ///
    /// # Errors
    ///
    /// [`Refused`], to be told to the host's model.
    pub async fn call(
        &self,
        tool: &str,
        arguments: Value,
        meta: &RequestMetaObject,
        progress: &Progress,
    ) -> Result<Answer, Refused> {
        match tool {
            name::RUN => self.run(read(tool, arguments)?, meta).await,
            name::LIST => {
                let Nothing {} = read(tool, arguments)?;
                self.list().await
            }
            name::VIEW => self.view(read(tool, arguments)?).await,
            name::STOP => self.stop(read(tool, arguments)?).await,
            name::WAIT => self.wait(read(tool, arguments)?, progress).await,
            _ => self.send(read(tool, arguments)?).await,
        }
    }

    async fn run(&self, run: Run, meta: &RequestMetaObject) -> Result<Answer, Refused> {
        let Run { agent, task, expected_output, key } = run;
        if let Some(refusal) = contract::refusal(&agent, &task, &self.offer.agents) {
            return Err(Refused(refusal));
        }
        let key = request::key(key, meta, &[&agent, &task, expected_output.as_deref().unwrap_or_default()]);
        let request = RunRequest {
            agent: agent.clone(),
            task: task.clone(),
            expected_output,
            call: None,
            key,
            placement: None,
        };
        let id = self.sessions.dispatch(self.session, request, request::trace(meta)).await?;
        Ok(Answer {
            text: contract::started(id, &agent, &task),
            note: None,
            structured: structured::started(id, &agent, &task),
            dispatched: Some(id),
        })
    }

    async fn list(&self) -> Result<Answer, Refused> {
        let list = self.service.list().await?;
        Ok(plain(contract::list(&list), structured::list(&list)))
    }

    async fn view(&self, view: View) -> Result<Answer, Refused> {
        let id = id(&view.task_id)?;
        let patience = Duration::from_millis(view.wait_ms.unwrap_or(0)).min(self.longest);
        let seen = if patience.is_zero() {
            self.service.view(id, view.since).await?
        } else {
            let deadline = Instant::now() + patience;
            retry_while_unavailable(Some(deadline), || self.service.view_grown(id, view.since, deadline))
                .await?
        };
        Ok(plain(contract::view(&seen), structured::view(&seen)))
    }

    async fn stop(&self, stop: Stop) -> Result<Answer, Refused> {
        let id = id(&stop.task_id)?;
        match self.service.stop(id).await? {
            StopReply::Stopping => Ok(plain(contract::stopped(id), json!({"id": id, "status": "stopping"}))),
            StopReply::AlreadyEnded(status) => Err(ServiceError::NotRunning { id, status }.into()),
        }
    }

    async fn wait(&self, wait: Wait, progress: &Progress) -> Result<Answer, Refused> {
        if wait.task_ids.is_empty() {
            return Err(Refused(contract::NO_IDS.to_owned()));
        }
        let asked = Duration::from_secs_f64(wait.timeout.unwrap_or(WAIT_DEFAULT).clamp(0.0, WAIT_LONGEST));
        let mode = wait.mode.unwrap_or_default();
        let deadline = Instant::now() + asked.min(self.longest);
        let mut until = progress.first(deadline);
        let (items, over) = loop {
            let ask = || {
                // What is left of it: an outage of Redis counts too.
                let timeout = Some(until.duration_since(Instant::now()));
                self.service.wait(WaitRequest { ids: wait.task_ids.clone(), timeout, mode, call: None })
            };
            let items = retry_while_unavailable(Some(deadline), ask).await?;
            let over = mode.is_over(&items);
            if over || deadline <= Instant::now() {
                break (items, over);
            }
            progress.tell(&items, deadline).await;
            until = progress.next(deadline);
        };
        let note = (!over && asked > self.longest).then(|| cut(&items, self.longest));
        let structured = structured::waited(&items, over);
        Ok(Answer { note, ..plain(contract::waited(&items).to_string(), structured) })
    }

    async fn send(&self, send: Send) -> Result<Answer, Refused> {
        let id = id(&send.task_id)?;
        if send.message.trim().is_empty() {
            return Err(Refused(contract::NO_MESSAGE.to_owned()));
        }
        self.service.send(SendRequest { id, message: send.message, call: None }).await?;
        Ok(plain(contract::sent(id), json!({"id": id})))
    }
}

/// What a host's model is told where its wait was cut so that the host does not give up on it.
fn cut(items: &[WaitItem], longest: Duration) -> String {
    let running: Vec<String> =
        structured::still_running(items).into_iter().map(|id| format!("\"{id}\"")).collect();
    format!(
        "Not all that you wait for has ended. This call answers within {} so that no host gives up on it; the tasks \
         run on and nothing is lost. To go on waiting, call {} again with task_ids [{}].",
        duration::short(longest),
        name::WAIT,
        running.join(", "),
    )
}

fn plain(text: String, structured: Value) -> Answer {
    Answer { text, note: None, structured, dispatched: None }
}

/// The id that a model wrote. One that is no id at all names no job.
fn id(text: &str) -> Result<JobId, ServiceError> {
    text.trim().parse().map_err(|_| ServiceError::NotFound(text.to_owned()))
}

fn read<A: DeserializeOwned>(tool: &str, arguments: Value) -> Result<A, Refused> {
    serde_json::from_value(arguments)
        .map_err(|error| Refused(format!("invalid arguments for {tool}: {error}")))
}
