//! `fetch`: web pages as text, Markdown or HTML.
//!
//! Pages that a site's robots.txt disallows are refused, and so are addresses that are not public, unless the operator
//! allows them, and hosts that the lists of the toolset keep out.

mod depth;
mod page;
mod robots;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use futures::stream;
use legwork_common::team::Fetch;
use legwork_common::variables;
use reqwest::Method;
use reqwest::Response;
use reqwest::StatusCode;
use reqwest::Url;
use reqwest::header::ACCEPT;
use reqwest::header::CONTENT_TYPE;
use reqwest::header::HeaderMap;
use reqwest::header::LOCATION;
use serde::Deserialize;
use serde::Serialize;
use serde_json::Value;
use serde_json::json;
use tokio::sync::Mutex;
use tokio::sync::OnceCell;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use self::page::Format;
use self::page::Page;
use self::robots::Robots;
use super::Kit;
use super::http;
use super::http::HttpClient;
use super::http::address_filter;
use super::http::address_filter::AddressFilter;
use super::http::domains::Domains;
use super::schema;
use super::schema::Schema;
use crate::environment::Environment;
use crate::tool::Tool;
use crate::tool::ToolContext;
use crate::tool::ToolOutcome;
use crate::tool::ToolSpec;

/// The timeout of one page where neither the model nor the agent file sets one, in seconds: docker-agent's.
const DEFAULT_TIMEOUT_SECONDS: u32 = 30;
/// The longest timeout that a model may set, in seconds: docker-agent's.
const MAX_TIMEOUT_SECONDS: u32 = 300;
/// The most bytes of a page that are read: docker-agent's limit, which the tool's description names.
const MAX_PAGE_BYTES: usize = 1024 * 1024;
/// The most bytes of a robots.txt that are read: the least that RFC 9309 asks of a crawler.
const MAX_ROBOTS_BYTES: usize = 500 * 1024;
/// How many pages of one call are fetched concurrently. Few, because they are often of one site.
const MAX_CONCURRENT_PAGES: usize = 4;

/// The system message of the toolset.
const INSTRUCTION: &str = "\
## Web pages

fetch gets the content of http and https URLs as text, Markdown or HTML. Pass several URLs in one call. What a site's \
robots.txt disallows is not fetched.";

/// The toolset. The timeout of the settings is that of one page where the model sets none.
///
/// # Errors
///
/// Why the HTTP client cannot be built, or what is wrong with a header or a list, for the agent and the operator.
pub(crate) fn open(environment: &Environment, settings: &Fetch) -> Result<Kit, String> {
    let Fetch { timeout, headers, allowed_domains, blocked_domains, allow_private_ips } = settings;
    let filter = match allow_private_ips {
        Some(false) => AddressFilter::public(variables::FETCH_PRIVATE),
        Some(true) | None => AddressFilter::of(environment, variables::FETCH_PRIVATE),
    };
    let domains = Arc::new(Domains::new(allowed_domains, blocked_domains)?);
    let tool = FetchTool {
        spec: spec(),
        client: HttpClient::for_pages(filter, true, Arc::clone(&domains))?,
        within_site: HttpClient::for_pages(filter, false, domains)?,
        headers: http::headers(environment, headers)?,
        timeout_seconds: timeout.unwrap_or(DEFAULT_TIMEOUT_SECONDS),
    };
    Ok(Kit::new([tool]).with_instruction(INSTRUCTION))
}

fn spec() -> ToolSpec {
    let schema = Schema::new()
        .required(
            "urls",
            json!({"type": "array", "items": schema::string(), "minItems": 1}),
            "The URLs, http or https",
        )
        .required(
            "format",
            schema::one_of(&["text", "markdown", "html"]),
            "The format that HTML pages are converted to",
        )
        .optional(
            "timeout",
            json!({"type": "integer", "minimum": 1, "maximum": MAX_TIMEOUT_SECONDS}),
            "The most seconds that one page may take",
        );
    schema::idempotent("fetch", "Fetch web pages, at most 1 MiB of each.", schema)
}

#[derive(Debug)]
struct FetchTool {
    spec: ToolSpec,
    /// Follows every redirect that may be followed.
    client: HttpClient,
    /// Follows redirects within one site: its requests have headers that may be secrets.
    within_site: HttpClient,
    /// Headers of the agent file.
    headers: HeaderMap,
    timeout_seconds: u32,
}

#[derive(Deserialize)]
struct Arguments {
    urls: Vec<String>,
    format: Format,
    /// In seconds.
    timeout: Option<u32>,
}

/// The result for one URL: a page or an error.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Fetched {
    url: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    status_code: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content_type: Option<String>,
    content_length: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// The robots.txt of each site in one call, by origin. The cell makes concurrent pages of a site share one request.
/// `None` disallows everything.
type RobotsCache = Mutex<HashMap<String, Arc<OnceCell<Option<Robots>>>>>;

impl FetchTool {
    async fn act(&self, arguments: Value) -> Result<ToolOutcome, ToolOutcome> {
        let Arguments { urls, format, timeout } = schema::parse(&self.spec, arguments)?;
        if urls.is_empty() {
            return Err(ToolOutcome::error("at least one URL is required"));
        }
        let seconds = timeout.unwrap_or(self.timeout_seconds).clamp(1, MAX_TIMEOUT_SECONDS);
        let robots = RobotsCache::default();
        let fetches = urls.into_iter().map(|url| self.fetch_within(url, format, seconds, &robots));
        let mut results: Vec<Fetched> = stream::iter(fetches).buffered(MAX_CONCURRENT_PAGES).collect().await;
        if results.len() == 1
            && let Some(single) = results.pop()
        {
            return Ok(single_outcome(single));
        }
        let is_error = results.iter().all(|result| result.error.is_some());
        Ok(ToolOutcome { is_error, ..ToolOutcome::ok(json!(results).to_string()) })
    }

