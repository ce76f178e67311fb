//! The HTTP listener of the server, and its access checks.
//!
//! On a loopback address no token is needed, but `Host` and `Origin` must be this machine's: a page of another site,
//! open in a browser here, is refused. On any other address every request needs the bearer token (RFC 6750).

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::AUTHORIZATION;
use axum::http::header::WWW_AUTHENTICATE;
use axum::middleware;
use axum::middleware::Next;
use axum::response::IntoResponse;
use axum::response::Response;
use axum::routing::get;
use legwork_common::error::ExitStatus;
use rmcp::transport::StreamableHttpServerConfig;
use rmcp::transport::StreamableHttpService;
use rmcp::transport::streamable_http_server::session::local::LocalSessionManager;
use sha2::Digest as _;
use sha2::Sha256;
use tokio::net::TcpListener;
use tokio::net::TcpSocket;
use tokio_util::sync::CancellationToken;

use crate::failure::Failure;
use crate::mcp::connections::RedisSessionStore;
use crate::mcp::server::Server;

/// The path of the endpoint.
pub const PATH: &str = "/mcp";
/// Connections that the system queues until they are accepted. The usual default of 128 overflows when many hosts
/// connect at once, and some see a reset; the system lowers this to its own maximum.
const BACKLOG: u32 = 4096;
/// Grace period for open streams at shutdown. A stream of a waiting host would otherwise keep the server up forever.
const GRACE_PERIOD: Duration = Duration::from_secs(5);
/// Origins that are always allowed: pages served by this machine, on any port.
const LOCAL_ORIGINS: [&str; 3] = ["http://localhost:*", "http://127.0.0.1:*", "http://[::1]:*"];

/// A bound address with its access checks.
#[derive(Debug)]
pub struct HttpListener {
    listener: TcpListener,
    address: SocketAddr,
    token: Option<Token>,
    origins: Vec<String>,
}

/// A bearer token, stored as its SHA-256: comparing hashes leaks nothing about the token through timing.
#[derive(Clone, PartialEq, Eq)]
pub struct Token([u8; 32]);

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token")
    }
}

impl Token {
    /// The token in `text`, trimmed; `None` when that is empty.
    pub fn new(text: &str) -> Option<Self> {
        let text = text.trim();
        (!text.is_empty()).then(|| Self(Sha256::digest(text).into()))
    }

    /// Whether an `Authorization` header carries this token. The scheme is case-insensitive (RFC 9110, section 11.1).
    fn is_in(&self, header: Option<&str>) -> bool {
        let given = header.and_then(|header| header.split_once(' '));
        given.is_some_and(|(scheme, token)| {
            scheme.eq_ignore_ascii_case("bearer") && Self::new(token).as_ref() == Some(self)
        })
    }
}

impl HttpListener {
    /// Binds `address`, so that a bad address is reported before anything is served.
    ///
    /// # Errors
    ///
    /// [`Failure`] when the address cannot be bound, and for a non-loopback address without a token.
    pub fn bind(address: SocketAddr, token: Option<Token>, origins: &[String]) -> Result<Self, Failure> {
        if !address.ip().is_loopback() && token.is_none() {
            return Err(Failure::usage(format!(
                "{address} is reachable from other machines and needs a token"
            ))
            .with_hint("set LEGWORK_MCP_TOKEN or --token-file, or listen on 127.0.0.1"));
        }
        let failed = |error| Failure {
            code: "address",
            message: format!("cannot listen on {address}: {error}"),
            detail: None,
            hint: Some("use another --http address, or port 0 for a free port".to_owned()),
            exit: ExitStatus::Usage,
        };
        let listener = listen(address).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let origins = LOCAL_ORIGINS.into_iter().map(str::to_owned).chain(origins.iter().cloned()).collect();
        Ok(Self { listener, address, token, origins })
    }

    /// The URL of the endpoint, with the port that was bound.
    pub fn url(&self) -> String {
        format!("http://{}{PATH}", self.address)
    }

    /// Serves until `end`, then waits up to five seconds for open streams.
    ///
    /// # Errors
    ///
    /// [`Failure`] when the listener fails.
    pub async fn serve(self, server: Server, end: CancellationToken) -> Result<(), Failure> {
        let queue = server.sessions.operator.queue().clone();
        let store = RedisSessionStore { keep: queue.settings().retention, connections: Arc::new(queue) };
        let mut config = self.config(end.child_token());
        config.session_store = Some(Arc::new(store));
        let service = StreamableHttpService::new(
            move || Ok(server.clone()),
            Arc::new(LocalSessionManager::default()),
            config,
        );
        let router = Router::new()
            .nest_service(PATH, service)
            .layer(middleware::from_fn_with_state(self.token, authorize))
            .route("/healthz", get(async || "ok\n"));
        let ended = end.clone();
        let serving =
            axum::serve(self.listener, router).with_graceful_shutdown(async move { ended.cancelled().await });
        let deadline = async {
            end.cancelled().await;
            tokio::time::sleep(GRACE_PERIOD).await;
        };
        tokio::select! {
            served = serving.into_future() => {
                served.map_err(|error| Failure::usage(format!("the HTTP server failed: {error}")))
            }
            () = deadline => Ok(()),
        }
    }

    fn config(&self, end: CancellationToken) -> StreamableHttpServerConfig {
        let config = StreamableHttpServerConfig::default()
            .with_cancellation_token(end)
            .with_allowed_origins(self.origins.clone());
        // With a token, the name by which the machine is called does not matter: a proxy may use any.
        if self.token.is_some() { config.disable_allowed_hosts() } else { config }
    }
}

/// Binds and listens, with a larger backlog than tokio's own.
fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Refuses a request without the token, where the listener has one.
async fn authorize(State(token): State<Option<Token>>, request: Request, next: Next) -> Response {
    let header = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    match token {
        Some(token) if !token.is_in(header) => {
            (StatusCode::UNAUTHORIZED, [(WWW_AUTHENTICATE, "Bearer")], "a bearer token is required\n")
                .into_response()
        }
        Some(_) | None => next.run(request).await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_trimmed_and_matches_only_itself() {
        assert_eq!(Token::new(" secret\n"), Token::new("secret"));
        assert_eq!(Token::new(" \n"), None);
        let token = Token::new("secret").unwrap();
        assert!(token.is_in(Some("Bearer secret")) && token.is_in(Some("bearer  secret")));
        for wrong in [None, Some("Bearer"), Some("Bearer other"), Some("Basic secret"), Some("secret")] {
            assert!(!token.is_in(wrong), "{wrong:?}");
        }
        assert!(!format!("{token:?}").contains("secret"));
    }

    #[tokio::test]
    async fn a_public_address_needs_a_token() {
        let open = HttpListener::bind(([0, 0, 0, 0], 0).into(), None, &[]).unwrap_err();
        assert!(open.message.contains("needs a token"), "{}", open.message);
        assert!(HttpListener::bind(([127, 0, 0, 1], 0).into(), None, &[]).is_ok());
    }
}
