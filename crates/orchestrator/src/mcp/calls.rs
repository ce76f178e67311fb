//! One tool call: parses the arguments, calls the service, and answers with the contract's text and the same as JSON.

use std::sync::PoisonError;
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
use legwork_common::service::WaitDetail;
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
use crate::mcp::progress::Progress;
use crate::mcp::request;
use crate::mcp::sessions::McpSessions;
use crate::mcp::structured;
use crate::mcp::tool_name;

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
struct NoArguments {}

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
    #[serde(default)]
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

/// The answer of a call that succeeded.
#[derive(Debug)]
pub struct Answer {
    /// The contract's text.
    pub text: String,
    /// A second text that only hosts of the protocol get: why a wait returned early.
    pub note: Option<String>,
    /// The answer as JSON, valid by the tool's output schema.
    pub structured: Value,
    /// The job that the call dispatched.
    pub dispatched: Option<JobId>,
    /// Whether the host gets it as an error result.
    pub is_error: bool,
}

/// Why a call was refused: a text for the host's model.
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
        let texts = texts.map(ContentBlock::text).collect();
        let mut result = if answer.is_error { Self::error(texts) } else { Self::success(texts) };
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
    answer_within: Duration,
    session: SessionId,
    service: Service,
}

impl<'sessions> Calls<'sessions> {
    /// The calls of `session`, each answered within `answer_within`.
    pub fn new(
        sessions: &'sessions McpSessions,
        offer: &'sessions Offer,
        answer_within: Duration,
        session: SessionId,
    ) -> Self {
        Self { sessions, offer, answer_within, session, service: sessions.service(session) }
    }

    /// Calls one tool. `meta` is the request's `_meta`.
    ///
    /// Dropping the future cancels the call, not the jobs. A dispatch or a stop that has begun may or may not happen.
    ///
    /// # Errors
    ///
    /// [`Refused`], which the host's model gets as an error result.
    pub async fn call(
        &self,
        tool: &str,
        arguments: Value,
        meta: &RequestMetaObject,
        progress: &Progress,
    ) -> Result<Answer, Refused> {
        match tool {
            tool_name::RUN => self.run(read(tool, arguments)?, meta).await,
            tool_name::LIST => {
                let NoArguments {} = read(tool, arguments)?;
                self.list().await
            }
            tool_name::VIEW => self.view(read(tool, arguments)?).await,
            tool_name::STOP => self.stop(read(tool, arguments)?).await,
            tool_name::WAIT => self.wait(read(tool, arguments)?, progress).await,
            _ => self.send(read(tool, arguments)?).await,
        }
    }

    async fn run(&self, run: Run, meta: &RequestMetaObject) -> Result<Answer, Refused> {
        let Run { agent, task, expected_output, key } = run;
        if let Some(refusal) = contract::refusal(&agent, &task, &self.offer.agents) {
            return Err(Refused(refusal));
        }
        if let Some(refusal) = self.sessions.unpriced.get(&agent) {
            return Err(Refused(refusal.clone()));
        }
        let key = request::idempotency_key(
            key,
            meta,
            &[&agent, &task, expected_output.as_deref().unwrap_or_default()],
        );
        let request = RunRequest {
            safety: None,
            agent: agent.clone(),
            task: task.clone(),
            expected_output,
            call: None,
            key,
            job_options: None,
        };
        let id = self.sessions.dispatch(self.session, request, request::trace(meta)).await?;
        Ok(Answer {
            text: contract::started(id, &agent, &task),
            note: None,
            structured: structured::started(id, &agent, &task),
            dispatched: Some(id),
            is_error: false,
        })
    }

    async fn list(&self) -> Result<Answer, Refused> {
        let list = self.service.list().await?;
        Ok(plain(contract::list(&list), structured::list(&list)))
    }

    async fn view(&self, view: View) -> Result<Answer, Refused> {
        let id = id(&view.task_id)?;
        let timeout = Duration::from_millis(view.wait_ms.unwrap_or(0)).min(self.answer_within);
        let seen = if timeout.is_zero() {
            self.service.view(id, view.since).await?
        } else {
            let deadline = Instant::now() + timeout;
            retry_while_unavailable(Some(deadline), || self.service.view_grown(id, view.since, deadline))
                .await?
        };
        let polls = self.sessions.polls.lock().unwrap_or_else(PoisonError::into_inner).count(&seen);
        Ok(plain(contract::view(&seen, polls), structured::view(&seen)))
    }

