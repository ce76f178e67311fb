//! `mcp`: the tools of a server that speaks the Model Context Protocol.
//!
//! Every run has connections of its own. A server that is a program starts and ends with the run.

mod connection;
mod docker;
mod endpoint;
mod lifecycle;
mod request;
mod result;
mod server;
mod session;
mod sse;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use legwork_common::team::Mcp;
use legwork_common::trace::TraceParent;
use legwork_common::variables::TRACEPARENT;
use rmcp::model::CallToolRequestParams;
use rmcp::model::Tool as ServerTool;
use rmcp::model::ToolAnnotations;
use serde_json::Value;
use serde_json::json;

use self::endpoint::Endpoint;
use self::server::Server;
use super::Kit;
use super::ToolSource;
use super::schema;
use super::schema::provider_safe_name;
use crate::environment::Environment;
use crate::process::Nursery;
use crate::tool::Tool;
use crate::tool::ToolContext;
use crate::tool::ToolOutcome;
use crate::tool::ToolSpec;

/// Timeouts and restart delays of one server.
#[derive(Debug, Clone)]
pub(crate) struct Timing {
    /// The timeout of the handshake, and that of the list of tools.
    pub(crate) start_timeout: Duration,
    /// The delay before each restart of a server that stopped. Its length is the number of restarts.
    pub(crate) restart_delays: Vec<Duration>,
    /// A server that ran this long before it stopped gets all its restarts again.
    pub(crate) stable_after: Duration,
    /// The timeout of one call.
    pub(crate) call_timeout: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            // The first start may have to download the server (npx, uvx, docker).
            start_timeout: Duration::from_secs(60),
            // docker-agent's.
            restart_delays: [1, 2, 4, 8, 16].map(Duration::from_secs).to_vec(),
            // Longer than all delays together, so that a server that keeps crashing at its start is given up.
            stable_after: Duration::from_secs(60),
            // Twice the longest wait of our own server's tools: a server that takes longer has lost the call.
            call_timeout: Duration::from_secs(2 * 60 * 60),
        }
    }
}

/// Starts or connects to the server, and makes a tool of each of its tools.
///
/// # Errors
///
/// Why the server cannot be used, for the agent and the operator.
pub(crate) async fn open(
    mcp: &Mcp,
    environment: &Environment,
    nursery: &Nursery,
    timing: Timing,
) -> Result<Kit, String> {
    let endpoint = Endpoint::new(&mcp.server, environment)?;
    let (server, info) = Server::start(endpoint, nursery.clone(), timing).await?;
    let trace = environment.variables.get(TRACEPARENT).and_then(|trace| trace.parse().ok());
    let source = McpSource { prefix: mcp.name.clone(), server: Arc::new(server), trace };
    let tools = Kit::new(info.tools.into_iter().map(|offered| source.tool(offered)));
    let warnings = source.labelled(info.warnings);
    Ok(Kit { instruction: info.instructions, warnings, source: Some(Arc::new(source)), ..tools })
}

/// A server as the source of tools, which may change while it runs.
#[derive(Debug)]
struct McpSource {
    prefix: Option<String>,
    server: Arc<Server>,
    /// The trace context of the run, which is sent with each call.
    trace: Option<TraceParent>,
}

impl McpSource {
    fn tool(&self, offered: ServerTool) -> McpTool {
        let spec = spec(self.prefix.as_deref(), &offered);
        let own_name = offered.name.into_owned();
        McpTool { spec, own_name, server: Arc::clone(&self.server), trace: self.trace.clone() }
    }

    /// Warnings about the server, with its name.
    fn labelled(&self, warnings: Vec<String>) -> Vec<String> {
        let label = self.server.label();
        warnings.into_iter().map(|warning| format!("toolset mcp: {label}: {warning}")).collect()
    }
}

#[async_trait]
impl ToolSource for McpSource {
    async fn changed(&self) -> Option<(Vec<Arc<dyn Tool>>, Vec<String>)> {
        let (tools, warnings) = self.server.changed_tools().await?;
        let tools = tools.into_iter().map(|offered| Arc::new(self.tool(offered)) as Arc<dyn Tool>).collect();
        Some((tools, self.labelled(warnings)))
    }
}

/// The spec of a server's tool. Its annotations are trusted as the server gives them; absent ones count as false.
fn spec(prefix: Option<&str>, offered: &ServerTool) -> ToolSpec {
    let mut parameters = Value::Object((*offered.input_schema).clone());
    if !parameters["properties"].is_object() {
        parameters["properties"] = json!({});
    }
    parameters["type"] = json!("object");
    let hint = |pick: fn(&ToolAnnotations) -> Option<bool>| {
        offered.annotations.as_ref().and_then(pick).unwrap_or(false)
    };
    let read_only = hint(|annotations| annotations.read_only_hint);
    let is_idempotent = read_only || hint(|annotations| annotations.idempotent_hint);
    ToolSpec {
        name: tool_name(prefix, &offered.name),
        description: offered.description.clone().unwrap_or_default().into_owned(),
        parameters,
        read_only,
        interrupted: schema::interrupted(is_idempotent),
    }
}

/// `<prefix>_<name>`, in characters that every provider accepts.
fn tool_name(prefix: Option<&str>, name: &str) -> String {
    provider_safe_name(&prefix.map_or_else(|| name.to_owned(), |prefix| format!("{prefix}_{name}")))
}

#[derive(Debug)]
struct McpTool {
    spec: ToolSpec,
    /// The name on the server, without the prefix.
    own_name: String,
    server: Arc<Server>,
    /// The trace context of the run, which is sent with each call.
    trace: Option<TraceParent>,
}

#[async_trait]
impl Tool for McpTool {
    fn spec(&self) -> &ToolSpec {
        &self.spec
    }

    fn own_name(&self) -> &str {
        &self.own_name
    }

    async fn call(&self, arguments: Value, context: &ToolContext) -> ToolOutcome {
        let Value::Object(arguments) = arguments else {
            return ToolOutcome::error(format!("the arguments of {} are not a JSON object", self.spec.name));
        };
        let mut request = CallToolRequestParams::new(self.own_name.clone()).with_arguments(arguments);
        if let Some(trace) = &self.trace {
            request.meta.get_or_insert_default().0.set_traceparent(trace.to_string());
        }
        // Dropping the call notifies the server that it is cancelled.
        match context.cancel.run_until_cancelled(Box::pin(self.server.call(request))).await {
            Some(Ok(answer)) => result::outcome(&self.spec.name, answer),
            Some(Err(error)) => ToolOutcome::error(error),
            None => ToolOutcome::error("Call cancelled"),
        }
    }
}

#[cfg(test)]
mod tests;
