//! One request over HTTP: bytes of the response go to a reader, its events to the run.

use std::time::Duration;

use jiff::Timestamp;
use legwork_common::duration;
use legwork_common::team::FIRST_BYTE_TIMEOUT;
use legwork_common::team::IDLE_TIMEOUT;
use legwork_common::team::ModelSettings;
use legwork_models::error::ProviderError;
use legwork_models::reader::Close;
use legwork_models::reader::ReadReply;
use legwork_models::reply::Reply;
use legwork_models::reply::ReplyEvent;
use reqwest::Client;
use reqwest::Request;
use reqwest::Response;
use tokio::time::Instant;
use tokio::time::timeout_at;

use super::fault;
use crate::model::Delta;
use crate::model::Deltas;
use crate::model::ModelError;

/// The most bytes of the body of an error. Its words are in the first few hundred.
const MAX_ERROR_BYTES: usize = 64 << 10;
/// How long the body of an error may take. It is small, and what it says is only for people.
const ERROR_BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// The most bytes of a response, whatever is in it. A reply of 32 MB, the most that is read, is several times as long in
/// events of a token each.
const MAX_BODY_BYTES: u64 = 512 << 20;
/// How long a response may take to end after the provider reported that it is complete. A connection whose response is
/// read to its end is used again; most providers send the end along with the last event.
const END_TIMEOUT: Duration = Duration::from_millis(100);

/// How long a provider may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Timeouts {
    /// Until the first byte of the body. Models may think for minutes first.
    pub(super) first_byte: Duration,
    /// Between bytes. Providers that think send something to keep the connection open.
    pub(super) between_bytes: Duration,
    /// Between pieces of the reply, while comments alone keep the connection open.
    pub(super) between_events: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            first_byte: Duration::from_secs(5 * 60),
            between_bytes: Duration::from_secs(2 * 60),
            between_events: Duration::from_secs(10 * 60),
        }
    }
}

impl Timeouts {
    /// These, with what the agent file sets in their place. A longer one makes room in the others.
    pub(super) fn with(self, settings: &ModelSettings) -> Self {
        let first_byte = settings.timeout(FIRST_BYTE_TIMEOUT).unwrap_or(self.first_byte);
        let between_bytes = settings.timeout(IDLE_TIMEOUT).unwrap_or(self.between_bytes);
        let between_events = self.between_events.max(first_byte).max(between_bytes);
        Self { first_byte, between_bytes, between_events }
    }
}

/// A request that is about to be made.
pub(super) struct Exchange<'a> {
    pub(super) settings: &'a ModelSettings,
    pub(super) timeouts: Timeouts,
    pub(super) deltas: &'a Deltas,
}

/// The body so far.
struct Progress {
    bytes: u64,
    /// When the next byte must be there.
    next_byte: Instant,
    /// When the next piece of the reply must be there.
    next_event: Instant,
}

/// What the connection gives next.
enum Next {
    Segment(Vec<u8>),
    End,
    /// It broke, or took too long: why, as a lowercase fragment.
    Broken(String),
}

