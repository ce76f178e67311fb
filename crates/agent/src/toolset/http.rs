//! What the toolsets that speak HTTP share.

use std::time::Duration;

use legwork_common::team::TextMap;
use reqwest::Client;
use reqwest::Response;
use reqwest::Url;
use reqwest::header::HeaderMap;
use reqwest::header::HeaderName;
use reqwest::header::HeaderValue;
use reqwest::redirect::Policy;

use crate::environment::Environment;

/// Who asks.
pub(super) const USER_AGENT: &str = concat!("legwork/", env!("CARGO_PKG_VERSION"));

/// The most redirects that are followed.
const REDIRECTS: usize = 10;

/// The headers of the team's file, with the worker's variables put in. None is shown in a log: they may be secrets.
///
/// # Errors
///
/// Which header is no header; its value is not named.
pub(super) fn headers(environment: &Environment, written: &TextMap) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    for (name, value) in written {
        let key = HeaderName::try_from(name).map_err(|_| format!("`{name}` is no name of a header"))?;
        let mut value = HeaderValue::try_from(environment.expanded(value))
            .map_err(|_| format!("the value of the header `{name}` cannot be sent"))?;
        value.set_sensitive(true);
        headers.insert(key, value);
    }
    Ok(headers)
}

/// An address of the team's file, its variables put in. Errors do not name it: it may hold a key.
///
/// # Errors
///
/// What is wrong with it.
pub(super) fn address(written: &str) -> Result<Url, String> {
    let url = Url::parse(written).map_err(|error| format!("the address is none: {error}"))?;
    if matches!(url.scheme(), "http" | "https") {
        Ok(url)
    } else {
        Err("the address is not http or https".to_owned())
    }
}

/// A client for calls with these headers, each call within `timeout`.
///
/// # Errors
///
/// The library's.
pub(super) fn client(timeout: Duration, headers: &HeaderMap) -> Result<Client, String> {
    Client::builder()
        .timeout(timeout)
        .user_agent(USER_AGENT)
        .redirect(redirects(headers.is_empty()))
        .build()
        .map_err(|error| error.to_string())
}

/// The first bytes of an answer; the rest is not read.
pub(super) async fn head(mut response: Response, most: usize) -> Result<Vec<u8>, reqwest::Error> {
    let mut bytes = Vec::new();
    while let Some(piece) = response.chunk().await? {
        let room = most - bytes.len();
        bytes.extend_from_slice(&piece[..piece.len().min(room)]);
        if bytes.len() >= most {
            break;
        }
    }
    Ok(bytes)
}

/// Follows redirects: to anywhere, or within one scheme and host. Headers may hold secrets, and those stay with the host
/// that they were meant for.
pub(super) fn redirects(anywhere: bool) -> Policy {
    Policy::custom(move |attempt| {
        let place = |url: &Url| (url.scheme().to_owned(), url.host_str().map(str::to_owned));
        let first = attempt.previous().first().map(place);
        if attempt.previous().len() > REDIRECTS {
            attempt.error("too many redirects")
        } else if anywhere || first == Some(place(attempt.url())) {
            attempt.follow()
        } else {
            attempt.stop()
        }
    })
}
