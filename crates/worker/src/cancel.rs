//! Why an attempt shall end, escalating.

use std::sync::Arc;
use std::sync::atomic::AtomicU8;
use std::sync::atomic::Ordering;

use tokio_util::sync::CancellationToken;

/// Why an attempt shall end. The order is the severity: a later reason replaces an earlier one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum CancelReason {
    /// The worker drains and its time is up: the job goes back to the queue.
    HandBack = 1,
    /// The lease could not be renewed in time. If it turns out to be ours still, the job goes back to the
    /// queue and nothing is counted.
    Suspended,
    /// The job's timeout passed.
    Deadline,
    /// Somebody asked the job, or a tree above it, to stop.
    StopWanted,
    /// Another holds the job; nothing of this attempt counts.
    LeaseLost,
}

impl CancelReason {
    const ALL: [Self; 5] =
        [Self::HandBack, Self::Suspended, Self::Deadline, Self::StopWanted, Self::LeaseLost];

    fn from_stored(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| *reason as u8 == number)
    }
}

/// The switch that ends one attempt. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct AttemptCancel {
    token: CancellationToken,
    reason: Arc<AtomicU8>,
}

impl AttemptCancel {
    /// Ends the attempt for `reason`, unless a graver one was given before.
    pub fn cancel(&self, reason: CancelReason) {
        self.reason.fetch_max(reason as u8, Ordering::SeqCst);
        self.token.cancel();
    }

    /// The token that every await of the attempt sees.
    pub fn token(&self) -> &CancellationToken {
        &self.token
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
        assert!(cancel.token().is_cancelled());
    }
}
