//! What a worker logs of its attempts: a line for each while they are few, and a summary of the others.
//!
//! A worker that runs ten jobs a minute logs each beginning and each end. One that runs a thousand a second logs the first
//! ten of each second and kind, and every ten seconds a line that counts the rest by state and cause. Those that are only
//! counted are logged one by one at the level `debug`.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

use legwork_common::job::Cause;
use legwork_common::lifecycle::State;
use legwork_queue::port::Claimed;
use tokio::time::Instant;

/// Lines of each kind that a second may have: a person reads no more, and a fleet at a thousand jobs a second writes
/// 40 lines a second at most instead of 2,000.
const LINES_PER_SECOND: u32 = 10;
/// Time between two summaries.
const SUMMARY_INTERVAL: Duration = Duration::from_secs(10);

/// Writes a line at its level where it may have one of its own, and at `debug` otherwise.
macro_rules! line {
    ($has_line:expr, $level:ident, $($line:tt)*) => {
        if $has_line { tracing::$level!($($line)*) } else { tracing::debug!($($line)*) }
    };
}

/// What happened to an attempt. Each kind has lines of its own, so that a flood of one does not hide another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Happened {
    Started,
    Ended,
    Failed,
    GaveBack,
}

impl Happened {
    const ALL: [Self; 4] = [Self::Started, Self::Ended, Self::Failed, Self::GaveBack];

    fn as_str(self) -> &'static str {
        match self {
            Self::Started => "started",
            Self::Ended => "ended",
            Self::Failed => "failed",
            Self::GaveBack => "gave back",
        }
    }
}

/// Logs the attempts of one worker. Cheap to clone; all clones are one.
#[derive(Debug, Clone, Default)]
pub struct AttemptLog(Arc<Mutex<Sampler>>);

impl AttemptLog {
    /// Logs the beginning of an attempt.
    pub(crate) fn started(&self, claimed: &Claimed) {
        let Claimed { attempt, spec, .. } = claimed;
        let has_line = self.admit(Happened::Started, "");
        line!(has_line, info, attempt, agent = %spec.agent, "attempt started");
    }

    /// Logs the end of an attempt: one line, which for a failure has all that is needed to act on it.
    pub(crate) fn ended(&self, claimed: &Claimed, state: State, failure: Option<(Cause, String)>) {
        let Claimed { lease, attempt, spec, .. } = claimed;
        let (job, agent) = (lease.id, &spec.agent);
        match failure {
            Some((cause, words)) => {
                let has_line = self.admit(Happened::Failed, cause.as_str());
                line!(has_line, warn, %job, %agent, attempt, %cause, %state, "attempt failed: {words}");
            }
            None => {
                let has_line = self.admit(Happened::Ended, state.as_str());
                line!(has_line, info, %job, %agent, attempt, %state, "attempt ended");
            }
        }
    }

    /// Logs that a job was given back because this worker lacks what it needs.
    pub(crate) fn gave_back(&self, claimed: &Claimed, state: &'static str, words: &str) {
        let Claimed { lease, attempt, spec, .. } = claimed;
        let has_line = self.admit(Happened::GaveBack, state);
        line!(has_line, warn, job = %lease.id, agent = %spec.agent, attempt, state, "gave the job back: {words}");
    }

    /// Logs a summary every ten seconds in which lines were left out. Dropped, it leaves the last ten seconds to
    /// [`AttemptLog::summarise`].
    pub(crate) async fn summarise_forever(self) -> Infallible {
        loop {
            tokio::time::sleep(SUMMARY_INTERVAL).await;
            self.summarise();
        }
    }

    /// Logs what has had no line of its own since the last summary, if anything.
    pub(crate) fn summarise(&self) {
        let Some(summary) = self.sampler().take() else { return };
        let count = |happened| summary.count(happened);
        let (started, ended) = (count(Happened::Started), count(Happened::Ended));
        let (failed, given_back) = (count(Happened::Failed), count(Happened::GaveBack));
        if failed + given_back > 0 {
            tracing::warn!(started, ended, failed, given_back, "more attempts: {summary}");
        } else {
            tracing::info!(started, ended, failed, given_back, "more attempts: {summary}");
        }
    }

