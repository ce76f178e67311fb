//! Claims jobs for free slots, and waits for a wake-up when there are none.
//!
//! A task of its own that is never cut off within a claim: its jobs would be leased to a worker that does not know of
//! them, until the leases expire. Only the wait for a wake-up is dropped at the end; that loses at most one wake-up,
//! which delays another worker by two seconds.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;
use std::time::Duration;

use legwork_common::id::WorkerId;
use legwork_queue::Queue;
use legwork_queue::QueueError;
use legwork_queue::port::Begun;
use legwork_queue::port::Claim;
use legwork_queue::port::Claimed;
use legwork_queue::port::Lane;
use legwork_queue::port::Lease;
use legwork_queue::port::Watch as _;
use legwork_queue::port::Work as _;
use tokio::sync::Notify;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::lease_clock::boot_millis;

/// Delay before a failed call is repeated. A Redis that is restarting refuses connections at once, so without a delay
/// this would be a busy loop; half a second is short compared with the lease of the jobs that a lost claim may hold.
const RETRY_DELAY: Duration = Duration::from_millis(500);
/// Slots of one claim: the bound of the port, so that one step in Redis stays short.
const MAX_CLAIM_SLOTS: u32 = 1000;

/// What the claimer reports to the driver.
#[derive(Debug)]
pub enum ClaimReport {
    /// These jobs are claimed, each with what earlier attempts stored. The claimer waits for the next request.
    Claimed(Vec<(Claimed, Begun)>),
    /// Nothing is queued or scheduled where this worker claims. The claimer continues with the same request.
    Idle,
}

/// The shard at which the next round begins, and the claims that were not answered.
#[derive(Debug, Default)]
struct Rotation {
    first_shard: u16,
    /// The number of the latest claim.
    number: u64,
    /// By shard, the numbers of claims whose answer was lost. Repeated under the same number they return the same jobs;
    /// otherwise no worker would run these jobs until their leases expired.
    unanswered: BTreeMap<u16, u64>,
}

impl Rotation {
    /// The number of the next claim in a shard. It follows the clock, because the queue ignores numbers below the last
    /// one: a claimer that replaces another one in the same worker must continue above it.
    fn number(&mut self, shard: u16) -> u64 {
        *self.unanswered.entry(shard).or_insert_with(|| {
            self.number = (self.number + 1).max(boot_millis());
            self.number
        })
    }
}

/// The claimer of one worker.
#[derive(Debug)]
pub struct Claimer {
    /// The queue.
    pub queue: Queue,
    /// The worker that the jobs are leased to.
    pub worker: WorkerId,
    /// The lanes to claim from, the most urgent first.
    pub lanes: Vec<Lane>,
    /// How many slots are free right now; the driver writes it.
    pub free_slots: Arc<AtomicU32>,
    /// Signalled when the driver wants jobs.
    pub requested: Arc<Notify>,
    /// Whether to report [`ClaimReport::Idle`].
    pub until_idle: bool,
}

impl Claimer {
    /// Claims at each request, until `stop`. Each request is answered by one [`ClaimReport::Claimed`], also one that
    /// `stop` cuts short.
    pub async fn run(self, reports: mpsc::Sender<ClaimReport>, stop: CancellationToken) {
        let mut rotation = Rotation::default();
        while stop.run_until_cancelled(self.requested.notified()).await.is_some() {
            let batch = self.claim_until_some(&mut rotation, &reports, &stop).await;
            if reports.send(ClaimReport::Claimed(batch)).await.is_err() {
                return;
            }
        }
        // A request that `stop` overtook is answered too: the driver waits for the answer before it exits.
        let _no_receiver = reports.send(ClaimReport::Claimed(Vec::new())).await;
    }

    /// Claims until there is a job, or until `stop`: then the batch is empty.
    async fn claim_until_some(
        &self,
        rotation: &mut Rotation,
        reports: &mpsc::Sender<ClaimReport>,
        stop: &CancellationToken,
    ) -> Vec<(Claimed, Begun)> {
        while !stop.is_cancelled() {
            match self.claim_once(rotation).await {
                Ok(batch) if !batch.is_empty() => {
                    rotation.first_shard = rotation.first_shard.wrapping_add(1);
                    return self.begin(batch).await;
                }
                Ok(_) => {
                    if self.until_idle && self.queue.is_idle(&self.lanes).await.unwrap_or(false) {
                        let _no_receiver = reports.send(ClaimReport::Idle).await;
                    }
                    // Returns after two seconds at the latest, so a lost wake-up delays a claim by no more.
                    let woken = stop.run_until_cancelled(self.queue.await_work(&self.lanes)).await;
                    if let Some(Err(error)) = woken {
                        self.delay_after(&error, stop).await;
                    }
                }
                Err(error) => self.delay_after(&error, stop).await,
            }
        }
        Vec::new()
    }

    async fn delay_after(&self, error: &QueueError, stop: &CancellationToken) {
        tracing::warn!(%error, "could not claim, trying again");
        let _stopped = stop.run_until_cancelled(tokio::time::sleep(RETRY_DELAY)).await;
    }

    /// One round over the shards, each time starting at the next shard, so that none is preferred.
    async fn claim_once(&self, rotation: &mut Rotation) -> Result<Vec<Claimed>, QueueError> {
        let shards = self.queue.settings().shards;
        let mut batch = Vec::new();
        for step in 0..shards {
            let taken = u32::try_from(batch.len()).unwrap_or(u32::MAX);
            let slots = self.free_slots.load(Ordering::SeqCst).saturating_sub(taken).min(MAX_CLAIM_SLOTS);
            if slots == 0 {
                break;
            }
            let shard = rotation.first_shard.wrapping_add(step) % shards;
            let claim = Claim {
                shard,
                worker: self.worker.clone(),
                number: rotation.number(shard),
                slots,
                lanes: self.lanes.clone(),
            };
            let answer = self.queue.claim(&claim).await;
            // An answer that cannot be read counts as an answer: repeated, it would block all later claims.
            if !answer.as_ref().is_err_and(QueueError::is_transient) {
                rotation.unanswered.remove(&shard);
            }
            match answer {
                Ok(claimed) => batch.extend(claimed),
                // Jobs that other shards have leased to this worker already must not be dropped.
                Err(error) if batch.is_empty() => return Err(error),
                Err(error) => {
                    tracing::warn!(%error, "could not claim from every shard");
                    break;
                }
            }
        }
        Ok(batch)
    }

    /// Sets the fences of jobs that were attempted before. Retries for the length of a lease: no renewal covers these
    /// jobs before their attempts start, so a reaper reclaims them after that, and they are dropped here.
    async fn begin(&self, batch: Vec<Claimed>) -> Vec<(Claimed, Begun)> {
        let (again, first): (Vec<Claimed>, Vec<Claimed>) = batch.into_iter().partition(|job| job.attempt > 1);
        let mut ready: Vec<(Claimed, Begun)> = first.into_iter().map(|job| (job, Begun::default())).collect();
        let leases: Vec<(Lease, u32)> =
            again.iter().map(|claimed| (claimed.lease, claimed.attempt)).collect();
        let leases_expire = Instant::now() + self.queue.settings().lease;
        while Instant::now() < leases_expire {
            match self.queue.begin(&leases).await {
                Ok(begun) => {
                    let pairs = again.into_iter().zip(begun);
                    ready.extend(pairs.filter_map(|(job, begun)| Some((job, begun?))));
                    return ready;
                }
                Err(error) => tracing::warn!(%error, "could not begin claimed jobs, trying again"),
            }
            tokio::time::sleep(RETRY_DELAY).await;
        }
        ready
    }
}