    async fn stop(&self, stop: Stop) -> Result<Answer, Refused> {
        let id = id(&stop.task_id)?;
        match self.service.stop(id).await? {
            // The stop is durable, and the job can end in no other way.
            StopReply::Stopping => Ok(plain(contract::stopped(id), json!({"id": id, "status": "stopped"}))),
            StopReply::AlreadyEnded(status) => Err(ServiceError::NotRunning { id, status }.into()),
        }
    }

    async fn wait(&self, wait: Wait, progress: &Progress) -> Result<Answer, Refused> {
        let asked = contract::wait_timeout(&wait.task_ids, wait.timeout).map_err(Refused)?;
        let mode = wait.mode.unwrap_or_default();
        let deadline = Instant::now() + asked.min(self.answer_within);
        let mut until = progress.first(deadline);
        let (items, over) = loop {
            let ask = || {
                // Computed anew for each retry: time that Redis is away counts against the timeout.
                let timeout = Some(until.duration_since(Instant::now()));
                let ids = wait.task_ids.clone();
                self.service.wait(WaitRequest { ids, timeout, mode, call: None, detail: WaitDetail::Excerpt })
            };
            let items = retry_while_unavailable(Some(deadline), ask).await?;
            let over = mode.is_over(&items);
            if over || deadline <= Instant::now() {
                break (items, over);
            }
            progress.notify(&items, deadline).await;
            until = progress.next(deadline);
        };
        // A wait that returns early for its host's sake was not ended by its own timeout.
        let is_early = asked > self.answer_within;
        let note = (!over).then(|| how_to_continue(&items, asked.min(self.answer_within), is_early));
        let answer = contract::WaitAnswer::new(&items, !over && !is_early);
        let structured = structured::waited(&answer, &items, note.as_deref());
        Ok(Answer { note, is_error: answer.is_error(), ..plain(answer.text(), structured) })
    }

    async fn send(&self, send: Send) -> Result<Answer, Refused> {
        let id = id(&send.task_id)?;
        if let Some(refusal) = contract::message_refusal(&send.message) {
            return Err(Refused(refusal));
        }
        self.service.send(SendRequest { id, message: send.message, call: None }).await?;
        Ok(plain(contract::sent(id), json!({"id": id})))
    }
}

/// Tells the model in one sentence how to continue a wait that was not over after `waited`: because of its own timeout, or
/// early, before the host's.
fn how_to_continue(items: &[WaitItem], waited: Duration, is_early: bool) -> String {
    let running: Vec<String> =
        structured::still_running(items).into_iter().map(|id| format!("\"{id}\"")).collect();
    let why = if is_early {
        "one call waits no longer, so that the host does not time out"
    } else {
        "your timeout"
    };
    format!(
        "Not all of these tasks have ended after {} ({why}); they keep running and nothing is lost: to keep waiting, call \
         {} again with task_ids [{}].",
        duration::short(waited),
        tool_name::WAIT,
        running.join(", "),
    )
}

fn plain(text: String, structured: Value) -> Answer {
    Answer { text, note: None, structured, dispatched: None, is_error: false }
}

/// Parses a task id. Text that is not an id is reported like an unknown id, as the contract has it.
fn id(text: &str) -> Result<JobId, ServiceError> {
    text.trim().parse().map_err(|_| ServiceError::NotFound(text.to_owned()))
}

/// Parses the arguments of a tool; unknown ones are refused, so that a model learns of a misspelled one. A call without
/// arguments has an empty object.
fn read<A: DeserializeOwned>(tool: &str, arguments: Value) -> Result<A, Refused> {
    let arguments = if arguments.is_null() { json!({}) } else { arguments };
    serde_json::from_value(arguments)
        .map_err(|error| Refused(format!("invalid arguments for {tool}: {error}")))
}
