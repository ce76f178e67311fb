//! What becomes of a job whose attempt is over, decided from how its run ended and why it was cancelled. Pure.
//!
//! ```text
//! run ended                  not cancelled   drain      timeout, memory   stop requested   lease lost
//! completed                  completed       completed  completed         completed        nothing
//! failed                     failed          failed     failed            stopped          nothing
//! stopped                    nothing         released   failed            stopped          nothing
//! lost its lease             nothing         released   released          stopped          nothing
//! lacks a key, a folder, …   released        released   released          stopped          nothing
//! ```

use std::time::Duration;

use legwork_agent::Outcome;
use legwork_common::job::Cause;
use legwork_common::job::Usage;
use legwork_common::retry::Backoff;
use legwork_queue::port::Ending;
use legwork_queue::port::ReleaseMode;

use crate::cancel::CancelReason;
use crate::runner::RunEnd;

/// The longest delay before a failed job is retried, however often it was doubled: a provider that recovers is noticed
/// within ten minutes.
const MAX_RETRY_DELAY: Duration = Duration::from_secs(600);

/// The message of a job that was ended for its worker's memory.
const OUT_OF_MEMORY: &str = "the memory of the worker was nearly used up (--memory-limit), and the commands of this job held most of it";

/// What is written to the queue at the end of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Settlement {
    /// Nothing: the job is leased to another attempt, or will be once its lease expires.
    Nothing,
    /// The job is released to the queue.
    Release(ReleaseMode),
    /// The attempt ends, with the usage of all attempts.
    Finish(Ending, Usage),
}

/// Decides what becomes of the job. `timeout` is the job's own, for the message; results and messages are cut at
/// `output_cap` bytes.
pub(crate) fn decide(
    end: RunEnd,
    reason: Option<CancelReason>,
    timeout: Option<Duration>,
    output_cap: u64,
) -> Settlement {
    let stopped = |usage| Settlement::Finish(Ending::Stopped { cause: Cause::Operator }, usage);
    let failed = |cause, message, usage| {
        Settlement::Finish(Ending::Failed { cause, message: capped(message, output_cap) }, usage)
    };
    match (end, reason) {
        (_, Some(CancelReason::LeaseLost)) => Settlement::Nothing,
        (RunEnd::Ended(Outcome::Completed { result, usage }), _) => {
            Settlement::Finish(Ending::Completed { result: capped(result, output_cap) }, usage)
        }
        (
            RunEnd::Ended(Outcome::Stopped { usage } | Outcome::Failed { usage, .. }),
            Some(CancelReason::StopRequested),
        ) => stopped(usage),
        (RunEnd::Ended(Outcome::Lost) | RunEnd::Lacks(_), Some(CancelReason::StopRequested)) => {
            stopped(Usage::default())
        }
        (RunEnd::Ended(Outcome::Failed { cause, message, usage }), _) => failed(cause, message, usage),
        (RunEnd::Ended(Outcome::Stopped { usage }), Some(CancelReason::Deadline)) => {
            let seconds = timeout.unwrap_or_default().as_secs_f64();
            failed(Cause::Deadline, format!("the timeout of {seconds} s passed"), usage)
        }
        (RunEnd::Ended(Outcome::Stopped { usage }), Some(CancelReason::Memory)) => {
            failed(Cause::AgentError, OUT_OF_MEMORY.to_owned(), usage)
        }
        (RunEnd::Ended(Outcome::Stopped { .. } | Outcome::Lost), Some(_)) => {
            Settlement::Release(ReleaseMode::Drain)
        }
        // The run ended although it was not cancelled: its journal found the lease lost.
        (RunEnd::Ended(Outcome::Stopped { .. } | Outcome::Lost), None) => Settlement::Nothing,
        (RunEnd::Lacks(what), _) => Settlement::Release(ReleaseMode::Lack(what)),
    }
}

/// The usage of a suspended run, where the suspension is what ended it; `None` for a run that has an end of its own. Cut
/// off, any step of the run may fail, so a failure counts as the suspension's.
pub(crate) fn usage_if_cut_off(end: &RunEnd) -> Option<Usage> {
    match end {
        RunEnd::Ended(Outcome::Completed { .. }) | RunEnd::Lacks(_) => None,
        RunEnd::Ended(Outcome::Stopped { usage } | Outcome::Failed { usage, .. }) => Some(*usage),
        RunEnd::Ended(Outcome::Lost) => Some(Usage::default()),
    }
}

/// The delay before the retry that follows `failures` earlier ones: `first`, doubled each time, with jitter from
/// `random`, which is uniform in 0..1.
pub(crate) fn retry_delay(first: Duration, failures: u32, random: f64) -> Duration {
    let delays = Backoff::exponential(first, MAX_RETRY_DELAY, failures.saturating_add(1));
    delays.last().map_or(first, |delay| Backoff::jittered(delay, random))
}

