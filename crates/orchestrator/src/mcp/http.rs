//! The HTTP listener of the server, and its access checks.
//!
//! On a loopback address no token is needed, but `Host` and `Origin` must be this machine's: a page of another site,
//! open in a browser here, is refused. On any other address every request needs the bearer token (RFC 6750).

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
use legwork_http::access::Token;
use legwork_http::listener::listen;
use rmcp::transport::StreamableHttpServerConfig;
use rmcp::transport::StreamableHttpService;
use rmcp::transport::streamable_http_server::session::local::LocalSessionManager;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::failure::Failure;
use crate::mcp::connections::RedisSessionStore;
use crate::mcp::server::Server;

/// The path of the endpoint.
pub const PATH: &str = "/mcp";
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

/// Refuses a request without the token, where the listener has one.
async fn authorize(State(token): State<Option<Token>>, request: Request, next: Next) -> Response {
    let header = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    match token {
        Some(token) if Token::of_header(header) != Some(token) => {
            (StatusCode::UNAUTHORIZED, [(WWW_AUTHENTICATE, "Bearer")], "a bearer token is required\n")
                .into_response()
        }
        Some(_) | None => next.run(request).await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_public_address_needs_a_token() {
        let open = HttpListener::bind(([0, 0, 0, 0], 0).into(), None, &[]).unwrap_err();
        assert!(open.message.contains("needs a token"), "{}", open.message);
        assert!(HttpListener::bind(([127, 0, 0, 1], 0).into(), None, &[]).is_ok());
    }
}
