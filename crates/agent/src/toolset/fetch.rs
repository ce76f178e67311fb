//! `fetch`: web pages as text, Markdown or HTML. What a site's robots.txt forbids is left alone, and so are addresses
//! that are not public, unless the operator allows them.

mod page;
mod reach;
mod robots;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use futures::stream;
use legwork_common::variables;
use reqwest::Client;
use reqwest::StatusCode;
use reqwest::Url;
use reqwest::header::CONTENT_TYPE;
use serde::Deserialize;
use serde::Serialize;
use serde_json::Value;
use serde_json::json;
use tokio::sync::Mutex;
use tokio::sync::OnceCell;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use self::page::Format;
use self::reach::Allowed;
use self::robots::Robots;
use super::Kit;
use super::http;
use super::schema;
use super::schema::Schema;
use crate::environment::Environment;
use crate::tool::Tool;
use crate::tool::ToolContext;
use crate::tool::ToolOutcome;
use crate::tool::ToolSpec;

/// How long one page may take where neither the model nor the file says.
const TIMEOUT: u32 = 30;
/// The longest time that a model may ask for.
const LONGEST: u32 = 300;
/// The most bytes of a page that are read.
const PAGE_BYTES: usize = 1024 * 1024;
/// The most bytes of a robots.txt that are read.
const ROBOTS_BYTES: usize = 500 * 1024;
/// Pages that are fetched at once.
const AT_ONCE: usize = 4;

/// The toolset. `seconds` is how long one page may take where the model does not say.
///
/// # Errors
///
/// Why there is no client, in words for the agent and the operator.
pub(crate) fn kit(environment: &Environment, seconds: Option<u32>) -> Result<Kit, String> {
    let private = environment.variable(variables::FETCH_PRIVATE).is_some_and(|value| value != "0");
    let allowed: Allowed = if private { reach::any } else { reach::is_public };
    let client = reach::client(allowed).map_err(|error| error.to_string())?;
    let text = || json!({"type": "string"});
    let schema = Schema::new()
        .required(
            "urls",
            json!({"type": "array", "items": text(), "minItems": 1}),
            "The addresses, http or https",
        )
        .required(
            "format",
            json!({"type": "string", "enum": ["text", "markdown", "html"]}),
            "What pages in HTML are turned into",
        )
        .optional(
            "timeout",
            json!({"type": "integer", "minimum": 1, "maximum": LONGEST}),
            "Seconds that one page may take",
        );
    let spec = schema::repeatable("fetch", "Fetch web pages, at most 1 MiB of each.", schema);
    let seconds = seconds.unwrap_or(TIMEOUT);
    Ok(Kit { tools: vec![Arc::new(Fetch { spec, client, allowed, seconds })], ..Kit::default() })
}

#[derive(Debug)]
struct Fetch {
    spec: ToolSpec,
    client: Client,
    allowed: Allowed,
    seconds: u32,
}

#[derive(Deserialize)]
struct Arguments {
    urls: Vec<String>,
    format: Format,
    timeout: Option<u32>,
}

/// What became of one address.
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

/// The robots.txt of each site that one call meets, asked for once; `None` where it forbids everything.
type Sites = Mutex<HashMap<String, Arc<OnceCell<Option<Robots>>>>>;

impl Fetch {
    async fn act(&self, arguments: Value) -> Result<ToolOutcome, ToolOutcome> {
        let Arguments { urls, format, timeout: limit } = schema::read(&self.spec, arguments)?;
        if urls.is_empty() {
            return Err(ToolOutcome::error("at least one URL is required"));
        }
        let seconds = limit.unwrap_or(self.seconds).clamp(1, LONGEST);
        let sites = Sites::default();
        let each = urls.into_iter().map(|url| self.within(url, format, seconds, &sites));
        let mut all: Vec<Fetched> = stream::iter(each).buffered(AT_ONCE).collect().await;
        if all.len() == 1
            && let Some(one) = all.pop()
        {
            return Ok(alone(one));
        }
        let is_error = all.iter().all(|one| one.error.is_some());
        Ok(ToolOutcome { is_error, ..ToolOutcome::ok(json!(all).to_string()) })
    }

