//! Signals become two tokens.
//!
//! The first SIGTERM or SIGINT asks for a drain, the second for an end at once. A task whose failure
//! shuts the program down asks for a drain too, so that a program has one way to end, not two.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::OnceLock;

use tokio::signal::unix;
use tokio::signal::unix::SignalKind;
use tokio_util::sync::CancellationToken;

use crate::tasks::TaskKind;
use crate::tasks::Tasks;

/// A signal that ends a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// SIGTERM: a service manager.
    Terminate,
    /// SIGINT: Ctrl-C.
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
    /// Somebody asked for it.
    Signal(Signal),
    /// A task failed that the program cannot do without.
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

/// How a program learns that it is to end. Cheap to clone; all clones are one.
#[derive(Debug, Clone)]
pub struct Shutdown {
    /// Cancelled by the first cause: take nothing new, finish or hand back what runs.
    pub drain: CancellationToken,
    /// Cancelled by the second signal: end at once. Whenever it is cancelled, `drain` is too.
    pub now: CancellationToken,
    cause: Arc<OnceLock<Cause>>,
}

impl Shutdown {
    /// Listens from now on, in a task of [`TaskKind::Signals`]. The signals' own effect is off for the
    /// rest of the process: a program that listens must end by itself.
    ///
    /// # Errors
    ///
    /// When the system refuses to register a handler.
    pub fn listen(tasks: &Tasks) -> io::Result<Self> {
        let shutdown = Self {
            drain: CancellationToken::new(),
            now: CancellationToken::new(),
            cause: Arc::new(OnceLock::new()),
        };
        // Registered here, not in the task: a signal between the two would be lost.
        let terminate = unix::signal(SignalKind::terminate())?;
        let interrupt = unix::signal(SignalKind::interrupt())?;
        let signals = Signals { terminate, interrupt };
        tasks.spawn(TaskKind::Signals, shutdown.clone().follow(signals, tasks.clone()));
        Ok(shutdown)
    }

    /// What asked for the drain, once something did.
    pub fn cause(&self) -> Option<Cause> {
        self.cause.get().copied()
    }

    /// Goes up one step for each cause, until it is dropped.
    async fn follow(self, mut signals: Signals, tasks: Tasks) {
        loop {
            let cause = tokio::select! {
                signal = signals.next() => Cause::Signal(signal),
                // A failure stays a failure: heard again, it would be taken for a second cause.
                kind = tasks.failed(), if !self.drain.is_cancelled() => Cause::Failure(kind),
            };
            self.escalate(cause);
        }
    }

    /// One step up: drain first, then now.
    fn escalate(&self, cause: Cause) {
        if self.drain.is_cancelled() {
            tracing::warn!(%cause, "asked again to end, ending at once");
            self.now.cancel();
        } else {
            tracing::info!(%cause, "draining");
            // Set before the token is cancelled, so that whoever the token wakes finds it.
            self.cause.get_or_init(|| cause);
            self.drain.cancel();
        }
    }
}

/// The registered handlers.
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
