//! Notices when nothing was heard of a running job for long, and says so: to the log, and to whoever views the job.
//!
//! Nothing is ended because of it: a command may take an hour. `--timeout` ends a job.

use std::convert::Infallible;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

use legwork_agent::journal::RunEvent;
use legwork_common::duration;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::attempt::sleep_until;

/// The last sign of life of an attempt.
#[derive(Debug)]
struct Heard {
    at: Instant,
    /// What it was, in words.
    what: String,
    /// Whether silence is no wonder: it is known what the attempt waits for.
    excused: bool,
    /// Whether it was said that nothing is heard.
    told: bool,
}

/// Whether an attempt shows signs of life.
#[derive(Debug)]
pub(crate) struct StallDetector {
    // A std mutex: held for a look or an assignment, never over an await.
    heard: Mutex<Heard>,
    again: Notify,
}

/// Where a watcher says what it noticed.
pub(crate) trait StallSink: Send + Sync {
    /// Whether silence is no wonder now, because the attempt waits for jobs of its own.
    fn is_excused(&self) -> bool;

    /// Nothing was heard for long: what the attempt waits for, in words.
    fn silent(&self, text: &str);

    /// Something was heard again. `excused`: it says itself what it waits for.
    fn heard_again(&self, excused: bool);
}

impl Default for StallDetector {
    fn default() -> Self {
        let heard =
            Heard { at: Instant::now(), what: "the attempt began".to_owned(), excused: false, told: false };
        Self { heard: Mutex::new(heard), again: Notify::new() }
    }
}

impl StallDetector {
    fn heard(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in a sign of life that is no event of its own: a piece of output, or an entry of the turns.
    pub(crate) fn hear(&self, what: &str) {
        self.note(what, false);
    }

    /// Takes in an event of the run.
    pub(crate) fn event(&self, event: &RunEvent) {
        let (what, excused) = match event {
            RunEvent::ModelAsked { model, .. } => (format!("{model} was asked"), false),
            RunEvent::ModelRetried { .. } => ("the model did not answer".to_owned(), false),
            RunEvent::ModelWaits { why } => ("a model call could begin".to_owned(), why.is_some()),
            RunEvent::ToolStarted { name, .. } => (format!("tool {name} began"), false),
            RunEvent::ToolEnded { name, .. } => (format!("tool {name} ended"), false),
            RunEvent::Warning(_) => return,
        };
        self.note(&what, excused);
    }

    fn note(&self, what: &str, excused: bool) {
        let mut heard = self.heard();
        heard.at = Instant::now();
        if heard.what != what {
            heard.what.clear();
            heard.what.push_str(what);
        }
        heard.excused = excused;
        if std::mem::take(&mut heard.told) {
            self.again.notify_one();
        }
    }

    /// Says so whenever nothing was heard for `after` (zero: never), and when something is heard again; until dropped.
    pub(crate) async fn watch(&self, after: Duration, told: &impl StallSink) -> Infallible {
        if after.is_zero() {
            return std::future::pending().await;
        }
        loop {
            let due = self.heard().at.checked_add(after);
            sleep_until(due).await;
            let Some(text) = self.silence(after) else { continue };
            if self.heard().excused || told.is_excused() {
                // As if it had said something now.
                self.heard().at = Instant::now();
                continue;
            }
            self.heard().told = true;
            told.silent(&text);
            self.again.notified().await;
            told.heard_again(self.heard().excused);
        }
    }

    /// The words for it, if nothing was heard for as long as `after`.
    fn silence(&self, after: Duration) -> Option<String> {
        let heard = self.heard();
        (heard.at.elapsed() >= after).then(|| {
            let long = duration::short(after);
            format!("a sign of life: none for more than {long}, since {}", heard.what)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;
    use std::sync::atomic::Ordering;

    use super::*;

    #[derive(Default)]
    struct Book {
        excused: AtomicBool,
        said: Mutex<Vec<String>>,
    }

    impl StallSink for Book {
        fn is_excused(&self) -> bool {
            self.excused.load(Ordering::SeqCst)
        }

        fn silent(&self, text: &str) {
            let what = text.strip_prefix("a sign of life: none for more than 15m0s, since ");
            self.said.lock().unwrap().push(what.unwrap().to_owned());
        }

        fn heard_again(&self, excused: bool) {
            self.said.lock().unwrap().push(format!("again {excused}"));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn silence_is_told_once_until_something_is_heard() {
        let (life, book) = (StallDetector::default(), Book::default());
        let minutes = |minutes: u64| tokio::time::sleep(Duration::from_secs(60 * minutes));
        let tool = |name: &str| RunEvent::ToolEnded {
            call: legwork_common::service::CallIndex { turn: 1, index: 0 },
            name: name.into(),
            is_error: false,
        };
        let course = async {
            minutes(14).await;
            life.event(&RunEvent::ModelAsked { turn: 1, model: "p/m".into() });
            minutes(14).await;
            life.hear("it wrote");
            minutes(40).await;
            life.event(&tool("shell"));
            minutes(1).await;
            life.event(&RunEvent::ModelWaits { why: Some("its turn".into()) });
            minutes(40).await;
            life.event(&RunEvent::ModelWaits { why: None });
            book.excused.store(true, Ordering::SeqCst);
            minutes(40).await;
            book.excused.store(false, Ordering::SeqCst);
            minutes(20).await;
            life.event(&RunEvent::ModelWaits { why: Some("its turn".into()) });
            minutes(1).await;
        };
        tokio::select! {
            never = life.watch(Duration::from_secs(900), &book) => match never {},
            () = course => {}
        }
        let said = book.said.lock().unwrap().join(", ");
        assert_eq!(said, "it wrote, again false, a model call could begin, again true");
    }

    #[tokio::test(start_paused = true)]
    async fn without_patience_nothing_is_noticed() {
        let (life, book) = (StallDetector::default(), Book::default());
        tokio::select! {
            never = life.watch(Duration::ZERO, &book) => match never {},
            () = tokio::time::sleep(Duration::from_secs(3600)) => {}
        }
        assert!(book.said.lock().unwrap().is_empty());
    }
}
