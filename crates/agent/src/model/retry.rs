//! How often, and after how long, a model is asked again. Pure.

use std::time::Duration;

use legwork_common::retry::Backoff;

use super::ModelError;

/// The longest that a provider is waited for at once.
const LONGEST: Duration = Duration::from_secs(60);
/// How often a provider that limits the rate is asked again.
const LIMITED: u32 = 5;

/// The patience left with one model in one turn.
#[derive(Debug, Clone)]
pub(crate) struct Patience {
    passing: Backoff,
    limited: Backoff,
}

impl Patience {
    /// Repeats where the agent file says nothing.
    pub(crate) const RETRIES: u32 = 2;

    /// `retries` for failures that may pass. Only the last model is waited for when it limits the rate: before
    /// that the next one is asked at once.
    pub(crate) fn new(retries: u32, last: bool) -> Self {
        let limited = if last { LIMITED } else { 0 };
        Self {
            passing: Backoff::exponential(Duration::from_millis(200), Duration::from_secs(2), retries),
            limited: Backoff::exponential(Duration::from_secs(1), LONGEST, limited),
        }
    }

    /// How long to wait before the next try; `None` to give up. `random` is uniform in 0..1.
    pub(crate) fn delay(&mut self, error: &ModelError, random: f64) -> Option<Duration> {
        match error {
            ModelError::Transient { .. } => self.passing.next().map(|delay| Backoff::jittered(delay, random)),
            ModelError::RateLimited { retry_after, .. } => {
                let own = self.limited.next()?;
                // Never earlier than the provider asks for, up to the cap.
                Some(retry_after.map_or(Backoff::jittered(own, random), |asked| asked.min(LONGEST)))
            }
            ModelError::MissingKey { .. } | ModelError::Refused { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limited(seconds: Option<u64>) -> ModelError {
        ModelError::RateLimited {
            model: "p/m".into(),
            retry_after: seconds.map(Duration::from_secs),
            detail: String::new(),
        }
    }

    fn passing() -> ModelError {
        ModelError::Transient { model: "p/m".into(), detail: String::new() }
    }

    fn delays(error: &ModelError, last: bool) -> Vec<u128> {
        let mut patience = Patience::new(Patience::RETRIES, last);
        std::iter::from_fn(|| patience.delay(error, 0.5)).map(|delay| delay.as_millis()).collect()
    }

    #[test]
    fn what_is_tried_again() {
        assert_eq!(delays(&passing(), true), [200, 400]);
        assert_eq!(delays(&limited(None), true), [1000, 2000, 4000, 8000, 16_000]);
        assert_eq!(delays(&limited(Some(7)), true), [7000; 5]);
        assert_eq!(delays(&limited(Some(3600)), true), [60_000; 5]);
        assert!(delays(&limited(Some(7)), false).is_empty());
        let refused = ModelError::Refused { model: "p/m".into(), detail: String::new() };
        assert!(delays(&refused, true).is_empty());
    }
}
