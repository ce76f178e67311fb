//! One connection to a server, from the handshake to its end.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rmcp::ClientHandler;
use rmcp::Peer;
use rmcp::RoleClient;
use rmcp::ServiceExt;
use rmcp::model::ClientCapabilities;
use rmcp::model::ClientConfig;
use rmcp::model::ElicitationCapability;
use rmcp::model::Implementation;
use rmcp::model::Tool as ServerTool;
use rmcp::service::ClientInitializeError;
use rmcp::service::NotificationContext;
use rmcp::service::RunningService;
use rmcp::transport::StreamableHttpClientTransport;
use rmcp::transport::streamable_http_client::StreamableHttpClientTransportConfig;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::sync::DropGuard;

use super::endpoint::Endpoint;
use super::endpoint::Transport;
use super::request;
use super::session::SessionClient;
use super::sse::SseTransport;
use crate::process::Nursery;
use crate::process::Process;

/// How long a server may take to close the connection when the run ends. Servers with a session do so within one round
/// trip; a program is ended by its process group in any case.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
/// The most characters of a program's standard error in an error text: its last lines name the cause.
const MAX_STDERR_CHARS: usize = 500;

/// A server after the handshake. Dropping it ends the server's program, if it is one.
pub(super) struct Connection {
    service: RunningService<RoleClient, Client>,
    program: Option<Program>,
}

struct Program {
    process: Process,
    _stop_on_drop: DropGuard,
}

/// What a server reports of itself.
#[derive(Debug)]
pub(super) struct ServerInfo {
    pub(super) tools: Vec<ServerTool>,
    /// What is wrong with its tools.
    pub(super) warnings: Vec<String>,
    /// Not blank.
    pub(super) instructions: Option<String>,
}

/// Why a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    RunClosed,
    ServerStopped,
}

impl Connection {
    /// Starts or connects to a server, and completes the handshake.
    ///
    /// # Errors
    ///
    /// Why that failed, or that it took longer than `limit`. A program that was started has ended then, or is being
    /// ended.
    pub(super) async fn open(
        endpoint: &Endpoint,
        nursery: &Nursery,
        stale: &StaleTools,
        limit: Duration,
    ) -> Result<Self, String> {
        let client = || Client { stale: stale.clone() };
        let opening = async {
            let service = match &endpoint.transport {
                Transport::Program(program) => {
                    let command = program.command(nursery);
                    return Self::open_program(command, endpoint, nursery, client(), limit).await;
                }
                Transport::Http { url, headers } => {
                    let config = StreamableHttpClientTransportConfig::with_uri(url.as_str())
                        .custom_headers(headers.clone());
                    let session = SessionClient { client: endpoint.client()?, stale: stale.clone() };
                    let transport = StreamableHttpClientTransport::with_client(session, config);
                    client().serve(transport).await
                }
                Transport::Sse { url, headers } => {
                    let transport = SseTransport::open(endpoint.client()?, url, headers.clone()).await;
                    client().serve(transport.map_err(|error| endpoint.error_text(&error))?).await
                }
            };
            let service = service.map_err(|error| endpoint.error_text(&error))?;
            Ok(Self { service, program: None })
        };
        timeout(limit, Box::pin(opening)).await.unwrap_or_else(|_| Err(timed_out(limit)))
    }

    async fn open_program(
        command: tokio::process::Command,
        endpoint: &Endpoint,
        nursery: &Nursery,
        client: Client,
        limit: Duration,
    ) -> Result<Self, String> {
        let started =
            Process::start_piped(command, nursery).map_err(|error| endpoint.start_error_text(&error))?;
        let (process, output, input) = started;
        let mut program = Program { _stop_on_drop: process.stop.clone().drop_guard(), process };
        // Raced against the exit, because a child of the program may hold the output open after the program has exited.
        let handshake = tokio::select! {
            handshake = timeout(limit, client.serve((output, input))) => handshake,
            _ = program.process.ended() => Ok(Err(ClientInitializeError::ConnectionClosed("it exited".to_owned()))),
        };
        let reason = match handshake {
            Ok(Ok(service)) => return Ok(Self { service, program: Some(program) }),
            Ok(Err(
                ClientInitializeError::ConnectionClosed(_) | ClientInitializeError::TransportError { .. },
            )) => "it exited before the handshake".to_owned(),
            Ok(Err(error)) => endpoint.error_text(&error),
            Err(_) => timed_out(limit),
        };
        program.process.stop.cancel();
        program.process.ended().await;
        Err(reason + &stderr_tail(&program.process.text()))
    }

