//! Keeps the subscriptions of a process equal to its list of listeners, on one connection at a time.
//!
//! One future sends all commands, each after the reply to the one before. So a channel that is dropped and listened to
//! again is never unsubscribed last.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

use legwork_common::retry::Backoff;
use redis::PushInfo;
use redis::PushKind;
use redis::RedisError;
use redis::RedisResult;
use redis::Value;
use redis::aio::MultiplexedConnection;
use tokio::sync::Notify;
use tokio::sync::broadcast;
use tokio::sync::watch;

use crate::hints::Hint;
use crate::link::MAX_RECONNECT_DELAY;
use crate::link::Target;

/// Time between two pings. Nothing else would notice a connection that went silent, since hints are rare. With the
/// timeout of a command, such a connection is replaced within four seconds.
const PING_INTERVAL: Duration = Duration::from_secs(2);
/// The delay before the first attempt to reconnect.
const FIRST_RECONNECT_DELAY: Duration = Duration::from_millis(100);
/// Hints of one channel that a slow listener may fall behind before it loses the oldest and is woken to read: some seconds
/// of a job's output. A channel's queue takes some 3 kB, and a server may follow thousands of jobs.
const HINT_CHANNEL_CAPACITY: usize = 32;

/// The channels that are listened to, and how far the connection has got with them.
pub(super) struct Subscriptions {
    target: Target,
    // A std mutex: it is never held over an await.
    channels: Mutex<Channels>,
    // A channel got its first listener.
    added: Notify,
    // `Channel::subscribed` or `Channels::unreachable` changed.
    changed: watch::Sender<()>,
}

#[derive(Default)]
struct Channels {
    by_name: HashMap<String, Channel>,
    // The last connection was lost or could not be made, and there is no new one yet.
    unreachable: bool,
}

struct Channel {
    // At zero the channel is unsubscribed at the next opportunity, and not at once: it is often listened to again.
    listeners: usize,
    subscribed: bool,
    // To its listeners alone: with one queue for all channels, each of a thousand followers would wake for every hint.
    hints: broadcast::Sender<Hint>,
}

impl Default for Channel {
    fn default() -> Self {
        Self { listeners: 0, subscribed: false, hints: broadcast::channel(HINT_CHANNEL_CAPACITY).0 }
    }
}

/// Channels to subscribe to and to unsubscribe from.
struct Difference {
    new: Vec<String>,
    unused: Vec<String>,
}

impl Subscriptions {
    pub(super) fn new(target: Target) -> Self {
        let (changed, _) = watch::channel(());
        Self { target, channels: Mutex::default(), added: Notify::new(), changed }
    }

    fn channels(&self) -> MutexGuard<'_, Channels> {
        self.channels.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a listener of this channel; what it receives from.
    pub(super) fn add(&self, name: &str) -> broadcast::Receiver<Hint> {
        let mut channels = self.channels();
        let channel = channels.by_name.entry(name.to_owned()).or_default();
        channel.listeners += 1;
        if !channel.subscribed {
            self.added.notify_one();
        }
        channel.hints.subscribe()
    }

    /// Counts one listener of this channel less.
    pub(super) fn remove(&self, name: &str) {
        if let Some(channel) = self.channels().by_name.get_mut(name) {
            channel.listeners = channel.listeners.saturating_sub(1);
        }
    }

    /// Waits until the channel is subscribed, or Redis cannot be reached.
    pub(super) async fn settled(&self, name: &str) {
        let mut changed = self.changed.subscribe();
        loop {
            {
                let channels = self.channels();
                let subscribed = channels.by_name.get(name).is_none_or(|channel| channel.subscribed);
                if subscribed || channels.unreachable {
                    return;
                }
            }
            // An error means that the sender is gone, which `self` rules out.
            changed.changed().await.ok();
        }
    }

