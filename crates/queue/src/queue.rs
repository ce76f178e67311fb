//! The queue on Redis: the adapter that implements every role of the port.

mod connections;
mod dispatch;
mod enqueue;
mod facts;
mod finish;
mod journal;
mod lease_ages;
mod list;
mod mailbox;
mod notifications;
mod original;
mod pauses;
mod permits;
mod questions;
mod record;
mod reservation;
mod schedules;
mod select;
mod server;
mod session_state;
mod signing;
mod slice;
mod statistics;
mod stop;
mod upkeep;
mod view;
mod waits;
mod watch;
mod work;
mod workers;

pub(crate) use enqueue::ENQUEUE_BATCH_SIZE;
pub(crate) use facts::LiveBelow;
pub use server::Access;
pub use server::ServerFacts;
pub(crate) use slice::text_slice;
pub(crate) use statistics::JobFacts;
pub(crate) use statistics::Sample;
pub(crate) use upkeep::Clearing;
pub(crate) use view::EXCERPT_BYTES;
pub(crate) use view::ViewDepth;

use std::sync::Arc;

use crate::error::QueueError;
use crate::keys::Keys;
use crate::link::BlockingReads;
use crate::link::Link;
use crate::link::Target;
use crate::settings::FleetSettings;
use crate::settings::SettingsChange;

/// How a queue connects to Redis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectionKind {
    /// For short operations: each command takes a connection from a pool.
    Pooled,
    /// For a worker's hot path: one multiplexed connection for the life of the queue.
    Dedicated,
}

/// The queue of one namespace on one Redis. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Queue {
    target: Target,
    pub(crate) link: Link,
    // For steps that are answered only once they are durable, where that was asked for.
    durable: Option<Link>,
    pub(crate) keys: Keys,
    settings: FleetSettings,
    // Of wake tokens.
    pub(crate) wake: Arc<BlockingReads>,
}

impl Queue {
    /// Connects, and reads the namespace's settings. If this is the namespace's first user, `wanted` is stored.
    ///
    /// # Errors
    ///
    /// [`QueueError`] when Redis cannot be reached within a few seconds or refuses the login, or when the namespace has
    /// a data format or a number of shards that this process cannot use; or when `target` is to be durable and the server
    /// cannot confirm that.
    pub async fn connect(
        target: &Target,
        namespace: &str,
        wanted: &FleetSettings,
        kind: ConnectionKind,
    ) -> Result<Self, QueueError> {
        let link = match kind {
            ConnectionKind::Pooled => Link::pooled(target)?,
            ConnectionKind::Dedicated => Link::dedicated(target),
        };
        let settings = FleetSettings::agree(namespace, wanted, &link).await?;
        let keys = Keys::new(namespace, settings.shards);
        let durable = Link::durable(target, keys.durable()).await?;
        Ok(Self { target: target.clone(), link, durable, keys, settings, wake: Arc::default() })
    }

    /// The settings that the namespace agreed on.
    pub fn settings(&self) -> &FleetSettings {
        &self.settings
    }

    /// Changes settings of the namespace, and returns all of them. This queue keeps those that it connected with.
    pub(crate) async fn change_settings(&self, change: SettingsChange) -> Result<FleetSettings, QueueError> {
        FleetSettings::change(self.keys.namespace(), change, &self.link).await
    }

    /// The key names of the namespace.
    pub fn keys(&self) -> &Keys {
        &self.keys
    }

    /// The server that it is connected to.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// Checks that Redis answers.
    ///
    /// # Errors
    ///
    /// [`QueueError`] when it does not within three seconds.
    pub async fn ping(&self) -> Result<(), QueueError> {
        self.link.ask("ping", &redis::cmd("PING")).await.map(drop)
    }

    /// The link of steps whose answer a caller relies on.
    fn answering(&self) -> &Link {
        self.durable.as_ref().unwrap_or(&self.link)
    }

    /// The lease in milliseconds, an argument of many steps.
    fn lease_ms(&self) -> u64 {
        u64::try_from(self.settings.lease.as_millis()).unwrap_or(u64::MAX)
    }
}
