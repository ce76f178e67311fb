//! Who may reach the server over HTTP.
//!
//! On a loopback address no token is needed: `Host` and `Origin` must be this machine's, so that no page of another
//! site gets through a browser. On any other address every request needs the bearer token (RFC 6750).

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
/// Connections that wait to be taken.
const BACKLOG: u32 = 4096;
/// How long open streams may take to end.
const GRACE: Duration = Duration::from_secs(5);
/// Origins of this machine's own pages.
const LOCAL_ORIGINS: [&str; 3] = ["http://localhost:*", "http://127.0.0.1:*", "http://[::1]:*"];

/// A bound address and what it asks of those who come.
#[derive(Debug)]
pub struct HttpListener {
    listener: TcpListener,
    address: SocketAddr,
    token: Option<Token>,
    origins: Vec<String>,
}

/// A bearer token, kept as its hash: two hashes are compared in a time that tells nothing of the token.
#[derive(Clone, PartialEq, Eq)]
pub struct Token([u8; 32]);

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token")
    }
}

impl Token {
    /// The token of this text, without white space around it; `None` for an empty one.
    pub fn new(text: &str) -> Option<Self> {
        let text = text.trim();
        (!text.is_empty()).then(|| Self(Sha256::digest(text).into()))
    }

    /// Whether an `Authorization` header carries it. The scheme's name has no case (RFC 9110, section 11.1).
    fn is_in(&self, header: Option<&str>) -> bool {
        let given = header.and_then(|header| header.split_once(' '));
        given.is_some_and(|(scheme, token)| {
            scheme.eq_ignore_ascii_case("bearer") && Self::new(token).as_ref() == Some(self)
        })
    }
}

impl HttpListener {
    /// Binds `address`, so that a bad one is an error before anything is served.
    ///
    /// # Errors
    ///
    /// [`Failure`] when the address is taken or not this machine's, and for one that others reach without a token.
    pub fn bind(address: SocketAddr, token: Option<Token>, origins: &[String]) -> Result<Self, Failure> {
        if !address.ip().is_loopback() && token.is_none() {
            return Err(Failure::usage(format!("{address} can be reached by others, and there is no token"))
                .with_hint("give one with LEGWORK_MCP_TOKEN or --token-file, or listen on 127.0.0.1"));
        }
        let failed = |error| Failure {
            code: "address",
            message: format!("cannot listen on {address}: {error}"),
            detail: None,
            hint: Some("give another --http address, or one with port 0".to_owned()),
            exit: ExitStatus::Usage,
        };
        let listener = listen(address).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let origins = LOCAL_ORIGINS.into_iter().map(str::to_owned).chain(origins.iter().cloned()).collect();
        Ok(Self { listener, address, token, origins })
    }

    /// Where the endpoint is.
    pub fn url(&self) -> String {
        format!("http://{}{PATH}", self.address)
    }

    /// Serves until `end`, then lets open streams end, for five seconds at most.
    ///
    /// # Errors
    ///
    /// [`Failure`] when the system takes the address away.
    pub async fn serve(self, server: Server, end: CancellationToken) -> Result<(), Failure> {
        let queue = server.sessions.observer.queue().clone();
        let kept = RedisSessionStore { keep: queue.settings().retention, connections: Arc::new(queue) };
        let mut config = self.config(end.child_token());
        config.session_store = Some(Arc::new(kept));
        let service = StreamableHttpService::new(move || Ok(server.clone()), Arc::new(sessions()), config);
        let router = Router::new()
            .nest_service(PATH, service)
            .layer(middleware::from_fn_with_state(self.token, admit))
            .route("/healthz", get(async || "ok\n"));
        let ended = end.clone();
        let serving =
            axum::serve(self.listener, router).with_graceful_shutdown(async move { ended.cancelled().await });
        let late = async {
            end.cancelled().await;
            tokio::time::sleep(GRACE).await;
        };
        tokio::select! {
            served = serving.into_future() => {
                served.map_err(|error| Failure::usage(format!("cannot serve any longer: {error}")))
            }
            () = late => Ok(()),
        }
    }

    fn config(&self, end: CancellationToken) -> StreamableHttpServerConfig {
        let config = StreamableHttpServerConfig::default()
            .with_cancellation_token(end)
            .with_allowed_origins(self.origins.clone());
        // Who has the token may call this machine by any name.
        if self.token.is_some() { config.disable_allowed_hosts() } else { config }
    }
}

/// Listens. The system keeps so many connections that nobody has taken yet; by default few enough that a crowd of hosts
/// sees some of theirs reset.
fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// The connections of older protocols.
fn sessions() -> LocalSessionManager {
    LocalSessionManager::default()
}

/// Lets a request pass that carries the token, where one is asked for.
async fn admit(State(token): State<Option<Token>>, request: Request, next: Next) -> Response {
    let header = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    match token {
        Some(token) if !token.is_in(header) => {
            (StatusCode::UNAUTHORIZED, [(WWW_AUTHENTICATE, "Bearer")], "a bearer token is needed\n")
                .into_response()
        }
        Some(_) | None => next.run(request).await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_its_text_without_the_white_space_around_it() {
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
    async fn an_address_that_others_reach_needs_a_token() {
        let open = HttpListener::bind(([0, 0, 0, 0], 0).into(), None, &[]).unwrap_err();
        assert!(open.message.contains("no token"), "{}", open.message);
        assert!(HttpListener::bind(([127, 0, 0, 1], 0).into(), None, &[]).is_ok());
    }
}