impl Exchange<'_> {
    /// Makes the request and reads the whole response. Dropping the future closes the connection.
    pub(super) async fn run(
        self,
        client: &Client,
        request: Request,
        mut reader: Box<dyn ReadReply>,
    ) -> Result<Reply, ModelError> {
        let began = Instant::now();
        let first_byte = began + self.timeouts.first_byte;
        let Ok(response) = timeout_at(first_byte, client.execute(request)).await else {
            let waited = duration::setting(self.timeouts.first_byte);
            let detail = format!("no response within {waited}");
            let model = self.settings.reference();
            return Err(ModelError::Transient { model, detail });
        };
        let response = response.map_err(|error| fault::by_network(self.settings, error))?;
        let status = response.status();
        if status.is_redirection() {
            return Err(fault::redirected(self.settings, status.as_u16()));
        }
        if !status.is_success() {
            return Err(self.refused(response).await);
        }
        let next_event = began + self.timeouts.between_events;
        let progress = Progress { bytes: 0, next_byte: first_byte, next_event };
        let broken = self.read(response, reader.as_mut(), progress).await?;
        let close = broken.as_deref().map_or(Close::Clean, Close::Broken);
        let mut events = Vec::new();
        let reply = reader.finish(close, &mut events);
        self.send(events).await;
        reply.map_err(|error| self.failed(&error))
    }

    /// Feeds the reader until the response ends. Why it broke, if it did.
    async fn read(
        &self,
        mut response: Response,
        reader: &mut dyn ReadReply,
        mut progress: Progress,
    ) -> Result<Option<String>, ModelError> {
        loop {
            let segment = match self.next(&mut response, &progress).await {
                Next::Segment(segment) => segment,
                Next::End => return Ok(None),
                Next::Broken(why) => return Ok(Some(why)),
            };
            progress.bytes += segment.len() as u64;
            if progress.bytes > MAX_BODY_BYTES {
                return Ok(Some(format!("the response is longer than {MAX_BODY_BYTES} bytes")));
            }
            let mut events = Vec::new();
            let fed = reader.feed(&segment, &mut events);
            let has_content = events.iter().any(|event| *event != ReplyEvent::KeepAlive);
            self.send(events).await;
            fed.map_err(|error| self.failed(&error))?;
            if reader.is_complete() {
                timeout_at(Instant::now() + END_TIMEOUT, drain(&mut response)).await.ok();
                return Ok(None);
            }
            // The clocks start after the events are taken: a slow journal is not the provider's fault.
            progress.next_byte = Instant::now() + self.timeouts.between_bytes;
            if has_content {
                progress.next_event = Instant::now() + self.timeouts.between_events;
            }
        }
    }

    async fn next(&self, response: &mut Response, progress: &Progress) -> Next {
        let deadline = progress.next_byte.min(progress.next_event);
        match timeout_at(deadline, response.chunk()).await {
            Ok(Ok(Some(segment))) => Next::Segment(segment.into()),
            Ok(Ok(None)) => Next::End,
            Ok(Err(error)) => Next::Broken(fault::network(error).words),
            Err(_) if progress.next_event < progress.next_byte => {
                let waited = duration::setting(self.timeouts.between_events);
                Next::Broken(format!("nothing of the reply came within {waited}"))
            }
            Err(_) if progress.bytes == 0 => {
                let waited = duration::setting(self.timeouts.first_byte);
                Next::Broken(format!("no byte of the reply came within {waited}"))
            }
            Err(_) => {
                let waited = duration::setting(self.timeouts.between_bytes);
                Next::Broken(format!("no byte came within {waited}"))
            }
        }
    }

    async fn send(&self, events: Vec<ReplyEvent>) {
        for event in events {
            let delta = match event {
                ReplyEvent::Text(text) => Delta::Text(text),
                ReplyEvent::Reasoning(text) => Delta::Reasoning(text),
                ReplyEvent::CallBegun { .. }
                | ReplyEvent::CallGrew { .. }
                | ReplyEvent::Usage(_)
                | ReplyEvent::KeepAlive => continue,
            };
            self.deltas.send(delta).await;
        }
    }

    /// The error of a response whose status is one. A body that breaks off is read as far as it came.
    async fn refused(&self, mut response: Response) -> ModelError {
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let mut body = Vec::new();
        let reading = async {
            while let Ok(Some(segment)) = response.chunk().await {
                let room = MAX_ERROR_BYTES - body.len();
                body.extend_from_slice(&segment[..segment.len().min(room)]);
                if body.len() == MAX_ERROR_BYTES {
                    break;
                }
            }
        };
        timeout_at(Instant::now() + ERROR_BODY_TIMEOUT, reading).await.ok();
        let header = |name: &str| headers.get(name)?.to_str().ok();
        self.failed(&ProviderError::from_response(status, header, &body, Timestamp::now()))
    }

    fn failed(&self, error: &ProviderError) -> ModelError {
        let model = self.settings.reference();
        tracing::debug!(%model, status = error.status, kind = ?error.kind, "a model provider reported an error");
        fault::by_provider(self.settings, error)
    }
}

/// Reads what is left. What it is does not matter.
async fn drain(response: &mut Response) {
    while let Ok(Some(_)) = response.chunk().await {}
}
