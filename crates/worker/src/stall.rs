//! Stall detection: reports a running job without activity, to the log and to users who view the job.
//!
//! Nothing is ended because of a stall: a command may take an hour. `--timeout` ends a job.

use std::convert::Infallible;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

use legwork_agent::journal::RunEvent;
use legwork_common::duration;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::deadline;

/// The last activity of an attempt.
#[derive(Debug)]
struct Activity {
    at: Instant,
    /// What it was, for "no activity since …".
    what: String,
    /// Whether inactivity is expected: the attempt has reported what it waits for.
    is_waiting: bool,
    /// Whether the stall that followed it was reported.
    reported: bool,
}

/// Watches one attempt for activity.
#[derive(Debug)]
pub(crate) struct StallDetector {
    // A std mutex: held for a read or an assignment, never over an await.
    last: Mutex<Activity>,
    /// Signalled by the first activity after a reported stall.
    recovered: Notify,
}

/// Where a [`StallDetector`] reports what it finds.
pub(crate) trait StallSink: Send + Sync {
    /// Whether inactivity is expected now, because the attempt is parked.
    fn is_parked(&self) -> bool;

    /// The attempt has stalled; `reason` is a sentence for users.
    fn stalled(&self, reason: &str);

    /// A stalled attempt is active again. `is_waiting`: it has reported what it waits for.
    fn recovered(&self, is_waiting: bool);
}

impl Default for StallDetector {
    fn default() -> Self {
        let what = "the attempt started".to_owned();
        let last = Activity { at: Instant::now(), what, is_waiting: false, reported: false };
        Self { last: Mutex::new(last), recovered: Notify::new() }
    }
}

impl StallDetector {
    fn last(&self) -> MutexGuard<'_, Activity> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records activity that is not an event of the run, such as a piece of output.
    pub(crate) fn record_activity(&self, what: &str) {
        self.record(what, false);
    }

    /// Records an event of the run. Warnings are not activity.
    pub(crate) fn record_event(&self, event: &RunEvent) {
        let (what, is_waiting) = match event {
            RunEvent::ModelAsked { model, .. } => (format!("{model} was called"), false),
            RunEvent::ModelRetried { .. } => ("a model call failed and was retried".to_owned(), false),
            RunEvent::ModelWaiting { why } | RunEvent::BudgetWaiting { why } => {
                ("a model call was allowed to start".to_owned(), why.is_some())
            }
            RunEvent::ToolStarted { name, .. } => (format!("tool {name} started"), false),
            RunEvent::ToolEnded { name, .. } => (format!("tool {name} ended"), false),
            RunEvent::Warning(_) => return,
        };
        self.record(&what, is_waiting);
    }

    fn record(&self, what: &str, is_waiting: bool) {
        let mut last = self.last();
        last.at = Instant::now();
        // Every piece of a stream comes here: the text is only replaced where it differs.
        if last.what != what {
            last.what.clear();
            last.what.push_str(what);
        }
        last.is_waiting = is_waiting;
        if std::mem::take(&mut last.reported) {
            self.recovered.notify_one();
        }
    }

    /// Reports to `sink` when there was no activity for `after` (zero: never), once for each stall, and when the stall
    /// ends. Runs until dropped.
    pub(crate) async fn watch(&self, after: Duration, sink: &impl StallSink) -> Infallible {
        if after.is_zero() {
            return std::future::pending().await;
        }
        loop {
            // No deadline where the sum overflows: a duration that long stands for "never".
            let due = self.last().at.checked_add(after);
            deadline::reached(due).await;
            let Some(reason) = self.stalled_for(after) else { continue };
            if self.last().is_waiting || sink.is_parked() {
                // A wait counts as activity, so the period starts anew at its end.
                self.last().at = Instant::now();
                continue;
            }
            self.last().reported = true;
            sink.stalled(&reason);
            // As long as the stall lasts: until any activity, or until the attempt is over and this is dropped.
            self.recovered.notified().await;
            sink.recovered(self.last().is_waiting);
        }
    }

    /// The reason for users, if there was no activity for `after`.
    fn stalled_for(&self, after: Duration) -> Option<String> {
        let last = self.last();
        (last.at.elapsed() >= after).then(|| {
            let period = duration::setting(after);
            format!("no activity for more than {period}, since {}", last.what)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;
    use std::sync::atomic::Ordering;

    use super::*;

    #[derive(Default)]
    struct Recorder {
        parked: AtomicBool,
        reports: Mutex<Vec<String>>,
    }

    impl StallSink for Recorder {
        fn is_parked(&self) -> bool {
            self.parked.load(Ordering::SeqCst)
        }

        fn stalled(&self, reason: &str) {
            let since = reason.strip_prefix("no activity for more than 15m, since ");
            self.reports.lock().unwrap().push(since.unwrap().to_owned());
        }

        fn recovered(&self, is_waiting: bool) {
            self.reports.lock().unwrap().push(format!("recovered, waiting: {is_waiting}"));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_stall_is_reported_once_until_the_next_activity() {
        let (stall_detector, recorder) = (StallDetector::default(), Recorder::default());
        let minutes = |minutes: u64| tokio::time::sleep(Duration::from_secs(60 * minutes));
        let tool = |name: &str| RunEvent::ToolEnded {
            call: legwork_common::service::CallIndex { turn: 1, index: 0 },
            name: name.into(),
            is_error: false,
        };
        let run = async {
            minutes(14).await;
            stall_detector.record_event(&RunEvent::ModelAsked { turn: 1, model: "p/m".into() });
            minutes(14).await;
            stall_detector.record_activity("its last output");
            minutes(40).await;
            stall_detector.record_event(&tool("shell"));
            minutes(1).await;
            stall_detector.record_event(&RunEvent::ModelWaiting { why: Some("rate limit".into()) });
            minutes(40).await;
            stall_detector.record_event(&RunEvent::ModelWaiting { why: None });
            recorder.parked.store(true, Ordering::SeqCst);
            minutes(40).await;
            recorder.parked.store(false, Ordering::SeqCst);
            minutes(20).await;
            stall_detector.record_event(&RunEvent::ModelWaiting { why: Some("rate limit".into()) });
            minutes(1).await;
        };
        tokio::select! {
            never = stall_detector.watch(Duration::from_secs(900), &recorder) => match never {},
            () = run => {}
        }
        let reports = recorder.reports.lock().unwrap().join("; ");
        assert_eq!(
            reports,
            "its last output; recovered, waiting: false; a model call was allowed to start; recovered, waiting: true"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_period_of_zero_reports_nothing() {
        let (stall_detector, recorder) = (StallDetector::default(), Recorder::default());
        tokio::select! {
            never = stall_detector.watch(Duration::ZERO, &recorder) => match never {},
            () = tokio::time::sleep(Duration::from_secs(3600)) => {}
        }
        assert!(recorder.reports.lock().unwrap().is_empty());
    }
}
