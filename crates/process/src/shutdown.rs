//! Turns signals into two tokens: drain and now.
//!
//! The first SIGTERM or SIGINT requests a drain, the second an immediate end. A task whose failure
//! shuts the program down requests a drain too, so that a program has one way to end, not two.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::OnceLock;

use tokio::signal::unix;
use tokio::signal::unix::SignalKind;
use tokio_util::sync::CancellationToken;

use crate::tasks::TaskKind;
use crate::tasks::Tasks;

/// A signal that ends the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// SIGTERM, as from a service manager.
    Terminate,
    /// SIGINT, as from Ctrl-C.
    Interrupt,
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Terminate => "SIGTERM",
            Self::Interrupt => "SIGINT",
        })
    }
}

/// Why a program drains.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// The program received this signal.
    Signal(Signal),
    /// A task of this kind failed, and its policy shuts the program down.
    Failure(TaskKind),
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Signal(signal) => write!(f, "{signal}"),
            Self::Failure(kind) => write!(f, "failed task: {kind}"),
        }
    }
}

/// The tokens by which a program learns that it must end. Cheap to clone; all clones are one.
#[derive(Debug, Clone)]
pub struct Shutdown {
    /// Cancelled by the first cause: take nothing new; finish or release what runs.
    pub drain: CancellationToken,
    /// Cancelled by a later signal: end at once. `drain` is always cancelled before it.
    pub now: CancellationToken,
    cause: Arc<OnceLock<Cause>>,
}

impl Shutdown {
    /// Listens from now on, in a task of [`TaskKind::Signals`]. The default action of the signals is off for the
    /// rest of the process: from here on the program itself must end.
    ///
    /// # Errors
    ///
    /// The system's, when it cannot register a handler.
    pub fn listen(tasks: &Tasks) -> io::Result<Self> {
        let shutdown = Self {
            drain: CancellationToken::new(),
            now: CancellationToken::new(),
            cause: Arc::new(OnceLock::new()),
        };
        // Registered here, not in the task: a signal before its first poll would kill the program.
        let terminate = unix::signal(SignalKind::terminate())?;
        let interrupt = unix::signal(SignalKind::interrupt())?;
        let signals = Signals { terminate, interrupt };
        tasks.spawn(TaskKind::Signals, shutdown.clone().follow(signals, tasks.clone()));
        Ok(shutdown)
    }

    /// The cause of the drain; `None` before there was one.
    pub fn cause(&self) -> Option<Cause> {
        self.cause.get().copied()
    }

    /// Escalates one step for each cause. Runs until dropped.
    async fn follow(self, mut signals: Signals, tasks: Tasks) {
        loop {
            let cause = tokio::select! {
                signal = signals.next() => Cause::Signal(signal),
                // `failed` answers at once ever after: polled again, it would count as a second cause.
                kind = tasks.failed(), if !self.drain.is_cancelled() => Cause::Failure(kind),
            };
            self.escalate(cause);
        }
    }

    /// One step up: drain first, then now.
    fn escalate(&self, cause: Cause) {
        if self.drain.is_cancelled() {
            tracing::warn!(%cause, "asked to end again, ending at once");
            self.now.cancel();
        } else {
            tracing::info!(%cause, "draining");
            // Before the token is cancelled: a task that it wakes may read the cause.
            self.cause.get_or_init(|| cause);
            self.drain.cancel();
        }
    }
}

/// The registered signal handlers.
#[derive(Debug)]
struct Signals {
    terminate: unix::Signal,
    interrupt: unix::Signal,
}

impl Signals {
    /// The next signal of either kind.
    async fn next(&mut self) -> Signal {
        tokio::select! {
            _received = self.terminate.recv() => Signal::Terminate,
            _received = self.interrupt.recv() => Signal::Interrupt,
        }
    }
}
