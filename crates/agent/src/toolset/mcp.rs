//! `mcp`: the tools of a server that speaks the Model Context Protocol.
//!
//! Every run has servers of its own: a program that is one is started with the run and ends with it.

mod connection;
mod docker;
mod server;
mod source;
mod sse;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use legwork_common::team::Mcp;
use legwork_common::trace::TraceParent;
use legwork_common::variables::TRACEPARENT;
use rmcp::model::CallToolRequestParams;
use rmcp::model::CallToolResponse;
use rmcp::model::CallToolResult;
use rmcp::model::ContentBlock;
use rmcp::model::ResourceContents;
use rmcp::model::Tool as Offered;
use serde_json::Value;
use serde_json::json;

use self::server::Server;
use self::source::Source;
use super::Kit;
use super::limited;
use super::schema::fitted;
use crate::environment::Environment;
use crate::process::Nursery;
use crate::tool::Interrupted;
use crate::tool::Tool;
use crate::tool::ToolContext;
use crate::tool::ToolOutcome;
use crate::tool::ToolSpec;

/// A part of an answer that nobody here knows.
const OTHER_PART: &str = "[a part of the answer, which cannot be shown here]";

/// How long is waited for a server, and how often.
#[derive(Debug, Clone)]
pub(crate) struct Timing {
    /// From its start to the list of its tools.
    pub(crate) start: Duration,
    /// Before each new start of a server that ended by itself.
    pub(crate) backoff: Vec<Duration>,
    /// A server that lived so long has all its new starts again.
    pub(crate) stable: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            // The first start of a server may have to fetch it.
            start: Duration::from_secs(60),
            backoff: [1, 2, 4, 8, 16].map(Duration::from_secs).to_vec(),
            stable: Duration::from_secs(60),
        }
    }
}

/// The toolset: starts or reaches the server, and asks what it offers.
///
/// # Errors
///
/// Why the server cannot be had, in words for the agent and the operator.
pub(crate) async fn kit(
    mcp: &Mcp,
    environment: &Environment,
    nursery: &Nursery,
    timing: Timing,
) -> Result<Kit, String> {
    let source = Source::new(&mcp.server, environment)?;
    let (server, offer) = Server::start(source, nursery.clone(), timing).await?;
    let server = Arc::new(server);
    let trace: Option<TraceParent> =
        environment.variables.get(TRACEPARENT).and_then(|trace| trace.parse().ok());
    let tool = |offered: Offered| {
        let spec = spec(mcp.name.as_deref(), &offered);
        let own_name = offered.name.into_owned();
        let trace = trace.clone();
        Arc::new(McpTool { spec, own_name, server: Arc::clone(&server), trace }) as Arc<dyn Tool>
    };
    Ok(Kit {
        tools: offer.tools.into_iter().map(tool).collect(),
        instruction: offer.instructions,
        ..Kit::default()
    })
}

/// What a model is told of a tool that a server offers.
fn spec(prefix: Option<&str>, offered: &Offered) -> ToolSpec {
    let mut parameters = Value::Object((*offered.input_schema).clone());
    if !parameters["properties"].is_object() {
        parameters["properties"] = json!({});
    }
    parameters["type"] = json!("object");
    let hint = |pick: fn(&rmcp::model::ToolAnnotations) -> Option<bool>| {
        offered.annotations.as_ref().and_then(pick).unwrap_or(false)
    };
    let read_only = hint(|annotations| annotations.read_only_hint);
    let again = read_only || hint(|annotations| annotations.idempotent_hint);
    ToolSpec {
        name: named(prefix, &offered.name),
        description: offered.description.clone().unwrap_or_default().into_owned(),
        parameters,
        read_only,
        interrupted: if again { Interrupted::RunAgain } else { Interrupted::Report },
    }
}

/// `<prefix>_<name>` in letters that every provider takes.
fn named(prefix: Option<&str>, name: &str) -> String {
    fitted(&prefix.map_or_else(|| name.to_owned(), |prefix| format!("{prefix}_{name}")))
}

#[derive(Debug)]
struct McpTool {
    spec: ToolSpec,
    /// What the server calls it.
    own_name: String,
    server: Arc<Server>,
    /// The trace that its calls belong to.
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
        // A call that is dropped tells the server so.
        match context.cancel.run_until_cancelled(self.server.call(request)).await {
            Some(Ok(CallToolResponse::Complete(result))) => outcome(result),
            Some(Ok(_)) => ToolOutcome::error(format!(
                "{} asks for more than an answer can wait for: input from a person, or to come back later",
                self.spec.name
            )),
            Some(Err(error)) => ToolOutcome::error(error),
            None => ToolOutcome::error("Call cancelled"),
        }
    }
}

/// What the model is told.
fn outcome(result: CallToolResult) -> ToolOutcome {
    let mut text: String = result.content.iter().map(text_of).collect();
    if text.is_empty()
        && let Some(structured) = &result.structured_content
    {
        text = structured.to_string();
    }
    if text.is_empty() {
        text = "no output".to_owned();
    }
    let text = limited(text);
    if result.is_error.unwrap_or(false) { ToolOutcome::error(text) } else { ToolOutcome::ok(text) }
}

/// A part of an answer; of what is no text, what it is.
fn text_of(part: &ContentBlock) -> String {
    match part {
        ContentBlock::Text(part) => part.text.clone(),
        ContentBlock::Image(part) => format!("[an image ({}), which cannot be shown here]", part.mime_type),
        ContentBlock::Audio(part) => format!("[a sound ({}), which cannot be played here]", part.mime_type),
        ContentBlock::Resource(part) => match &part.resource {
            ResourceContents::TextResourceContents { text, .. } => text.clone(),
            ResourceContents::BlobResourceContents { uri, .. } => {
                format!("[a resource, which cannot be shown here: {uri}]")
            }
            _ => OTHER_PART.to_owned(),
        },
        ContentBlock::ResourceLink(link) => format!("[a resource: {}]", link.uri),
        _ => OTHER_PART.to_owned(),
    }
}

#[cfg(test)]
mod tests;
