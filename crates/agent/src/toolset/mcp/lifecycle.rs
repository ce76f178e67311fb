//! Timeouts and restarts of a server, from the `lifecycle` of an agent file.

use std::time::Duration;

use legwork_common::team::Lifecycle;

use super::Timing;

/// Restarts in a row where the file does not say, or says 0: docker-agent's.
const DEFAULT_RESTARTS: usize = 5;
/// The most restarts in a row. A server that is started again a thousand times with growing delays is never given up in the
/// life of a run.
const MAX_RESTARTS: usize = 1_000;
/// The `backoff` where the file does not say: docker-agent's first and longest delay, and the growth between them.
const BACKOFF: (Duration, Duration, f64) = (Duration::from_secs(1), Duration::from_secs(32), 2.0);
/// How long a start may take with the profile `strict`: docker-agent's.
const STRICT_START_TIMEOUT: Duration = Duration::from_secs(30);

impl Timing {
    /// The timing that an agent file asks for.
    pub(crate) fn of(lifecycle: Option<&Lifecycle>) -> Self {
        let defaults = Self::default();
        let Some(lifecycle) = lifecycle else { return defaults };
        let is_strict = lifecycle.profile.as_deref() == Some("strict");
        let by_profile = if is_strict { STRICT_START_TIMEOUT } else { defaults.start_timeout };
        let set = |limit: Option<Duration>| limit.filter(|limit| !limit.is_zero());
        Self {
            start_timeout: set(lifecycle.startup_timeout).unwrap_or(by_profile),
            restart_delays: (1..=restarts(lifecycle)).map(|number| delay(lifecycle, number)).collect(),
            stable_after: defaults.stable_after,
            call_timeout: set(lifecycle.call_timeout).unwrap_or(defaults.call_timeout),
        }
    }
}

/// How often in a row a server is started again. The profiles `strict` and `best-effort` start none again.
fn restarts(lifecycle: &Lifecycle) -> usize {
    let restarts = match (lifecycle.restart.as_deref(), lifecycle.profile.as_deref()) {
        (Some("never"), _) | (None, Some("strict" | "best-effort")) => return 0,
        (Some(_) | None, _) => lifecycle.max_restarts.unwrap_or_default(),
    };
    match restarts {
        0 => DEFAULT_RESTARTS,
        limited => usize::try_from(limited).unwrap_or(MAX_RESTARTS).min(MAX_RESTARTS),
    }
}

/// The delay before the restart with this number, counted from 1. The jitter makes it shorter by up to its share.
fn delay(lifecycle: &Lifecycle, number: usize) -> Duration {
    let (initial, max, multiplier) = BACKOFF;
    let initial = lifecycle.backoff_initial.unwrap_or(initial).as_secs_f64();
    let max = lifecycle.backoff_max.unwrap_or(max).as_secs_f64();
    let multiplier = lifecycle.backoff_multiplier.filter(|factor| *factor >= 1.0).unwrap_or(multiplier);
    let exponent = i32::try_from(number - 1).unwrap_or(i32::MAX);
    let whole = (initial * multiplier.powi(exponent)).min(max);
    let jitter = lifecycle.backoff_jitter.unwrap_or_default().clamp(0.0, 1.0);
    Duration::try_from_secs_f64(whole * (1.0 - jitter * rand::random::<f64>())).unwrap_or(BACKOFF.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(timing: &Timing) -> Vec<u64> {
        timing.restart_delays.iter().map(Duration::as_secs).collect()
    }

    #[test]
    fn the_defaults_are_those_of_docker_agent() {
        assert_eq!(seconds(&Timing::of(None)), [1, 2, 4, 8, 16]);
        assert_eq!(seconds(&Timing::of(Some(&Lifecycle::default()))), [1, 2, 4, 8, 16]);
    }

    #[test]
    fn each_key_has_its_effect() {
        let lifecycle = |change: fn(&mut Lifecycle)| {
            let mut lifecycle = Lifecycle::default();
            change(&mut lifecycle);
            Timing::of(Some(&lifecycle))
        };
        let word = |text: &str| Some(text.to_owned());
        assert!(seconds(&lifecycle(|l| l.restart = Some("never".into()))).is_empty());
        assert!(seconds(&lifecycle(|l| l.profile = Some("best-effort".into()))).is_empty());
        let strict = Timing::of(Some(&Lifecycle {
            profile: word("strict"),
            restart: word("always"),
            max_restarts: Some(2),
            ..Lifecycle::default()
        }));
        assert_eq!((strict.start_timeout.as_secs(), seconds(&strict)), (30, vec![1, 2]));
        let growing = lifecycle(|l| {
            l.max_restarts = Some(4);
            l.backoff_initial = Some(Duration::from_secs(3));
            l.backoff_max = Some(Duration::from_secs(10));
            l.backoff_multiplier = Some(3.0);
        });
        assert_eq!(seconds(&growing), [3, 9, 10, 10]);
        assert_eq!(seconds(&lifecycle(|l| l.max_restarts = Some(-1))).len(), MAX_RESTARTS);
        let limits = lifecycle(|l| {
            l.startup_timeout = Some(Duration::from_secs(7));
            l.call_timeout = Some(Duration::from_secs(9));
            l.backoff_jitter = Some(1.0);
        });
        assert_eq!((limits.start_timeout.as_secs(), limits.call_timeout.as_secs()), (7, 9));
        assert!(limits.restart_delays[0] <= Duration::from_secs(1));
    }
}
