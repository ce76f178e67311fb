//! The protocol's requests, each given to what answers it.
//!
//! A request that is cancelled, or whose stream ends, ends alone: the jobs do not notice. A dispatch is not cut off
//! once it has begun.

use std::sync::Arc;
use std::time::Duration;

use axum::http::request::Parts;
use legwork_common::id::JobId;
use legwork_common::id::SessionId;
use legwork_common::service::BackgroundAgents as _;
use legwork_common::service::JobView;
use legwork_common::service::ServiceError;
use legwork_queue::port::Connections as _;
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
use crate::mcp::offer::name;
use crate::mcp::progress::Progress;
use crate::mcp::request;
use crate::mcp::sessions::McpSessions;
use crate::mcp::tasks;

/// The header in which a client of an older protocol names its connection.
const SESSION_HEADER: &str = "mcp-session-id";

/// Which session a request belongs to.
#[derive(Debug, Clone, Copy)]
pub enum Scope {
    /// This one, whatever connection it comes by.
    Named(SessionId),
    /// That of its connection; this one where the protocol knows no connections.
    OfConnection(SessionId),
}

/// The server. Cheap to clone; all clones are one.
#[derive(Debug, Clone)]
pub struct Server {
    /// The sessions.
    pub sessions: Arc<McpSessions>,
    /// What hosts are told.
    pub offer: Arc<Offer>,
    /// How long a call may take at most.
    pub longest: Duration,
    /// Which session a request belongs to.
    pub scope: Scope,
}

impl Server {
    /// The session of a request. A connection's name is a random UUID, and the session has the same, so that any
    /// replica finds it.
    fn session(&self, context: &RequestContext<RoleServer>) -> SessionId {
        match self.scope {
            Scope::Named(session) => session,
            Scope::OfConnection(own) => connection(context).unwrap_or(own),
        }
    }

    /// Keeps the connection of a host that is at work. What cannot be kept now is kept by the next call.
    async fn keep_connection(&self, context: &RequestContext<RoleServer>) {
        let Some(name) = connection(context) else { return };
        if let Err(error) = self.sessions.observer.queue().connection(name, self.retention()).await {
            tracing::debug!(%error, "could not keep a host's connection");
        }
    }

    /// One tool call, to its answer.
    async fn answer(
        &self,
        params: CallToolRequestParams,
        context: &RequestContext<RoleServer>,
    ) -> (CallToolResult, Option<JobId>) {
        let calls = Calls::new(&self.sessions, &self.offer, self.longest, self.session(context));
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

    /// The job that a task of the protocol is, if the caller may see it.
    async fn task(&self, id: &str, context: &RequestContext<RoleServer>) -> Result<JobView, ErrorData> {
        let unknown = || ErrorData::invalid_params(format!("task not found: {id}"), None);
        let job: JobId = id.parse().map_err(|_| unknown())?;
        let service = self.sessions.service(self.session(context));
        service.view(job, None).await.map_err(|error| match error {
            ServiceError::NotFound(_) => unknown(),
            other => ErrorData::internal_error(other.to_string(), None),
        })
    }

    fn retention(&self) -> Duration {
        self.sessions.observer.queue().settings().retention
    }
}

/// The name of a request's connection, where its protocol knows connections.
fn connection(context: &RequestContext<RoleServer>) -> Option<SessionId> {
    let parts = context.extensions.get::<Parts>()?;
    parts.headers.get(SESSION_HEADER)?.to_str().ok()?.parse().ok()
}

/// An argument that is null is one that is not there.
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
        let dispatches = params.name == name::RUN;
        // DetachedWorker the call: a host does not wait for it.
        let answer = async { tokio::join!(self.answer(params, &context), self.keep_connection(&context)).0 };
        if !dispatches {
            let answer = context.ct.run_until_cancelled(answer).await;
            let cancelled = || CallToolResult::error(vec![ContentBlock::text("the request was cancelled")]);
            return Ok(answer.map_or_else(cancelled, |(result, _)| result).into());
        }
        let (result, dispatched) = answer.await;
        let as_task = request::takes_tasks(&context.meta);
        let Some(id) = dispatched.filter(|_| as_task) else { return Ok(result.into()) };
        Ok(match self.task(&id.to_string(), &context).await {
            Ok(view) => {
                CallToolResponse::Task(CreateTaskResult::new(tasks::created(&view, self.retention())))
            }
            // It is dispatched all the same, and this says so: an error would be taken for one that is not.
            Err(error) => {
                tracing::warn!(%error, %id, "a job could not be shown as a task");
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

    /// No job asks its host anything, so there is no answer to take; the task must exist all the same.
    async fn update_task(
        &self,
        params: UpdateTaskParams,
        context: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        self.task(&params.task_id, &context).await.map(drop)
    }

    /// Stops the job and the tree below it. The wish is durable when this answers; one that had ended stays as it is.
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
