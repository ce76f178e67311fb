//! Which HTTP requests are admitted, before the protocol library sees them.
//!
//! The library compares hosts and origins as it reads them, and reads `http://evil@localhost` as `localhost`. So only
//! what can be read in one way gets there.

use std::sync::Arc;

use axum::extract::Request;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::HeaderName;
use axum::http::StatusCode;
use axum::http::header::AUTHORIZATION;
use axum::http::header::HOST;
use axum::http::header::ORIGIN;
use axum::http::header::RETRY_AFTER;
use axum::http::header::WWW_AUTHENTICATE;
use axum::middleware::Next;
use axum::response::IntoResponse;
use axum::response::Response;
use legwork_http::access::Token;
use rmcp::transport::streamable_http_server::session::local::LocalSessionManager;

/// The most connections of hosts that are open at once. Each takes some memory, and ends after five minutes without a
/// message; it can be resumed.
const MAX_SESSIONS: usize = 1_000;
/// When to come back where there are too many, in seconds.
const RETRY_SECONDS: &str = "30";
/// The header with the id of a connection.
const SESSION_ID: HeaderName = HeaderName::from_static("mcp-session-id");

/// What a request must satisfy.
#[derive(Debug, Clone)]
pub(super) struct Admission {
    /// `None`: every user of this machine is admitted.
    pub(super) token: Option<Token>,
    /// The connections that are open.
    pub(super) sessions: Arc<LocalSessionManager>,
}

/// Refuses a request whose host or origin can be read in two ways, one without the token, and a new connection where there
/// are too many.
pub(super) async fn admit(State(admission): State<Admission>, request: Request, next: Next) -> Response {
    let headers = request.headers();
    if !is_plain(headers, &HOST, is_host) || !is_plain(headers, &ORIGIN, is_origin) {
        return (StatusCode::BAD_REQUEST, "the Host or the Origin is not valid\n").into_response();
    }
    let header = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    if admission.token.is_some_and(|token| Token::of_header(header) != Some(token)) {
        let challenge = [(WWW_AUTHENTICATE, "Bearer")];
        return (StatusCode::UNAUTHORIZED, challenge, "a bearer token is required\n").into_response();
    }
    if !headers.contains_key(SESSION_ID) && admission.sessions.sessions.read().await.len() >= MAX_SESSIONS {
        let later = [(RETRY_AFTER, RETRY_SECONDS)];
        return (StatusCode::SERVICE_UNAVAILABLE, later, "too many connections of hosts\n").into_response();
    }
    next.run(request).await
}

/// Whether a header is absent, or is there once and valid.
fn is_plain(headers: &HeaderMap, name: &HeaderName, is_valid: fn(&str) -> bool) -> bool {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => true,
        (Some(value), None) => value.to_str().is_ok_and(is_valid),
        (Some(_), Some(_)) => false,
    }
}

/// Whether this is a name or an address, and at most a port: nothing else of an authority.
fn is_host(text: &str) -> bool {
    let (host, port) = match text.strip_prefix('[').map(|rest| rest.split_once(']')) {
        Some(None) => return false,
        Some(Some((address, rest))) => {
            if address.parse::<std::net::Ipv6Addr>().is_err() {
                return false;
            }
            ("ipv6", if rest.is_empty() { None } else { rest.strip_prefix(':').or(Some("")) })
        }
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    let is_port = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok();
    !host.is_empty() && host.bytes().all(is_name) && port.is_none_or(is_port)
}

/// Whether this is an origin as browsers send it: `null`, or a scheme and a host without user and path.
fn is_origin(text: &str) -> bool {
    let Some((scheme, host)) = text.split_once("://") else { return text == "null" };
    let is_scheme = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.');
    !scheme.is_empty() && scheme.bytes().all(is_scheme) && is_host(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_and_origins_can_be_read_in_one_way_only() {
        for host in ["localhost", "localhost:80", "127.0.0.1:7879", "[::1]", "[::1]:80", "a-b.example"] {
            assert!(is_host(host), "{host}");
            assert!(is_origin(&format!("http://{host}")), "{host}");
        }
        for host in [
            "",
            "evil@localhost",
            "localhost:",
            "localhost:99999",
            "localhost:80:80",
            "localhost/",
            "localhost#",
            "local host",
            "[::1",
            "[::1]80",
            "[::1]@evil",
            "[localhost]",
            "::1",
            "localhost:+80",
            "lo\u{e9}",
        ] {
            assert!(!is_host(host), "{host}");
            assert!(!is_origin(&format!("http://{host}")), "{host}");
        }
        assert!(is_origin("null"));
        for origin in ["localhost", "://localhost", "http:/localhost", "http://localhost/", "NULL"] {
            assert!(!is_origin(origin), "{origin}");
        }
    }
}
