//! The trace context of a span as a `traceparent`, and the other way round.

use legwork_common::trace::TraceParent;
use opentelemetry::Context;
use opentelemetry::trace::SpanContext;
use opentelemetry::trace::SpanId;
use opentelemetry::trace::TraceContextExt as _;
use opentelemetry::trace::TraceFlags;
use opentelemetry::trace::TraceId;
use opentelemetry::trace::TraceState;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

/// Makes a span that nothing has entered yet a child of a span of another process. Without a parent, and where no span is
/// exported, it changes nothing.
pub fn set_parent(span: &Span, parent: Option<&TraceParent>) {
    if let Some(remote) = parent.filter(|_| !span.is_disabled()).and_then(remote) {
        // It fails for a span that has begun, which then keeps its parent.
        let _kept = span.set_parent(Context::new().with_remote_span_context(remote));
    }
}

/// The trace context of a span, for what is done on its behalf in other processes; `None` where no span is exported.
pub fn trace_parent(span: &Span) -> Option<TraceParent> {
    if span.is_disabled() {
        return None;
    }
    let context = span.context();
    let context = context.span().span_context().clone();
    let flags = context.trace_flags().to_u8();
    format!("00-{}-{}-{flags:02x}", context.trace_id(), context.span_id()).parse().ok()
}

fn remote(parent: &TraceParent) -> Option<SpanContext> {
    let trace = TraceId::from_hex(parent.trace_id()).ok()?;
    let span = SpanId::from_hex(parent.span_id()).ok()?;
    let flags = TraceFlags::new(u8::from(parent.is_sampled()));
    Some(SpanContext::new(trace, span, flags, true, TraceState::NONE))
}

#[cfg(test)]
mod tests {
    use legwork_common::trace::SPAN_TARGET;
    use opentelemetry::trace::TracerProvider as _;
    use opentelemetry_sdk::trace::SdkTracerProvider;
    use tracing::subscriber::with_default;
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-00f067aa0ba902b7-01";

    #[test]
    fn a_span_continues_the_trace_of_its_parent() {
        let provider = SdkTracerProvider::builder().build();
        let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("test"));
        with_default(tracing_subscriber::registry().with(layer), || {
            let parent: TraceParent = PARENT.parse().unwrap();
            let span = tracing::info_span!(target: SPAN_TARGET, "dispatch");
            set_parent(&span, Some(&parent));
            let own = trace_parent(&span).unwrap();
            assert_eq!(own.trace_id(), parent.trace_id());
            assert_ne!(own.span_id(), parent.span_id());
            assert!(own.is_sampled());
            // The decision of the parent holds.
            let unsampled: TraceParent = PARENT.replace("-01", "-00").parse().unwrap();
            let span = tracing::info_span!(target: SPAN_TARGET, "dispatch");
            set_parent(&span, Some(&unsampled));
            assert!(!trace_parent(&span).unwrap().is_sampled());
        });
    }

    #[test]
    fn where_no_span_is_exported_there_is_no_context() {
        let span = tracing::info_span!(target: SPAN_TARGET, "dispatch");
        set_parent(&span, PARENT.parse().ok().as_ref());
        assert_eq!(trace_parent(&span), None);
    }
}
