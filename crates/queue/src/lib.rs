//! The job queue on Redis, and the embedded server.
//!
//! # Layout
//!
//! - [`port`]: what other crates may ask, by role, with crash contracts.
//! - [`Queue`]: the adapter that implements every role, on Redis or Valkey.
//! - [`Service`]: the service trait over the port, for one caller. [`Observer`]: view, wait and stop without that reach.
//! - [`operator`]: the handle of operators, which sees every job.
//! - [`retry_while_unavailable`], [`ride_out`]: retries while Redis cannot be reached.
//! - [`Hints`]: pub/sub, on which nothing depends.
//! - [`keys`]: the only place that spells key names.
//! - [`settings`]: fleet-wide settings, stored in the namespace's meta key.
//! - [`mod@bench`]: what a measurement asks of the server.
//! - [`embedded`]: the private server that is used where no Redis is named.
//! - `lua/`: one file for each atomic step; `lua/prelude.lua` and `lua/prelude/`: what they share.

mod answer;
pub mod bench;
pub mod embedded;
mod error;
mod hints;
pub mod keys;
mod link;
mod observer;
pub mod operator;
pub mod port;
mod queue;
mod retry;
mod service;
pub mod settings;
mod step;
mod stored;

pub use error::QueueError;
pub use hints::Hints;
pub use hints::Listener;
pub use hints::output_after;
pub use keys::JobIndex;
pub use link::Target;
pub use observer::Observer;
pub use observer::POLL_INTERVAL;
pub use operator::Operator;
pub use port::Connections;
pub use port::DispatchedBy;
pub use queue::Access;
pub use queue::ConnectionKind;
pub use queue::Queue;
pub use queue::ServerFacts;
pub use retry::Retryable;
pub use retry::retry_while_unavailable;
pub use retry::ride_out;
pub use service::Batch;
pub use service::Caller;
pub use service::Service;
