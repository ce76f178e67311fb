//! Carries out the claimer's orders: claims jobs for free slots, and waits for a wake-up when there are none.
//!
//! A task of its own that is never cut off within a claim: its jobs would be leased to a worker that does not know of
//! them, until the leases expire. A claim whose answer was lost is reported as unanswered, and the next order repeats it
//! under the same number, which returns those of its jobs that the worker still holds. An answer that comes so late that its
//! leases may have ended counts as none: the process stood still, or the machine slept. Only the wait for a wake-up is
//! dropped when the worker drains, and the claim that follows it counts as unanswered; that loses at most one wake-up, which
//! delays another worker by two seconds.
//!
//! A claimed job is among the active attempts from the answer on: its lease is renewed, and it is given up by dropping
//! it, wherever that happens.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use legwork_common::id::WorkerId;
use legwork_queue::Queue;
use legwork_queue::QueueError;
use legwork_queue::port::Begun;
use legwork_queue::port::Claim;
use legwork_queue::port::Claimed;
use legwork_queue::port::Claims;
use legwork_queue::port::Lane;
use legwork_queue::port::Lease;
use legwork_queue::port::WakeToken;
use legwork_queue::port::Watch as _;
use legwork_queue::port::Work;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::Span;

use crate::active_attempts::ActiveAttempt;
use crate::active_attempts::ActiveAttempts;
use crate::lease_clock::LeaseClock;
use crate::renewal_requests::RenewalRequests;
use crate::spans;

/// Delay before a failed call is repeated. A Redis that is restarting refuses connections at once, so without a delay
/// this would be a busy loop; half a second is short compared with the lease of the jobs that a lost claim may hold.
const RETRY_DELAY: Duration = Duration::from_millis(500);
/// How long a worker rests that is to be clear for a job in quarantine, before it asks again whether that waits. Short
/// compared with a turn of the job, and a call each second costs nothing.
const REST: Duration = Duration::from_secs(1);
/// Slots of one claim, so that one step in Redis stays short: a claimed job takes 8 us of the server's processor. A worker
/// with more free slots claims again at once.
const MAX_CLAIM_SLOTS: u32 = 200;
/// Slots of a claim that is sent with the wait for work. The server makes it up to two seconds later, also for a worker that
/// has died or lost its network since then: as many jobs then wait for the length of a lease, and a crash is counted for each
/// though it never ran. The next claim takes the rest. A step that admits jobs wakes a worker for so many (`JOBS_PER_TOKEN` in
/// `admission.lua`).
const MAX_WOKEN_SLOTS: u32 = 10;
/// The shard of a namespace that has one.
const ONLY_SHARD: u16 = 0;

/// What the driver orders. Orders are carried out one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClaimOrder {
    /// Claim so many jobs at most; answered by [`ClaimReport::Claimed`]. With 0 slots only claims whose answer was lost
    /// are repeated, which takes no new jobs.
    Claim {
        /// How many jobs at most.
        slots: u32,
        /// Whether the worker holds nothing, so that it may get a job in quarantine.
        idle: bool,
    },
    /// Wait for a second without taking a sign of work; answered by [`ClaimReport::Woken`].
    Rest,
    /// Wait for a sign of work, and claim right after it. Answered as a claim, or by [`ClaimReport::Woken`] where nothing was
    /// claimed after a sign of work.
    AwaitWork {
        /// How many jobs at most; 0 for no claim.
        slots: u32,
        /// Whether the worker holds nothing, as for a claim.
        idle: bool,
    },
    /// Return the wake token of the last wait. Not answered.
    ReturnWake,
}

/// What the claimer reports to the driver.
#[derive(Debug)]
pub enum ClaimReport {
    /// A claim was made.
    Claimed {
        /// The claimed jobs, perhaps none.
        batch: Vec<ClaimedJob>,
        /// Whether a job in quarantine waits for this worker to hold nothing.
        clears: bool,
        /// Whether the answer of a shard is missing.
        unanswered: bool,
    },
    /// A wait for work is over.
    Woken {
        /// Whether it took a wake token, which the next order uses or returns.
        has_token: bool,
    },
    /// Nothing is queued or scheduled where this worker claims. The claimer continues with the same order.
    Idle,
}