/// Cuts a text at `cap` bytes, at a whole character, and notes the cut.
fn capped(mut text: String, cap: u64) -> String {
    let cap = usize::try_from(cap).unwrap_or(usize::MAX);
    if text.len() > cap {
        // Zero is always a boundary.
        let end = (0..=cap).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        text.truncate(end);
        text.push_str(&format!("\n\n[cut at {cap} bytes, the output cap]"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const CAP: u64 = 1024;

    #[test]
    fn a_result_is_cut_at_the_output_cap() {
        assert_eq!(capped("four".to_owned(), 4), "four");
        assert_eq!(capped("fünf".to_owned(), 2), "f\n\n[cut at 2 bytes, the output cap]");
        let completed = RunEnd::Ended(Outcome::Completed { result: "12345".into(), usage: Usage::default() });
        let Settlement::Finish(Ending::Completed { result }, _) = decide(completed, None, None, 4) else {
            panic!("a completed run completes the job");
        };
        assert_eq!(result, "1234\n\n[cut at 4 bytes, the output cap]");
    }

    #[test]
    fn the_settlement_depends_on_the_end_and_the_reason() {
        let usage = Usage::default();
        let stopped = || RunEnd::Ended(Outcome::Stopped { usage });
        let completed = || RunEnd::Ended(Outcome::Completed { result: "x".into(), usage });
        let failed =
            || RunEnd::Ended(Outcome::Failed { cause: Cause::AgentError, message: "m".into(), usage });
        let lost = || RunEnd::Ended(Outcome::Lost);
        let lacks = || RunEnd::Lacks("k".into());
        let finish = |ending| Settlement::Finish(ending, usage);
        let completes = || finish(Ending::Completed { result: "x".into() });
        let fails = || finish(Ending::Failed { cause: Cause::AgentError, message: "m".into() });
        let stops = || finish(Ending::Stopped { cause: Cause::Operator });
        let times_out = || {
            let message = "the timeout of 2 s passed".into();
            finish(Ending::Failed { cause: Cause::Deadline, message })
        };
        let out_of_memory =
            || finish(Ending::Failed { cause: Cause::AgentError, message: OUT_OF_MEMORY.into() });
        let releases = || Settlement::Release(ReleaseMode::Drain);
        let releases_lacking = || Settlement::Release(ReleaseMode::Lack("k".into()));
        let nothing = || Settlement::Nothing;
        let reasons = [
            None,
            Some(CancelReason::Release),
            Some(CancelReason::Deadline),
            Some(CancelReason::Memory),
            Some(CancelReason::StopRequested),
            Some(CancelReason::LeaseLost),
        ];
        let table = [
            (completed(), [completes(), completes(), completes(), completes(), completes(), nothing()]),
            (failed(), [fails(), fails(), fails(), fails(), stops(), nothing()]),
            (stopped(), [nothing(), releases(), times_out(), out_of_memory(), stops(), nothing()]),
            (lost(), [nothing(), releases(), releases(), releases(), stops(), nothing()]),
            (
                lacks(),
                [
                    releases_lacking(),
                    releases_lacking(),
                    releases_lacking(),
                    releases_lacking(),
                    stops(),
                    nothing(),
                ],
            ),
        ];
        for (end, row) in table {
            for (reason, expected) in reasons.into_iter().zip(row) {
                let settlement = decide(end.clone(), reason, Some(Duration::from_secs(2)), CAP);
                assert_eq!(settlement, expected, "{end:?} {reason:?}");
            }
        }
    }

    #[test]
    fn a_suspension_does_not_replace_a_runs_own_end() {
        let usage = Usage { turns: 3, ..Usage::default() };
        for (end, cut_off) in [
            (RunEnd::Ended(Outcome::Completed { result: "x".into(), usage }), None),
            (RunEnd::Lacks("k".into()), None),
            (RunEnd::Ended(Outcome::Stopped { usage }), Some(usage)),
            (
                RunEnd::Ended(Outcome::Failed { cause: Cause::ProviderError, message: "m".into(), usage }),
                Some(usage),
            ),
            (RunEnd::Ended(Outcome::Lost), Some(Usage::default())),
        ] {
            assert_eq!(usage_if_cut_off(&end), cut_off, "{end:?}");
        }
    }

    #[test]
    fn retry_delays_double_up_to_ten_minutes() {
        let first = Duration::from_secs(10);
        for (failures, seconds) in [(0, 10), (1, 20), (5, 320), (6, 600), (40, 600)] {
            // In the middle of the jitter's range the delay is itself.
            let delay = retry_delay(first, failures, 0.5);
            assert_eq!(delay.as_secs_f64().round(), f64::from(seconds), "{failures}");
        }
        assert_eq!(retry_delay(first, 0, 0.0), Duration::from_secs(9));
    }
}
