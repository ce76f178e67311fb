//! What became of a worker's jobs since it began, for its heartbeat and its metrics.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

use jiff::Timestamp;
use legwork_common::job::Cause;
use legwork_common::lifecycle::State;
use legwork_process::health::Metrics;
use legwork_queue::port::ReapReport;
use legwork_queue::port::WorkerReport;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::histogram::exponential_buckets;

/// The most characters of a reason in a heartbeat, which is sent every three seconds: a line.
const REASON_CHARS: usize = 200;

/// Counts attempts that ended and jobs that were given back. Cheap to clone; all clones are one.
#[derive(Debug, Clone)]
pub struct Tally {
    report: Arc<Mutex<WorkerReport>>,
    /// Attempts that ended, by the state that their job has now and the cause of a failure.
    ended: Family<[(&'static str, String); 2], Counter>,
    given_back: Counter,
    /// From the dispatch to the first attempt.
    waited: Histogram,
    /// From the beginning of an attempt to its end.
    ran: Histogram,
    output_bytes: Counter,
    /// Jobs taken from workers that died, by what became of them.
    reclaimed: Family<[(&'static str, &'static str); 1], Counter>,
    /// Sessions ended because their owner was gone.
    orphaned: Counter,
}

impl Default for Tally {
    fn default() -> Self {
        let report =
            WorkerReport { version: env!("CARGO_PKG_VERSION").to_owned(), ..WorkerReport::default() };
        Self {
            report: Arc::new(Mutex::new(report)),
            ended: Family::default(),
            given_back: Counter::default(),
            // A millisecond, in which an idle worker starts a job, to more than a day.
            waited: Histogram::new(exponential_buckets(0.001, 4.0, 14)),
            // A tenth of a second to almost a day.
            ran: Histogram::new(exponential_buckets(0.1, 4.0, 11)),
            output_bytes: Counter::default(),
            reclaimed: Family::default(),
            orphaned: Counter::default(),
        }
    }
}

impl Tally {
    /// A tally that is exposed by `/metrics`.
    pub(crate) fn registered_in(metrics: &Metrics) -> Self {
        let tally = Self::default();
        metrics.register(
            "legwork_worker_attempts",
            "Attempts that ended, by the state of the job after it and the cause of a failure",
            Family::clone(&tally.ended),
        );
        metrics.register(
            "legwork_worker_given_back_jobs",
            "Jobs given back because this worker lacks what they need",
            tally.given_back.clone(),
        );
        metrics.register(
            "legwork_job_start_seconds",
            "Time from the dispatch of a job to its first attempt, a requested delay included",
            tally.waited.clone(),
        );
        metrics.register(
            "legwork_job_run_seconds",
            "Time that an attempt took, waits included",
            tally.ran.clone(),
        );
        metrics.register(
            "legwork_worker_output_bytes",
            "Bytes of output that attempts of this worker wrote",
            tally.output_bytes.clone(),
        );
        metrics.register(
            "legwork_worker_reclaimed_jobs",
            "Jobs that this worker took from dead ones, by what became of them: queued again, or ended",
            Family::clone(&tally.reclaimed),
        );
        metrics.register(
            "legwork_worker_orphaned_sessions",
            "Sessions that this worker ended because their owner was gone",
            tally.orphaned.clone(),
        );
        tally
    }

    /// Counts the beginning of a first attempt at a job that was dispatched then. Clocks differ by milliseconds: a time
    /// before it counts as none.
    pub(crate) fn count_start(&self, dispatched: Timestamp) {
        self.waited.observe(Timestamp::now().duration_since(dispatched).as_secs_f64().max(0.0));
    }

    /// Counts what an attempt took and wrote, however it ended.
    pub(crate) fn count_run(&self, took: Duration, output_bytes: u64) {
        self.ran.observe(took.as_secs_f64());
        self.output_bytes.inc_by(output_bytes);
    }

    /// Counts an attempt that ended with an end of its own: this worker can run jobs.
    pub(crate) fn count_end(&self, state: State, failed: Option<Cause>) {
        let cause = failed.map_or_else(|| "none".to_owned(), |cause| cause.to_string());
        self.ended.get_or_create(&[("state", state.as_str().to_owned()), ("cause", cause)]).inc();
        let has_failed = failed.is_some();
        let mut report = self.report();
        report.run += 1;
        report.failed += u64::from(has_failed);
        report.given_back_in_a_row = 0;
    }

    /// Counts a job that this worker gave back because it lacks what the job needs.
    pub(crate) fn count_given_back(&self, reason: &str) {
        let mut report = self.report();
        self.given_back.inc();
        report.given_back += 1;
        report.given_back_in_a_row += 1;
        let line = reason.lines().next().unwrap_or_default();
        report.last_reason = line.chars().take(REASON_CHARS).collect();
    }

    /// Counts what a round of reaping took from the dead.
    pub(crate) fn count_reaped(&self, report: ReapReport) {
        for (outcome, count) in [("queued", report.requeued), ("ended", report.ended)] {
            self.reclaimed.get_or_create(&[("outcome", outcome)]).inc_by(u64::from(count));
        }
        self.orphaned.inc_by(u64::from(report.orphans));
    }

    /// The counts so far.
    pub(crate) fn snapshot(&self) -> WorkerReport {
        self.report().clone()
    }

    fn report(&self) -> MutexGuard<'_, WorkerReport> {
        self.report.lock().unwrap_or_else(PoisonError::into_inner)
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
        tally.count_end(State::Completed, None);
        tally.count_end(State::Failed, Some(Cause::AgentError));
        let report = tally.snapshot();
        assert_eq!((report.run, report.failed, report.given_back, report.given_back_in_a_row), (2, 1, 2, 0));
        assert!(!report.version.is_empty());
    }

    #[test]
    fn ends_are_exposed_by_state_and_cause() {
        let metrics = Metrics::default();
        let tally = Tally::registered_in(&metrics);
        tally.count_end(State::Completed, None);
        tally.count_end(State::Scheduled, Some(Cause::ProviderError));
        tally.count_given_back("no folder");
        tally.count_start(Timestamp::now() + Duration::from_secs(9));
        tally.count_run(Duration::from_secs(3), 17);
        tally.count_reaped(ReapReport { requeued: 3, orphans: 2, ..ReapReport::default() });
        let text = metrics.render();
        for line in [
            "legwork_job_start_seconds_sum 0.0",
            "legwork_job_run_seconds_sum 3.0",
            "legwork_worker_output_bytes_total 17",
            "legwork_worker_attempts_total{state=\"completed\",cause=\"none\"} 1",
            "legwork_worker_attempts_total{state=\"scheduled\",cause=\"provider_error\"} 1",
            "legwork_worker_given_back_jobs_total 1",
            "legwork_worker_reclaimed_jobs_total{outcome=\"queued\"} 3",
            "legwork_worker_reclaimed_jobs_total{outcome=\"ended\"} 0",
            "legwork_worker_orphaned_sessions_total 2",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
    }
}
