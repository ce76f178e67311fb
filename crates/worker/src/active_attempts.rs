//! The attempts that this worker holds: who renews, stops and wakes them finds them here.

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

/// One held attempt.
#[derive(Debug, Clone)]
pub struct HeldAttempt {
    /// The proof of holding its job.
    pub lease: Lease,
    /// The switch that ends it.
    pub cancel: AttemptCancel,
    /// Gets a permit when a slot is granted to it after it was parked.
    pub slot: Arc<Semaphore>,
    /// Whether it may have given its slot back.
    pub parked: Arc<AtomicBool>,
}

/// All held attempts. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct ActiveAttempts {
    // A std mutex: held for a look or an insertion, never over an await.
    attempts: Arc<Mutex<HashMap<JobId, HeldAttempt>>>,
}

impl ActiveAttempts {
    fn attempts(&self) -> MutexGuard<'_, HashMap<JobId, HeldAttempt>> {
        self.attempts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes up a claimed job, not yet cancelled and with its slot.
    pub fn insert(&self, lease: Lease) -> HeldAttempt {
        let attempt = HeldAttempt {
            lease,
            cancel: AttemptCancel::default(),
            slot: Arc::new(Semaphore::new(0)),
            parked: Arc::default(),
        };
        self.attempts().insert(lease.id, attempt.clone());
        attempt
    }

    /// Lets go of an attempt that is over.
    pub fn remove(&self, lease: Lease) {
        let mut attempts = self.attempts();
        if attempts.get(&lease.id).is_some_and(|held| held.lease == lease) {
            attempts.remove(&lease.id);
        }
    }

    /// The leases to renew.
    pub fn leases(&self) -> Vec<Lease> {
        self.attempts().values().map(|held| held.lease).collect()
    }

    /// Ends the attempt that holds `lease`, if it is still held.
    pub fn cancel(&self, lease: Lease, reason: CancelReason) {
        if let Some(held) = self.attempts().get(&lease.id).filter(|held| held.lease == lease) {
            held.cancel.cancel(reason);
        }
    }

    /// Ends the attempt of a job, whichever it is.
    pub fn cancel_job(&self, job: JobId, reason: CancelReason) {
        if let Some(held) = self.attempts().get(&job) {
            held.cancel.cancel(reason);
        }
    }

    /// Ends all attempts.
    pub fn cancel_all(&self, reason: CancelReason) {
        for held in self.attempts().values() {
            held.cancel.cancel(reason);
        }
    }

    /// Pauses all attempts.
    pub fn suspend_all(&self) {
        for held in self.attempts().values() {
            held.cancel.suspend();
        }
    }

    /// Gives a slot to an attempt that waits for one.
    pub fn grant_slot(&self, job: JobId) {
        if let Some(held) = self.attempts().get(&job) {
            held.slot.add_permits(1);
        }
    }
}