    /// Reads the server's tools and instructions. A server without the tools capability has no tools, which is a
    /// warning.
    ///
    /// # Errors
    ///
    /// The server did not list its tools, or not within `limit`.
    pub(super) async fn server_info(&self, limit: Duration) -> Result<ServerInfo, String> {
        let info = self.service.peer_info();
        let instructions = info.as_ref().and_then(|info| info.instructions.clone());
        let has_tools = info.is_none_or(|info| info.capabilities.tools.is_some());
        let (tools, warnings) = if has_tools {
            list_tools(self.peer(), limit).await?
        } else {
            (Vec::new(), vec!["it offers no tools (its handshake has no capability for them)".to_owned()])
        };
        let instructions = instructions.filter(|text| !text.trim().is_empty());
        Ok(ServerInfo { tools, warnings, instructions })
    }

    /// The handle for calls. It stays valid, but fails, after the connection has ended.
    pub(super) fn peer(&self) -> &Peer<RoleClient> {
        self.service.peer()
    }

    /// Waits until the server stops, or closes the connection on `closing`.
    pub(super) async fn ended(self, closing: &CancellationToken) -> Ending {
        let Self { service, mut program } = self;
        let cancel = service.cancellation_token();
        let mut waiting = Box::pin(service.waiting());
        let exited = async {
            match &mut program {
                Some(program) => {
                    program.process.ended().await;
                }
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            // Closing goes first: it ends the program too, which must not count as a crash of the server.
            biased;
            () = closing.cancelled() => {}
            _ = &mut waiting => return Ending::ServerStopped,
            () = exited => return Ending::ServerStopped,
        }
        cancel.cancel();
        // A server that does not respond in time notices the end of the connection.
        timeout(CLOSE_TIMEOUT, waiting).await.ok();
        Ending::RunClosed
    }
}

/// The tools of a server and what is wrong with them, within `limit`.
pub(super) async fn list_tools(
    peer: &Peer<RoleClient>,
    limit: Duration,
) -> Result<(Vec<ServerTool>, Vec<String>), String> {
    let listed = timeout(limit, request::list_tools(peer)).await.map_err(|_| timed_out(limit))?;
    listed.map_err(|error| format!("it did not list its tools: {error}"))
}

/// Whether the tools of a server may have changed since they were listed. Clones share the flag.
#[derive(Debug, Clone, Default)]
pub(super) struct StaleTools(Arc<AtomicBool>);

impl StaleTools {
    /// Notes that the tools may have changed.
    pub(super) fn set(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    /// Whether the tools may have changed. Clears the flag, so a change during the next list sets it again.
    pub(super) fn take(&self) -> bool {
        self.0.swap(false, Ordering::SeqCst)
    }
}

/// This program in its conversation with a server.
#[derive(Debug)]
struct Client {
    stale: StaleTools,
}

impl ClientHandler for Client {
    fn get_info(&self) -> ClientConfig {
        client_config()
    }

    async fn on_tool_list_changed(&self, _context: NotificationContext<RoleClient>) {
        self.stale.set();
    }
}

/// The client's side of the handshake. Elicitation is declared, as docker-agent does, and the protocol library declines
/// every request: no user is present.
fn client_config() -> ClientConfig {
    let mut capabilities = ClientCapabilities::default();
    capabilities.elicitation = Some(ElicitationCapability::default());
    ClientConfig::new(capabilities, Implementation::new("legwork", env!("CARGO_PKG_VERSION")))
}

fn timed_out(limit: Duration) -> String {
    format!("it did not respond within {} s", limit.as_secs_f64())
}

/// The end of a program's standard error, after a colon; empty if there is none.
fn stderr_tail(text: &str) -> String {
    let text = text.trim();
    let skipped = text.chars().count().saturating_sub(MAX_STDERR_CHARS);
    let text: String = text.chars().skip(skipped).collect();
    if text.is_empty() { text } else { format!(": {text}") }
}