/// A job that was claimed for this worker and not launched yet. Dropped, its lease expires.
#[derive(Debug)]
pub struct ClaimedJob {
    /// The job, and the proof of holding it.
    pub claimed: Claimed,
    /// What earlier attempts stored.
    pub begun: Begun,
    /// Its place among the active attempts.
    pub active: ActiveAttempt,
}

/// Claimed jobs with their places among the active attempts.
type Batch = Vec<(Claimed, ActiveAttempt)>;

/// What one round over the shards brought.
#[derive(Debug, Default)]
struct Round {
    batch: Batch,
    /// Whether a shard could not be asked.
    failed: bool,
    /// Whether a job in quarantine waits for this worker to hold nothing.
    clears: bool,
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
    fn number(&mut self, shard: u16, now: u64) -> u64 {
        *self.unanswered.entry(shard).or_insert_with(|| {
            self.number = (self.number + 1).max(now);
            self.number
        })
    }
}

/// The claimer of one worker.
#[derive(Debug)]
pub struct Claimer {
    /// The queue.
    pub work: Arc<dyn Work>,
    /// The shards of its namespace.
    pub shards: u16,
    /// The worker that the jobs are leased to.
    pub worker: WorkerId,
    /// The lanes to claim from, the most urgent first.
    pub lanes: Vec<Lane>,
    /// Where claimed jobs are registered, so that their leases are renewed.
    pub active: ActiveAttempts,
    /// How long leases last, and the time since the machine started.
    pub clock: LeaseClock,
    /// Makes a renewal come at once.
    pub renewals: RenewalRequests,
    /// Asked for [`ClaimReport::Idle`]; `None` for a worker that serves on.
    pub until_idle: Option<Queue>,
    /// Ends a wait for work.
    pub stop: CancellationToken,
}

impl Claimer {
    /// Carries out orders until their sender is dropped. Dropped in the middle, the jobs of an unreported claim are
    /// left until their leases expire.
    pub async fn run(self, mut orders: mpsc::Receiver<ClaimOrder>, reports: mpsc::Sender<ClaimReport>) {
        let mut rotation = Rotation::default();
        let mut token = None;
        while let Some(order) = orders.recv().await {
            let report = match order {
                ClaimOrder::Claim { slots, idle } => self.claim(slots, idle, &mut rotation).await,
                ClaimOrder::Rest => {
                    let _stopped = self.stop.run_until_cancelled(tokio::time::sleep(REST)).await;
                    ClaimReport::Woken { has_token: false }
                }
                ClaimOrder::AwaitWork { slots, idle } => {
                    if self.is_idle().await {
                        let _no_receiver = reports.send(ClaimReport::Idle).await;
                    }
                    let (taken, report) = self.await_work(slots, idle, &mut rotation).await;
                    token = taken;
                    report
                }
                ClaimOrder::ReturnWake => {
                    self.return_wake(token.take()).await;
                    continue;
                }
            };
            if reports.send(report).await.is_err() {
                return;
            }
        }
    }

    /// Whether nothing is left to do for a worker that ends then.
    async fn is_idle(&self) -> bool {
        match &self.until_idle {
            Some(queue) => queue.is_idle(&self.lanes).await.unwrap_or(false),
            None => false,
        }
    }

    /// Claims in all shards and begins the claimed jobs. Where a shard could not be asked, the report comes after a
    /// delay, because the driver repeats the order at once.
    async fn claim(&self, slots: u32, idle: bool, rotation: &mut Rotation) -> ClaimReport {
        let Round { batch, failed, clears } = self.claim_round(slots, idle, rotation).await;
        let batch = self.begin(batch).await;
        if failed && batch.is_empty() {
            tokio::time::sleep(RETRY_DELAY).await;
        }
        ClaimReport::Claimed { batch, clears, unanswered: !rotation.unanswered.is_empty() }
    }

