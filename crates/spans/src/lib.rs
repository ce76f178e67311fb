//! Traces across processes: between the spans of this program and the trace context that is stored with jobs.
//!
//! Spans are those of `tracing` with the target [`SPAN_TARGET`]: `legwork_process::telemetry` exports them where a
//! collector is configured, and they are in no log. Everywhere else they are disabled, and what is here answers `None`.

mod context;

pub use context::set_parent;
pub use context::trace_parent;
pub use legwork_common::trace::SPAN_TARGET;
