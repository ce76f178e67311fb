//! Renews the leases of all attempts, learns of stops, and suspends attempts whose lease is in doubt.

use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use legwork_common::id::WorkerId;
use legwork_process::health::Gauge;
use legwork_process::health::Metrics;
use legwork_process::health::Readiness;
use legwork_queue::Queue;
use legwork_queue::QueueError;
use legwork_queue::port::Heartbeat;
use legwork_queue::port::Lane;
use legwork_queue::port::Lease;
use legwork_queue::port::Renewal;
use legwork_queue::port::Renewed;
use legwork_queue::port::Work as _;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::active_attempts::ActiveAttempts;
use crate::cancel::CancelReason;
use crate::guard::Guard;
use crate::lease_clock::LeaseClock;
use crate::renewal_requests::RenewalRequests;
use crate::renewal_requests::Wanted;
use crate::tally::Tally;

/// The longest delay after a failed renewal: several retries fit between a regular renewal (every 0.3 leases) and the
/// moment at which the leases are in doubt.
const RETRY_DELAY: Duration = Duration::from_millis(500);
/// The shortest sleep between two checks for leases in doubt. It keeps the check from spinning while they are, and delays
/// a suspension by at most as much, well within the margin of a lease.
const MIN_CHECK_INTERVAL: Duration = Duration::from_millis(100);

/// How full a worker is, for its heartbeat and its metrics. Cheap to clone; all clones are one.
#[derive(Debug, Clone, Default)]
pub struct Load {
    /// Jobs that hold a slot.
    pub used: Gauge,
    /// Jobs that are leased to the worker, parked ones included.
    pub jobs: Gauge,
    /// What became of its jobs.
    pub tally: Tally,
}

impl Load {
    /// A load that is exposed by `/metrics`.
    pub fn registered_in(metrics: &Metrics) -> Self {
        Self {
            used: metrics.gauge("legwork_worker_used_slots", "Jobs that hold a slot of this worker"),
            jobs: metrics
                .gauge("legwork_worker_held_jobs", "Jobs that this worker holds, waiting ones included"),
            tally: Tally::registered_in(metrics),
        }
    }
}

/// Renews the leases of one worker and sends its heartbeat.
#[derive(Debug)]
pub struct Renewer {
    /// The queue.
    pub queue: Queue,
    /// The worker's id, for the heartbeat.
    pub worker: WorkerId,
    /// The host that it runs on, for the heartbeat.
    pub host: String,
    /// The lanes that it serves, for the heartbeat.
    pub lanes: Vec<Lane>,
    /// Jobs that it may run at once, for the heartbeat.
    pub slots: u32,
    /// How full it is, for the heartbeat.
    pub load: Load,
    /// Set to whether the last renewal succeeded and the worker does not drain.
    pub readiness: Readiness,
    /// The attempts whose leases are renewed.
    pub active: ActiveAttempts,
    /// Records every successful renewal.
    pub clock: LeaseClock,
    /// Asked when a stop was requested, so that the answer of a renewal brings it at once, and when leases were claimed
    /// that may expire before the next renewal is due.
    pub requests: RenewalRequests,
    /// Gets the deadline by which it kills the commands of jobs.
    pub guard: Guard,
    /// Cancelled when the worker drains.
    pub draining: CancellationToken,
    /// Cancelled here when an operator asks the worker to drain.
    pub drain: CancellationToken,
}

impl Renewer {
    /// Renews at every interval and whenever it is asked to, and sooner after a failure. Runs until dropped; a renewal that
    /// is dropped has happened or not.
    pub async fn run(self: Arc<Self>) {
        let mut due = tokio::time::Instant::now();
        loop {
            // A regular renewal that is due comes first, however many requests there are.
            let wanted = tokio::select! {
                biased;
                () = tokio::time::sleep_until(due) => Wanted::All,
                wanted = self.requests.next() => wanted,
            };
            match wanted {
                Wanted::All => due = tokio::time::Instant::now() + self.renew_and_report().await,
                Wanted::Jobs(jobs) => {
                    let leases = self.active.leases().into_iter().filter(|lease| jobs.contains(&lease.id));
                    // The next regular renewal stays when it is due: it is for the others.
                    if let Err(error) = self.renew_leases(leases.collect()).await {
                        tracing::warn!(%error, "could not ask whether jobs are being stopped");
                        self.requests.all();
                    }
                }
            }
        }
    }

