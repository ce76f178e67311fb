//! Hints: pub/sub messages that something changed, on a connection of their own.
//!
//! Nothing depends on a hint arriving. Each receiver also polls, every two seconds or with every heartbeat; a hint only
//! makes it read sooner.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

use redis::PushInfo;
use redis::PushKind;
use redis::Value;
use redis::aio::ConnectionManager;
use tokio::sync::broadcast;

use crate::error::QueueError;
use crate::link::ROUND_TRIP_TIMEOUT;
use crate::link::Target;

/// Pushes that a slow listener may fall behind before it loses the oldest and is woken to read. All channels of a
/// process share it, so it is some bursts of output long; a push is a few hundred bytes.
const PUSH_CHANNEL_CAPACITY: usize = 1024;

/// A subscription connection shared by all listeners of a process. Cheap to clone.
#[derive(Clone)]
pub struct Hints {
    shared: Arc<Shared>,
}

struct Shared {
    connection: ConnectionManager,
    pushes: broadcast::Sender<PushInfo>,
    // Listeners of each channel. A count of zero is unsubscribed at the next call of `listen`, because
    // dropping a listener cannot wait for Redis.
    listeners: Mutex<HashMap<String, usize>>,
}

impl Shared {
    fn listeners(&self) -> MutexGuard<'_, HashMap<String, usize>> {
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Hints {
    /// Prepares the connection. It connects with the first listener, and reconnects and subscribes again after it
    /// broke.
    ///
    /// # Errors
    ///
    /// [`QueueError`] for a target that cannot be one.
    pub fn new(target: &Target) -> Result<Self, QueueError> {
        let (pushes, _) = broadcast::channel(PUSH_CHANNEL_CAPACITY);
        let connection = target.push_connection(pushes.clone())?;
        Ok(Self { shared: Arc::new(Shared { connection, pushes, listeners: Mutex::default() }) })
    }

    /// Listens to a channel. Once this returns no hint is missed while the connection holds. If Redis cannot be reached
    /// now, the listener gets no hints until it can.
    pub async fn listen(&self, channel: String) -> Listener {
        // Before the subscription, so that no push comes between the two.
        let pushes = self.shared.pushes.subscribe();
        let (is_new, unused) = {
            let mut listeners = self.shared.listeners();
            let unused: Vec<String> =
                listeners.extract_if(|_, count| *count == 0).map(|(channel, _)| channel).collect();
            let count = listeners.entry(channel.clone()).or_insert(0);
            *count += 1;
            (*count == 1, unused)
        };
        let listener = Listener { channel, pushes, shared: Arc::clone(&self.shared) };
        let mut connection = self.shared.connection.clone();
        for old in unused.iter().filter(|old| **old != listener.channel) {
            if let Err(error) = bounded(connection.unsubscribe(old.as_str())).await {
                tracing::debug!(%error, channel = %old, "failed to unsubscribe");
            }
        }
        if is_new && let Err(error) = bounded(connection.subscribe(listener.channel.as_str())).await {
            tracing::debug!(%error, channel = %listener.channel, "failed to subscribe; polling only");
        }
        listener
    }
}

/// A call of the connection, which reconnects for much longer than a listener should wait.
async fn bounded(call: impl Future<Output = redis::RedisResult<()>>) -> redis::RedisResult<()> {
    let late = |_| std::io::Error::from(std::io::ErrorKind::TimedOut).into();
    tokio::time::timeout(ROUND_TRIP_TIMEOUT, call).await.unwrap_or_else(|elapsed| Err(late(elapsed)))
}

impl fmt::Debug for Hints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hints").finish_non_exhaustive()
    }
}

/// One listener of one channel. Dropping it ends the subscription when it was the last one.
pub struct Listener {
    channel: String,
    pushes: broadcast::Receiver<PushInfo>,
    shared: Arc<Shared>,
}

impl Listener {
    /// The next hint's payload, or `None` when hints may have been missed, so that the caller reads anyway. Waits
    /// without a timeout. Dropping the future loses no hint.
    pub async fn next(&mut self) -> Option<Vec<u8>> {
        loop {
            match self.pushes.recv().await {
                Ok(push) if push.kind == PushKind::Disconnection => return None,
                Ok(push) => {
                    if let Some(payload) = self.payload(push) {
                        return Some(payload);
                    }
                }
                Err(broadcast::error::RecvError::Lagged(_)) => return None,
                // Cannot happen, because `shared` holds the sender. Without one no hint ever comes.
                Err(broadcast::error::RecvError::Closed) => std::future::pending().await,
            }
        }
    }

    /// The payload of a message on this listener's channel.
    fn payload(&self, push: PushInfo) -> Option<Vec<u8>> {
        if push.kind != PushKind::Message {
            return None;
        }
        let mut parts = push.data.into_iter();
        match (parts.next()?, parts.next()?) {
            (Value::BulkString(channel), Value::BulkString(payload)) => {
                (channel == self.channel.as_bytes()).then_some(payload)
            }
            _ => None,
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Some(count) = self.shared.listeners().get_mut(&self.channel) {
            *count = count.saturating_sub(1);
        }
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listener").field("channel", &self.channel).finish_non_exhaustive()
    }
}
