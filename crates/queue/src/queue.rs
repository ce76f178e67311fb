//! The queue on Redis: the adapter behind every role of the port.

mod connections;
mod dispatch;
mod expired_leases;
mod original;
mod permits;
mod record;
mod server;
mod session_state;
mod slice;
mod upkeep;
mod watch;
mod work;

pub(crate) use dispatch::ENQUEUE_PIECE;
pub use server::ServerFacts;

use std::sync::Arc;

use redis::aio::MultiplexedConnection;
use tokio::sync::Mutex;

use crate::error::QueueError;
use crate::keys::Keys;
use crate::link::Link;
use crate::link::Target;
use crate::settings::FleetSettings;

/// How a queue connects to Redis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectionKind {
    /// Short operations: each command takes a connection from a pool.
    Pooled,
    /// The hot path: one multiplexed connection for the life of the queue.
    Dedicated,
}

/// The queue of one namespace on one Redis. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Queue {
    target: Target,
    pub(crate) link: Link,
    pub(crate) keys: Keys,
    settings: FleetSettings,
    // The connection for the blocking wake; it stalls while it waits, so nothing else may use it.
    wake: Arc<Mutex<Option<MultiplexedConnection>>>,
}

impl Queue {
    /// Connects, and agrees on the namespace's settings: `wanted` counts if nobody was there before.
    ///
    /// # Errors
    ///
    /// [`QueueError`] when Redis cannot be reached within a few seconds, refuses, or keeps the
    /// namespace in a format that this release does not know.
    pub async fn connect(
        target: &Target,
        namespace: &str,
        wanted: &FleetSettings,
        kind: ConnectionKind,
    ) -> Result<Self, QueueError> {
        let link = match kind {
            ConnectionKind::Pooled => Link::pooled(target)?,
            ConnectionKind::Dedicated => Link::dedicated(target)?,
        };
        let settings = FleetSettings::agree(namespace, wanted, &link).await?;
        let keys = Keys::new(namespace, settings.shards);
        Ok(Self { target: target.clone(), link, keys, settings, wake: Arc::default() })
    }

    /// The namespace's settings.
    pub fn settings(&self) -> &FleetSettings {
        &self.settings
    }

    /// The names of the namespace.
    pub fn keys(&self) -> &Keys {
        &self.keys
    }

    /// Where it is connected to.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// Asks Redis for a sign of life.
    ///
    /// # Errors
    ///
    /// [`QueueError`] when there is none in time.
    pub async fn ping(&self) -> Result<(), QueueError> {
        let answer = self.link.command(&redis::cmd("PING")).await;
        answer.map(drop).map_err(|error| QueueError::from_redis("ping", error))
    }

    /// The lease in milliseconds, as the steps take it.
    fn lease_ms(&self) -> u64 {
        u64::try_from(self.settings.lease.as_millis()).unwrap_or(u64::MAX)
    }
}
