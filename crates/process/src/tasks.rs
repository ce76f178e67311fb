//! Every long-lived task of a program: its kind, its policy, and the only place that spawns.
//!
//! Each task has a [`TaskKind`]. The kind's policy decides what happens to the task when the program closes,
//! and what happens to the program when the task fails.
//!
//! | kind | when the program closes | when it fails or panics |
//! | --- | --- | --- |
//! | signals | dropped | the program drains |
//! | health | dropped | logged |
//! | upkeep | dropped: its steps may be repeated | the program drains |
//! | renewal | dropped | the program drains |
//! | claims | awaited: the jobs of a claim that is cut off wait until their leases expire | the program drains |
//! | output | awaited: it flushes its buffers | the program drains |
//! | hints | dropped | logged: a hint only makes something happen sooner |
//! | webhooks | awaited: a notification that is sent is recorded | logged: another worker sends the rest |
//! | spans | awaited: they are sent once more | logged |
//! | attempt | awaited | logged: it costs one job, not the others |
//! | guard | awaited | the program drains |
//! | http | awaited: a change is not cut off | logged |
//! | panel | awaited: it restores the terminal | logged |
//! | local worker | awaited | the program drains |

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
    /// Turns signals into shutdown tokens.
    Signals,
    /// Serves health and metrics, and reports to the service manager.
    Health,
    /// Periodic maintenance: reaps, watches the embedded server, keeps the workers of sessions alive.
    Upkeep,
    /// Renews leases, sends heartbeats, or suspends attempts whose lease is in doubt.
    Renewal,
    /// Claims jobs for free slots.
    Claims,
    /// Writes output, turns and ends of jobs.
    Output,
    /// Receives hints over pub/sub.
    Hints,
    /// Reports ends of jobs to URLs.
    Webhooks,
    /// Sends spans to a collector.
    Spans,
    /// Runs one attempt at a job.
    Attempt,
    /// Waits for the guard process, which must not end before the program.
    Guard,
    /// Serves a connection over HTTP, carries out a change that one asked for, or follows a job for it.
    Http,
    /// Draws the live panel.
    Panel,
    /// Runs a worker within another program, such as that of its session's root agent.
    LocalWorker,
}

/// What happens to a task when the program closes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnCancel {
    /// It sees the closing token, or its own, and ends; the program waits for it, within its grace period.
    Wait,
    /// It is dropped at its current await.
    Abort,
}

/// What happens to the program when a task returns an error or panics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnFailure {
    /// One line in the log; the program continues.
    LogOnly,
    /// One line in the log, and the program drains as if it had received a signal.
    ShutDown,
}

/// What closing does to a kind of task, and what its failure does to the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// What happens to the task when the program closes.
    pub on_cancel: OnCancel,
    /// What happens to the program when the task returns an error or panics.
    pub on_failure: OnFailure,
}

impl TaskKind {
    /// The policy of this kind; the table above has the reasons.
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
            Self::Webhooks => (Wait, LogOnly),
            Self::Spans => (Wait, LogOnly),
            Self::Attempt => (Wait, LogOnly),
            Self::Guard => (Wait, ShutDown),
            Self::Http => (Wait, LogOnly),
            Self::Panel => (Wait, LogOnly),
            Self::LocalWorker => (Wait, ShutDown),
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
            Self::Webhooks => "webhooks",
            Self::Spans => "spans",
            Self::Attempt => "attempt",
            Self::Guard => "guard",
            Self::Http => "http",
            Self::Panel => "panel",
            Self::LocalWorker => "local worker",
        })
    }
}

/// What a task may return: nothing, or a `Result` whose error counts as the task's failure.
pub trait TaskEnd {
    /// The error with its causes in one line; `None` if the task succeeded.
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

/// The tasks of one program. Cheap to clone; all clones are one.
#[derive(Debug, Clone, Default)]
pub struct Tasks {
    list: Arc<TaskList>,
}

#[derive(Debug, Default)]
struct TaskList {
    tracker: TaskTracker,
    /// Cancelled when the program closes.
    closing: CancellationToken,
    /// Cancelled at the first failure that shuts the program down.
    failing: CancellationToken,
    first_failure: OnceLock<TaskKind>,
    /// How many tasks of each kind live. A std mutex: never held over an await.
    live: Mutex<BTreeMap<TaskKind, usize>>,
}

impl TaskList {
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

/// Counts a task for as long as its future exists: also where it panics or is dropped.
#[derive(Debug)]
struct LiveTask {
    list: Arc<TaskList>,
    kind: TaskKind,
}

impl LiveTask {
    fn new(list: Arc<TaskList>, kind: TaskKind) -> Self {
        *list.live().entry(kind).or_default() += 1;
        Self { list, kind }
    }
}

impl Drop for LiveTask {
    fn drop(&mut self) {
        let mut live = self.list.live();
        if let Some(count) = live.get_mut(&self.kind) {
            *count -= 1;
            if *count == 0 {
                live.remove(&self.kind);
            }
        }
    }
}

impl Tasks {
    /// A program without tasks.
    pub fn new() -> Self {
        Self::default()
    }

