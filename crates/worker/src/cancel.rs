//! Why an attempt shall end, escalating, and the pause of one whose lease is not sure.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::AtomicU8;
use std::sync::atomic::Ordering;

use tokio_util::sync::CancellationToken;

/// Why an attempt shall end. The order is the severity: a later reason replaces an earlier one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum CancelReason {
    /// The worker drains and its time is up: the job goes back to the queue.
    HandBack = 1,
    /// The job's timeout passed.
    Deadline,
    /// Somebody asked the job, or a tree above it, to stop.
    StopWanted,
    /// Another holds the job; nothing of this attempt counts.
    LeaseLost,
}

impl CancelReason {
    const ALL: [Self; 4] = [Self::HandBack, Self::Deadline, Self::StopWanted, Self::LeaseLost];

    fn from_stored(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| *reason as u8 == number)
    }
}

/// The switch that ends one attempt. Cheap to clone.
#[derive(Debug, Clone)]
pub struct AttemptCancel {
    token: CancellationToken,
    reason: Arc<AtomicU8>,
    // The token of the run that goes on now; a std mutex, held for a look or an assignment.
    run: Arc<Mutex<CancellationToken>>,
}

impl Default for AttemptCancel {
    fn default() -> Self {
        let token = CancellationToken::new();
        let run = Arc::new(Mutex::new(token.child_token()));
        Self { token, reason: Arc::default(), run }
    }
}

impl AttemptCancel {
    /// Ends the attempt for `reason`, unless a graver one was given before.
    pub fn cancel(&self, reason: CancelReason) {
        self.reason.fetch_max(reason as u8, Ordering::SeqCst);
        self.token.cancel();
    }

    /// Cancelled when the attempt shall end for good.
    pub fn token(&self) -> &CancellationToken {
        &self.token
    }

    /// The token that every await of the run sees: cancelled when the attempt shall end, or pause.
    pub fn run(&self) -> CancellationToken {
        self.run.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Ends the run but not the attempt: its lease is not sure. If the lease turns out to be ours still, the
    /// attempt goes on in place.
    pub fn suspend(&self) {
        self.run().cancel();
    }

    /// Whether the run was ended, and nothing else.
    pub fn is_suspended(&self) -> bool {
        self.run().is_cancelled() && !self.token.is_cancelled()
    }

    /// The lease is sure again: the token of a new run.
    pub fn go_on(&self) {
        *self.run.lock().unwrap_or_else(PoisonError::into_inner) = self.token.child_token();
    }

    /// The gravest reason given so far.
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
        cancel.cancel(CancelReason::StopWanted);
        cancel.cancel(CancelReason::HandBack);
        assert_eq!(cancel.reason(), Some(CancelReason::StopWanted));
        cancel.cancel(CancelReason::LeaseLost);
        assert_eq!(cancel.reason(), Some(CancelReason::LeaseLost));
        assert!(cancel.token().is_cancelled() && cancel.run().is_cancelled());
    }

    #[test]
    fn a_pause_ends_the_run_and_not_the_attempt() {
        let cancel = AttemptCancel::default();
        let first = cancel.run();
        cancel.suspend();
        assert!(first.is_cancelled() && cancel.is_suspended());
        assert_eq!((cancel.reason(), cancel.token().is_cancelled()), (None, false));
        cancel.go_on();
        let second = cancel.run();
        assert!(!second.is_cancelled() && !cancel.is_suspended());
        cancel.cancel(CancelReason::LeaseLost);
        assert!(second.is_cancelled() && !cancel.is_suspended());
        cancel.go_on();
        assert!(cancel.run().is_cancelled());
    }
}
