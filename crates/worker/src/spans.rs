//! The spans of claims and attempts, and what each line of an attempt's log has.

use legwork_common::trace::TraceParent;
use legwork_queue::port::Claimed;
use legwork_spans::SPAN_TARGET;
use legwork_spans::set_parent;
use tracing::Span;

/// From the answer that gave the job to this worker until its attempt may begin.
pub(crate) fn of_claim(claimed: &Claimed, worker: &str) -> Span {
    let span = tracing::info_span!(
        target: SPAN_TARGET,
        parent: None,
        "claim",
        otel.kind = "consumer",
        messaging.system = "legwork",
        messaging.operation.name = "claim",
        messaging.operation.type = "receive",
        messaging.destination.name = %claimed.queue,
        messaging.message.id = %claimed.lease.id,
        gen_ai.conversation.id = %claimed.session,
        legwork.attempt = claimed.attempt,
        legwork.worker = worker,
    );
    set_parent(&span, claimed.spec.trace.as_ref());
    span
}

/// One attempt, to its settlement.
pub(crate) fn of_attempt(claimed: &Claimed, worker: &str) -> Span {
    let span = tracing::info_span!(
        target: SPAN_TARGET,
        parent: None,
        "attempt",
        otel.kind = "consumer",
        otel.status_code = tracing::field::Empty,
        messaging.system = "legwork",
        messaging.operation.name = "attempt",
        messaging.operation.type = "process",
        messaging.destination.name = %claimed.queue,
        messaging.message.id = %claimed.lease.id,
        gen_ai.conversation.id = %claimed.session,
        gen_ai.agent.name = %claimed.spec.agent,
        legwork.attempt = claimed.attempt,
        legwork.worker = worker,
        legwork.state = tracing::field::Empty,
        error.type = tracing::field::Empty,
    );
    set_parent(&span, claimed.spec.trace.as_ref());
    span
}

/// Records on an attempt's span in which state it left the job, and why it failed.
pub(crate) fn record_end(span: &Span, state: &str, cause: Option<&str>) {
    span.record("legwork.state", state);
    if let Some(cause) = cause {
        span.record("error.type", cause);
        span.record("otel.status_code", "ERROR");
    }
}

/// What each line of an attempt's log has, those of its agent and its tools too.
pub(crate) fn log_context(claimed: &Claimed) -> Span {
    // At the level of the rarest line, so that every line has it.
    tracing::error_span!(
        "attempt",
        job = %claimed.lease.id,
        session = %claimed.session,
        trace_id = claimed.spec.trace.as_ref().map(TraceParent::trace_id),
    )
}
