//! Every long-lived task of a program: its kind, its policy, and the one place that spawns.
//!
//! Nobody spawns an orphan: a task has a [`TaskKind`], and the kind says what happens to it when the
//! program closes, and what happens to the program when it fails.
//!
//! | kind | when the program closes | when it fails or panics |
//! | --- | --- | --- |
//! | signals | dropped | the program drains |
//! | health | dropped | logged |
//! | upkeep | dropped: its steps may be repeated | the program drains |
//! | renewal | dropped | the program drains |
//! | claims | awaited: a claim cut off holds its jobs until the lease ends | the program drains |
//! | output | awaited: it flushes | the program drains |
//! | hints | dropped | logged: nothing depends on a hint |
//! | attempt | awaited | logged: it costs one job, not the others |
//! | guard | awaited | the program drains |
//! | panel | awaited: it gives the terminal back | logged |
//! | hosted worker | awaited | the program drains |

use std::any::Any;
use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::OnceLock;
use std::sync::PoisonError;
use std::time::Duration;

use futures::FutureExt as _;
use legwork_common::error::chain;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Every kind of long-lived task. A new one needs a line in [`TaskKind::policy`] and in the table above.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TaskKind {
    /// Turns signals into tokens.
    Signals,
    /// Serves health and metrics.
    Health,
    /// Reaps dead workers' jobs at every tick.
    Upkeep,
    /// Renews leases and sends the heartbeat.
    Renewal,
    /// Claims jobs.
    Claims,
    /// Writes output and turns.
    Output,
    /// Reads hints from pub/sub.
    Hints,
    /// Runs one attempt at a job.
    Attempt,
    /// Looks after the guard process.
    Guard,
    /// Draws the live panel.
    Panel,
    /// A worker within the program of its session's root.
    HostedWorker,
}

/// What happens to a task when the program closes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnCancel {
    /// It sees the token and ends by itself; the program waits for it, within its grace.
    Wait,
    /// It is dropped at its current await.
    Abort,
}

/// What happens to the program when a task returns an error or panics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnFailure {
    /// One line in the log.
    LogOnly,
    /// One line in the log, and the program drains as if it had been told to.
    ShutDown,
}

/// What a kind of task is owed and may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// When the program closes.
    pub on_cancel: OnCancel,
    /// When the task returns an error or panics.
    pub on_failure: OnFailure,
}

impl TaskKind {
    /// The policy of this kind.
    pub fn policy(self) -> Policy {
        use OnCancel::Abort;
        use OnCancel::Wait;
        use OnFailure::LogOnly;
        use OnFailure::ShutDown;
        let (on_cancel, on_failure) = match self {
            Self::Signals => (Abort, ShutDown),
            Self::Health => (Abort, LogOnly),
            Self::Upkeep => (Abort, ShutDown),
            Self::Renewal => (Abort, ShutDown),
            Self::Claims => (Wait, ShutDown),
            Self::Output => (Wait, ShutDown),
            Self::Hints => (Abort, LogOnly),
            Self::Attempt => (Wait, LogOnly),
            Self::Guard => (Wait, ShutDown),
            Self::Panel => (Wait, LogOnly),
            Self::HostedWorker => (Wait, ShutDown),
        };
        Policy { on_cancel, on_failure }
    }
}

impl fmt::Display for TaskKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Signals => "signals",
            Self::Health => "health",
            Self::Upkeep => "upkeep",
            Self::Renewal => "renewal",
            Self::Claims => "claims",
            Self::Output => "output",
            Self::Hints => "hints",
            Self::Attempt => "attempt",
            Self::Guard => "guard",
            Self::Panel => "panel",
            Self::HostedWorker => "hosted worker",
        })
    }
}

/// What a task may return: nothing, or a `Result` whose error is a failure of the task.
pub trait TaskEnd {
    /// The error as text with its causes, if the task failed.
    fn failure(self) -> Option<String>;
}

impl TaskEnd for () {
    fn failure(self) -> Option<String> {
        None
    }
}

impl<E: Error + 'static> TaskEnd for Result<(), E> {
    fn failure(self) -> Option<String> {
        self.err().map(|error| chain(&error))
    }
}