    /// One round over the shards, each time starting at another shard, so that none is preferred. It ends at the first
    /// shard that cannot be asked: one outage must not take the timeout of every shard. It ends with a job in quarantine,
    /// which is alone, and where one waits for this worker to hold nothing.
    async fn claim_round(&self, slots: u32, idle: bool, rotation: &mut Rotation) -> Round {
        let shards = self.shards;
        let first_shard = rotation.first_shard;
        let mut round = Round::default();
        for step in 0..shards {
            let taken = u32::try_from(round.batch.len()).unwrap_or(u32::MAX);
            let slots = slots.saturating_sub(taken).min(MAX_CLAIM_SLOTS);
            let shard = first_shard.wrapping_add(step) % shards;
            let is_repeat = rotation.unanswered.contains_key(&shard);
            if slots == 0 && !is_repeat {
                continue;
            }
            match self.claim_in(shard, slots, idle && round.batch.is_empty(), rotation).await {
                Ok(None) => {}
                Ok(Some((jobs, clears))) => {
                    if is_repeat && !jobs.is_empty() {
                        // These leases are as old as the first try, so they may expire before the next renewal is due.
                        self.renewals.all();
                    }
                    let is_alone = jobs.iter().any(|(job, _)| job.quarantine.is_some());
                    round.batch.extend(jobs);
                    if clears {
                        // The next round asks here first: the others have no job that this worker may take.
                        rotation.first_shard = shard;
                        return Round { clears, ..round };
                    }
                    if is_alone {
                        break;
                    }
                }
                Err(error) => {
                    tracing::warn!(shard, %error, "could not claim, trying again");
                    // The next round begins with the others.
                    rotation.first_shard = shard.wrapping_add(1);
                    return Round { failed: true, ..round };
                }
            }
        }
        if !round.batch.is_empty() {
            rotation.first_shard = first_shard.wrapping_add(1);
        }
        round
    }

    /// One claim; `None` where its answer is too late.
    async fn claim_in(
        &self,
        shard: u16,
        slots: u32,
        idle: bool,
        rotation: &mut Rotation,
    ) -> Result<Option<(Batch, bool)>, QueueError> {
        let claim = self.next_claim(shard, slots, idle, rotation);
        let sent = self.clock.now();
        match self.work.claim(&claim).await {
            Ok(claims) => Ok(self.accepted(shard, sent, claims, rotation)),
            Err(error) => {
                // An answer that cannot be read counts as an answer: repeated, it would block all later claims.
                if !error.is_transient() {
                    rotation.unanswered.remove(&shard);
                }
                Err(error)
            }
        }
    }

    /// The jobs of an answer, registered, and whether the worker is to be clear. `None` where the claim was sent so long ago
    /// that its leases may have ended: it counts as unanswered, so that the repeat asks which of its jobs are still held.
    fn accepted(
        &self,
        shard: u16,
        sent: u64,
        Claims { jobs, clears }: Claims,
        rotation: &mut Rotation,
    ) -> Option<(Batch, bool)> {
        let batch = self.registered(jobs);
        // After they were registered: every renewal that the clock learns of from here on is one of theirs too.
        if !batch.is_empty() && self.clock.is_late(sent) {
            tracing::debug!(shard, jobs = batch.len(), "the answer to a claim is too late, asking again");
            return None;
        }
        rotation.unanswered.remove(&shard);
        Some((batch, clears))
    }

    fn next_claim(&self, shard: u16, slots: u32, idle: bool, rotation: &mut Rotation) -> Claim {
        Claim {
            shard,
            worker: self.worker.clone(),
            number: rotation.number(shard, self.clock.now()),
            slots,
            idle,
            lanes: self.lanes.clone(),
        }
    }

    /// Waits for a sign of work, for two seconds at the most, so that a lost wake-up delays a claim by no more; and claims,
    /// where there is one shard to claim in.
    async fn await_work(
        &self,
        slots: u32,
        idle: bool,
        rotation: &mut Rotation,
    ) -> (Option<WakeToken>, ClaimReport) {
        if slots > 0 && self.work.claims_when_woken() {
            return self.claim_when_woken(slots, idle, rotation).await;
        }
        let token = match self.stop.run_until_cancelled(self.work.await_work(&self.lanes)).await {
            Some(Ok(token)) => token,
            Some(Err(error)) => {
                self.rest_after(&error).await;
                None
            }
            None => None,
        };
        let has_token = token.is_some();
        (token, ClaimReport::Woken { has_token })
    }

