//! `openapi`: the operations of an OpenAPI 3 description, each as a tool.

mod description;
mod request;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use legwork_common::error::chain;
use legwork_common::team::TextMap;
use legwork_common::team::yaml_value;
use reqwest::Client;
use reqwest::StatusCode;
use reqwest::Url;
use reqwest::header::CONTENT_TYPE;
use reqwest::header::HeaderMap;
use serde_json::Value;

use self::description::Operation;
use super::Kit;
use super::api;
use super::http;
use super::schema;
use crate::environment::Environment;
use crate::tool::Interrupted;
use crate::tool::Tool;
use crate::tool::ToolContext;
use crate::tool::ToolOutcome;
use crate::tool::ToolSpec;

/// How long reading the description may take, and each call.
const TIMEOUT: Duration = Duration::from_secs(30);
/// The most bytes of a description.
const DESCRIPTION_BYTES: usize = 8 * 1024 * 1024;
/// The most operations that are told of as unusable, each by itself.
const COMPLAINTS: usize = 10;

/// The toolset: reads the description.
///
/// # Errors
///
/// Why there is none, in words for the agent and the operator. They do not name its address, which may hold a key.
pub(crate) async fn kit(environment: &Environment, url: &str, headers: &TextMap) -> Result<Kit, String> {
    let headers = http::headers(environment, headers)?;
    let address = http::address(&environment.expanded(url))?;
    let client = http::client(TIMEOUT, &headers)?;
    let text = read(&client, &address, &headers).await?;
    let document = parsed(&text)?;
    let (operations, mut warnings) = description::operations(&document, &address)?;
    if warnings.len() > COMPLAINTS {
        let more = warnings.len() - COMPLAINTS;
        warnings.truncate(COMPLAINTS);
        warnings.push(format!("{more} more operations left out"));
    }
    let warnings = warnings.iter().map(|warning| format!("toolset openapi: {warning}")).collect();
    let tool = |operation: Operation| {
        let (client, headers) = (client.clone(), headers.clone());
        Arc::new(Call { spec: spec(&operation), operation, client, headers }) as Arc<dyn Tool>
    };
    Ok(Kit { tools: operations.into_iter().map(tool).collect(), warnings, ..Kit::default() })
}

/// The description's text. The headers are the API's, which may be elsewhere: they are sent only where it is refused
/// without them.
async fn read(client: &Client, address: &Url, headers: &HeaderMap) -> Result<String, String> {
    let failed =
        |error: reqwest::Error| format!("the description cannot be read: {}", chain(&error.without_url()));
    let get = || client.get(address.clone());
    let mut response = get().send().await.map_err(failed)?;
    if matches!(response.status(), StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) && !headers.is_empty() {
        response = get().headers(headers.clone()).send().await.map_err(failed)?;
    }
    if !response.status().is_success() {
        return Err(format!("the description cannot be read: HTTP {}", response.status()));
    }
    let bytes = http::head(response, DESCRIPTION_BYTES + 1).await.map_err(failed)?;
    if bytes.len() > DESCRIPTION_BYTES {
        return Err("the description is over 8 MiB".to_owned());
    }
    String::from_utf8(bytes).map_err(|_| "the description is no text".to_owned())
}

fn parsed(text: &str) -> Result<Value, String> {
    let wrong = |why: String| format!("the description is neither JSON nor YAML: {why}");
    if text.trim_start().starts_with('{') {
        return serde_json::from_str(text).map_err(|error| wrong(error.to_string()));
    }
    yaml_value(text).map_err(wrong)
}

fn spec(operation: &Operation) -> ToolSpec {
    let method = &operation.method;
    // What HTTP calls idempotent may run again after a crash.
    let again = method.is_idempotent();
    ToolSpec {
        name: operation.name.clone(),
        description: operation.about.clone(),
        parameters: operation.schema.clone(),
        read_only: matches!(method.as_str(), "GET" | "HEAD"),
        interrupted: if again { Interrupted::RunAgain } else { Interrupted::Report },
    }
}

#[derive(Debug)]
struct Call {
    spec: ToolSpec,
    operation: Operation,
    client: Client,
    headers: HeaderMap,
}

impl Call {
    async fn ask(&self, arguments: &Value) -> Result<ToolOutcome, ToolOutcome> {
        let name = &self.spec.name;
        let given = schema::given(&self.spec, arguments)?;
        let wrong = |why: String| ToolOutcome::error(format!("invalid arguments for {name}: {why}"));
        let address = request::address(&self.operation, &given).map_err(wrong)?;
        let mut headers = request::headers(&self.operation, &given).map_err(wrong)?;
        // What the file says wins.
        headers.extend(self.headers.clone());
        let mut request = self.client.request(self.operation.method.clone(), address);
        let body = self.operation.body.as_ref().and_then(|body| arguments.get(body));
        if let Some(body) = body {
            request = request.header(CONTENT_TYPE, "application/json").body(body.to_string());
        }
        api::sent(name, request.headers(headers)).await
    }
}

#[async_trait]
impl Tool for Call {
    fn spec(&self) -> &ToolSpec {
        &self.spec
    }

    async fn call(&self, arguments: Value, _context: &ToolContext) -> ToolOutcome {
        self.ask(&arguments).await.unwrap_or_else(|refused| refused)
    }
}

#[cfg(test)]
mod tests;
