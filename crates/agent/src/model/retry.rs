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
/// The delay before the first retry after a broken connection or an error of the provider. Most of them are over at once.
const FIRST_TRANSIENT_DELAY: Duration = Duration::from_secs(2);
/// The delay before the second one, doubled for each further one: what was not over at once takes as long as an overload,
/// and often is one.
const TRANSIENT_DELAY: Duration = Duration::from_secs(20);
/// The first delay where another model can be called instead.
const HASTY_DELAY: Duration = Duration::from_millis(500);
/// The longest delay there.
const MAX_HASTY_DELAY: Duration = Duration::from_secs(4);
/// The first delay after an overload, where the provider asks for none: with the second one, which is twice as long, the
/// tries outlive an overload of about 24 s.
const OVERLOAD_DELAY: Duration = Duration::from_secs(8);
/// A provider that asks for less than this says nothing about how long it will be busy. A second is the shortest delay that
/// most of them name.
const MIN_ASKED_DELAY: Duration = Duration::from_secs(1);
/// How often an empty reply is asked for again. The same request usually has an answer then; a third request would be
/// paid for in vain.
const MAX_EMPTY_RETRIES: u32 = 1;

/// The retries of one model in one turn.
#[derive(Debug, Clone)]
pub(crate) struct Retries {
    max_transient: u32,
    is_last_model: bool,
    /// Those that are left; `None` before the first failure. Boxed, because most calls fail in no way.
    left: Option<Box<Left>>,
}

/// The retries that are left, by error.
#[derive(Debug, Clone)]
struct Left {
    transient: Transient,
    overloaded: Backoff,
    rate_limited: Backoff,
    empty: Backoff,
}

impl Left {
    fn all(max_transient: u32, is_last_model: bool) -> Self {
        let rate_limit_retries = if is_last_model { MAX_RATE_LIMIT_RETRIES } else { 0 };
        Self {
            transient: Transient::new(max_transient, is_last_model),
            overloaded: Backoff::exponential(OVERLOAD_DELAY, MAX_DELAY, max_transient),
            rate_limited: Backoff::exponential(Duration::from_secs(1), MAX_DELAY, rate_limit_retries),
            empty: Backoff::exponential(Duration::ZERO, Duration::ZERO, MAX_EMPTY_RETRIES),
        }
    }
}

impl Retries {
    /// Retries of a transient error where the agent file sets no `fallback`.
    pub(crate) const DEFAULT_MAX: u32 = 2;

    /// At most `max_transient` retries of transient errors and overloads. A provider's limits are waited for only by the
    /// last model: before that the next model is called at once.
    pub(crate) fn new(max_transient: u32, is_last_model: bool) -> Self {
        Self { max_transient, is_last_model, left: None }
    }

    /// The delay before the next try; `None` where the error is not retried, or no retry is left. `random` is
    /// uniform in 0..1.
    pub(crate) fn next_delay(&mut self, error: &ModelError, random: f64) -> Option<Duration> {
        let (max_transient, is_last_model) = (self.max_transient, self.is_last_model);
        let left = self.left.get_or_insert_with(|| Box::new(Left::all(max_transient, is_last_model)));
        let (delays, retry_after): (&mut dyn Iterator<Item = Duration>, _) = match error {
            ModelError::Transient { .. } => (&mut left.transient, &None),
            ModelError::Overloaded { retry_after, .. } if is_last_model => {
                (&mut left.overloaded, retry_after)
            }
            // The next model answers sooner than this one recovers.
            ModelError::Overloaded { retry_after: Some(_), .. } => return None,
            ModelError::Overloaded { .. } => (&mut left.transient, &None),
            ModelError::RateLimited { retry_after, .. } => (&mut left.rate_limited, retry_after),
            ModelError::Empty { .. } => (&mut left.empty, &None),
            ModelError::MissingKey { .. }
            | ModelError::Refused { .. }
            | ModelError::WindowFull { .. }
            | ModelError::Unusable { .. } => return None,
        };
        let own = Backoff::jittered(delays.next()?, random);
        // No jitter on the provider's own delay: a retry before it would be refused.
        Some(match *retry_after {
            Some(asked) if asked >= MIN_ASKED_DELAY => asked.min(MAX_DELAY),
            // Zero, or a date that has passed: three tries would be over before the overload.
            _ => own,
        })
    }
}

/// The delays after transient errors.
#[derive(Debug, Clone)]
struct Transient {
    first: Option<Duration>,
    further: Backoff,
}

impl Transient {
    fn new(max_retries: u32, is_last_model: bool) -> Self {
        if !is_last_model {
            return Self {
                first: None,
                further: Backoff::exponential(HASTY_DELAY, MAX_HASTY_DELAY, max_retries),
            };
        }
        Self {
            first: (max_retries > 0).then_some(FIRST_TRANSIENT_DELAY),
            further: Backoff::exponential(TRANSIENT_DELAY, MAX_DELAY, max_retries.saturating_sub(1)),
        }
    }
}

impl Iterator for Transient {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        self.first.take().or_else(|| self.further.next())
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

    fn overloaded(seconds: Option<u64>) -> ModelError {
        ModelError::Overloaded {
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
        assert_eq!(delays(&transient(), true), [2000, 20_000]);
        assert_eq!(delays(&transient(), false), [500, 1000]);
        assert_eq!(delays(&overloaded(None), true), [8000, 16_000]);
        assert_eq!(delays(&overloaded(Some(3)), true), [3000, 3000]);
        assert_eq!(delays(&overloaded(Some(3600)), true), [60_000, 60_000]);
        assert_eq!(delays(&overloaded(Some(0)), true), [8000, 16_000]);
        assert_eq!(delays(&overloaded(None), false), [500, 1000]);
        assert!(delays(&overloaded(Some(3)), false).is_empty());
        let empty = ModelError::Empty { model: "p/m".into(), detail: String::new() };
        assert_eq!(delays(&empty, true), [0]);
        assert_eq!(delays(&rate_limited(None), true), [1000, 2000, 4000, 8000, 16_000]);
        assert_eq!(delays(&rate_limited(Some(7)), true), [7000; 5]);
        assert_eq!(delays(&rate_limited(Some(3600)), true), [60_000; 5]);
        assert_eq!(delays(&rate_limited(Some(0)), true), [1000, 2000, 4000, 8000, 16_000]);
        assert!(delays(&rate_limited(Some(7)), false).is_empty());
        let refused = ModelError::Refused { model: "p/m".into(), detail: String::new() };
        assert!(delays(&refused, true).is_empty());
    }
}