    /// Fetches one page within a timeout, which includes reading the robots.txt.
    async fn fetch_within(&self, url: String, format: Format, seconds: u32, robots: &RobotsCache) -> Fetched {
        let limit = Duration::from_secs(seconds.into());
        let fetched = timeout(limit, Box::pin(self.fetch(&url, format, robots))).await;
        match fetched.unwrap_or_else(|_| Err(format!("no response within {seconds} s"))) {
            Ok(fetched) => Fetched { url, ..fetched },
            Err(error) => Fetched { url, error: Some(error), ..Fetched::default() },
        }
    }

    async fn fetch(&self, url: &str, format: Format, robots: &RobotsCache) -> Result<Fetched, String> {
        let url = Url::parse(url).map_err(|error| format!("invalid URL: {error}"))?;
        // Checked before anything is sent, the request for the robots.txt included.
        self.client.request(Method::GET, url.clone()).map(drop)?;
        if !self.robots_allow(&url, robots).await {
            return Err("URL blocked by robots.txt".to_owned());
        }
        let reason = |error: reqwest::Error| address_filter::reason(&error);
        let response = self.response(url, format).await?;
        let (status, total_bytes) = (response.status(), response.content_length());
        let content_type = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let content_type = content_type.unwrap_or_default().to_owned();
        let bytes = http::head(response, MAX_PAGE_BYTES).await.map_err(reason)?;
        let page = Page { bytes, content_type: content_type.clone(), total_bytes };
        // Converting a large page takes long enough to block other tasks.
        let body = spawn_blocking(move || page::render(&page, format))
            .await
            .map_err(|_| "the page cannot be converted".to_owned())??;
        Ok(Fetched {
            status_code: Some(status.as_u16()),
            status: Some(status.to_string()),
            content_type: Some(content_type),
            content_length: body.len(),
            body: Some(body),
            ..Fetched::default()
        })
    }

    /// The response to a request for a page. Headers of the agent file are sent to the first site only.
    async fn response(&self, url: Url, format: Format) -> Result<Response, String> {
        let reason = |error: reqwest::Error| address_filter::reason(&error);
        let plain =
            |url| Ok::<_, String>(self.client.request(Method::GET, url)?.header(ACCEPT, format.accept()));
        if self.headers.is_empty() {
            return plain(url)?.send().await.map_err(reason);
        }
        let first = self.within_site.request(Method::GET, url)?.header(ACCEPT, format.accept());
        let response = first.headers(self.headers.clone()).send().await.map_err(reason)?;
        let target = response.headers().get(LOCATION).filter(|_| response.status().is_redirection());
        let Some(target) = target.and_then(|target| target.to_str().ok()) else { return Ok(response) };
        let target = response.url().join(target).map_err(|error| format!("invalid redirect: {error}"))?;
        plain(target)?.send().await.map_err(reason)
    }

    /// Whether the site's robots.txt allows this URL.
    async fn robots_allow(&self, url: &Url, cache: &RobotsCache) -> bool {
        let origin = url.origin().ascii_serialization();
        let cell = Arc::clone(cache.lock().await.entry(origin).or_default());
        let robots = cell.get_or_init(|| self.robots(url)).await;
        let query = url.query().map(|query| format!("?{query}")).unwrap_or_default();
        let path = url.path().to_owned() + &query;
        robots.as_ref().is_some_and(|robots| robots.allow(&path))
    }

    /// Downloads the robots.txt of the URL's site. As in docker-agent, a missing file and an unreachable site allow
    /// everything; any other status disallows everything.
    async fn robots(&self, url: &Url) -> Option<Robots> {
        let url = url.join("/robots.txt").ok()?;
        let request = self.client.request(Method::GET, url).ok()?;
        let Ok(response) = request.send().await else { return Some(Robots::default()) };
        match response.status() {
            StatusCode::OK => {
                let bytes = http::head(response, MAX_ROBOTS_BYTES).await.unwrap_or_default();
                Some(Robots::parse(&String::from_utf8_lossy(&bytes)))
            }
            StatusCode::NOT_FOUND => Some(Robots::default()),
            _ => None,
        }
    }
}

/// The outcome of a call with a single URL, as plain text instead of a list.
fn single_outcome(fetched: Fetched) -> ToolOutcome {
    let Fetched { url, status_code, content_length, body, error, .. } = fetched;
    match (body, error) {
        (Some(body), None) => ToolOutcome::ok(format!(
            "Successfully fetched {url} (Status: {}, Length: {content_length} bytes):\n\n{body}",
            status_code.unwrap_or_default()
        )),
        (_, error) => ToolOutcome::error(format!("Error fetching {url}: {}", error.unwrap_or_default())),
    }
}

#[async_trait]
impl Tool for FetchTool {
    fn spec(&self) -> &ToolSpec {
        &self.spec
    }

    async fn call(&self, arguments: Value, _context: &ToolContext) -> ToolOutcome {
        self.act(arguments).await.unwrap_or_else(|error| error)
    }
}

#[cfg(test)]
mod tests;
