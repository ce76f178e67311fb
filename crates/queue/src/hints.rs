//! Hints: pub/sub messages that something changed, on a connection of their own.
//!
//! Nothing depends on a hint arriving. Each receiver also polls, every two seconds or with every heartbeat; a hint only
//! makes it read sooner.
//!
//! No task keeps the connection. Whichever listener waits drives it, so a process pays for it only while a hint is of
//! use.

mod subscriptions;

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use tokio::sync::broadcast;

use crate::error::QueueError;
use crate::hints::subscriptions::Subscriptions;
use crate::link::ROUND_TRIP_TIMEOUT;
use crate::link::Target;

/// What listeners are sent.
#[derive(Debug, Clone)]
enum Hint {
    /// A message of the listener's channel.
    Payload(Vec<u8>),
    /// The connection was replaced, so that hints may have been missed.
    Missed,
}

/// A subscription connection shared by all listeners of a process. Cheap to clone.
#[derive(Clone)]
pub struct Hints {
    shared: Arc<Shared>,
}

struct Shared {
    subscriptions: Arc<Subscriptions>,
    // Keeps the connection, and never ends. It is polled by one of the listeners that wait, and keeps its place when
    // that one stops waiting and another takes over.
    keeper: tokio::sync::Mutex<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl Shared {
    /// Keeps the connection while this is polled. Never returns. Dropping the future loses nothing.
    async fn keep_subscribed(&self) {
        self.keeper.lock().await.as_mut().await;
    }
}

impl Hints {
    /// Prepares the connection. It connects with the first listener. Once it broke or went silent, it is replaced and
    /// all listeners are subscribed again, however long that takes.
    ///
    /// # Errors
    ///
    /// [`QueueError`] for a target that cannot be one.
    pub fn new(target: &Target) -> Result<Self, QueueError> {
        target.check()?;
        let subscriptions = Arc::new(Subscriptions::new(target.clone()));
        let keeper = tokio::sync::Mutex::new(Arc::clone(&subscriptions).keep());
        Ok(Self { shared: Arc::new(Shared { subscriptions, keeper }) })
    }

    /// Listens to a channel. Once this returns no hint is missed while the connection holds. If Redis cannot be reached
    /// now, the listener gets no hints until it can, and then learns that it may have missed some.
    pub async fn listen(&self, channel: String) -> Listener {
        let subscriptions = &self.shared.subscriptions;
        // Before the subscription, so that no push comes between the two.
        let hints = subscriptions.add(&channel);
        // Made before the wait, so that a dropped wait does not leave the channel counted.
        let listener = Listener { channel, hints, shared: Arc::clone(&self.shared) };
        let settled = async {
            tokio::select! {
                () = subscriptions.settled(&listener.channel) => {}
                () = self.shared.keep_subscribed() => {}
            }
        };
        if tokio::time::timeout(ROUND_TRIP_TIMEOUT, settled).await.is_err() {
            tracing::debug!(channel = %listener.channel, "not subscribed yet; polling until then");
        }
        listener
    }
}

impl fmt::Debug for Hints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hints").finish_non_exhaustive()
    }
}

/// One listener of one channel. Dropping it ends the subscription when it was the last one.
pub struct Listener {
    channel: String,
    hints: broadcast::Receiver<Hint>,
    shared: Arc<Shared>,
}

impl Listener {
    /// The next hint's payload, or `None` when hints may have been missed, so that the caller reads anyway. Waits
    /// without a timeout. Dropping the future loses no hint. While it is neither polled nor dropped, the listeners of
    /// the whole process may get none.
    pub async fn next(&mut self) -> Option<Vec<u8>> {
        loop {
            let hint = tokio::select! {
                hint = self.hints.recv() => hint,
                () = self.shared.keep_subscribed() => continue,
            };
            return match hint {
                Ok(Hint::Payload(payload)) => Some(payload),
                Ok(Hint::Missed) | Err(broadcast::error::RecvError::Lagged(_)) => None,
                // Cannot happen, because a channel stays as long as it has a listener. Without one no hint ever comes.
                Err(broadcast::error::RecvError::Closed) => std::future::pending().await,
            };
        }
    }
}

/// The new output that a hint of a job's channel carries, if it follows `offset`: a reader that is there needs no read.
/// `None` for output from elsewhere, and for a hint that is not of output or is not text.
pub fn output_after(offset: u64, hint: &[u8]) -> Option<&str> {
    let (from, text) = std::str::from_utf8(hint).ok()?.split_once(':')?;
    (from.parse() == Ok(offset)).then_some(text)
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.shared.subscriptions.remove(&self.channel);
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listener").field("channel", &self.channel).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::output_after;

    #[test]
    fn a_hint_gives_the_output_that_follows_what_a_reader_has() {
        assert_eq!(output_after(5, b"5:a:b"), Some("a:b"));
        for hint in [&b"4:x"[..], b"6:x", b"x", b"", b"5", b"5:\xff"] {
            assert_eq!(output_after(5, hint), None, "{hint:?}");
        }
    }
}
