//! Hints: messages that something changed, carried by pub/sub on a connection of their own.
//!
//! Nothing depends on a hint arriving. Whoever listens also looks by itself, every two seconds or with
//! every heartbeat; a hint only makes it look sooner.

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
use crate::link::ROUND_TRIP;
use crate::link::Target;

/// Hints that a slow listener may fall behind before it is told to look for itself.
const CAPACITY: usize = 1024;

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
    /// Prepares the connection; connects at the first listener, and again by itself.
    ///
    /// # Errors
    ///
    /// [`QueueError`] for a target that cannot be one.
    pub fn new(target: &Target) -> Result<Self, QueueError> {
        let (pushes, _) = broadcast::channel(CAPACITY);
        let connection = target.push_connection(pushes.clone())?;
        Ok(Self { shared: Arc::new(Shared { connection, pushes, listeners: Mutex::default() }) })
    }

    /// Listens to a channel. From the moment this answers no hint is missed while the connection holds;
    /// if Redis cannot be reached now, the listener is silent until it can.
    pub async fn listen(&self, channel: String) -> Listener {
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
                tracing::debug!(%error, channel = %old, "could not unsubscribe");
            }
        }
        if is_new && let Err(error) = bounded(connection.subscribe(listener.channel.as_str())).await {
            tracing::debug!(%error, channel = %listener.channel, "could not subscribe; looking by time instead");
        }
        listener
    }
}

/// A call of the connection, which by itself would go on reconnecting for much longer.
async fn bounded(call: impl Future<Output = redis::RedisResult<()>>) -> redis::RedisResult<()> {
    let late = |_| std::io::Error::from(std::io::ErrorKind::TimedOut).into();
    tokio::time::timeout(ROUND_TRIP, call).await.unwrap_or_else(|elapsed| Err(late(elapsed)))
}

impl fmt::Debug for Hints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hints").finish_non_exhaustive()
    }
}

/// One listener of one channel.
pub struct Listener {
    channel: String,
    pushes: broadcast::Receiver<PushInfo>,
    shared: Arc<Shared>,
}

impl Listener {
    /// The next hint's payload, or `None` when hints may have been missed and one should look. Waits for
    /// as long as it takes; dropping the future loses nothing.
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
                // Cannot happen while `shared` holds the sender; waiting for ever is what it would mean.
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
