//! The event loop of a worker: wait for an event, let the supervisor decide, act.
//!
//! ```text
//! claimer ── ClaimReport ──┐
//! attempts ── WorkerEvent ─┼─► next_event ─► Supervisor::handle ─► act ─► claimer, attempts
//! ShutdownTokens ──────────┘
//! ```
//!
//! A drain has two bounds, which hold whatever Redis, a tool or a server does. At the drain timeout the jobs that still
//! run are cancelled and released. What has not ended `RELEASE_TIMEOUT` later is abandoned: it is dropped and left as a
//! crash would leave it, so that another worker resumes it once its lease has expired.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use legwork_process::tasks::TaskKind;
use legwork_process::tasks::Tasks;
use legwork_queue::port::Lease;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::attempt::Attempt;
use crate::attempt::AttemptContext;
use crate::cancel::CancelReason;
use crate::claims::ClaimOrder;
use crate::claims::ClaimReport;
use crate::claims::ClaimedJob;
use crate::deadline;
use crate::renewal::Load;
use crate::supervisor::Action;
use crate::supervisor::Supervisor;
use crate::supervisor::WorkerEvent;

/// How long cancelled attempts may take to end and to release their jobs after the drain timeout. Two seconds are for
/// commands that ignore SIGTERM, and three for one call to Redis that is not answered.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(5);
/// The same after a second signal: enough for commands that end on SIGTERM, and one write to a Redis that answers.
const URGENT_RELEASE_TIMEOUT: Duration = Duration::from_secs(1);

/// When a worker must end.
#[derive(Debug, Clone)]
pub struct ShutdownTokens {
    /// Take nothing new; finish what runs, or release it once the drain timeout expires.
    pub drain: CancellationToken,
    /// End at once, and release what runs.
    pub now: CancellationToken,
    /// Cancelled before `drain`, it makes the drain timeout zero: what runs is released at once.
    pub hand_over: CancellationToken,
}

/// What the loop has of the claimer.
#[derive(Debug)]
pub(crate) struct ClaimerHandle {
    /// What the claimer is to do. It carries out one order at a time and reports on it.
    pub(crate) orders: mpsc::Sender<ClaimOrder>,
    /// What the claimer found.
    pub(crate) reports: mpsc::Receiver<ClaimReport>,
    /// Ends the claimer's wait for work.
    pub(crate) stop: CancellationToken,
}

/// The loop of one worker, and what it is connected to.
pub(crate) struct Driver {
    /// Decides.
    pub(crate) supervisor: Supervisor,
    /// What attempts share; the loop starts, cancels and resumes them through it.
    pub(crate) context: Arc<AttemptContext>,
    /// What attempts report.
    pub(crate) events: mpsc::Receiver<WorkerEvent>,
    /// The claimer.
    pub(crate) claimer: ClaimerHandle,
    /// How full the worker is, for its heartbeat and metrics.
    pub(crate) load: Load,
    /// Where attempts are spawned.
    pub(crate) tasks: Tasks,
    /// When the worker must end.
    pub(crate) shutdown: ShutdownTokens,
    /// How long active jobs may continue after a drain was requested.
    pub(crate) drain_timeout: Duration,
    /// Starts as the default.
    pub(crate) state: LoopState,
}

/// What the loop keeps from one event to the next.
#[derive(Default)]
pub(crate) struct LoopState {
    /// Claimed jobs whose launch the supervisor has not ordered yet.
    claimed: HashMap<Lease, ClaimedJob>,
    drain: Drain,
    /// Whether the worker was asked to end at once.
    is_urgent: bool,
    /// Whether the supervisor has ordered the exit.
    exited: bool,
}

/// How far a requested drain has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Drain {
    #[default]
    NotRequested,
    /// Active jobs may continue until then.
    RunsUntil(Instant),
    /// They are being released until then.
    ReleasesUntil(Instant),
}

impl Drain {
    fn deadline(self) -> Option<Instant> {
        match self {
            Self::RunsUntil(deadline) | Self::ReleasesUntil(deadline) => Some(deadline),
            Self::NotRequested => None,
        }
    }
}

impl Driver {
    /// Runs until the supervisor orders the exit.
    pub(crate) async fn run(mut self) {
        self.handle(WorkerEvent::Started);
        while !self.state.exited {
            let event = self.next_event().await;
            self.handle(event);
        }
    }

    /// Waits for the next event, without a bound: an idle worker has no events.
    async fn next_event(&mut self) -> WorkerEvent {
        loop {
            let event = tokio::select! {
                // Deadlines and signals go first: events that keep coming must not delay them.
                biased;
                () = deadline::reached(self.state.drain.deadline()) => Some(self.end_phase_of_drain()),
                () = self.shutdown.now.cancelled(), if !self.state.is_urgent => self.hurry(),
                () = self.shutdown.drain.cancelled(), if self.state.drain == Drain::NotRequested => {
                    let is_handed_over = self.shutdown.hand_over.is_cancelled();
                    let timeout = if is_handed_over { Duration::ZERO } else { self.drain_timeout };
                    self.state.drain = Drain::RunsUntil(Instant::now() + timeout);
                    Some(WorkerEvent::DrainRequested)
                }
                Some(report) = self.claimer.reports.recv() => Some(self.keep(report)),
                Some(event) = self.events.recv() => Some(event),
            };
            if let Some(event) = event {
                return event;
            }
        }
    }

