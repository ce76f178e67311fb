//! How often, and after which delay, a failed model call is retried. Pure.

use std::time::Duration;

use legwork_common::retry::Backoff;

use super::ModelError;

/// The longest delay before one retry, whatever the provider asks for. A minute, the period over which most
/// providers count; a job that would have to wait longer fails, and its own retries take over.
const MAX_DELAY: Duration = Duration::from_secs(60);
/// Retries of a rate-limited call. Their delays double from one second, about half a minute in all, where the
/// provider asks for none.
const MAX_RATE_LIMIT_RETRIES: u32 = 5;

/// The retries that are left for one model in one turn.
#[derive(Debug, Clone)]
pub(crate) struct Retries {
    transient: Backoff,
    rate_limited: Backoff,
}

impl Retries {
    /// Retries of a transient error where the agent file sets no `fallback`.
    pub(crate) const DEFAULT_MAX: u32 = 2;

    /// At most `max_retries` retries of transient errors. A rate limit is waited for only by the last model: before
    /// that the next model is called at once.
    pub(crate) fn new(max_retries: u32, is_last_model: bool) -> Self {
        let rate_limit_retries = if is_last_model { MAX_RATE_LIMIT_RETRIES } else { 0 };
        Self {
            transient: Backoff::exponential(Duration::from_millis(200), Duration::from_secs(2), max_retries),
            rate_limited: Backoff::exponential(Duration::from_secs(1), MAX_DELAY, rate_limit_retries),
        }
    }

    /// The delay before the next try; `None` where the error is not retried, or no retry is left. `random` is
    /// uniform in 0..1.
    pub(crate) fn next_delay(&mut self, error: &ModelError, random: f64) -> Option<Duration> {
        match error {
            ModelError::Transient { .. } => {
                self.transient.next().map(|delay| Backoff::jittered(delay, random))
            }
            ModelError::RateLimited { retry_after, .. } => {
                let own = self.rate_limited.next()?;
                // No jitter on the provider's own delay: a retry before it would be refused.
                Some(retry_after.map_or(Backoff::jittered(own, random), |asked| asked.min(MAX_DELAY)))
            }
            ModelError::MissingKey { .. } | ModelError::Refused { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate_limited(seconds: Option<u64>) -> ModelError {
        ModelError::RateLimited {
            model: "p/m".into(),
            retry_after: seconds.map(Duration::from_secs),
            detail: String::new(),
        }
    }

    fn transient() -> ModelError {
        ModelError::Transient { model: "p/m".into(), detail: String::new() }
    }

    fn delays(error: &ModelError, is_last_model: bool) -> Vec<u128> {
        let mut retries = Retries::new(Retries::DEFAULT_MAX, is_last_model);
        std::iter::from_fn(|| retries.next_delay(error, 0.5)).map(|delay| delay.as_millis()).collect()
    }

    #[test]
    fn retries_transient_errors_and_rate_limits_within_bounds() {
        assert_eq!(delays(&transient(), true), [200, 400]);
        assert_eq!(delays(&rate_limited(None), true), [1000, 2000, 4000, 8000, 16_000]);
        assert_eq!(delays(&rate_limited(Some(7)), true), [7000; 5]);
        assert_eq!(delays(&rate_limited(Some(3600)), true), [60_000; 5]);
        assert!(delays(&rate_limited(Some(7)), false).is_empty());
        let refused = ModelError::Refused { model: "p/m".into(), detail: String::new() };
        assert!(delays(&refused, true).is_empty());
    }
}
