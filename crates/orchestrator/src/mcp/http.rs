//! The HTTP listener of the server, and its access checks.
//!
//! Every request needs the bearer token (RFC 6750). On a loopback address the operator may do without: then every user of
//! this machine can run agents with the rights of this one, and `Host` and `Origin` must be this machine's, so that a page
//! of another site, open in a browser here, is refused.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::middleware;
use axum::routing::get;
use legwork_common::error::ExitStatus;
use legwork_http::access::Token;
use legwork_http::listener::listen;
use legwork_process::http_server;
use rmcp::transport::StreamableHttpServerConfig;
use rmcp::transport::StreamableHttpService;
use rmcp::transport::streamable_http_server::session::local::LocalSessionManager;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::failure::Failure;
use crate::mcp::admission::Admission;
use crate::mcp::admission::admit;
use crate::mcp::connections::RedisSessionStore;
use crate::mcp::server::Server;

/// The path of the endpoint.
pub const PATH: &str = "/mcp";
/// Grace period for open streams at shutdown. A stream of a waiting host would otherwise keep the server up forever.
const GRACE_PERIOD: Duration = Duration::from_secs(5);
/// Origins that are always allowed: pages served by this machine, on any port.
const LOCAL_ORIGINS: [&str; 3] = ["http://localhost:*", "http://127.0.0.1:*", "http://[::1]:*"];

/// Who may use the listener.
#[derive(Debug, Clone)]
pub enum Access {
    /// Who has the token.
    Token(Token),
    /// Every user of this machine: the operator says so (`--no-token`).
    Everyone,
    /// The operator has said neither.
    Undecided,
}

/// A bound address with its access checks.
#[derive(Debug)]
pub struct HttpListener {
    listener: TcpListener,
    address: SocketAddr,
    token: Option<Token>,
    origins: Vec<String>,
}

impl HttpListener {
    /// Binds `address`, so that a bad address is reported before anything is served.
    ///
    /// # Errors
    ///
    /// [`Failure`] when the address cannot be bound, and where it is not said who may use it: only a loopback address can
    /// do without a token.
    pub fn bind(address: SocketAddr, access: Access, origins: &[String]) -> Result<Self, Failure> {
        let is_loopback = address.ip().is_loopback();
        let token = match access {
            Access::Token(token) => Some(token),
            Access::Everyone if is_loopback => None,
            Access::Everyone | Access::Undecided => return Err(needs_token(address)),
        };
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
    pub async fn serve(self, server: Server, end: CancellationToken) {
        let queue = server.sessions.operator.queue().clone();
        let store = RedisSessionStore { keep: queue.settings().retention, connections: Arc::new(queue) };
        let mut config = self.config(end.child_token());
        config.session_store = Some(Arc::new(store));
        let sessions = Arc::new(LocalSessionManager::default());
        let admission = Admission { token: self.token, sessions: Arc::clone(&sessions) };
        let service = StreamableHttpService::new(move || Ok(server.clone()), sessions, config);
        let router = Router::new()
            .nest_service(PATH, service)
            .layer(middleware::from_fn_with_state(admission, admit))
            .route("/healthz", get(async || "ok\n"));
        http_server::serve(self.listener, router, http_server::max_connections(), end, GRACE_PERIOD).await;
    }

    fn config(&self, end: CancellationToken) -> StreamableHttpServerConfig {
        let config = StreamableHttpServerConfig::default()
            .with_cancellation_token(end)
            .with_allowed_origins(self.origins.clone());
        // With a token, the name by which the machine is called does not matter: a proxy may use any.
        if self.token.is_some() { config.disable_allowed_hosts() } else { config }
    }
}

fn needs_token(address: SocketAddr) -> Failure {
    if address.ip().is_loopback() {
        return Failure::usage(format!(
            "{address} is reachable by every user of this machine and needs a token"
        ))
        .with_hint(
            "set LEGWORK_MCP_TOKEN or --token-file; --no-token lets them all run agents with your rights",
        );
    }
    Failure::usage(format!("{address} is reachable from other machines and needs a token"))
        .with_hint("set LEGWORK_MCP_TOKEN or --token-file, or listen on 127.0.0.1")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_token_is_needed_unless_the_users_of_this_machine_are_let_in() {
        let bind = |address: [u8; 4], access| HttpListener::bind((address, 0).into(), access, &[]);
        for address in [[0, 0, 0, 0], [127, 0, 0, 1]] {
            let refused = bind(address, Access::Undecided).unwrap_err();
            assert!(refused.message.contains("needs a token"), "{}", refused.message);
        }
        let refused = bind([0, 0, 0, 0], Access::Everyone).unwrap_err();
        assert!(refused.message.contains("needs a token"), "{}", refused.message);
        assert!(bind([127, 0, 0, 1], Access::Everyone).is_ok());
        assert!(bind([0, 0, 0, 0], Access::Token(Token::new("secret").unwrap())).is_ok());
    }
}
