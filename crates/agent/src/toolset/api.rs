//! `api`: one HTTP request that the agent file describes, as a tool.

mod endpoint;

use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use legwork_common::error::chain;
use legwork_common::team::ApiTool as ApiConfig;
use reqwest::Method;
use reqwest::RequestBuilder;
use reqwest::Response;
use reqwest::header::HeaderMap;
use serde_json::Map;
use serde_json::Value;

pub(super) use self::endpoint::percent_encoded;
use super::Kit;
use super::http;
use super::http::HttpClient;
use super::limited;
use super::schema;
use super::schema::Schema;
use crate::environment::Environment;
use crate::tool::Tool;
use crate::tool::ToolContext;
use crate::tool::ToolOutcome;
use crate::tool::ToolSpec;

/// The timeout of one call. Longer requests would hold up the agent's turn without a sign of activity.
const TIMEOUT: Duration = Duration::from_secs(30);
/// The most bytes of a response that are read. A model receives far less of it; the rest is not worth the memory.
const MAX_RESPONSE_BYTES: usize = 1024 * 1024;

/// The toolset: one tool.
///
/// # Errors
///
/// What is wrong with the method or a header, for the agent and the operator.
pub(crate) fn open(environment: Arc<Environment>, api: &ApiConfig) -> Result<Kit, String> {
    let method = Method::from_str(&api.method.to_uppercase())
        .map_err(|_| format!("`{}` is not a valid HTTP method", api.method))?;
    let headers = http::headers(&environment, &api.headers)?;
    let client = HttpClient::new(&environment, TIMEOUT, &headers)?;
    let tool = ApiTool {
        spec: spec(api, &method),
        endpoint: api.endpoint.clone(),
        method,
        headers,
        client,
        environment,
    };
    Ok(Kit::new([tool]).with_instruction(&api.instruction))
}

fn spec(api: &ApiConfig, method: &Method) -> ToolSpec {
    let mut description = api.instruction.clone();
    if description.is_empty() {
        description = format!("Calls {} {}", method, api.endpoint);
    }
    if let Some(schema) = &api.output_schema {
        description.push_str(&format!("\n\nThe response is JSON of this schema: {schema}"));
    }
    let schema = Schema::declared(&api.args, &api.required);
    if method.is_safe() {
        schema::read_only(&api.name, &description, schema)
    } else if method.is_idempotent() {
        schema::idempotent(&api.name, &description, schema)
    } else {
        schema::writing(&api.name, &description, schema)
    }
}

#[derive(Debug)]
struct ApiTool {
    spec: ToolSpec,
    /// With its placeholders, which each call fills.
    endpoint: String,
    method: Method,
    headers: HeaderMap,
    client: HttpClient,
    environment: Arc<Environment>,
}

impl ApiTool {
    /// Sends the request. The arguments fill the endpoint; methods with a body send them as JSON too.
    async fn run(&self, arguments: &Value) -> Result<ToolOutcome, ToolOutcome> {
        let arguments = schema::checked(&self.spec, arguments)?;
        let mut request = endpoint::filled(&self.endpoint, &arguments, &self.environment)
            .and_then(|url| self.client.request(self.method.clone(), url))
            .map_err(|reason| ToolOutcome::error(format!("Error calling {}: {reason}", self.spec.name)))?;
        if !self.method.is_safe() && self.method != Method::DELETE {
            let body: Map<String, Value> =
                arguments.into_iter().map(|(name, value)| (name.to_owned(), value.clone())).collect();
            request = request.json(&body);
        }
        send(&self.spec.name, request.headers(self.headers.clone())).await
    }
}

/// Sends a request on behalf of `tool`. Errors leave out the URL, which may contain a key from the agent file.
pub(super) async fn send(tool: &str, request: RequestBuilder) -> Result<ToolOutcome, ToolOutcome> {
    let failed = |error: reqwest::Error| {
        let reason = chain(&error.without_url());
        ToolOutcome::error(format!("Error calling {tool}: {reason}"))
    };
    outcome(request.send().await.map_err(failed)?).await.map_err(failed)
}

/// The body as the result. A status other than 2xx is an error that names it.
async fn outcome(response: Response) -> Result<ToolOutcome, reqwest::Error> {
    let status = response.status();
    let text = String::from_utf8_lossy(&http::head(response, MAX_RESPONSE_BYTES).await?).into_owned();
    Ok(if status.is_success() {
        ToolOutcome::ok(limited(text))
    } else {
        ToolOutcome::error(limited(format!("HTTP {status}\n\n{text}")))
    })
}

#[async_trait]
impl Tool for ApiTool {
    fn spec(&self) -> &ToolSpec {
        &self.spec
    }

    async fn call(&self, arguments: Value, _context: &ToolContext) -> ToolOutcome {
        self.run(&arguments).await.unwrap_or_else(|error| error)
    }
}

#[cfg(test)]
mod tests;
