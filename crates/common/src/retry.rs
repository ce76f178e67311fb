//! Exponential backoff as an iterator over the delays between attempts.

use std::time::Duration;

/// A capped exponential backoff. The iterator yields the delay before each retry, and ends when no retries
/// are left.
///
/// The delays have no jitter; add it with [`Backoff::jittered`], which takes the random number from the
/// caller so that this crate needs no source of randomness.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backoff {
    next: Duration,
    cap: Duration,
    left: u32,
}

impl Backoff {
    /// A backoff of `retries` delays: the first is `first`, each further one is doubled, and none exceeds `cap`.
    pub fn exponential(first: Duration, cap: Duration, retries: u32) -> Self {
        Self { next: first, cap, left: retries }
    }

    /// `delay` changed by up to ten percent in either direction, so that clients that failed together do not retry
    /// together. `random` is uniform between 0 and 1; values outside are clamped.
    pub fn jittered(delay: Duration, random: f64) -> Duration {
        delay.mul_f64(0.9 + 0.2 * random.clamp(0.0, 1.0))
    }
}

impl Iterator for Backoff {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        self.left = self.left.checked_sub(1)?;
        let delay = self.next.min(self.cap);
        self.next = delay.saturating_mul(2);
        Some(delay)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_up_to_the_cap_and_ends() {
        let delays: Vec<u64> = Backoff::exponential(Duration::from_millis(200), Duration::from_secs(1), 5)
            .map(|d| u64::try_from(d.as_millis()).unwrap())
            .collect();
        assert_eq!(delays, [200, 400, 800, 1000, 1000]);
    }

    #[test]
    fn jitter_stays_within_ten_percent() {
        let delay = Duration::from_secs(10);
        assert_eq!(Backoff::jittered(delay, 0.0), Duration::from_secs(9));
        assert_eq!(Backoff::jittered(delay, 1.0), Duration::from_secs(11));
    }
}
