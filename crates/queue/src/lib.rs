//! Jobs at rest and in flight: the queue on Redis, and the embedded server.
//!
//! # Layout
//!
//! - [`port`]: what other rooms may ask, by role, with crash contracts.
//! - [`Queue`]: the adapter behind every role, on Redis (or Valkey).
//! - [`keys`]: the only speller of key names.
//! - [`settings`]: fleet-wide settings, agreed on through the namespace's meta key.
//! - [`embedded`]: the private server that serves where no Redis is named.
//! - `lua/`: one file for each atomic step.

mod answer;
pub mod embedded;
mod error;
pub mod keys;
mod link;
pub mod port;
mod queue;
pub mod settings;
mod step;

pub use error::QueueError;
pub use link::Target;
pub use queue::Queue;
pub use queue::User;
