//! The older HTTP+SSE transport of MCP: the server's messages arrive on one event stream, the client's are posted.
//!
//! The first event names the URL for the posts. The protocol library no longer has this transport, but servers still
//! use it.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::BoxStream;
use reqwest::Client;
use reqwest::Url;
use reqwest::header::ACCEPT;
use reqwest::header::HeaderMap;
use rmcp::RoleClient;
use rmcp::service::RxJsonRpcMessage;
use rmcp::service::TxJsonRpcMessage;
use rmcp::transport::Transport;
use sse_stream::Sse;
use sse_stream::SseStream;
use thiserror::Error;

use super::endpoint::Headers;
use crate::toolset::http;

/// The timeout of posting one message. Servers confirm it at once; the answer comes on the event stream.
const MESSAGE_TIMEOUT: Duration = Duration::from_secs(30);

/// The largest message of a server. Results with images have some MiB.
const MAX_EVENT_BYTES: usize = 32 * 1024 * 1024;

/// Why a connection or a message failed.
#[derive(Debug, Error)]
pub(super) enum SseError {
    #[error("the server cannot be reached")]
    Unreachable(#[from] reqwest::Error),
    #[error("the URL is not valid")]
    InvalidUrl,
    #[error("the server did not name the URL for messages")]
    NoEndpoint,
    #[error("the URL that the server named for messages is on another host")]
    ForeignEndpoint,
}

/// One connection. Dropping it closes the event stream.
pub(super) struct SseTransport {
    events: BoxStream<'static, Result<Sse, sse_stream::Error>>,
    client: Client,
    endpoint: Url,
    headers: Arc<HeaderMap>,
}

impl SseTransport {
    /// Opens the event stream and waits for the URL for messages. It has no timeout of its own.
    ///
    /// # Errors
    ///
    /// [`SseError`]. The stream is closed then.
    pub(super) async fn open(client: Client, url: &str, headers: Headers) -> Result<Self, SseError> {
        let url = Url::parse(url).map_err(|_| SseError::InvalidUrl)?;
        let headers: HeaderMap = headers.into_iter().collect();
        let request = client.get(url.clone()).headers(headers.clone()).header(ACCEPT, "text/event-stream");
        let response = request.send().await?.error_for_status()?;
        let mut events =
            SseStream::from_bytes_stream(http::bounded_events(response, MAX_EVENT_BYTES)).boxed();
        let endpoint = loop {
            match events.next().await {
                Some(Ok(event)) if event.event.as_deref() == Some("endpoint") => {
                    let data = event.data.unwrap_or_default();
                    break url.join(data.trim()).map_err(|_| SseError::NoEndpoint)?;
                }
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Err(SseError::NoEndpoint),
            }
        };
        // The headers may be secrets, and they were configured for this server.
        if endpoint.origin() != url.origin() {
            return Err(SseError::ForeignEndpoint);
        }
        Ok(Self { events, client, endpoint, headers: Arc::new(headers) })
    }
}

impl Transport<RoleClient> for SseTransport {
    type Error = SseError;

    fn send(
        &mut self,
        item: TxJsonRpcMessage<RoleClient>,
    ) -> impl Future<Output = Result<(), SseError>> + Send + 'static {
        let request = self.client.post(self.endpoint.clone()).headers((*self.headers).clone());
        let request = request.timeout(MESSAGE_TIMEOUT).json(&item);
        async move {
            request.send().await?.error_for_status()?;
            Ok(())
        }
    }

    async fn receive(&mut self) -> Option<RxJsonRpcMessage<RoleClient>> {
        loop {
            let event = self.events.next().await?.ok()?;
            let is_message = matches!(event.event.as_deref(), None | Some("" | "message"));
            // A later version of the protocol may add messages that are not known here.
            let message = event.data.filter(|_| is_message);
            match message.and_then(|data| serde_json::from_str(&data).ok()) {
                Some(message) => return Some(message),
                None => tracing::debug!("skipped an event of an MCP server that is not a message"),
            }
        }
    }

    async fn close(&mut self) -> Result<(), SseError> {
        self.events = futures::stream::empty().boxed();
        Ok(())
    }
}
