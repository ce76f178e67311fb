//! What the toolsets that speak HTTP share: headers, URLs, clients and redirects.

pub(super) mod address_filter;
pub(super) mod domains;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::Stream;
use futures::StreamExt;
use legwork_common::error::chain;
use legwork_common::team::StringMap;
use legwork_common::variables;
use reqwest::Client;
use reqwest::ClientBuilder;
use reqwest::Method;
use reqwest::RequestBuilder;
use reqwest::Response;
use reqwest::Url;
use reqwest::header::CONTENT_TYPE;
use reqwest::header::HeaderMap;
use reqwest::header::HeaderName;
use reqwest::header::HeaderValue;
use reqwest::redirect::Policy;

use self::address_filter::AddressFilter;
pub(crate) use self::address_filter::NotPublic;
use self::domains::Domains;
use crate::environment::Environment;

/// The `User-Agent` of every request of a toolset.
pub(super) const USER_AGENT: &str = concat!("legwork/", env!("CARGO_PKG_VERSION"));

/// The most redirects that are followed: reqwest's own default, which a custom policy replaces.
pub(super) const MAX_REDIRECTS: usize = 10;

/// The headers of an agent file, with variables expanded. They are marked as sensitive, so logs do not show them.
///
/// # Errors
///
/// The name of the header that HTTP does not allow. The value is left out: it may be a secret.
pub(super) fn headers(environment: &Environment, configured: &StringMap) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    for (name, value) in configured {
        let key = HeaderName::try_from(name).map_err(|_| format!("`{name}` is not a valid header name"))?;
        let mut value = HeaderValue::try_from(environment.expanded(value))
            .map_err(|_| format!("the value of the header `{name}` is not valid"))?;
        value.set_sensitive(true);
        headers.insert(key, value);
    }
    Ok(headers)
}

/// The URL of an agent file, with its variables expanded.
///
/// # Errors
///
/// A variable is not set, or the text is not a URL; without the URL itself: it may contain a key.
pub(super) fn expanded_url(environment: &Environment, text: &str) -> Result<Url, String> {
    url(&environment.address(text).map_err(|missing| missing.to_string())?)
}

/// Parses a URL of an agent file whose variables are expanded.
///
/// # Errors
///
/// The reason, without the URL: it may contain a key.
pub(super) fn url(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| format!("the URL is not valid: {error}"))?;
    if is_http(&url) { Ok(url) } else { Err("the URL is not http or https".to_owned()) }
}

/// Whether the scheme is `http` or `https`.
pub(super) fn is_http(url: &Url) -> bool {
    matches!(url.scheme(), "http" | "https")
}

/// Whether two URLs have the same scheme and host, whatever the port. Secret headers may follow from one to the other.
pub(super) fn is_same_site(one: &Url, other: &Url) -> bool {
    one.scheme() == other.scheme() && one.host_str() == other.host_str()
}

/// A client that connects to allowed addresses only, whether a URL, a name or a redirect leads there.
#[derive(Debug, Clone)]
pub(super) struct HttpClient {
    client: Client,
    filter: AddressFilter,
    domains: Arc<Domains>,
}

impl HttpClient {
    /// A client for the requests of `api`, `openapi` and `a2a` with these headers, each of which must complete within
    /// `timeout`. With headers, redirects are followed within one site only.
    ///
    /// # Errors
    ///
    /// Why reqwest cannot build a client: no TLS backend, no system configuration.
    pub(super) fn new(
        environment: &Environment,
        timeout: Duration,
        headers: &HeaderMap,
    ) -> Result<Self, String> {
        let filter = AddressFilter::of(environment, variables::API_PRIVATE);
        let builder = Client::builder().timeout(timeout);
        Self::build(filter, builder, headers.is_empty(), Arc::default())
    }

    /// A client for pages of these hosts, without a timeout of its own. Redirects are followed to any site, or within one
    /// site only, which is for requests with headers.
    ///
    /// # Errors
    ///
    /// Those of [`new`](Self::new).
    pub(super) fn for_pages(
        filter: AddressFilter,
        to_any_site: bool,
        domains: Arc<Domains>,
    ) -> Result<Self, String> {
        Self::build(filter, Client::builder(), to_any_site, domains)
    }

    fn build(
        filter: AddressFilter,
        builder: ClientBuilder,
        to_any_site: bool,
        domains: Arc<Domains>,
    ) -> Result<Self, String> {
        let policy = redirects(to_any_site, Some(filter), Arc::clone(&domains));
        let builder = builder.user_agent(USER_AGENT).redirect(policy);
        let client = filter.install(builder, &domains).build().map_err(|error| error.to_string())?;
        Ok(Self { client, filter, domains })
    }

    /// A request, if its address is allowed.
    ///
    /// # Errors
    ///
    /// Those of [`check`](Self::check).
    pub(super) fn request(&self, method: Method, url: Url) -> Result<RequestBuilder, String> {
        self.check(&url)?;
        Ok(self.client.request(method, url))
    }

    /// Checks that a URL may be asked for.
    ///
    /// # Errors
    ///
    /// The text for the model.
    pub(super) fn check(&self, url: &Url) -> Result<(), String> {
        if !is_http(url) {
            return Err("only http and https URLs are supported".to_owned());
        }
        self.domains.check(url)?;
        self.filter.check(url).map_err(|refused| refused.to_string())
    }
}

