//! What became of a worker's jobs since it began, for its heartbeat.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

use legwork_queue::port::WorkerReport;

/// The most characters of a reason in a heartbeat, which is sent every three seconds: a line.
const REASON_CHARS: usize = 200;

/// Counts attempts that ended and jobs that were given back. Cheap to clone; all clones are one.
#[derive(Debug, Clone)]
pub struct Tally(Arc<Mutex<WorkerReport>>);

impl Default for Tally {
    fn default() -> Self {
        let report =
            WorkerReport { version: env!("CARGO_PKG_VERSION").to_owned(), ..WorkerReport::default() };
        Self(Arc::new(Mutex::new(report)))
    }
}

impl Tally {
    /// Counts an attempt that ended with an end of its own: this worker can run jobs.
    pub(crate) fn count_end(&self, has_failed: bool) {
        let mut report = self.report();
        report.run += 1;
        report.failed += u64::from(has_failed);
        report.given_back_in_a_row = 0;
    }

    /// Counts a job that this worker gave back because it lacks what the job needs.
    pub(crate) fn count_given_back(&self, reason: &str) {
        let mut report = self.report();
        report.given_back += 1;
        report.given_back_in_a_row += 1;
        let line = reason.lines().next().unwrap_or_default();
        report.last_reason = line.chars().take(REASON_CHARS).collect();
    }

    /// The counts so far.
    pub(crate) fn snapshot(&self) -> WorkerReport {
        self.report().clone()
    }

    fn report(&self) -> MutexGuard<'_, WorkerReport> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attempt_that_ends_interrupts_the_row_of_jobs_given_back() {
        let tally = Tally::default();
        tally.count_given_back("no OPENAI_API_KEY\nand more");
        tally.count_given_back("no folder");
        let report = tally.snapshot();
        assert_eq!((report.given_back, report.given_back_in_a_row), (2, 2));
        assert_eq!(report.last_reason, "no folder");
        tally.count_end(false);
        tally.count_end(true);
        let report = tally.snapshot();
        assert_eq!((report.run, report.failed, report.given_back, report.given_back_in_a_row), (2, 1, 2, 0));
        assert!(!report.version.is_empty());
    }
}
