//! What every error of ours carries to the edge: a code, an exit status and, where it helps, a hint.
//!
//! Errors are typed by operation and keep their context in fields. Only the edge of a program turns
//! one into text: `error: what happened`, then `hint: what to do`.

use std::error::Error;

/// The exit statuses of both programs. The numbers are part of the contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum ExitStatus {
    /// What was asked for was done.
    Done = 0,
    /// The job asked for failed or was stopped.
    JobFailed = 1,
    /// The command line was wrong.
    Usage = 2,
    /// No such job, agent or worker.
    NotFound = 3,
    /// The agent file is wrong.
    AgentFile = 4,
    /// Redis cannot be reached, or refuses.
    Redis = 5,
    /// The time to wait ran out.
    TimedOut = 6,
    /// An idempotency key stands for another request.
    Conflict = 7,
    /// Ctrl-C.
    Interrupted = 130,
}

impl ExitStatus {
    /// The number for the operating system.
    pub fn code(self) -> u8 {
        self as u8
    }
}

/// An error that a person or a program can act on.
pub trait Coded: Error + Send + Sync + 'static {
    /// A stable word for programs, such as `not_found`; a page of `docs/errors.md` explains it.
    fn code(&self) -> &'static str;

    /// The exit status of a program that ends with this error.
    fn exit(&self) -> ExitStatus;

    /// What to do about it, where something can be said.
    fn hint(&self) -> Option<String> {
        None
    }
}

/// `error` and its sources, joined by `: `, without repeating a source that is already in the text.
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
    fn a_chain_names_every_cause_once() {
        assert_eq!(chain(&Outer(Inner)), "outer failed: inner broke");
    }
}