/// A client for requests of the program itself: each is one request, and a redirect is its answer.
#[derive(Debug, Clone)]
pub(crate) struct OneRequest {
    client: Client,
    filter: AddressFilter,
}

impl OneRequest {
    /// A client that connects to public addresses only, unless this variable allows all.
    ///
    /// # Errors
    ///
    /// Those of [`HttpClient::new`].
    pub(crate) fn new(
        environment: &Environment,
        setting: &'static str,
        timeout: Duration,
    ) -> Result<Self, String> {
        let filter = AddressFilter::of(environment, setting);
        let builder = Client::builder().timeout(timeout).user_agent(USER_AGENT).redirect(Policy::none());
        let client = filter.install(builder, &Arc::default()).build().map_err(|error| error.to_string())?;
        Ok(Self { client, filter })
    }

    /// A request, if the address that its URL spells out is allowed. A name is checked when it is resolved.
    ///
    /// # Errors
    ///
    /// The address is not allowed.
    pub(crate) fn request(&self, method: Method, url: Url) -> Result<RequestBuilder, NotPublic> {
        self.filter.check(&url)?;
        Ok(self.client.request(method, url))
    }
}

/// Sends JSON to an address and waits for the status of the answer, within `limit`. Private addresses are refused where
/// those of `api` are.
///
/// # Errors
///
/// Why it was not sent, or the status of a refusal; without the URL, which may contain a key.
pub(crate) async fn post_json(
    environment: &Environment,
    url: &str,
    body: String,
    limit: Duration,
) -> Result<(), String> {
    let url = expanded_url(environment, url)?;
    let client = HttpClient::new(environment, limit, &HeaderMap::new())?;
    let request = client.request(Method::POST, url)?.header(CONTENT_TYPE, "application/json").body(body);
    let response = request.send().await.map_err(|error| chain(&error.without_url()))?;
    let status = response.status();
    if status.is_client_error() || status.is_server_error() {
        Err(format!("it was answered {status}"))
    } else {
        Ok(())
    }
}

/// The first `max_bytes` of a response body. The rest is not downloaded.
pub(super) async fn head(mut response: Response, max_bytes: usize) -> Result<Vec<u8>, reqwest::Error> {
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        let room = max_bytes - bytes.len();
        bytes.extend_from_slice(&chunk[..chunk.len().min(room)]);
        if bytes.len() >= max_bytes {
            break;
        }
    }
    Ok(bytes)
}

/// The bytes of an event stream, which ends with an error at an event of more than `max_bytes`: a line or an event without
/// an end would fill the memory.
pub(super) fn bounded_events(
    response: Response,
    max_bytes: usize,
) -> impl Stream<Item = Result<Bytes, io::Error>> + Send {
    let mut event = EventLength::default();
    response.bytes_stream().map(move |chunk| {
        let chunk = chunk.map_err(|error| io::Error::other(chain(&error.without_url())))?;
        if event.longest_with(&chunk) > max_bytes {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, "an event of the stream is too long"));
        }
        Ok(chunk)
    })
}

/// Bytes since the last empty line.
#[derive(Debug, Default)]
struct EventLength {
    bytes: usize,
    is_line_start: bool,
}

impl EventLength {
    /// The length of the longest event so far that is in, or ends in, the next bytes of the stream.
    fn longest_with(&mut self, chunk: &[u8]) -> usize {
        let mut longest = 0;
        for byte in chunk {
            self.bytes += 1;
            longest = longest.max(self.bytes);
            match byte {
                b'\n' | b'\r' if self.is_line_start => self.bytes = 0,
                b'\n' => self.is_line_start = true,
                b'\r' => {}
                _ => self.is_line_start = false,
            }
        }
        longest
    }
}

/// Follows redirects to any site, or within the first URL's site only. The latter is for requests whose headers may be
/// secrets: they stay with the host that they were configured for. A redirect that is not followed is the response; one to
/// an address that the filter refuses, or to a host that the lists keep out, is an error.
pub(super) fn redirects(to_any_site: bool, filter: Option<AddressFilter>, domains: Arc<Domains>) -> Policy {
    Policy::custom(move |attempt| {
        let is_allowed =
            to_any_site || attempt.previous().first().is_some_and(|first| is_same_site(first, attempt.url()));
        if attempt.previous().len() > MAX_REDIRECTS {
            return attempt.error("too many redirects");
        }
        if !is_allowed {
            return attempt.stop();
        }
        if let Err(refused) = domains.check(attempt.url()) {
            return attempt.error(refused);
        }
        match filter.map(|filter| filter.check(attempt.url())) {
            Some(Err(refused)) => attempt.error(refused),
            Some(Ok(())) | None => attempt.follow(),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_measured_between_empty_lines() {
        let mut event = EventLength::default();
        assert_eq!(event.longest_with(b"data: x\n"), 8);
        assert_eq!(event.longest_with(b"\ndata: long"), 10);
        assert_eq!(event.longest_with(b"er\r\n\r\n:c"), 15);
        assert_eq!(event.longest_with(b"x\n"), 4);
    }
}
