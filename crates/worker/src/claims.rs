//! Claims jobs for free slots, and waits for a sign when there are none.
//!
//! A task of its own that is never cut off in a claim: cut off there, its jobs would be held by nobody until
//! their leases ran out. Only the wait for a sign is dropped at the end; that loses at most one sign, which
//! delays another worker by two seconds at most.

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

/// The pause after a claim that failed.
const PAUSE: Duration = Duration::from_millis(500);

/// What the claimer tells the driver.
#[derive(Debug)]
pub enum ClaimReport {
    /// These jobs are claimed, each with what earlier attempts left. The claimer waits to be asked again.
    Claimed(Vec<(Claimed, Begun)>),
    /// Nothing is queued or scheduled where this worker claims.
    Idle,
}

/// Where the next round over the shards begins, and what the last ones left open.
#[derive(Debug, Default)]
struct Rotation {
    first_shard: u16,
    /// The number of the latest claim.
    number: u64,
    // Claims whose answer was lost: asked again under the same number they give the same jobs, which would
    // otherwise be held by nobody until their leases ran out.
    unanswered: BTreeMap<u16, u64>,
}

impl Rotation {
    /// The number of the next claim in a shard. It follows the clock, so that a claimer that takes the place of
    /// another one in the same worker goes on above it.
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
    /// Who claims.
    pub worker: WorkerId,
    /// From where.
    pub lanes: Vec<Lane>,
    /// How many slots are free right now.
    pub free: Arc<AtomicU32>,
    /// Rings when the driver wants jobs.
    pub asked: Arc<Notify>,
    /// Whether to report that there is nothing to do.
    pub until_idle: bool,
}

impl Claimer {
    /// Claims whenever asked, until `stop`.
    pub async fn run(self, reports: mpsc::Sender<ClaimReport>, stop: CancellationToken) {
        let mut rotation = Rotation::default();
        while stop.run_until_cancelled(self.asked.notified()).await.is_some() {
            let batch = self.claim_until_some(&mut rotation, &reports, &stop).await;
            if reports.send(ClaimReport::Claimed(batch)).await.is_err() {
                return;
            }
        }
        // A request that was under way when the worker began to drain is answered too.
        let _gone = reports.send(ClaimReport::Claimed(Vec::new())).await;
    }

    /// Claims until there is something, or the worker stops.
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
                        let _gone = reports.send(ClaimReport::Idle).await;
                    }
                    let woken = stop.run_until_cancelled(self.queue.await_work(&self.lanes)).await;
                    if let Some(Err(error)) = woken {
                        self.pause(&error, stop).await;
                    }
                }
                Err(error) => self.pause(&error, stop).await,
            }
        }
        Vec::new()
    }

    async fn pause(&self, error: &QueueError, stop: &CancellationToken) {
        tracing::warn!(%error, "could not claim, trying again");
        let _stopped = stop.run_until_cancelled(tokio::time::sleep(PAUSE)).await;
    }

    /// One round over the shards, each time beginning with the next.
    async fn claim_once(&self, rotation: &mut Rotation) -> Result<Vec<Claimed>, QueueError> {
        let shards = self.queue.settings().shards;
        let mut batch = Vec::new();
        for step in 0..shards {
            let taken = u32::try_from(batch.len()).unwrap_or(u32::MAX);
            let slots = self.free.load(Ordering::SeqCst).saturating_sub(taken).min(1000);
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
            // An answer that cannot be read is an answer: repeated, it would hold up all that follows.
            if !answer.as_ref().is_err_and(QueueError::is_transient) {
                rotation.unanswered.remove(&shard);
            }
            match answer {
                Ok(claimed) => batch.extend(claimed),
                // What other shards gave already must not be forgotten.
                Err(error) if batch.is_empty() => return Err(error),
                Err(error) => {
                    tracing::warn!(%error, "could not claim from every shard");
                    break;
                }
            }
        }
        Ok(batch)
    }

    /// Sets the fences of jobs that were tried before; tries on for as long as their leases hold without being
    /// renewed. After that they are another's, and are let go.
    async fn begin(&self, batch: Vec<Claimed>) -> Vec<(Claimed, Begun)> {
        let (again, fresh): (Vec<Claimed>, Vec<Claimed>) = batch.into_iter().partition(|job| job.attempt > 1);
        let mut ready: Vec<(Claimed, Begun)> = fresh.into_iter().map(|job| (job, Begun::default())).collect();
        let wanted: Vec<(Lease, u32)> =
            again.iter().map(|claimed| (claimed.lease, claimed.attempt)).collect();
        let leases_end = Instant::now() + self.queue.settings().lease;
        while Instant::now() < leases_end {
            match self.queue.begin(&wanted).await {
                Ok(begun) => {
                    let pairs = again.into_iter().zip(begun);
                    ready.extend(pairs.filter_map(|(job, begun)| Some((job, begun?))));
                    return ready;
                }
                Err(error) => tracing::warn!(%error, "could not begin claimed jobs, trying again"),
            }
            tokio::time::sleep(PAUSE).await;
        }
        ready
    }
}
