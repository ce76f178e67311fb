//! `openapi`: the operations of an OpenAPI 3 document, each as a tool.

mod document;
mod request;

use std::collections::BTreeSet;
use std::time::Duration;

use async_trait::async_trait;
use legwork_common::error::chain;
use legwork_common::team::StringMap;
use legwork_common::team::yaml_to_json;
use reqwest::Method;
use reqwest::StatusCode;
use reqwest::Url;
use reqwest::header::HeaderMap;
use serde_json::Value;

use self::document::Operation;
use super::Kit;
use super::api;
use super::http;
use super::http::HttpClient;
use super::schema;
use crate::environment::Environment;
use crate::tool::Tool;
use crate::tool::ToolContext;
use crate::tool::ToolOutcome;
use crate::tool::ToolSpec;

/// The timeout of the download, and of each call. Longer requests would hold up the agent without a sign of activity.
const TIMEOUT: Duration = Duration::from_secs(30);
/// The largest document that is read. It bounds the memory of a run; documents of large APIs have a few MiB.
const MAX_DOCUMENT_BYTES: usize = 8 * 1024 * 1024;
/// The most skipped operations that have a warning each. The model reads the warnings; beyond these it gets a count.
const MAX_WARNINGS: usize = 10;

/// The system message of the toolset. It does not name the URL, which may contain a key.
const INSTRUCTION: &str = "\
## API

Each operation of an OpenAPI description is a tool of yours. Its parameters are those of the operation.";

/// Downloads the document and makes a tool of each operation. Operations that cannot be called are warnings.
///
/// # Errors
///
/// Why the document cannot be used, for the agent and the operator. The URL is left out: it may contain a key.
pub(crate) async fn open(environment: &Environment, url: &str, headers: &StringMap) -> Result<Kit, String> {
    let headers = http::headers(environment, headers)?;
    let url = http::expanded_url(environment, url)?;
    let client = HttpClient::new(environment, TIMEOUT, &headers)?;
    let text = download(&client, &url, &headers).await?;
    let document = parse(&text)?;
    let (operations, mut warnings) = document::operations(&document, &url)?;
    if !headers.is_empty() {
        warnings.splice(0..0, sites_without_headers(&operations, &url));
    }
    if warnings.len() > MAX_WARNINGS {
        let more = warnings.len() - MAX_WARNINGS;
        warnings.truncate(MAX_WARNINGS);
        warnings.push(format!("{more} more operations skipped"));
    }
    let warnings = warnings.iter().map(|warning| format!("toolset openapi: {warning}")).collect();
    let tool = |operation: Operation| OperationTool {
        spec: spec(&operation),
        operation,
        client: client.clone(),
        headers: headers.clone(),
        site: url.clone(),
    };
    let kit = Kit::new(operations.into_iter().map(tool)).with_instruction(INSTRUCTION);
    Ok(Kit { warnings, ..kit })
}

/// A warning for each other site that operations are sent to: it is not sent the headers.
fn sites_without_headers(operations: &[Operation], document: &Url) -> Vec<String> {
    let others: BTreeSet<String> = operations
        .iter()
        .filter_map(|operation| Url::parse(&operation.base).ok())
        .filter(|base| !http::is_same_site(document, base))
        .map(|base| base.origin().ascii_serialization())
        .collect();
    let warning =
        |site| format!("{site} is not sent the headers, which are for the site of the document only");
    others.into_iter().map(warning).collect()
}

/// Downloads the document. The headers are secrets, so they are sent only if the document is refused without them.
async fn download(client: &HttpClient, url: &Url, headers: &HeaderMap) -> Result<String, String> {
    let failed =
        |error: reqwest::Error| format!("the document cannot be read: {}", chain(&error.without_url()));
    let get = || client.request(Method::GET, url.clone());
    let mut response = get()?.send().await.map_err(failed)?;
    if matches!(response.status(), StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) && !headers.is_empty() {
        response = get()?.headers(headers.clone()).send().await.map_err(failed)?;
    }
    if !response.status().is_success() {
        return Err(format!("the document cannot be read: HTTP {}", response.status()));
    }
    let bytes = http::head(response, MAX_DOCUMENT_BYTES + 1).await.map_err(failed)?;
    if bytes.len() > MAX_DOCUMENT_BYTES {
        return Err("the document is larger than 8 MiB".to_owned());
    }
    String::from_utf8(bytes).map_err(|_| "the document is not UTF-8 text".to_owned())
}

/// Parses JSON if the text starts with `{`, else YAML, so that the error is about the format that was meant.
fn parse(text: &str) -> Result<Value, String> {
    let invalid = |reason: String| format!("the document is neither JSON nor YAML: {reason}");
    if text.trim_start().starts_with('{') {
        return serde_json::from_str(text).map_err(|error| invalid(error.to_string()));
    }
    yaml_to_json(text).map_err(invalid)
}

fn spec(operation: &Operation) -> ToolSpec {
    let method = &operation.method;
    ToolSpec {
        name: operation.name.clone(),
        description: operation.description.clone(),
        parameters: operation.schema.clone(),
        read_only: matches!(method.as_str(), "GET" | "HEAD"),
        interrupted: schema::interrupted(method.is_idempotent()),
    }
}

#[derive(Debug)]
struct OperationTool {
    spec: ToolSpec,
    operation: Operation,
    client: HttpClient,
    headers: HeaderMap,
    /// The site to which the headers are sent: that of the description.
    site: Url,
}

impl OperationTool {
    async fn run(&self, arguments: &Value) -> Result<ToolOutcome, ToolOutcome> {
        let name = &self.spec.name;
        let checked = schema::checked(&self.spec, arguments)?;
        let invalid = |reason: String| schema::invalid_arguments(name, reason);
        let url = request::url(&self.operation, &checked).map_err(invalid)?;
        let mut headers = request::headers(&self.operation, &checked).map_err(invalid)?;
        // Headers of the agent file override those that the model chose. A description is written by others, and must
        // not decide who is sent the secrets in them.
        if http::is_same_site(&self.site, &url) {
            headers.extend(self.headers.clone());
        }
        let mut request = self
            .client
            .request(self.operation.method.clone(), url)
            .map_err(|reason| ToolOutcome::error(format!("Error calling {name}: {reason}")))?;
        let body = self.operation.body.as_ref().and_then(|body| arguments.get(body));
        if let Some(body) = body {
            request = request.json(body);
        }
        api::send(name, request.headers(headers)).await
    }
}

#[async_trait]
impl Tool for OperationTool {
    fn spec(&self) -> &ToolSpec {
        &self.spec
    }

    async fn call(&self, arguments: Value, _context: &ToolContext) -> ToolOutcome {
        self.run(&arguments).await.unwrap_or_else(|error| error)
    }
}

#[cfg(test)]
mod tests;
