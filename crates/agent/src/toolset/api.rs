//! `api`: one HTTP call of the team's file as a tool.

mod address;

use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use legwork_common::team::ApiTool as Api;
use reqwest::Client;
use reqwest::Method;
use reqwest::RequestBuilder;
use reqwest::Response;
use reqwest::header::CONTENT_TYPE;
use reqwest::header::HeaderMap;
use serde_json::Map;
use serde_json::Value;

pub(super) use self::address::encoded;
use super::Kit;
use super::http;
use super::limited;
use super::schema;
use super::schema::Schema;
use crate::environment::Environment;
use crate::tool::Interrupted;
use crate::tool::Tool;
use crate::tool::ToolContext;
use crate::tool::ToolOutcome;
use crate::tool::ToolSpec;

/// How long one call may take.
const TIMEOUT: Duration = Duration::from_secs(30);
/// The most bytes of an answer that are read.
const ANSWER_BYTES: usize = 1024 * 1024;

/// The toolset: one tool.
///
/// # Errors
///
/// What is wrong with the method or a header, in words for the agent and the operator.
pub(crate) fn kit(environment: Arc<Environment>, api: &Api) -> Result<Kit, String> {
    let method = Method::from_str(&api.method.to_uppercase())
        .map_err(|_| format!("`{}` is no method of HTTP", api.method))?;
    let headers = http::headers(&environment, &api.headers)?;
    let client = http::client(TIMEOUT, &headers)?;
    let tool = HttpCall {
        spec: spec(api, &method),
        endpoint: api.endpoint.clone(),
        method,
        headers,
        client,
        environment,
    };
    Ok(Kit { tools: vec![Arc::new(tool)], ..Kit::default() })
}

fn spec(api: &Api, method: &Method) -> ToolSpec {
    let mut description = api.instruction.clone();
    if description.is_empty() {
        description = format!("Calls {} {}", method, api.endpoint);
    }
    if let Some(schema) = &api.output_schema {
        description.push_str(&format!("\n\nIt answers with JSON of this schema: {schema}"));
    }
    let schema = Schema::declared(&api.args, &api.required);
    if method.is_safe() {
        schema::reading(&api.name, &description, schema)
    } else {
        let spec = schema::writing(&api.name, &description, schema);
        // What HTTP calls idempotent may run again after a crash.
        if method.is_idempotent() { ToolSpec { interrupted: Interrupted::RunAgain, ..spec } } else { spec }
    }
}

#[derive(Debug)]
struct HttpCall {
    spec: ToolSpec,
    endpoint: String,
    method: Method,
    headers: HeaderMap,
    client: Client,
    environment: Arc<Environment>,
}

impl HttpCall {
    async fn ask(&self, arguments: &Value) -> Result<ToolOutcome, ToolOutcome> {
        let given = schema::given(&self.spec, arguments)?;
        let address = address::filled(&self.endpoint, &given, &self.environment)
            .map_err(|wrong| ToolOutcome::error(format!("Error calling {}: {wrong}", self.spec.name)))?;
        let mut request = self.client.request(self.method.clone(), address);
        if !self.method.is_safe() && self.method != Method::DELETE {
            let body: Map<String, Value> =
                given.into_iter().map(|(name, value)| (name.to_owned(), value.clone())).collect();
            request = request.header(CONTENT_TYPE, "application/json").body(Value::Object(body).to_string());
        }
        sent(&self.spec.name, request.headers(self.headers.clone())).await
    }
}

/// Sends a call of the tool `name`, and what it answers. The address may hold a key of the file's, so errors do not name
/// it.
pub(super) async fn sent(name: &str, request: RequestBuilder) -> Result<ToolOutcome, ToolOutcome> {
    let failed = |error: reqwest::Error| {
        let why = legwork_common::error::chain(&error.without_url());
        ToolOutcome::error(format!("Error calling {name}: {why}"))
    };
    answer(request.send().await.map_err(failed)?).await.map_err(failed)
}

async fn answer(response: Response) -> Result<ToolOutcome, reqwest::Error> {
    let status = response.status();
    let text = String::from_utf8_lossy(&http::head(response, ANSWER_BYTES).await?).into_owned();
    Ok(if status.is_success() {
        ToolOutcome::ok(limited(text))
    } else {
        ToolOutcome::error(limited(format!("HTTP {status}\n\n{text}")))
    })
}

#[async_trait]
impl Tool for HttpCall {
    fn spec(&self) -> &ToolSpec {
        &self.spec
    }

    async fn call(&self, arguments: Value, _context: &ToolContext) -> ToolOutcome {
        self.ask(&arguments).await.unwrap_or_else(|refused| refused)
    }
}

#[cfg(test)]
mod tests;
