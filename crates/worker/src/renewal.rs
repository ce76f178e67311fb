//! Keeps the leases, hears of stops, and ends what may not act any more.

use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use legwork_common::id::WorkerId;
use legwork_process::health::Gauge;
use legwork_process::health::Gauges;
use legwork_process::health::Readiness;
use legwork_queue::Queue;
use legwork_queue::QueueError;
use legwork_queue::port::Heartbeat;
use legwork_queue::port::Lane;
use legwork_queue::port::Renewal;
use legwork_queue::port::Renewed;
use legwork_queue::port::Work as _;
use tokio::sync::Notify;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::active_attempts::ActiveAttempts;
use crate::cancel::CancelReason;
use crate::guard::Guard;
use crate::lease_clock::LeaseClock;

/// The longest pause after a renewal that failed.
const SOON: Duration = Duration::from_millis(500);

/// How full a worker is, for its heartbeat and its metrics. Cheap to clone; all clones are one.
#[derive(Debug, Clone, Default)]
pub struct Load {
    /// Jobs that hold a slot.
    pub used: Gauge,
    /// Jobs that are held, waiting ones included.
    pub jobs: Gauge,
}

impl Load {
    /// A load that `/metrics` shows.
    pub fn shown_in(gauges: &Gauges) -> Self {
        Self {
            used: gauges.register("legwork_worker_used_slots", "Jobs that hold a slot of this worker."),
            jobs: gauges
                .register("legwork_worker_held_jobs", "Jobs that this worker holds, waiting ones included."),
        }
    }
}

/// What renews the leases of one worker.
#[derive(Debug)]
pub struct Renewer {
    /// The queue.
    pub queue: Queue,
    /// The worker.
    pub worker: WorkerId,
    /// The host it runs on.
    pub host: String,
    /// The lanes it serves.
    pub lanes: Vec<Lane>,
    /// Its slots.
    pub slots: u32,
    /// How full it is.
    pub load: Load,
    /// Whether the worker can do its work: Redis answers.
    pub readiness: Readiness,
    /// What it holds.
    pub held: ActiveAttempts,
    /// How long its leases hold.
    pub clock: LeaseClock,
    /// Rings when a stop was asked for somewhere, so that it is looked for at once.
    pub nudge: Arc<Notify>,
    /// Who must know for how long the worker may act.
    pub guard: Guard,
    /// Cancelled when the worker drains.
    pub draining: CancellationToken,
}

impl Renewer {
    /// Renews at every tick and at every nudge, and soon again after it could not, until dropped.
    pub async fn run(self: Arc<Self>) {
        let every = self.queue.settings().renew_every();
        let mut pause = Duration::ZERO;
        loop {
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.nudge.notified() => {}
            }
            let sent = Instant::now();
            let renewed = self.renew().await;
            self.readiness.set(renewed.is_ok() && !self.draining.is_cancelled());
            // A lease counts from the sending: an answer that was long on its way is no reason to wait as long again.
            pause = if renewed.is_ok() { every.saturating_sub(sent.elapsed()) } else { every.min(SOON) };
            if let Err(error) = renewed {
                tracing::warn!(%error, "could not renew the leases");
            }
        }
    }

    /// Sends the heartbeat at every tick, until dropped. Apart from [`Self::run`]: a heartbeat that hangs must not
    /// hold the leases up.
    pub async fn beat_for_ever(self: Arc<Self>) {
        let mut tick = tokio::time::interval(self.queue.settings().renew_every());
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            if let Err(error) = self.beat().await {
                tracing::warn!(%error, "could not send the heartbeat");
            }
        }
    }

    /// Suspends all attempts when the last good renewal is too old, until dropped. Runs beside [`Self::run`],
    /// because a renewal that hangs is just the case it is for.
    pub async fn watch(self: Arc<Self>) {
        loop {
            let left = self.clock.left();
            if left.is_zero() {
                self.held.suspend_all();
                tracing::debug!("no lease is sure any more");
            }
            tokio::time::sleep(left.max(Duration::from_millis(100))).await;
        }
    }

    /// One renewal of all leases; what was lost or shall stop is cancelled.
    async fn renew(&self) -> Result<(), QueueError> {
        let sent = self.clock.now();
        let renewal = Renewal { jobs: self.held.leases(), sessions: Vec::new() };
        let (answers, _) = self.queue.renew(&renewal).await?;
        if renewal.jobs.is_empty() {
            self.queue.ping().await?;
        }
        for (lease, answer) in renewal.jobs.into_iter().zip(answers) {
            match answer {
                // Mail is read before each model call; nothing is to be done about it here.
                Renewed::Kept | Renewed::Mail => {}
                Renewed::StopWanted => self.held.cancel(lease, CancelReason::StopWanted),
                Renewed::Lost => self.held.cancel(lease, CancelReason::LeaseLost),
            }
        }
        // Last: whoever waits for it goes on, unless it has heard that it is over.
        self.clock.renewed(sent);
        self.guard.act_until(self.clock.last_moment());
        Ok(())
    }

    async fn beat(&self) -> Result<(), QueueError> {
        let heartbeat = Heartbeat {
            worker: self.worker.clone(),
            host: self.host.clone(),
            lanes: self.lanes.clone(),
            slots: self.slots,
            used: count(&self.load.used),
            jobs: count(&self.load.jobs),
            draining: self.draining.is_cancelled(),
        };
        self.queue.heartbeat(&heartbeat).await
    }
}

fn count(gauge: &Gauge) -> u32 {
    u32::try_from(gauge.value()).unwrap_or(u32::MAX)
}
