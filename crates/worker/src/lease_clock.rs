//! How long this worker may act on its leases, by a clock that keeps running while the machine sleeps.
//!
//! A lease is counted from the moment at which its last successful renewal was sent. Redis extended it later than that,
//! so the worker always expects the end too early, never too late. `CLOCK_BOOTTIME` is used because a closed laptop
//! stops the monotonic clock while Redis' clock continues (clock_gettime(2)).
//!
//! ```text
//! renewal sent        lease − 3 s            lease − 1 s       lease
//! ├── attempts may act ──┤── worker ends them ──┤── guard kills ──┤ another worker may claim the jobs
//! ```
//!
//! Past the first mark the leases are *in doubt*: attempts are suspended, until a renewal finds the leases valid or
//! lost.

use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rustix::time::ClockId;
use rustix::time::clock_gettime;
use tokio::sync::watch;

/// Time kept back at the end of a lease, to end what runs before another worker may start. Two thirds are for the
/// worker, which gives commands two seconds between SIGTERM and SIGKILL; the last third is for the guard. Leases below
/// ten seconds keep back three tenths instead.
const MARGIN: Duration = Duration::from_secs(3);

/// Milliseconds since the machine started, sleep included.
pub(crate) fn boot_millis() -> u64 {
    let time = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let millis = u64::try_from(time.tv_nsec / 1_000_000).unwrap_or(0);
    seconds * 1000 + millis
}

/// The time of the last successful renewal, which covers all leases of the worker. Cheap to clone; all clones are one.
#[derive(Debug, Clone)]
pub struct LeaseClock {
    renewed_at: Arc<watch::Sender<u64>>,
    lapses: Arc<AtomicU32>,
    may_act_for: Duration,
    margin: Duration,
}

impl LeaseClock {
    /// A clock for leases of this length, valid from now on.
    pub fn new(lease: Duration) -> Self {
        let margin = MARGIN.min(lease * 3 / 10);
        Self {
            renewed_at: Arc::new(watch::Sender::new(boot_millis())),
            lapses: Arc::default(),
            may_act_for: lease - margin,
            margin,
        }
    }

    /// How long a lease lasts without being renewed.
    pub fn lease(&self) -> Duration {
        self.may_act_for + self.margin
    }

    /// Milliseconds since the machine started, sleep included.
    pub fn now(&self) -> u64 {
        boot_millis()
    }

    /// Records that a renewal sent at `sent` (see [`Self::now`]) succeeded. One that is older than the last changes
    /// nothing.
    pub fn renewed(&self, sent: u64) {
        // Counted before any waiter can see that the leases are valid again: a run that checks afterwards must find
        // the lapse.
        if !self.may_act() {
            self.lapses.fetch_add(1, Ordering::SeqCst);
        }
        self.renewed_at.send_if_modified(|renewed_at| {
            let is_later = sent > *renewed_at;
            *renewed_at = sent.max(*renewed_at);
            is_later
        });
    }

    /// How often the leases were in doubt for a while. The guard may have killed whatever ran across a lapse, so the
    /// result of such a command does not count.
    pub fn lapses(&self) -> u32 {
        self.lapses.load(Ordering::SeqCst)
    }

    /// Waits until attempts may act again: without a bound, since Redis may be away for any time. Dropping the future
    /// changes nothing.
    pub async fn until_valid(&self) {
        let mut renewed = self.renewed_at.subscribe();
        while !self.may_act() {
            if renewed.changed().await.is_err() {
                // Cannot happen: this clock holds the sender. Without a sender no renewal would ever come.
                std::future::pending::<()>().await;
            }
        }
    }

    /// The moment (see [`Self::now`]) from which the guard kills every command of a job: after a worker that is awake
    /// has ended them itself, and before the lease ends.
    pub fn kill_deadline(&self) -> u64 {
        let lived = self.may_act_for + self.margin * 2 / 3;
        let lived = u64::try_from(lived.as_millis()).unwrap_or(u64::MAX);
        self.renewed_at.borrow().saturating_add(lived)
    }

    /// Puts the leases in doubt.
    #[cfg(test)]
    pub(crate) fn lapse(&self) {
        self.renewed_at.send_replace(0);
    }

    /// Whether attempts may act: the leases are not in doubt.
    pub fn may_act(&self) -> bool {
        self.remaining() > Duration::ZERO
    }

    /// Whether the answer to a claim that was sent at `sent` (see [`Self::now`]) is too old for its jobs to be run on it. Redis
    /// may have made the claim at any time since, while the clock may vouch for its leases from now on. It would do so beyond
    /// their end if the answer took longer than what is kept back of a lease: the process stood still, or the machine slept.
    pub(crate) fn is_late(&self, sent: u64) -> bool {
        Duration::from_millis(self.now().saturating_sub(sent)) > self.margin
    }

    /// How long attempts may still act if no renewal succeeds.
    pub fn remaining(&self) -> Duration {
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
        assert!(clock.remaining() <= Duration::from_secs(7) && clock.may_act());
        assert_eq!(clock.lease(), Duration::from_secs(10));
        let clock = LeaseClock::new(Duration::from_secs(1));
        assert!(clock.remaining() <= Duration::from_millis(700) && clock.may_act());
    }

    #[test]
    fn the_guard_kills_after_the_worker_would_and_before_the_lease_ends() {
        let clock = LeaseClock::new(Duration::from_secs(10));
        let remaining = clock.kill_deadline() - clock.now();
        assert!((8_900..=9_000).contains(&remaining), "{remaining}");
    }

    #[tokio::test]
    async fn a_waiter_is_woken_by_the_renewal() {
        let clock = LeaseClock::new(Duration::from_secs(10));
        clock.renewed_at.send_replace(0);
        assert!(!clock.may_act());
        let (waiter, renewer) = (clock.clone(), clock.clone());
        tokio::join!(waiter.until_valid(), async move { renewer.renewed(renewer.now()) });
        assert!(clock.may_act());
    }

    #[test]
    fn a_lapse_is_counted() {
        let clock = LeaseClock::new(Duration::from_secs(10));
        clock.renewed(clock.now());
        assert_eq!(clock.lapses(), 0);
        clock.renewed_at.send_replace(0);
        clock.renewed(clock.now());
        clock.renewed(clock.now());
        assert_eq!(clock.lapses(), 1);
    }

    #[test]
    fn the_answer_to_a_claim_is_late_once_its_leases_may_end_before_the_clock_says_so() {
        for (lease, in_time, late) in [(10_000, 2_500, 3_100), (60_000, 2_500, 3_100), (2_000, 300, 610)] {
            let lease = Duration::from_millis(lease);
            let clock = LeaseClock::new(lease);
            // Renewed just before the answer, and not again.
            clock.renewed(clock.now());
            let acts_until = clock.now() + u64::try_from(clock.remaining().as_millis()).unwrap();
            for (age, is_late) in [(in_time, false), (late, true)] {
                let sent = clock.now().saturating_sub(age);
                assert_eq!(clock.is_late(sent), is_late, "{lease:?} {age}");
                let first_end = sent + u64::try_from(lease.as_millis()).unwrap();
                assert_eq!(first_end < acts_until, is_late, "{lease:?} {age}");
            }
        }
    }

    #[test]
    fn an_old_renewal_changes_nothing() {
        let clock = LeaseClock::new(Duration::from_secs(10));
        let before = clock.remaining();
        clock.renewed(0);
        assert!(clock.remaining() <= before && clock.may_act());
    }
}
