//! The one task that sends spans.

use std::mem;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use legwork_common::error::chain;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::transform::common::tonic::ResourceAttributesWithSchema;
use opentelemetry_proto::transform::trace::tonic::group_spans_by_resource_and_scope;
use opentelemetry_sdk::trace::SpanData;
use prost::Message as _;
use reqwest::Client;
use reqwest::header::CONTENT_TYPE;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::SpanSettings;
use crate::tasks::TaskKind;
use crate::tasks::Tasks;

/// Spans of one request: the default of the OpenTelemetry specification.
const BATCH_SIZE: usize = 512;
/// How long the first span of a batch waits for others.
const BATCH_DELAY: Duration = Duration::from_secs(1);
/// How long a request may take: the default of the OpenTelemetry specification.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the last request of a program may take: its user waits for the program to end.
const LAST_EXPORT_TIMEOUT: Duration = Duration::from_secs(2);

/// Spans on their way to the collector.
#[derive(Debug)]
pub struct SpanExport {
    settings: SpanSettings,
    receiver: mpsc::Receiver<SpanData>,
    /// Spans for which there was no room in the channel.
    dropped: Arc<AtomicU64>,
}

impl SpanExport {
    pub(super) fn new(
        settings: SpanSettings,
        receiver: mpsc::Receiver<SpanData>,
        dropped: Arc<AtomicU64>,
    ) -> Self {
        Self { settings, receiver, dropped }
    }

    /// Starts the task that sends spans until the program closes, and then once more.
    pub fn start(self, tasks: &Tasks) {
        let closing = tasks.closing();
        let Self { settings, receiver, dropped } = self;
        // A redirect would take the headers elsewhere.
        let client = Client::builder().redirect(reqwest::redirect::Policy::none()).build();
        match client {
            Ok(client) => {
                let resource = ResourceAttributesWithSchema::from(&settings.resource);
                let exporter = Exporter { settings, resource, client, dropped, outage: None };
                tasks.spawn(TaskKind::Spans, exporter.run(receiver, closing));
            }
            Err(error) => tracing::warn!(error = %chain(&error), "spans are not exported"),
        }
    }
}

/// What a request needs, and how the collector stands.
struct Exporter {
    settings: SpanSettings,
    resource: ResourceAttributesWithSchema,
    client: Client,
    dropped: Arc<AtomicU64>,
    /// Spans that were dropped since the collector is away; `None` while it takes them.
    outage: Option<u64>,
}

impl Exporter {
    async fn run(mut self, mut spans: mpsc::Receiver<SpanData>, closing: CancellationToken) {
        let mut batch = Vec::with_capacity(BATCH_SIZE);
        while let Some(1..) = closing.run_until_cancelled(spans.recv_many(&mut batch, 1)).await {
            let filling = async {
                while let Some(room @ 1..) = BATCH_SIZE.checked_sub(batch.len()) {
                    if spans.recv_many(&mut batch, room).await == 0 {
                        break;
                    }
                }
            };
            // The delay is over, the batch is full, or the program closes.
            let _full = closing.run_until_cancelled(tokio::time::timeout(BATCH_DELAY, filling)).await;
            self.send(mem::take(&mut batch), EXPORT_TIMEOUT, &closing).await;
        }
        // What ended until now; more than fits into the channel cannot be there.
        while let Ok(span) = spans.try_recv() {
            batch.push(span);
        }
        if !batch.is_empty() {
            self.send(batch, LAST_EXPORT_TIMEOUT, &CancellationToken::new()).await;
        }
    }

    /// Sends a batch, once: a collector that is away gets the next one. `closing` shortens the time.
    async fn send(&mut self, batch: Vec<SpanData>, limit: Duration, closing: &CancellationToken) {
        let count = batch.len() as u64;
        let failure = {
            let posting = tokio::time::timeout(limit, self.post(batch));
            tokio::pin!(posting);
            let in_time = match closing.run_until_cancelled(&mut posting).await {
                Some(posted) => posted,
                None => tokio::time::timeout(LAST_EXPORT_TIMEOUT, posting).await.and_then(|posted| posted),
            };
            match in_time {
                Ok(posted) => posted.err(),
                Err(_elapsed) => Some("the collector does not answer".to_owned()),
            }
        };
        self.note(failure, count);
    }

    async fn post(&self, batch: Vec<SpanData>) -> Result<(), String> {
        let resource_spans = group_spans_by_resource_and_scope(batch, &self.resource);
        let body = ExportTraceServiceRequest { resource_spans }.encode_to_vec();
        let request = self
            .client
            .post(self.settings.url.clone())
            .headers(self.settings.headers.clone())
            .header(CONTENT_TYPE, "application/x-protobuf")
            .body(body);
        let response = request.send().await.map_err(|error| chain(&error.without_url()))?;
        let status = response.status();
        if status.is_success() { Ok(()) } else { Err(format!("the collector answered {status}")) }
    }

    /// Logs the beginning and the end of an outage, each once.
    fn note(&mut self, failure: Option<String>, count: u64) {
        let without_room = self.dropped.swap(0, Ordering::Relaxed);
        match (failure, self.outage) {
            (Some(reason), None) => {
                tracing::warn!(
                    reason,
                    "cannot export spans, which are dropped until the collector takes them"
                );
                self.outage = Some(count + without_room);
            }
            (Some(_), Some(dropped)) => self.outage = Some(dropped + count + without_room),
            (None, Some(dropped)) => {
                tracing::info!(dropped = dropped + without_room, "the collector takes spans again");
                self.outage = None;
            }
            (None, None) if without_room > 0 => {
                tracing::warn!(dropped = without_room, "spans end faster than the collector takes them");
            }
            (None, None) => {}
        }
    }
}
