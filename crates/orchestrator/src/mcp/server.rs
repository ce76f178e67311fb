//! The protocol's requests, each passed to the part that answers it.
//!
//! A request that is cancelled, or whose stream ends, does not affect the jobs. A dispatch is not cancelled once it has
//! begun, because a job could be stored for which no worker was started.

use std::sync::Arc;
use std::time::Duration;

use axum::http::request::Parts;
use legwork_common::id::JobId;
use legwork_common::id::SessionId;
use legwork_common::service::BackgroundAgents as _;
use legwork_common::service::JobView;
use legwork_common::service::ServiceError;
use legwork_queue::Connections as _;
use rmcp::ErrorData;
use rmcp::RoleServer;
use rmcp::ServerHandler;
use rmcp::model::CallToolRequestParams;
use rmcp::model::CallToolResponse;
use rmcp::model::CallToolResult;
use rmcp::model::CancelTaskParams;
use rmcp::model::ContentBlock;
use rmcp::model::CreateTaskResult;
use rmcp::model::GetTaskParams;
use rmcp::model::GetTaskResult;
use rmcp::model::Implementation;
use rmcp::model::JsonObject;
use rmcp::model::ListToolsResult;
use rmcp::model::PaginatedRequestParams;
use rmcp::model::ServerCapabilities;
use rmcp::model::ServerConfig;
use rmcp::model::Tool;
use rmcp::model::UpdateTaskParams;
use rmcp::service::RequestContext;
use serde_json::Value;

use crate::mcp::calls::Calls;
use crate::mcp::offer::Offer;
use crate::mcp::progress::Progress;
use crate::mcp::request;
use crate::mcp::sessions::McpSessions;
use crate::mcp::tasks;
use crate::mcp::tool_name;

/// The header with the connection id, in protocol versions that have connections.
const SESSION_HEADER: &str = "mcp-session-id";

/// Which session a request belongs to.
#[derive(Debug, Clone, Copy)]
pub enum Scope {
    /// Always this one (`--session`).
    Named(SessionId),
    /// The session of its connection; this one for standard streams and for protocol versions without connections.
    OfConnection(SessionId),
}

impl Scope {
    /// The session that belongs to this server, and not to one connection.
    pub fn own(self) -> SessionId {
        match self {
            Self::Named(own) | Self::OfConnection(own) => own,
        }
    }
}

/// The server. Cheap to clone; all clones share the sessions.
#[derive(Debug, Clone)]
pub struct Server {
    /// The sessions, and the team that they dispatch.
    pub sessions: Arc<McpSessions>,
    /// The agents, tools and instructions that hosts see.
    pub offer: Arc<Offer>,
    /// The longest that a call may block before it answers.
    pub answer_within: Duration,
    /// How the session of a request is found.
    pub scope: Scope,
}

impl Server {
    /// The session of a request. A connection's id is a random UUID that serves as the session's id too, so any replica
    /// finds the session without a lookup.
    fn session(&self, context: &RequestContext<RoleServer>) -> SessionId {
        match self.scope {
            Scope::Named(session) => session,
            Scope::OfConnection(own) => connection(context).unwrap_or(own),
        }
    }

    /// Extends the stored connection of an active host, by reading it. On failure the next call extends it.
    async fn extend_connection(&self, context: &RequestContext<RoleServer>) {
        let Some(name) = connection(context) else { return };
        if let Err(error) = self.sessions.operator.queue().connection(name, self.retention()).await {
            tracing::debug!(%error, "could not extend a host's connection");
        }
    }

    /// Answers one tool call; with the job that it dispatched, if any.
    async fn answer(
        &self,
        params: CallToolRequestParams,
        context: &RequestContext<RoleServer>,
    ) -> (CallToolResult, Option<JobId>) {
        let calls = Calls::new(&self.sessions, &self.offer, self.answer_within, self.session(context));
        let arguments = params.arguments.map(without_nulls).unwrap_or_default();
        let progress = Progress::of(context);
        let call = calls.call(&params.name, arguments, &context.meta, &progress);
        match call.await {
            Ok(answer) => {
                let dispatched = answer.dispatched;
                (answer.into(), dispatched)
            }
            Err(refused) => (refused.into(), None),
        }
    }

    /// The job behind a task of the protocol. A job of another session is reported like an unknown one.
    async fn task(&self, id: &str, context: &RequestContext<RoleServer>) -> Result<JobView, ErrorData> {
        let unknown = || ErrorData::invalid_params(format!("task not found: {id}"), None);
        let job: JobId = id.parse().map_err(|_| unknown())?;
        let service = self.sessions.service(self.session(context));
        service.view(job, None).await.map_err(|error| match error {
            ServiceError::NotFound(_) => unknown(),
            other => ErrorData::internal_error(other.to_string(), None),
        })
    }