/// The tasks of one program. Cheap to clone; all clones are one list.
#[derive(Debug, Clone, Default)]
pub struct Tasks {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    tracker: TaskTracker,
    /// Cancelled when the program closes.
    closing: CancellationToken,
    /// Cancelled at the first failure that shuts the program down.
    failing: CancellationToken,
    first_failure: OnceLock<TaskKind>,
    /// How many of each kind live. A std mutex: never held over an await.
    live: Mutex<BTreeMap<TaskKind, usize>>,
}

impl Shared {
    fn live(&self) -> MutexGuard<'_, BTreeMap<TaskKind, usize>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fail(&self, kind: TaskKind, what: &str) {
        tracing::error!(task = %kind, error = what, "task failed");
        match kind.policy().on_failure {
            OnFailure::LogOnly => {}
            OnFailure::ShutDown => {
                // A later failure is often a consequence of the first, so the first is kept.
                self.first_failure.get_or_init(|| kind);
                self.failing.cancel();
            }
        }
    }
}

/// Counts a task for as long as its future exists, however it ends.
#[derive(Debug)]
struct Alive {
    shared: Arc<Shared>,
    kind: TaskKind,
}

impl Alive {
    fn new(shared: Arc<Shared>, kind: TaskKind) -> Self {
        *shared.live().entry(kind).or_default() += 1;
        Self { shared, kind }
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        let mut live = self.shared.live();
        if let Some(count) = live.get_mut(&self.kind) {
            *count -= 1;
            if *count == 0 {
                live.remove(&self.kind);
            }
        }
    }
}

impl Tasks {
    /// An empty list.
    pub fn new() -> Self {
        Self::default()
    }

    /// Starts a task of `kind` on the current tokio runtime. Its panic is caught and treated as its failure.
    ///
    /// The handle may be dropped: the list keeps the task. A task started after
    /// [`close_and_wait`](Self::close_and_wait) began is treated by its policy at once.
    pub fn spawn<F>(&self, kind: TaskKind, future: F) -> JoinHandle<()>
    where
        F: Future<Output: TaskEnd> + Send + 'static,
    {
        let alive = Alive::new(Arc::clone(&self.shared), kind);
        let task = self.shared.tracker.track_future(supervise(alive, future));
        #[expect(clippy::disallowed_methods, reason = "this is the list that every task is on")]
        tokio::spawn(task)
    }

    /// A token that is cancelled when the program closes; dropping or cancelling it does nothing to others.
    pub fn closing(&self) -> CancellationToken {
        self.shared.closing.child_token()
    }

    /// Returns once a task has failed whose policy shuts the program down; says which kind.
    pub async fn failed(&self) -> TaskKind {
        loop {
            self.shared.failing.cancelled().await;
            // The kind is set before the token is cancelled.
            if let Some(kind) = self.shared.first_failure.get() {
                return *kind;
            }
        }
    }

    /// How many tasks of `kind` live.
    pub fn live(&self, kind: TaskKind) -> usize {
        self.shared.live().get(&kind).copied().unwrap_or(0)
    }

    /// Cancels [`closing`](Self::closing), waits at most `grace` for all tasks, and returns the kinds that
    /// did not end. Those go on until the runtime is dropped. May be called again.
    pub async fn close_and_wait(&self, grace: Duration) -> Vec<TaskKind> {
        self.shared.tracker.close();
        self.shared.closing.cancel();
        match tokio::time::timeout(grace, self.shared.tracker.wait()).await {
            Ok(()) => Vec::new(),
            Err(_elapsed) => self.shared.live().keys().copied().collect(),
        }
    }
}

/// Runs one task under its policy. The count falls before the tracker hears of the end.
async fn supervise<F>(alive: Alive, future: F)
where
    F: Future<Output: TaskEnd> + Send,
{
    let Alive { shared, kind } = &alive;
    // What a panic may have left half done is the task's own: it is never polled again.
    let guarded = AssertUnwindSafe(future).catch_unwind();
    let end = match kind.policy().on_cancel {
        OnCancel::Wait => guarded.await,
        OnCancel::Abort => {
            tokio::select! {
                biased;
                end = guarded => end,
                () = shared.closing.cancelled() => return,
            }
        }
    };
    match end {
        Ok(end) => {
            if let Some(error) = end.failure() {
                shared.fail(*kind, &error);
            }
        }
        Err(panic) => shared.fail(*kind, &format!("panicked: {}", panic_message(panic.as_ref()))),
    }
}

/// The message of a panic, where it is text, which it nearly always is.
pub(crate) fn panic_message(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}

#[cfg(test)]
mod tests;