    /// The bound of the drain's current phase was reached.
    fn end_phase_of_drain(&mut self) -> WorkerEvent {
        if let Drain::ReleasesUntil(_) = self.state.drain {
            return WorkerEvent::ReleaseTimedOut;
        }
        let timeout = if self.state.is_urgent { URGENT_RELEASE_TIMEOUT } else { RELEASE_TIMEOUT };
        self.state.drain = Drain::ReleasesUntil(Instant::now() + timeout);
        WorkerEvent::DrainTimedOut
    }

    /// The worker must end at once: moves the bounds of the drain, and begins it if it was not requested.
    fn hurry(&mut self) -> Option<WorkerEvent> {
        self.state.is_urgent = true;
        let now = Instant::now();
        match self.state.drain {
            Drain::NotRequested => {
                self.state.drain = Drain::RunsUntil(now);
                Some(WorkerEvent::DrainRequested)
            }
            Drain::RunsUntil(_) => {
                self.state.drain = Drain::RunsUntil(now);
                None
            }
            Drain::ReleasesUntil(deadline) => {
                self.state.drain = Drain::ReleasesUntil(deadline.min(now + URGENT_RELEASE_TIMEOUT));
                None
            }
        }
    }

    /// Keeps claimed jobs until they are launched, and turns the report into an event.
    fn keep(&mut self, report: ClaimReport) -> WorkerEvent {
        match report {
            ClaimReport::Idle => WorkerEvent::QueueIdle,
            ClaimReport::Woken { has_token } => WorkerEvent::Woken { has_token },
            ClaimReport::Claimed { batch, clears, unanswered } => {
                let jobs = batch.iter().map(|job| job.claimed.lease).collect();
                let alone = batch.iter().filter(|job| job.claimed.quarantine.is_some());
                let alone = alone.map(|job| job.claimed.lease).collect();
                self.state.claimed.extend(batch.into_iter().map(|job| (job.claimed.lease, job)));
                WorkerEvent::ClaimAnswered { jobs, alone, clears, unanswered }
            }
        }
    }

    fn handle(&mut self, event: WorkerEvent) {
        tracing::trace!(?event);
        let actions = self.supervisor.handle(event);
        self.load.used.set(u64::from(self.supervisor.used_slots()));
        self.load.jobs.set(u64::from(self.supervisor.active_jobs()));
        for action in actions {
            self.act(action);
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Claim { slots, idle } => self.order(ClaimOrder::Claim { slots, idle }),
            Action::AwaitWork { slots, idle } => self.order(ClaimOrder::AwaitWork { slots, idle }),
            Action::Rest => self.order(ClaimOrder::Rest),
            Action::ReturnWake => self.order(ClaimOrder::ReturnWake),
            Action::Launch(lease) => {
                if let Some(job) = self.state.claimed.remove(&lease) {
                    self.launch(job);
                }
            }
            Action::GrantSlot(lease) => self.context.active.grant_slot(lease),
            Action::Release(lease) => self.context.active.cancel(lease, CancelReason::Release),
            Action::StopClaiming => {
                self.context.draining.cancel();
                self.claimer.stop.cancel();
            }
            Action::Abandon => self.context.abandoned.cancel(),
            Action::Exit => self.state.exited = true,
        }
    }

    fn order(&self, order: ClaimOrder) {
        // The supervisor awaits the report on each order but the return of a token, so there is room. A claimer that is gone has failed, and that
        // drains the program; the bound of the drain ends the wait for its report.
        if let Err(error) = self.claimer.orders.try_send(order) {
            tracing::error!(%error, "the claimer takes no orders");
        }
    }

    /// Starts the attempt in a task of its own, whose end is reported however it ends.
    fn launch(&self, job: ClaimedJob) {
        let lease = job.claimed.lease;
        let notice = EndNotice { lease, events: self.context.events.clone(), tasks: self.tasks.clone() };
        // Here, so that the task does not hold the attempt and its future.
        let attempt = Box::pin(Attempt::new(Arc::clone(&self.context), job).run());
        let abandoned = self.context.abandoned.clone();
        self.tasks.spawn(TaskKind::Attempt, async move {
            // Dropped last, after all that the attempt holds.
            let _notice = notice;
            if abandoned.run_until_cancelled(attempt).await.is_none() {
                tracing::warn!(job = %lease.id, "the attempt did not end in time; its lease expires");
            }
        });
    }
}

/// Reports to the loop that an attempt is over when it is dropped: also when the attempt panicked.
struct EndNotice {
    lease: Lease,
    events: mpsc::Sender<WorkerEvent>,
    tasks: Tasks,
}

impl Drop for EndNotice {
    fn drop(&mut self) {
        let event = WorkerEvent::AttemptEnded(self.lease);
        // Dropping cannot wait; where the channel is full, a task waits instead. A lost event would hold the slot
        // forever.
        if let Err(mpsc::error::TrySendError::Full(event)) = self.events.try_send(event) {
            let events = self.events.clone();
            self.tasks.spawn(TaskKind::Attempt, async move {
                let _no_receiver = events.send(event).await;
            });
        }
    }
}
