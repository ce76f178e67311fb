//! Spans over OTLP, off unless the standard variables name a collector.
//!
//! Spans are those of `tracing` with the target [`SPAN_TARGET`], whichever crate makes them. One that has ended waits in a
//! bounded channel for one task, which sends batches as protobuf over HTTP. Nothing waits for that: where the collector is
//! slow or away, spans are dropped, and one line of the log says so. Attributes are names, ids and numbers; no task, prompt,
//! argument, result or error is among them.

mod export;
mod settings;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use legwork_common::trace::SPAN_TARGET;
use opentelemetry::Context;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::SdkTracerProvider;
use opentelemetry_sdk::trace::Span;
use opentelemetry_sdk::trace::SpanData;
use opentelemetry_sdk::trace::SpanProcessor;
use tokio::sync::mpsc;
use tracing::Subscriber;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::registry::LookupSpan;

pub use self::export::SpanExport;
pub use self::settings::SpanSettings;

/// Ended spans that wait to be sent: the default of the OpenTelemetry specification. A worker with a thousand calls a
/// second fills it in two, within which a collector that is there takes several batches.
const CHANNEL_CAPACITY: usize = 2048;

/// A layer that turns spans into those that are exported, and the export, which does nothing until it is started.
pub(crate) fn layer<S>(settings: SpanSettings) -> (impl Layer<S> + Send + Sync + 'static, SpanExport)
where
    S: Subscriber + for<'span> LookupSpan<'span> + Send + Sync,
{
    let (sender, receiver) = mpsc::channel(CHANNEL_CAPACITY);
    let dropped = Arc::new(AtomicU64::new(0));
    let sink = Sink { sender, dropped: Arc::clone(&dropped) };
    let provider = SdkTracerProvider::builder()
        .with_span_processor(sink)
        .with_resource(settings.resource.clone())
        .build();
    // Their additions say nothing about jobs: places in our code, threads, and how often a future was polled.
    let layer = tracing_opentelemetry::layer()
        .with_tracer(provider.tracer("legwork"))
        .with_location(false)
        .with_threads(false)
        .with_tracked_inactivity(false)
        .with_target(false)
        .with_filter(Targets::new().with_target(SPAN_TARGET, LevelFilter::INFO));
    (layer, SpanExport::new(settings, receiver, dropped))
}

/// Takes spans as they end.
#[derive(Debug)]
struct Sink {
    sender: mpsc::Sender<SpanData>,
    /// Spans for which there was no room.
    dropped: Arc<AtomicU64>,
}

impl SpanProcessor for Sink {
    fn on_start(&self, _span: &mut Span, _context: &Context) {}

    fn on_end(&self, span: SpanData) {
        if span.span_context.is_sampled() && self.sender.try_send(span).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _timeout: Duration) -> OTelSdkResult {
        Ok(())
    }
}
