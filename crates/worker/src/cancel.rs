//! Why an attempt must end, by severity, and how it is suspended while its lease is in doubt.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::AtomicU8;
use std::sync::atomic::Ordering;

use tokio_util::sync::CancellationToken;

/// Why an attempt must end. The order is the severity: a graver reason replaces a lesser one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum CancelReason {
    /// The worker drains and the drain timeout expired: the job is released to the queue.
    Release = 1,
    /// The job's own timeout expired.
    Deadline,
    /// The worker's memory was nearly used up, and the job held most of it.
    Memory,
    /// An operator or the dispatcher stopped the job, or a tree above it.
    StopRequested,
    /// Another attempt holds the job; nothing that this one writes counts.
    LeaseLost,
}

impl CancelReason {
    const ALL: [Self; 5] =
        [Self::Release, Self::Deadline, Self::Memory, Self::StopRequested, Self::LeaseLost];

    /// The reason with this discriminant; `None` for 0, which stands for "not cancelled".
    fn from_stored(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| *reason as u8 == number)
    }
}

/// Cancels one attempt, or only suspends its current run.
#[derive(Debug)]
pub struct AttemptCancel {
    token: CancellationToken,
    reason: AtomicU8,
    // The token of the current run, a child of `token`. A std mutex: held for a read or an assignment.
    run: Mutex<CancellationToken>,
}

impl Default for AttemptCancel {
    fn default() -> Self {
        let token = CancellationToken::new();
        let run = Mutex::new(token.child_token());
        Self { token, reason: AtomicU8::new(0), run }
    }
}

impl AttemptCancel {
    /// Ends the attempt for `reason`, unless a graver one was given before.
    pub fn cancel(&self, reason: CancelReason) {
        // Before the token: whatever the token wakes reads the reason.
        self.reason.fetch_max(reason as u8, Ordering::SeqCst);
        self.token.cancel();
    }

    /// Cancelled when the attempt must end. A suspension does not cancel it.
    pub fn token(&self) -> &CancellationToken {
        &self.token
    }

    /// The token that every await of the current run selects on: cancelled when the attempt must end, and when it
    /// is suspended.
    pub fn run_token(&self) -> CancellationToken {
        self.run.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Ends the run but not the attempt, because its lease is in doubt. If the lease turns out to be still ours, the
    /// attempt resumes in place with a new run.
    pub fn suspend(&self) {
        self.run_token().cancel();
    }

    /// Whether the run was ended and the attempt was not.
    pub fn is_suspended(&self) -> bool {
        self.run_token().is_cancelled() && !self.token.is_cancelled()
    }

    /// Makes the token of a new run, once the lease is valid again. The new token is cancelled already where the
    /// attempt was cancelled in between.
    pub fn resume(&self) {
        *self.run.lock().unwrap_or_else(PoisonError::into_inner) = self.token.child_token();
    }

    /// The gravest reason given so far; `None` while the attempt may run.
    pub fn reason(&self) -> Option<CancelReason> {
        CancelReason::from_stored(self.reason.load(Ordering::SeqCst))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gravest_reason_counts() {
        let cancel = AttemptCancel::default();
        assert_eq!(cancel.reason(), None);
        cancel.cancel(CancelReason::StopRequested);
        cancel.cancel(CancelReason::Release);
        assert_eq!(cancel.reason(), Some(CancelReason::StopRequested));
        cancel.cancel(CancelReason::LeaseLost);
        assert_eq!(cancel.reason(), Some(CancelReason::LeaseLost));
        assert!(cancel.token().is_cancelled() && cancel.run_token().is_cancelled());
    }

    #[test]
    fn suspending_ends_the_run_and_not_the_attempt() {
        let cancel = AttemptCancel::default();
        let first = cancel.run_token();
        cancel.suspend();
        assert!(first.is_cancelled() && cancel.is_suspended());
        assert_eq!((cancel.reason(), cancel.token().is_cancelled()), (None, false));
        cancel.resume();
        let second = cancel.run_token();
        assert!(!second.is_cancelled() && !cancel.is_suspended());
        cancel.cancel(CancelReason::LeaseLost);
        assert!(second.is_cancelled() && !cancel.is_suspended());
        cancel.resume();
        assert!(cancel.run_token().is_cancelled());
    }
}
