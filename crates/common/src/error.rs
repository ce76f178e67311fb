//! The interface that every error of Legwork implements: a code, an exit status and an optional hint.
//!
//! Errors are typed by operation and keep their context in fields. Only the outermost layer of a program
//! prints them: `error: what happened`, then `hint: what to do`.

use std::error::Error;

/// The exit statuses of both programs. Scripts depend on the numbers, so they never change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum ExitStatus {
    /// Success.
    Success = 0,
    /// The requested job failed or was stopped. Only commands that wait for a job return it.
    JobFailed = 1,
    /// The command line, or a file that it names, is invalid.
    Usage = 2,
    /// There is no such job, agent or worker.
    NotFound = 3,
    /// The agent file is invalid.
    AgentFile = 4,
    /// Redis cannot be reached, or rejected the request.
    Redis = 5,
    /// A wait reached its timeout. The jobs continue.
    TimedOut = 6,
    /// The request conflicts with an earlier one: its idempotency key was used for another request, or the
    /// session is being stopped or is closed.
    Conflict = 7,
    /// Some of many requests failed, each with a result of its own; the others are done.
    SomeFailed = 8,
    /// Interrupted by SIGINT (Ctrl-C); 128 plus the number of the signal, as in shells.
    Interrupted = 130,
}

impl ExitStatus {
    /// The number to exit with.
    pub fn code(self) -> u8 {
        self as u8
    }
}

/// An error that is reported to a user or to a calling program.
pub trait Coded: Error + Send + Sync + 'static {
    /// A stable identifier, such as `not_found`. Each one has a row in `docs/errors.md`; a test compares the two.
    fn code(&self) -> &'static str;

    /// The exit status of a program that fails with this error.
    fn exit(&self) -> ExitStatus;

    /// What the user can do about it, as one line; `None` where there is nothing useful to say.
    fn hint(&self) -> Option<String> {
        None
    }
}

/// The messages of `error` and its sources, joined by `: `. A source whose message is already part of the
/// text is skipped, because some libraries include their source in their own message.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use thiserror::Error;

    use super::*;

    #[derive(Debug, Error)]
    #[error("outer failed")]
    struct Outer(#[source] Inner);

    #[derive(Debug, Error)]
    #[error("inner broke")]
    struct Inner;

    #[test]
    fn a_chain_contains_every_source_once() {
        assert_eq!(chain(&Outer(Inner)), "outer failed: inner broke");
    }
}