    /// Connects, subscribes and reconnects while there are listeners. The future never ends, and does nothing while it
    /// is not polled.
    pub(super) fn keep(self: Arc<Self>) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(async move {
            let mut delays = delays();
            loop {
                let Err(error) = Arc::clone(&self).serve(&mut delays).await;
                tracing::debug!(%error, "no connection for hints; reconnecting");
                self.mark_lost();
                tokio::time::sleep(delays.next().unwrap_or(MAX_RECONNECT_DELAY)).await;
                self.until_wanted().await;
            }
        })
    }

    /// Makes a connection and keeps its subscriptions, until it is lost or does not answer.
    async fn serve(self: Arc<Self>, delays: &mut Backoff) -> RedisResult<std::convert::Infallible> {
        let lost = Arc::new(Notify::new());
        let mut connection = self.target.push_connection(self.sender(&lost)).await?;
        loop {
            let difference = self.difference();
            if !difference.unused.is_empty() {
                connection.unsubscribe(&difference.unused).await?;
            }
            if !difference.new.is_empty() {
                connection.subscribe(&difference.new).await?;
            }
            self.mark_subscribed(&difference.new);
            *delays = self::delays();
            tokio::select! {
                () = self.added.notified() => {}
                () = lost.notified() => return Err(dropped()),
                () = tokio::time::sleep(PING_INTERVAL) => ping(&mut connection).await?,
            }
        }
    }

    /// What a connection does with a push: hands it to the listeners of its channel, or reports its own end to `lost`.
    fn sender(
        self: &Arc<Self>,
        lost: &Arc<Notify>,
    ) -> impl Fn(PushInfo) -> Result<(), ()> + Send + Sync + 'static {
        let (subscriptions, lost) = (Arc::clone(self), Arc::clone(lost));
        move |push| {
            if push.kind == PushKind::Disconnection {
                lost.notify_one();
            } else if let Some((channel, payload)) = message(push) {
                subscriptions.deliver(&channel, payload);
            }
            Ok(())
        }
    }

    /// Sends a payload to the listeners of a channel.
    fn deliver(&self, channel: &[u8], payload: Vec<u8>) {
        let Ok(name) = std::str::from_utf8(channel) else { return };
        if let Some(channel) = self.channels().by_name.get(name) {
            // Fails without a listener.
            channel.hints.send(Hint::Payload(payload)).ok();
        }
    }

    /// Waits until a channel has a listener.
    async fn until_wanted(&self) {
        while self.channels().by_name.values().all(|channel| channel.listeners == 0) {
            self.added.notified().await;
        }
    }

    /// What to change. Unused channels are forgotten here, so that a later listener waits for a new subscription.
    fn difference(&self) -> Difference {
        let mut channels = self.channels();
        let removed = channels.by_name.extract_if(|_, channel| channel.listeners == 0);
        let unused = removed.filter(|(_, channel)| channel.subscribed).map(|(name, _)| name).collect();
        let new = channels.by_name.iter().filter(|(_, channel)| !channel.subscribed);
        Difference { new: new.map(|(name, _)| name.clone()).collect(), unused }
    }

    fn mark_subscribed(&self, names: &[String]) {
        let mut channels = self.channels();
        for name in names {
            if let Some(channel) = channels.by_name.get_mut(name) {
                channel.subscribed = true;
            }
        }
        if std::mem::take(&mut channels.unreachable) {
            for channel in channels.by_name.values() {
                // Fails without a listener.
                channel.hints.send(Hint::Missed).ok();
            }
        }
        self.changed.send_replace(());
    }

    fn mark_lost(&self) {
        let mut channels = self.channels();
        channels.unreachable = true;
        channels.by_name.values_mut().for_each(|channel| channel.subscribed = false);
        self.changed.send_replace(());
    }
}

fn delays() -> Backoff {
    Backoff::exponential(FIRST_RECONNECT_DELAY, MAX_RECONNECT_DELAY, u32::MAX)
}

/// Channel and payload of a published message; `None` for any other push.
fn message(push: PushInfo) -> Option<(Vec<u8>, Vec<u8>)> {
    if push.kind != PushKind::Message {
        return None;
    }
    let mut parts = push.data.into_iter();
    match (parts.next()?, parts.next()?) {
        (Value::BulkString(channel), Value::BulkString(payload)) => Some((channel, payload)),
        _ => None,
    }
}

fn dropped() -> RedisError {
    std::io::Error::from(std::io::ErrorKind::ConnectionReset).into()
}

async fn ping(connection: &mut MultiplexedConnection) -> RedisResult<()> {
    redis::cmd("PING").exec_async(connection).await
}

#[cfg(test)]
mod tests {
    use tokio::sync::broadcast::error::TryRecvError;

    use super::*;

    #[test]
    fn a_hint_reaches_the_listeners_of_its_channel_alone() {
        let subscriptions = Subscriptions::new(Target::parse("redis://127.0.0.1:1").unwrap());
        let [mut one, mut again, mut other] = ["one", "one", "other"].map(|name| subscriptions.add(name));
        subscriptions.deliver(b"one", b"hint".to_vec());
        subscriptions.deliver(b"unknown", b"hint".to_vec());
        for listener in [&mut one, &mut again] {
            assert!(matches!(listener.try_recv(), Ok(Hint::Payload(payload)) if payload == b"hint"));
        }
        assert!(matches!(other.try_recv(), Err(TryRecvError::Empty)));
    }
}
