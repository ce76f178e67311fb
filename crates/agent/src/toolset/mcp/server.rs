//! One server for the length of a run: it is started, restarted when it stops, and called.

use std::time::Duration;
use std::time::Instant;

use legwork_common::duration;
use rmcp::Peer;
use rmcp::RoleClient;
use rmcp::model::CallToolRequestParams;
use rmcp::model::ServerResult;
use rmcp::model::Tool as ServerTool;
use rmcp::service::ServiceError;
use tokio::sync::watch;
use tokio::time::sleep;
use tokio::time::timeout;

use super::Timing;
use super::connection::Connection;
use super::connection::Ending;
use super::connection::ServerInfo;
use super::connection::StaleTools;
use super::connection::list_tools;
use super::endpoint::Endpoint;
use super::request;
use crate::process::Nursery;

/// A handle to a server. A task of the nursery restarts the server and updates the state.
#[derive(Debug)]
pub(super) struct Server {
    label: String,
    call_timeout: Duration,
    state: watch::Receiver<State>,
    stale: StaleTools,
    nursery: Nursery,
    /// The timeout of a list of tools.
    list_timeout: Duration,
}

#[derive(Debug, Clone)]
enum State {
    Up(Peer<RoleClient>),
    /// The reason, which follows the server's name in messages.
    Down(String),
}

impl Server {
    /// Starts or connects to a server, reads its tools, and restarts it when it stops, until the nursery closes.
    ///
    /// # Errors
    ///
    /// Why the first start failed, for the agent and the operator. It is not repeated.
    pub(super) async fn start(
        endpoint: Endpoint,
        nursery: Nursery,
        timing: Timing,
    ) -> Result<(Self, ServerInfo), String> {
        let label = endpoint.label().to_owned();
        let failed = |reason: String| format!("{label}: {reason}");
        let stale = StaleTools::default();
        let opening = Connection::open(&endpoint, &nursery, &stale, timing.start_timeout);
        let connection = opening.await.map_err(failed)?;
        let info = connection.server_info(timing.start_timeout).await.map_err(failed)?;
        let (sender, state) = watch::channel(State::Up(connection.peer().clone()));
        let (call_timeout, list_timeout) = (timing.call_timeout, timing.start_timeout);
        let restarter =
            Restarter { endpoint, nursery: nursery.clone(), timing, state: sender, stale: stale.clone() };
        nursery.spawn(restarter.run(connection));
        Ok((Self { label, call_timeout, state, stale, nursery, list_timeout }, info))
    }

    /// The server's name in messages.
    pub(super) fn label(&self) -> &str {
        &self.label
    }

    /// The tools and what is wrong with them, if they may have changed since the last call: the server notified so, or
    /// it was restarted. `None` also while it is down, or where it does not list them: the tools stay what they were.
    pub(super) async fn changed_tools(&self) -> Option<(Vec<ServerTool>, Vec<String>)> {
        let State::Up(peer) = self.state.borrow().clone() else { return None };
        if !self.stale.take() {
            return None;
        }
        match list_tools(&peer, self.list_timeout).await {
            Ok(listed) => Some(listed),
            Err(reason) => {
                tracing::warn!(
                    server = self.label,
                    "the changed tools of an MCP server are unknown: {reason}"
                );
                None
            }
        }
    }

    /// Calls a tool, within the timeout of calls. Dropping the future, and the timeout, notify the server that the call
    /// is cancelled.
    ///
    /// # Errors
    ///
    /// The error text for the model. A call is never repeated, because its effect is unknown; only the transport
    /// repeats one that a server refused because it no longer knows the session.
    pub(super) async fn call(&self, request: CallToolRequestParams) -> Result<ServerResult, String> {
        let state = self.state.borrow().clone();
        match state {
            State::Down(reason) => Err(format!("the MCP server {} {reason}", self.label)),
            State::Up(peer) => {
                let answer = self.answer_of(request::call(&peer, request, &self.nursery)).await?;
                answer.map_err(|error| match error {
                    ServiceError::McpError(error) => format!("MCP error: {}", error.message),
                    ServiceError::TransportClosed | ServiceError::TransportSend(_) => {
                        format!(
                            "the MCP server {} stopped during the call, whose outcome is unknown",
                            self.label
                        )
                    }
                    other => format!("the MCP server {} did not respond: {other}", self.label),
                })
            }
        }
    }
}

impl Server {
    /// Waits for the answer of a call, for as long as the timeout.
    async fn answer_of<T>(&self, call: impl Future<Output = T>) -> Result<T, String> {
        timeout(self.call_timeout, call).await.map_err(|_| {
            let limit = duration::setting(self.call_timeout);
            format!(
                "the MCP server {} did not answer within {limit}; the outcome of the call is unknown",
                self.label
            )
        })
    }
}

/// Restarts a server when it stops.
struct Restarter {
    endpoint: Endpoint,
    nursery: Nursery,
    timing: Timing,
    state: watch::Sender<State>,
    stale: StaleTools,
}

impl Restarter {
    /// Returns when the nursery closes or no restarts are left.
    async fn run(self, mut connection: Connection) {
        let mut restarts = 0;
        loop {
            let started = Instant::now();
            match connection.ended(self.nursery.closing()).await {
                Ending::RunClosed => return,
                Ending::ServerStopped => {}
            }
            if started.elapsed() >= self.timing.stable_after {
                restarts = 0;
            }
            match self.restart(&mut restarts).await {
                Some(restarted) => connection = restarted,
                None => return,
            }
            // Another version of the server may have been started.
            self.stale.set();
            self.state.send_replace(State::Up(connection.peer().clone()));
        }
    }

    /// Restarts the server after its next delay, until a start succeeds. Failed starts count as restarts. `None` when
    /// no restarts are left or the nursery closes.
    async fn restart(&self, restarts: &mut usize) -> Option<Connection> {
        let label = self.endpoint.label();
        loop {
            let max = self.timing.restart_delays.len();
            let Some(&delay) = self.timing.restart_delays.get(*restarts) else {
                tracing::warn!(server = label, "an MCP server stopped too often and is not restarted");
                self.state.send_replace(State::Down(format!("stopped after {max} restarts and is given up")));
                return None;
            };
            *restarts += 1;
            tracing::warn!(
                server = label,
                restart = *restarts,
                "an MCP server stopped and is being restarted"
            );
            let reason = format!("stopped and is being restarted ({restarts} of {max}); try again later");
            self.state.send_replace(State::Down(reason));
            let restart = async {
                sleep(delay).await;
                Connection::open(&self.endpoint, &self.nursery, &self.stale, self.timing.start_timeout).await
            };
            match self.nursery.closing().run_until_cancelled(restart).await? {
                Ok(connection) => return Some(connection),
                Err(reason) => tracing::warn!(server = label, "an MCP server did not restart: {reason}"),
            }
        }
    }
}

#[cfg(test)]
impl Server {
    /// Waits until the server is down for a reason that contains `text`.
    pub(super) async fn is_down(&self, text: &str) {
        let is_expected = |state: &State| matches!(state, State::Down(reason) if reason.contains(text));
        self.state.clone().wait_for(is_expected).await.unwrap();
    }
}
