//! The attempts that run on this worker: what renews, stops and resumes them finds them here.
//!
//! They are kept by lease, which is one attempt. A worker that stood still beyond its lease may hold two attempts of
//! the same job for a while: one that has yet to notice that it is over, and the next one.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;

use legwork_common::id::JobId;
use legwork_queue::port::Lease;
use tokio::sync::Semaphore;

use crate::cancel::AttemptCancel;
use crate::cancel::CancelReason;

/// What other tasks may do to one attempt.
#[derive(Debug)]
pub struct AttemptHandle {
    /// The proof of holding its job.
    pub lease: Lease,
    /// Ends or suspends it.
    pub cancel: AttemptCancel,
    /// Gets one permit for each slot that the worker grants to it after it was parked. Starts empty: the first slot
    /// came with the claim.
    pub slot: Semaphore,
    /// Whether it may have given its slot back: set before the job is parked, cleared after it has resumed.
    pub parked: AtomicBool,
}

/// The place of one attempt among all of a worker, kept by the attempt itself. Dropping it ends the renewal of the
/// lease, also where the attempt panicked or was never started.
#[derive(Debug)]
pub struct ActiveAttempt {
    attempts: ActiveAttempts,
    handle: Arc<AttemptHandle>,
}

impl ActiveAttempt {
    /// What other tasks see of it.
    pub fn handle(&self) -> &Arc<AttemptHandle> {
        &self.handle
    }
}

impl Drop for ActiveAttempt {
    fn drop(&mut self) {
        self.attempts.handles().remove(&self.handle.lease);
    }
}

/// All attempts of a worker. Cheap to clone; all clones are one.
#[derive(Debug, Clone, Default)]
pub struct ActiveAttempts {
    // A std mutex: held for a lookup or an insertion, never over an await.
    handles: Arc<Mutex<HashMap<Lease, Arc<AttemptHandle>>>>,
}

impl ActiveAttempts {
    fn handles(&self) -> MutexGuard<'_, HashMap<Lease, Arc<AttemptHandle>>> {
        self.handles.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds the attempt of a claimed job: not cancelled, and with the slot of its claim. It stays until the returned
    /// value is dropped.
    pub fn insert(&self, lease: Lease) -> ActiveAttempt {
        let handle = Arc::new(AttemptHandle {
            lease,
            cancel: AttemptCancel::default(),
            slot: Semaphore::new(0),
            parked: AtomicBool::new(false),
        });
        self.handles().insert(lease, Arc::clone(&handle));
        ActiveAttempt { attempts: self.clone(), handle }
    }

    /// The leases to renew, in no order.
    pub fn leases(&self) -> Vec<Lease> {
        self.handles().keys().copied().collect()
    }

    /// Cancels the attempt under this lease, if it is still active.
    pub fn cancel(&self, lease: Lease, reason: CancelReason) {
        if let Some(handle) = self.handles().get(&lease) {
            handle.cancel.cancel(reason);
        }
    }

    /// Cancels all attempts at a job.
    pub fn cancel_job(&self, job: JobId, reason: CancelReason) {
        for handle in self.handles().values().filter(|handle| handle.lease.id == job) {
            handle.cancel.cancel(reason);
        }
    }

    /// Suspends all attempts, because no lease is known to be valid.
    pub fn suspend_all(&self) {
        for handle in self.handles().values() {
            handle.cancel.suspend();
        }
    }

    /// Gives a slot to a parked attempt that waits for one.
    pub fn grant_slot(&self, lease: Lease) {
        if let Some(handle) = self.handles().get(&lease) {
            handle.slot.add_permits(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use legwork_common::id::RunToken;
    use legwork_common::id::SessionId;

    use super::*;

    #[test]
    fn two_attempts_of_one_job_are_held_apart() {
        let attempts = ActiveAttempts::default();
        let id = JobId::random_in(SessionId::random());
        let [first, second] = std::array::from_fn(|_| Lease { id, token: RunToken::random() });
        let lost = attempts.insert(first);
        let next = attempts.insert(second);
        attempts.cancel(first, CancelReason::LeaseLost);
        attempts.grant_slot(second);
        assert!(lost.handle().cancel.token().is_cancelled());
        assert_eq!((next.handle().cancel.reason(), next.handle().slot.available_permits()), (None, 1));
        drop(lost);
        assert_eq!(attempts.leases(), [second]);
        drop(next);
        assert!(attempts.leases().is_empty());
    }

    #[test]
    fn a_panic_ends_the_renewal() {
        let attempts = ActiveAttempts::default();
        let lease = Lease { id: JobId::random_in(SessionId::random()), token: RunToken::random() };
        let active = attempts.insert(lease);
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || {
            let _active = active;
            panic!("on purpose");
        }));
        assert!(panicked.is_err() && attempts.leases().is_empty());
    }
}