    /// Fetches one page, in time.
    async fn within(&self, url: String, format: Format, seconds: u32, sites: &Sites) -> Fetched {
        let limit = Duration::from_secs(seconds.into());
        let fetched = timeout(limit, Box::pin(self.fetch(&url, format, sites))).await;
        match fetched.unwrap_or_else(|_| Err(format!("no answer within {seconds} s"))) {
            Ok(fetched) => Fetched { url, ..fetched },
            Err(error) => Fetched { url, error: Some(error), ..Fetched::default() },
        }
    }

    async fn fetch(&self, url: &str, format: Format, sites: &Sites) -> Result<Fetched, String> {
        let address = Url::parse(url).map_err(|error| format!("invalid URL: {error}"))?;
        reach::check(&address, self.allowed)?;
        if !self.allowed(&address, sites).await {
            return Err("URL blocked by robots.txt".to_owned());
        }
        let why = |error: reqwest::Error| reach::why(&error);
        let response = self.client.get(address).send().await.map_err(why)?;
        let status = response.status();
        let kind = response.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
        let kind = kind.unwrap_or_default().to_owned();
        let bytes = http::head(response, PAGE_BYTES).await.map_err(why)?;
        let written = kind.clone();
        let body = spawn_blocking(move || page::written(&bytes, &written, format))
            .await
            .map_err(|_| "the page cannot be read".to_owned())??;
        Ok(Fetched {
            status_code: Some(status.as_u16()),
            status: Some(status.to_string()),
            content_type: Some(kind),
            content_length: body.len(),
            body: Some(body),
            ..Fetched::default()
        })
    }

    /// Whether the site lets us fetch this.
    async fn allowed(&self, address: &Url, sites: &Sites) -> bool {
        let site = address.origin().ascii_serialization();
        let cell = Arc::clone(sites.lock().await.entry(site).or_default());
        let robots = cell.get_or_init(|| self.robots(address)).await;
        let query = address.query().map(|query| format!("?{query}")).unwrap_or_default();
        let path = address.path().to_owned() + &query;
        robots.as_ref().is_some_and(|robots| robots.allow(&path))
    }

    /// What the site says; nothing there and nobody there forbid nothing.
    async fn robots(&self, address: &Url) -> Option<Robots> {
        let place = address.join("/robots.txt").ok()?;
        let Ok(response) = self.client.get(place).send().await else { return Some(Robots::default()) };
        match response.status() {
            StatusCode::OK => {
                let bytes = http::head(response, ROBOTS_BYTES).await.unwrap_or_default();
                Some(Robots::parse(&String::from_utf8_lossy(&bytes)))
            }
            StatusCode::NOT_FOUND => Some(Robots::default()),
            _ => None,
        }
    }
}

/// The answer for one page.
fn alone(one: Fetched) -> ToolOutcome {
    let Fetched { url, status_code, content_length, body, error, .. } = one;
    match (body, error) {
        (Some(body), None) => ToolOutcome::ok(format!(
            "Successfully fetched {url} (Status: {}, Length: {content_length} bytes):\n\n{body}",
            status_code.unwrap_or_default()
        )),
        (_, error) => ToolOutcome::error(format!("Error fetching {url}: {}", error.unwrap_or_default())),
    }
}

#[async_trait]
impl Tool for Fetch {
    fn spec(&self) -> &ToolSpec {
        &self.spec
    }

    async fn call(&self, arguments: Value, _context: &ToolContext) -> ToolOutcome {
        self.act(arguments).await.unwrap_or_else(|refused| refused)
    }
}

#[cfg(test)]
mod tests;