    fn admit(&self, happened: Happened, detail: &'static str) -> bool {
        self.sampler().admit(happened, detail, Instant::now())
    }

    fn sampler(&self) -> MutexGuard<'_, Sampler> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Decides which lines are written, and counts the others.
#[derive(Debug, Default)]
struct Sampler {
    /// The second that is being filled, and its lines so far.
    seconds: BTreeMap<Happened, (Option<Instant>, u32)>,
    left_out: Summary,
}

impl Sampler {
    /// Whether a line may be written; one that may not is counted with its state or cause.
    fn admit(&mut self, happened: Happened, detail: &'static str, now: Instant) -> bool {
        let (began, lines) = self.seconds.entry(happened).or_default();
        if began.is_none_or(|began| now.duration_since(began) >= Duration::from_secs(1)) {
            (*began, *lines) = (Some(now), 0);
        }
        if *lines < LINES_PER_SECOND {
            *lines += 1;
            return true;
        }
        *self.left_out.0.entry((happened, detail)).or_default() += 1;
        false
    }

    /// What was left out since the last call; `None` for nothing.
    fn take(&mut self) -> Option<Summary> {
        let taken = std::mem::take(&mut self.left_out);
        Some(taken).filter(|summary| !summary.0.is_empty())
    }
}

/// Attempts without a line of their own, by what happened and the state or cause.
#[derive(Debug, Default)]
struct Summary(BTreeMap<(Happened, &'static str), u64>);

impl Summary {
    fn of(&self, happened: Happened) -> impl Iterator<Item = (&'static str, u64)> {
        self.0
            .iter()
            .filter(move |((of, _), _)| *of == happened)
            .map(|((_, detail), count)| (*detail, *count))
    }

    fn count(&self, happened: Happened) -> u64 {
        self.of(happened).map(|(_, count)| count).sum()
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let happened = Happened::ALL.into_iter().filter(|happened| self.count(*happened) > 0);
        for (at, happened) in happened.enumerate() {
            let separator = if at == 0 { "" } else { "; " };
            write!(f, "{separator}{} {}", self.count(happened), happened.as_str())?;
            let details: Vec<String> = self
                .of(happened)
                .filter(|(detail, _)| !detail.is_empty())
                .map(|(detail, count)| format!("{detail} {count}"))
                .collect();
            if !details.is_empty() {
                write!(f, " ({})", details.join(", "))?;
            }
        }
        f.write_str("; --log debug has a line for each")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_attempts_have_a_line_each_and_the_rest_of_a_second_is_counted() {
        let (mut sampler, began) = (Sampler::default(), Instant::now());
        let admitted = |sampler: &mut Sampler, second: u64, count: u32| {
            let now = began + Duration::from_secs(second);
            (0..count).filter(|_| sampler.admit(Happened::Ended, "completed", now)).count()
        };
        assert_eq!(admitted(&mut sampler, 0, 10), 10);
        assert!(sampler.take().is_none());
        assert_eq!(admitted(&mut sampler, 0, 1000), 0);
        assert_eq!(admitted(&mut sampler, 1, 1000), 10);
        assert_eq!(sampler.take().unwrap().count(Happened::Ended), 1990);
        assert!(sampler.take().is_none(), "it was counted twice");
    }

    #[test]
    fn a_flood_of_ends_does_not_hide_a_failure() {
        let (mut sampler, now) = (Sampler::default(), Instant::now());
        let mut lines = |happened, detail, count: u32| {
            (0..count).filter(|_| sampler.admit(happened, detail, now)).count()
        };
        assert_eq!(lines(Happened::Ended, "completed", 500), 10);
        assert_eq!(lines(Happened::Failed, "provider_error", 13), 10);
        assert_eq!(lines(Happened::Failed, "deadline", 1) + lines(Happened::Ended, "stopped", 1), 0);
        assert_eq!(lines(Happened::Started, "", 11), 10);
        let summary = sampler.take().unwrap();
        assert_eq!(
            summary.to_string(),
            "1 started; 491 ended (completed 490, stopped 1); 4 failed (deadline 1, provider_error 3); \
             --log debug has a line for each"
        );
    }
}
