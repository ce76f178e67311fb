//! A connection with a server, from the handshake to its end.

use std::time::Duration;

use rmcp::Peer;
use rmcp::RoleClient;
use rmcp::ServiceExt;
use rmcp::model::ClientCapabilities;
use rmcp::model::ClientConfig;
use rmcp::model::ElicitationCapability;
use rmcp::model::Implementation;
use rmcp::model::Tool as Offered;
use rmcp::service::ClientInitializeError;
use rmcp::service::RunningService;
use rmcp::transport::StreamableHttpClientTransport;
use rmcp::transport::streamable_http_client::StreamableHttpClientTransportConfig;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::sync::DropGuard;

use super::source::Source;
use super::source::Way;
use super::sse::SseTransport;
use crate::process::Nursery;
use crate::process::Process;

/// How long a server has to say goodbye.
const GOODBYE: Duration = Duration::from_secs(1);
/// The most characters of a program's standard error in a message: its end.
const ERROR_CHARACTERS: usize = 500;

/// A server that was reached. Dropping it ends the program that it is.
pub(super) struct Connection {
    service: RunningService<RoleClient, ClientConfig>,
    program: Option<Program>,
}

/// A program with what ends it.
struct Program {
    process: Process,
    _leaving: DropGuard,
}

/// What a server offers.
#[derive(Debug)]
pub(super) struct Offer {
    pub(super) tools: Vec<Offered>,
    pub(super) instructions: Option<String>,
}

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    WithRun,
    ByItself,
}

impl Connection {
    /// Starts or reaches a server; the handshake is done.
    ///
    /// # Errors
    ///
    /// Why that failed, within `limit`.
    pub(super) async fn open(source: &Source, nursery: &Nursery, limit: Duration) -> Result<Self, String> {
        let opening = async {
            match &source.way {
                Way::Program(program) => {
                    Self::open_program(program.command(nursery), source, nursery, limit).await
                }
                Way::Http { url, headers } => {
                    let config = StreamableHttpClientTransportConfig::with_uri(url.as_str())
                        .custom_headers(headers.clone());
                    let transport = StreamableHttpClientTransport::with_client(source.client()?, config);
                    let service = greeting().serve(transport).await.map_err(|error| source.why(&error))?;
                    Ok(Self { service, program: None })
                }
                Way::Sse { url, headers } => {
                    let transport = SseTransport::open(source.client()?, url, headers.clone()).await;
                    let transport = transport.map_err(|error| source.why(&error))?;
                    let service = greeting().serve(transport).await.map_err(|error| source.why(&error))?;
                    Ok(Self { service, program: None })
                }
            }
        };
        timeout(limit, Box::pin(opening)).await.unwrap_or_else(|_| Err(too_long(limit)))
    }

    async fn open_program(
        command: tokio::process::Command,
        source: &Source,
        nursery: &Nursery,
        limit: Duration,
    ) -> Result<Self, String> {
        let started = Process::start_piped(command, nursery).map_err(|error| source.not_started(&error))?;
        let (process, output, input) = started;
        let mut program = Program { _leaving: process.stop.clone().drop_guard(), process };
        // The program may end without a word while something holds its output.
        let greeted = tokio::select! {
            greeted = timeout(limit, greeting().serve((output, input))) => greeted,
            _ = program.process.ended() => Ok(Err(ClientInitializeError::ConnectionClosed("it ended".to_owned()))),
        };
        let why = match greeted {
            Ok(Ok(service)) => return Ok(Self { service, program: Some(program) }),
            Ok(Err(
                ClientInitializeError::ConnectionClosed(_) | ClientInitializeError::TransportError { .. },
            )) => "it ended before it answered".to_owned(),
            Ok(Err(error)) => source.why(&error),
            Err(_) => too_long(limit),
        };
        program.process.stop.cancel();
        program.process.ended().await;
        Err(why + &last_words(&program.process.capture().text()))
    }

    /// What the server offers.
    ///
    /// # Errors
    ///
    /// Why it does not say so, within `limit`.
    pub(super) async fn offer(&self, limit: Duration) -> Result<Offer, String> {
        let info = self.service.peer_info();
        let instructions = info.as_ref().and_then(|info| info.instructions.clone());
        let has_tools = info.is_none_or(|info| info.capabilities.tools.is_some());
        let tools = if has_tools {
            let listed = timeout(limit, self.service.list_all_tools()).await.map_err(|_| too_long(limit))?;
            listed.map_err(|error| format!("it does not list its tools: {error}"))?
        } else {
            Vec::new()
        };
        Ok(Offer { tools, instructions: instructions.filter(|text| !text.trim().is_empty()) })
    }

    /// What calls go through.
    pub(super) fn peer(&self) -> &Peer<RoleClient> {
        self.service.peer()
    }

    /// Waits until it ends, by itself or because `closing` says so.
    pub(super) async fn last(self, closing: &CancellationToken) -> Ended {
        let Self { service, mut program } = self;
        let cancel = service.cancellation_token();
        let mut waiting = Box::pin(service.waiting());
        let gone = async {
            match &mut program {
                Some(program) => {
                    program.process.ended().await;
                }
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = closing.cancelled() => {}
            _ = &mut waiting => return Ended::ByItself,
            () = gone => return Ended::ByItself,
        }
        cancel.cancel();
        // The server that cannot be told learns it from the end of the connection.
        timeout(GOODBYE, waiting).await.ok();
        Ended::WithRun
    }
}

/// Who we are. Questions of a server to the user are answered with a refusal: nobody can answer here.
fn greeting() -> ClientConfig {
    let mut capabilities = ClientCapabilities::default();
    capabilities.elicitation = Some(ElicitationCapability::default());
    ClientConfig::new(capabilities, Implementation::new("legwork", env!("CARGO_PKG_VERSION")))
}

fn too_long(limit: Duration) -> String {
    format!("it did not answer within {} s", limit.as_secs_f64())
}

/// The end of what a program wrote to its standard error, after a colon.
fn last_words(text: &str) -> String {
    let text = text.trim();
    let skipped = text.chars().count().saturating_sub(ERROR_CHARACTERS);
    let text: String = text.chars().skip(skipped).collect();
    if text.is_empty() { text } else { format!(": {text}") }
}
