//! How long this worker may still act on its leases, by a clock that goes on while the machine sleeps.
//!
//! A lease counts from the sending of the last renewal that was answered well. `CLOCK_BOOTTIME` is used
//! because a closed laptop stops the monotonic clock while Redis' clock goes on
//! (clock_gettime(2)).

use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rustix::time::ClockId;
use rustix::time::clock_gettime;
use tokio::sync::watch;

/// Time kept back at the end of a lease, to end what runs before another worker may begin.
const MARGIN: Duration = Duration::from_secs(3);

/// Milliseconds since the machine started, sleep included.
pub(crate) fn boot_millis() -> u64 {
    let time = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let millis = u64::try_from(time.tv_nsec / 1_000_000).unwrap_or(0);
    seconds * 1000 + millis
}

/// The time of the last good renewal. Cheap to clone.
#[derive(Debug, Clone)]
pub struct LeaseClock {
    renewed_at: Arc<watch::Sender<u64>>,
    // How often the leases were not sure for a while.
    lapses: Arc<AtomicU32>,
    may_act_for: Duration,
    margin: Duration,
}

impl LeaseClock {
    /// A clock for leases of this length, good from now on.
    pub fn new(lease: Duration) -> Self {
        let margin = MARGIN.min(lease * 3 / 10);
        Self {
            renewed_at: Arc::new(watch::Sender::new(boot_millis())),
            lapses: Arc::default(),
            may_act_for: lease - margin,
            margin,
        }
    }

    /// Milliseconds since the machine started, sleep included.
    pub fn now(&self) -> u64 {
        boot_millis()
    }

    /// A renewal that was sent at `sent` was answered well.
    pub fn renewed(&self, sent: u64) {
        // Before anybody can see that they are sure again.
        if !self.may_act() {
            self.lapses.fetch_add(1, Ordering::SeqCst);
        }
        self.renewed_at.send_if_modified(|renewed_at| {
            let is_later = sent > *renewed_at;
            *renewed_at = sent.max(*renewed_at);
            is_later
        });
    }

    /// How often the leases were not sure for a while. Whatever ran across a lapse may have been ended by the
    /// guard, and what it says of its end does not count.
    pub fn lapses(&self) -> u32 {
        self.lapses.load(Ordering::SeqCst)
    }

    /// Waits until attempts may act again. Dropping the future changes nothing.
    pub async fn until_sure(&self) {
        let mut renewed = self.renewed_at.subscribe();
        while !self.may_act() {
            if renewed.changed().await.is_err() {
                // Cannot happen while this clock holds the sender; waiting for ever is what it would mean.
                std::future::pending::<()>().await;
            }
        }
    }

    /// The moment from which nothing of an attempt may live: before the lease ends, and after a worker that is
    /// awake has ended its commands in good order.
    pub fn last_moment(&self) -> u64 {
        let lived = self.may_act_for + self.margin * 2 / 3;
        let lived = u64::try_from(lived.as_millis()).unwrap_or(u64::MAX);
        self.renewed_at.borrow().saturating_add(lived)
    }

    /// Whether attempts may still act.
    pub fn may_act(&self) -> bool {
        self.left() > Duration::ZERO
    }

    /// How long attempts may still act.
    pub fn left(&self) -> Duration {
        let age = self.now().saturating_sub(*self.renewed_at.borrow());
        self.may_act_for.saturating_sub(Duration::from_millis(age))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_margin_is_kept_back() {
        let clock = LeaseClock::new(Duration::from_secs(10));
        assert!(clock.left() <= Duration::from_secs(7) && clock.may_act());
        let clock = LeaseClock::new(Duration::from_secs(1));
        assert!(clock.left() <= Duration::from_millis(700) && clock.may_act());
    }

    #[test]
    fn the_guard_ends_after_the_worker_would_and_before_the_lease() {
        let clock = LeaseClock::new(Duration::from_secs(10));
        let left = clock.last_moment() - clock.now();
        assert!((8_900..=9_000).contains(&left), "{left}");
    }

    #[tokio::test]
    async fn who_waits_hears_of_the_renewal() {
        let clock = LeaseClock::new(Duration::from_secs(10));
        clock.renewed_at.send_replace(0);
        assert!(!clock.may_act());
        let (waits, says) = (clock.clone(), clock.clone());
        tokio::join!(waits.until_sure(), async move { says.renewed(says.now()) });
        assert!(clock.may_act());
    }

    #[test]
    fn a_lapse_is_remembered() {
        let clock = LeaseClock::new(Duration::from_secs(10));
        clock.renewed(clock.now());
        assert_eq!(clock.lapses(), 0);
        clock.renewed_at.send_replace(0);
        clock.renewed(clock.now());
        clock.renewed(clock.now());
        assert_eq!(clock.lapses(), 1);
    }

    #[test]
    fn an_old_renewal_changes_nothing() {
        let clock = LeaseClock::new(Duration::from_secs(10));
        let before = clock.left();
        clock.renewed(0);
        assert!(clock.left() <= before && clock.may_act());
    }
}