    /// The claim is sent with the wait, so that the server makes it as soon as there is work. Where its answer is lost or late, as
    /// when a drain drops the wait, it may have been made: then it is asked for, as that of any other claim. A wake token that
    /// came without an answer is returned, because the repeat may take nothing.
    async fn claim_when_woken(
        &self,
        slots: u32,
        idle: bool,
        rotation: &mut Rotation,
    ) -> (Option<WakeToken>, ClaimReport) {
        let claim = self.next_claim(ONLY_SHARD, slots.min(MAX_WOKEN_SLOTS), idle, rotation);
        let sent = self.clock.now();
        let answer = self.stop.run_until_cancelled(self.work.claim_when_woken(&claim)).await;
        let (token, claims) = match answer {
            Some(Ok(answer)) => answer,
            Some(Err(error)) => {
                self.rest_after(&error).await;
                (None, None)
            }
            None => (None, None),
        };
        let accepted = claims.and_then(|claims| self.accepted(ONLY_SHARD, sent, claims, rotation));
        let Some((jobs, clears)) = accepted else {
            self.return_wake(token).await;
            return (None, ClaimReport::Claimed { batch: Vec::new(), clears: false, unanswered: true });
        };
        if jobs.is_empty() && (clears || token.is_some()) {
            // What it announces may be for a worker that holds nothing, as this one may do by now: it claims once more.
            let has_token = token.is_some();
            return (token, ClaimReport::Woken { has_token });
        }
        let batch = self.begin(jobs).await;
        (None, ClaimReport::Claimed { batch, clears: false, unanswered: false })
    }

    /// Claimed jobs with their places among the active attempts.
    fn registered(&self, jobs: Vec<Claimed>) -> Batch {
        let register = |job: Claimed| {
            let active = self.active.insert(job.lease);
            (job, active)
        };
        jobs.into_iter().map(register).collect()
    }

    /// Waits after a failed wait for work, which may fail at once.
    async fn rest_after(&self, error: &QueueError) {
        tracing::warn!(%error, "could not wait for work, trying again");
        let _stopped = self.stop.run_until_cancelled(tokio::time::sleep(RETRY_DELAY)).await;
    }

    /// Returns a wake token that this worker cannot use. One that is lost delays another worker by two seconds.
    async fn return_wake(&self, token: Option<WakeToken>) {
        let Some(token) = token else { return };
        if let Err(error) = self.work.return_wake(token).await {
            tracing::debug!(%error, "could not return a wake token");
        }
    }

    /// Sets the fences of jobs that were attempted before. Retries for the length of a lease: where Redis is away for
    /// longer, the jobs are given up, and reclaimed once their leases have expired.
    async fn begin(&self, batch: Batch) -> Vec<ClaimedJob> {
        // They end when the jobs may begin.
        let _claims: Vec<Span> =
            batch.iter().map(|(claimed, _)| spans::of_claim(claimed, self.worker.as_str())).collect();
        let (again, first): (Vec<_>, Vec<_>) = batch.into_iter().partition(|(job, _)| job.attempt > 1);
        let job = |(claimed, active), begun| ClaimedJob { claimed, begun, active };
        let mut ready: Vec<ClaimedJob> =
            first.into_iter().map(|first| job(first, Begun::default())).collect();
        if again.is_empty() {
            return ready;
        }
        let leases: Vec<(Lease, u32)> =
            again.iter().map(|(claimed, _)| (claimed.lease, claimed.attempt)).collect();
        let deadline = Instant::now() + self.clock.lease();
        while Instant::now() < deadline {
            match self.work.begin(&leases).await {
                Ok(begun) => {
                    let pairs = again.into_iter().zip(begun);
                    ready.extend(pairs.filter_map(|(again, begun)| Some(job(again, begun?))));
                    return ready;
                }
                Err(error) => tracing::warn!(%error, "could not begin claimed jobs, trying again"),
            }
            tokio::time::sleep(RETRY_DELAY).await;
        }
        ready
    }
}

#[cfg(test)]
mod tests;
