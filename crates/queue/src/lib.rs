//! Jobs at rest and in flight: the queue on Redis, and the embedded server.
//!
//! # Layout
//!
//! - [`port`]: what other rooms may ask, by role, with crash contracts.
//! - [`Queue`]: the adapter behind every role, on Redis (or Valkey).
//! - [`Service`]: the service trait over the port, for one caller; [`Observer`]: the same without a reach.
//! - [`open_session`]: what comes before the first dispatch into a session.
//! - [`retry_while_unavailable`]: asking on while Redis cannot be reached.
//! - [`Hints`]: pub/sub, on which nothing depends.
//! - [`keys`]: the only speller of key names.
//! - [`settings`]: fleet-wide settings, agreed on through the namespace's meta key.
//! - [`mod@bench`]: what a measurement asks of the server.
//! - [`embedded`]: the private server that serves where no Redis is named.
//! - `lua/`: one file for each atomic step.

mod answer;
pub mod bench;
pub mod embedded;
mod error;
mod hints;
pub mod keys;
mod link;
mod observer;
pub mod port;
mod queue;
mod retry;
mod service;
mod session;
pub mod settings;
mod step;

pub use error::QueueError;
pub use hints::Hints;
pub use hints::Listener;
pub use link::Target;
pub use observer::Observer;
pub use observer::POLL_INTERVAL;
pub use queue::ConnectionKind;
pub use queue::Queue;
pub use queue::ServerFacts;
pub use retry::retry_while_unavailable;
pub use service::Batch;
pub use service::Caller;
pub use service::Service;
pub use session::open_session;