    /// One renewal of all leases. Returns the delay before the next.
    async fn renew_and_report(&self) -> Duration {
        let interval = self.queue.settings().renew_every();
        let sent = Instant::now();
        let renewed = self.renew().await;
        self.readiness.set(renewed.is_ok() && !self.draining.is_cancelled());
        match renewed {
            // Measured from the sending, as leases are: the time that an answer took shortens the delay after it.
            Ok(()) => interval.saturating_sub(sent.elapsed()),
            Err(error) => {
                tracing::warn!(%error, "could not renew the leases");
                interval.min(RETRY_DELAY)
            }
        }
    }

    /// Sends the heartbeat at every interval, until dropped. Apart from [`Self::run`]: a heartbeat that hangs must not
    /// delay a renewal.
    pub async fn send_heartbeats(self: Arc<Self>) {
        let mut interval = tokio::time::interval(self.queue.settings().renew_every());
        // After a slow heartbeat, the missed ones are not made up for.
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            interval.tick().await;
            if let Err(error) = self.send_heartbeat().await {
                tracing::warn!(%error, "could not send the heartbeat");
            }
        }
    }

    /// Suspends all attempts whenever the last successful renewal is too old, until dropped. Apart from [`Self::run`]: a
    /// renewal that hangs is the very case that it is for.
    pub async fn suspend_when_in_doubt(self: Arc<Self>) {
        loop {
            let remaining = self.clock.remaining();
            if remaining.is_zero() {
                self.active.suspend_all();
                tracing::debug!("the leases are in doubt");
            }
            tokio::time::sleep(remaining.max(MIN_CHECK_INTERVAL)).await;
        }
    }

    /// One renewal of all leases; attempts that have lost theirs, or must stop, are cancelled.
    async fn renew(&self) -> Result<(), QueueError> {
        let sent = self.clock.now();
        let leases = self.active.leases();
        if leases.is_empty() {
            // Nothing is sent to Redis, and readiness depends on its answer.
            self.queue.ping().await?;
        }
        self.renew_leases(leases).await?;
        // After the cancellations: a suspended attempt that waits for the clock must not resume if it was cancelled.
        self.clock.renewed(sent);
        self.guard.set_deadline(self.clock.kill_deadline());
        Ok(())
    }

    /// Renews some leases; attempts that have lost theirs, or must stop, are cancelled.
    async fn renew_leases(&self, jobs: Vec<Lease>) -> Result<(), QueueError> {
        let renewal = Renewal { jobs, sessions: Vec::new() };
        let (answers, _) = self.queue.renew(&renewal).await?;
        for (lease, answer) in renewal.jobs.into_iter().zip(answers) {
            match answer {
                // The agent reads its mail before each model call.
                Renewed::Kept | Renewed::Mail => {}
                Renewed::StopRequested => self.active.cancel(lease, CancelReason::StopRequested),
                Renewed::Lost => self.active.cancel(lease, CancelReason::LeaseLost),
            }
        }
        Ok(())
    }

    /// Sends the heartbeat. Its answer may ask the worker to drain.
    async fn send_heartbeat(&self) -> Result<(), QueueError> {
        let heartbeat = Heartbeat {
            worker: self.worker.clone(),
            host: self.host.clone(),
            process: std::process::id(),
            lanes: self.lanes.clone(),
            slots: self.slots,
            used: count(&self.load.used),
            jobs: count(&self.load.jobs),
            draining: self.draining.is_cancelled(),
            report: self.load.tally.snapshot(),
        };
        if self.queue.heartbeat(&heartbeat).await? && !self.drain.is_cancelled() {
            tracing::info!("an operator asked this worker to drain");
            self.drain.cancel();
        }
        Ok(())
    }
}

fn count(gauge: &Gauge) -> u32 {
    u32::try_from(gauge.value()).unwrap_or(u32::MAX)
}