    /// Spawns a task of `kind` on the current tokio runtime. A panic is caught and counts as its failure.
    ///
    /// The handle may be dropped: the task continues. For a task that is spawned after
    /// [`close_and_wait`](Self::close_and_wait) was called, the program is closing already: its policy applies at once.
    pub fn spawn<F>(&self, kind: TaskKind, future: F) -> JoinHandle<()>
    where
        F: Future<Output: TaskEnd> + Send + 'static,
    {
        // Counted here, not in the task: it is live before it is first polled.
        let live_task = LiveTask::new(Arc::clone(&self.list), kind);
        // Boxed, because each function that it is handed on by would hold it once more, for as long as the task lives.
        let task = self.list.tracker.track_future(supervise(live_task, Box::pin(future)));
        #[expect(clippy::disallowed_methods, reason = "the only place that spawns")]
        tokio::spawn(task)
    }

    /// A token that is cancelled when the program closes. Cancelling it has no effect on the program or other tasks.
    pub fn closing(&self) -> CancellationToken {
        self.list.closing.child_token()
    }

    /// Waits until a task has failed whose policy shuts the program down, and returns its kind: at once, and always that
    /// of the first, when called again.
    pub async fn failed(&self) -> TaskKind {
        loop {
            self.list.failing.cancelled().await;
            // The kind is set before the token is cancelled.
            if let Some(kind) = self.list.first_failure.get() {
                return *kind;
            }
        }
    }

    /// How many tasks of `kind` live.
    pub fn live(&self, kind: TaskKind) -> usize {
        self.list.live().get(&kind).copied().unwrap_or(0)
    }

    /// Closes as [`close_and_wait`](Self::close_and_wait) does, and logs what did not end in time.
    pub async fn end(&self, grace_period: Duration) {
        let unfinished = self.close_and_wait(grace_period).await;
        if !unfinished.is_empty() {
            tracing::warn!(?unfinished, "tasks did not end in time");
        }
    }

    /// Cancels [`closing`](Self::closing), waits for all tasks for at most `grace_period`, and returns the kinds of those
    /// that did not end. They continue until the runtime is dropped. May be called again.
    pub async fn close_and_wait(&self, grace_period: Duration) -> Vec<TaskKind> {
        self.list.tracker.close();
        self.list.closing.cancel();
        match tokio::time::timeout(grace_period, self.list.tracker.wait()).await {
            Ok(()) => Vec::new(),
            Err(_elapsed) => self.list.live().keys().copied().collect(),
        }
    }
}

/// Runs one task under its policy. `live_task` is dropped with this future, so the count falls before the tracker sees
/// the end.
async fn supervise<F>(live_task: LiveTask, future: F)
where
    F: Future<Output: TaskEnd> + Send,
{
    let LiveTask { list, kind } = &live_task;
    // Unwind safe: only the task itself sees the state that a panic leaves behind, and it is never polled again.
    let guarded = AssertUnwindSafe(future).catch_unwind();
    let end = match kind.policy().on_cancel {
        OnCancel::Wait => guarded.await,
        OnCancel::Abort => {
            tokio::select! {
                biased;
                end = guarded => end,
                () = list.closing.cancelled() => return,
            }
        }
    };
    match end {
        Ok(end) => {
            if let Some(error) = end.failure() {
                list.fail(*kind, &error);
            }
        }
        Err(panic) => list.fail(*kind, &format!("panicked: {}", panic_message(panic.as_ref()))),
    }
}

/// The message of a panic, which is text unless the panic was raised with another value.
pub(crate) fn panic_message(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}

#[cfg(test)]
mod tests;
