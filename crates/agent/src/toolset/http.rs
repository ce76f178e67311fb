//! What the toolsets that speak HTTP share: headers, URLs, clients and redirects.

use std::time::Duration;

use legwork_common::team::StringMap;
use reqwest::Client;
use reqwest::Response;
use reqwest::Url;
use reqwest::header::HeaderMap;
use reqwest::header::HeaderName;
use reqwest::header::HeaderValue;
use reqwest::redirect::Policy;

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

/// A client for requests with these headers, each of which must complete within `timeout`. With headers, redirects
/// are followed within one site only.
///
/// # Errors
///
/// Why reqwest cannot build a client: no TLS backend, no system configuration.
pub(super) fn client(timeout: Duration, headers: &HeaderMap) -> Result<Client, String> {
    Client::builder()
        .timeout(timeout)
        .user_agent(USER_AGENT)
        .redirect(redirects(headers.is_empty()))
        .build()
        .map_err(|error| error.to_string())
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

/// Follows redirects to any site, or within the first URL's site only. The latter is for requests whose headers may be
/// secrets: they stay with the host that they were configured for. A redirect that is not followed is the response.
pub(super) fn redirects(to_any_site: bool) -> Policy {
    Policy::custom(move |attempt| {
        let is_allowed =
            to_any_site || attempt.previous().first().is_some_and(|first| is_same_site(first, attempt.url()));
        if attempt.previous().len() > MAX_REDIRECTS {
            attempt.error("too many redirects")
        } else if is_allowed {
            attempt.follow()
        } else {
            attempt.stop()
        }
    })
}
