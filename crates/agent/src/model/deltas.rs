//! The deltas of a reply on their way from the model's stream to who asked.
//!
//! Both are futures of one run, and most of the time nothing is on its way: thousands of runs wait for the first word of their
//! models. A channel of tokio would reserve more than a kilobyte for each of them.

use std::convert::Infallible;
use std::future;
use std::mem;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

use tokio::sync::Notify;

use super::Delta;

/// Deltas that wait to be taken. A delta is a token or two: this many are a line of text, which becomes one write. More would
/// only let a slow journal fall further behind the stream.
const CAPACITY: usize = 64;

/// The deltas of one call. One future sends at a time, and one must take: nothing else makes room.
#[derive(Debug, Default)]
pub struct Deltas {
    // A std mutex: held for a push or a swap, never over an await.
    queue: Mutex<Queue>,
    /// Signalled when there is something to take, or never will be.
    arrived: Notify,
    /// Signalled when there is room.
    taken: Notify,
}

#[derive(Debug, Default)]
struct Queue {
    deltas: Vec<Delta>,
    is_closed: bool,
}

impl Deltas {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a delta; waits while 64 are there, so that a slow journal slows the stream down. Dropped while it waits, it has
    /// added nothing.
    pub async fn send(&self, delta: Delta) {
        loop {
            {
                let mut queue = self.queue();
                if queue.deltas.len() < CAPACITY {
                    queue.deltas.push(delta);
                    break;
                }
            }
            // A signal between the check and this wait is kept.
            self.taken.notified().await;
        }
        self.arrived.notify_one();
    }

    /// Takes what is sent, for a call whose reply is only used whole. Never returns.
    pub(crate) async fn discard(&self) -> Infallible {
        let mut batch = Vec::new();
        while self.take(&mut batch).await {
            batch.clear();
        }
        future::pending().await
    }

    /// What was sent and not taken.
    #[cfg(test)]
    pub(crate) fn left(self) -> Vec<Delta> {
        mem::take(&mut self.queue().deltas)
    }

    /// Nothing is sent any more: once all is taken, [`Self::take`] returns false.
    pub(crate) fn close(&self) {
        self.queue().is_closed = true;
        self.arrived.notify_one();
    }

    /// Waits for deltas, and takes all that are there into `batch`, which must be empty; false once there will be no more. Its
    /// room is used for those that come next, so that a stream allocates nothing for each. Dropped, it has taken nothing.
    pub(crate) async fn take(&self, batch: &mut Vec<Delta>) -> bool {
        debug_assert!(batch.is_empty());
        loop {
            {
                let mut queue = self.queue();
                if !queue.deltas.is_empty() {
                    mem::swap(&mut queue.deltas, batch);
                    break;
                }
                if queue.is_closed {
                    return false;
                }
            }
            // A signal between the check and this wait is kept.
            self.arrived.notified().await;
        }
        self.taken.notify_one();
        true
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;
    use futures::future::join;

    use super::*;

    fn word(number: usize) -> Delta {
        Delta::Text(number.to_string())
    }

    #[tokio::test]
    async fn deltas_are_taken_in_their_order_and_a_full_queue_waits_for_room() {
        let deltas = Deltas::default();
        let sending = async {
            for number in 0..3 * CAPACITY {
                deltas.send(word(number)).await;
            }
            deltas.close();
        };
        let (mut taken, mut batch, mut most) = (Vec::new(), Vec::new(), 0);
        let taking = async {
            while deltas.take(&mut batch).await {
                most = most.max(batch.len());
                taken.append(&mut batch);
            }
        };
        join(sending, taking).await;
        assert_eq!(taken, (0..3 * CAPACITY).map(word).collect::<Vec<_>>());
        assert_eq!(most, CAPACITY);
    }

    #[tokio::test]
    async fn what_waits_when_the_stream_ends_is_taken() {
        let deltas = Deltas::default();
        deltas.send(word(1)).await;
        deltas.close();
        let mut batch = Vec::new();
        assert!(deltas.take(&mut batch).await);
        assert_eq!(mem::take(&mut batch), [word(1)]);
        assert!(!deltas.take(&mut batch).await);
    }

    #[tokio::test]
    async fn a_send_that_is_dropped_while_it_waits_adds_nothing() {
        let deltas = Deltas::default();
        for number in 0..CAPACITY {
            deltas.send(word(number)).await;
        }
        assert!(deltas.send(word(CAPACITY)).now_or_never().is_none());
        let mut batch = Vec::new();
        assert!(deltas.take(&mut batch).await);
        assert_eq!(batch.len(), CAPACITY);
        batch.clear();
        assert!(deltas.take(&mut batch).now_or_never().is_none());
        deltas.send(word(1)).await;
        assert!(deltas.take(&mut batch).await);
    }
}
