//! One server for the length of a run: started, kept alive, and called.

use std::time::Instant;

use rmcp::Peer;
use rmcp::RoleClient;
use rmcp::model::CallToolRequestParams;
use rmcp::model::CallToolResponse;
use rmcp::service::ServiceError;
use tokio::sync::watch;
use tokio::time::sleep;

use super::Timing;
use super::connection::Connection;
use super::connection::Ended;
use super::connection::Offer;
use super::source::Source;
use crate::process::Nursery;

/// A handle to a server, whoever keeps it alive.
#[derive(Debug)]
pub(super) struct Server {
    label: String,
    state: watch::Receiver<State>,
}

/// Whether the server can be called now.
#[derive(Debug, Clone)]
enum State {
    Up(Peer<RoleClient>),
    /// Why not.
    Down(String),
}

impl Server {
    /// Starts or reaches a server, asks what it offers, and keeps it alive until the nursery closes.
    ///
    /// # Errors
    ///
    /// Why there is none, in words for the agent and the operator.
    pub(super) async fn start(
        source: Source,
        nursery: Nursery,
        timing: Timing,
    ) -> Result<(Self, Offer), String> {
        let label = source.label().to_owned();
        let wrong = |why: String| format!("{label}: {why}");
        let connection = Connection::open(&source, &nursery, timing.start).await.map_err(wrong)?;
        let offer = connection.offer(timing.start).await.map_err(wrong)?;
        let (sender, state) = watch::channel(State::Up(connection.peer().clone()));
        let keeper = Keeper { source, nursery: nursery.clone(), timing, state: sender };
        nursery.spawn(keeper.keep(connection));
        Ok((Self { label, state }, offer))
    }

    /// Calls a tool. Dropping the future tells the server that nobody waits any more.
    ///
    /// # Errors
    ///
    /// What the model is told.
    pub(super) async fn call(&self, request: CallToolRequestParams) -> Result<CallToolResponse, String> {
        let state = self.state.borrow().clone();
        match state {
            State::Down(why) => Err(format!("the MCP server {} {why}", self.label)),
            State::Up(peer) => peer.call_tool_once(request).await.map_err(|error| match error {
                ServiceError::McpError(error) => format!("MCP error: {}", error.message),
                ServiceError::TransportClosed | ServiceError::TransportSend(_) => {
                    format!("the MCP server {} ended during the call, whose outcome is unknown", self.label)
                }
                other => format!("the MCP server {} did not answer: {other}", self.label),
            }),
        }
    }
}

/// Keeps a server alive.
struct Keeper {
    source: Source,
    nursery: Nursery,
    timing: Timing,
    state: watch::Sender<State>,
}

impl Keeper {
    async fn keep(self, mut connection: Connection) {
        let mut starts = 0;
        loop {
            let began = Instant::now();
            match connection.last(self.nursery.closing()).await {
                Ended::WithRun => return,
                Ended::ByItself => {}
            }
            if began.elapsed() >= self.timing.stable {
                starts = 0;
            }
            match self.start_again(&mut starts).await {
                Some(again) => connection = again,
                None => return,
            }
            self.state.send_replace(State::Up(connection.peer().clone()));
        }
    }

    /// Starts it again, with pauses that grow. `None`: the run ends, or that was too often.
    async fn start_again(&self, starts: &mut usize) -> Option<Connection> {
        let label = self.source.label();
        loop {
            let most = self.timing.backoff.len();
            let Some(&delay) = self.timing.backoff.get(*starts) else {
                tracing::warn!(server = label, "an MCP server ended too often and is given up");
                self.state.send_replace(State::Down(format!("ended {most} times and is given up")));
                return None;
            };
            *starts += 1;
            tracing::warn!(server = label, start = *starts, "an MCP server ended and is started again");
            let why = format!("ended by itself and is being started again ({starts} of {most}); try later");
            self.state.send_replace(State::Down(why));
            let again = async {
                sleep(delay).await;
                Connection::open(&self.source, &self.nursery, self.timing.start).await
            };
            match self.nursery.closing().run_until_cancelled(again).await? {
                Ok(connection) => return Some(connection),
                Err(why) => tracing::warn!(server = label, "an MCP server does not start again: {why}"),
            }
        }
    }
}

#[cfg(test)]
impl Server {
    /// Waits until it is down for a reason that says this.
    pub(super) async fn saw(&self, words: &str) {
        let like = |state: &State| matches!(state, State::Down(why) if why.contains(words));
        self.state.clone().wait_for(like).await.unwrap();
    }
}