    /// Stops a job whose request was cancelled before it was answered.
    async fn take_back(&self, id: JobId, context: &RequestContext<RoleServer>) {
        if let Err(error) = self.sessions.service(self.session(context)).stop(id).await {
            tracing::warn!(%error, %id, "could not stop the job of a cancelled request");
        }
    }

    fn retention(&self) -> Duration {
        self.sessions.operator.queue().settings().retention
    }
}

/// The id of a request's connection; `None` for standard streams and for protocol versions without connections.
fn connection(context: &RequestContext<RoleServer>) -> Option<SessionId> {
    let parts = context.extensions.get::<Parts>()?;
    parts.headers.get(SESSION_HEADER)?.to_str().ok()?.parse().ok()
}

/// Drops null arguments: some models write null for a parameter that they mean to leave out.
fn without_nulls(arguments: JsonObject) -> Value {
    arguments.into_iter().filter(|(_, value)| !value.is_null()).collect()
}

impl ServerHandler for Server {
    fn get_info(&self) -> ServerConfig {
        let capabilities = ServerCapabilities::builder().enable_tools().enable_tasks().build();
        let mut info = ServerConfig::new(capabilities);
        info.server_info = Implementation::new("legwork", env!("CARGO_PKG_VERSION"));
        info.instructions = Some(self.offer.instructions.clone());
        info
    }

    fn get_tool(&self, name: &str) -> Option<Tool> {
        self.offer.tools.iter().find(|tool| tool.name == name).cloned()
    }

    async fn list_tools(
        &self,
        _page: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        Ok(ListToolsResult::with_all_items(self.offer.tools.clone()))
    }

    async fn call_tool(
        &self,
        params: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        if self.get_tool(&params.name).is_none() {
            return Err(ErrorData::invalid_params(format!("unknown tool: {}", params.name), None));
        }
        let dispatches = params.name == tool_name::RUN;
        let has_key = params.arguments.as_ref().is_some_and(|arguments| arguments.contains_key("key"));
        // Concurrently, so that the host does not wait for another round trip.
        let answer =
            async { tokio::join!(self.answer(params, &context), self.extend_connection(&context)).0 };
        if !dispatches {
            let answer = context.ct.run_until_cancelled(answer).await;
            let cancelled = || CallToolResult::error(vec![ContentBlock::text("the request was cancelled")]);
            return Ok(answer.map_or_else(cancelled, |(result, _)| result).into());
        }
        let (result, dispatched) = answer.await;
        // The host gave the request up, so its model never learns of the job. One with a key can be asked for again.
        if let Some(id) = dispatched.filter(|_| context.ct.is_cancelled() && !has_key) {
            self.take_back(id, &context).await;
        }
        let as_task = request::takes_tasks(&context.meta);
        let Some(id) = dispatched.filter(|_| as_task) else { return Ok(result.into()) };
        Ok(match self.task(&id.to_string(), &context).await {
            Ok(view) => {
                CallToolResponse::Task(CreateTaskResult::new(tasks::created(&view, self.retention())))
            }
            // The job is dispatched, so answer with its id: a host would take an error for a dispatch that failed.
            Err(error) => {
                tracing::warn!(%error, %id, "could not read a dispatched job; answered without a task");
                result.into()
            }
        })
    }

    async fn get_task(
        &self,
        params: GetTaskParams,
        context: RequestContext<RoleServer>,
    ) -> Result<GetTaskResult, ErrorData> {
        let view = self.task(&params.task_id, &context).await?;
        Ok(GetTaskResult::new(tasks::task(&view, self.retention())))
    }

    /// Jobs never ask their host for input, so there is nothing to update; an unknown task is still an error.
    async fn update_task(
        &self,
        params: UpdateTaskParams,
        context: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        self.task(&params.task_id, &context).await.map(drop)
    }

    /// Stops the job and all below it. The stop is durable when this answers; a job that has ended stays as it is.
    async fn cancel_task(
        &self,
        params: CancelTaskParams,
        context: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        let view = self.task(&params.task_id, &context).await?;
        let service = self.sessions.service(self.session(&context));
        let stopped = service.stop(view.job.id).await;
        stopped.map(drop).map_err(|error| ErrorData::internal_error(error.to_string(), None))
    }
}
