//! The attempts that run on this worker: what renews, stops and resumes them finds them here.

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

/// What other tasks may do to one attempt. Cheap to clone; all clones are one.
#[derive(Debug, Clone)]
pub struct AttemptHandle {
    /// The proof of holding its job.
    pub lease: Lease,
    /// Ends or suspends it.
    pub cancel: AttemptCancel,
    /// Gets one permit for each slot that the worker grants to it after it was parked. Starts empty: the first slot
    /// came with the claim.
    pub slot: Arc<Semaphore>,
    /// Whether it may have given its slot back: set before the job is parked, cleared after it has resumed.
    pub parked: Arc<AtomicBool>,
}

/// All attempts of a worker, by job. Cheap to clone; all clones are one.
#[derive(Debug, Clone, Default)]
pub struct ActiveAttempts {
    // A std mutex: held for a lookup or an insertion, never over an await.
    handles: Arc<Mutex<HashMap<JobId, AttemptHandle>>>,
}

impl ActiveAttempts {
    fn handles(&self) -> MutexGuard<'_, HashMap<JobId, AttemptHandle>> {
        self.handles.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds the attempt of a claimed job: not cancelled, and with the slot of its claim.
    pub fn insert(&self, lease: Lease) -> AttemptHandle {
        let handle = AttemptHandle {
            lease,
            cancel: AttemptCancel::default(),
            slot: Arc::new(Semaphore::new(0)),
            parked: Arc::default(),
        };
        self.handles().insert(lease.id, handle.clone());
        handle
    }

    /// Removes an attempt that is over. A later attempt of the same job, under another token, stays.
    pub fn remove(&self, lease: Lease) {
        let mut handles = self.handles();
        if handles.get(&lease.id).is_some_and(|handle| handle.lease == lease) {
            handles.remove(&lease.id);
        }
    }

    /// The leases to renew, in no order.
    pub fn leases(&self) -> Vec<Lease> {
        self.handles().values().map(|handle| handle.lease).collect()
    }

    /// Cancels the attempt under exactly this lease, if it is still active.
    pub fn cancel(&self, lease: Lease, reason: CancelReason) {
        if let Some(handle) = self.handles().get(&lease.id).filter(|handle| handle.lease == lease) {
            handle.cancel.cancel(reason);
        }
    }

    /// Cancels the attempt of a job, under whichever lease.
    pub fn cancel_job(&self, job: JobId, reason: CancelReason) {
        if let Some(handle) = self.handles().get(&job) {
            handle.cancel.cancel(reason);
        }
    }

    /// Cancels all attempts.
    pub fn cancel_all(&self, reason: CancelReason) {
        for handle in self.handles().values() {
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
    pub fn grant_slot(&self, job: JobId) {
        if let Some(handle) = self.handles().get(&job) {
            handle.slot.add_permits(1);
        }
    }
}
