//! The event loop of a worker: wait for an event, let the supervisor decide, act.
//!
//! ```text
//! claimer ── ClaimReport ──┐
//! attempts ── WorkerEvent ─┼─► next_event ─► Supervisor::handle ─► act ─► claimer, attempts
//! ShutdownTokens ──────────┘
//! ```

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;
use std::time::Duration;

use legwork_common::id::JobId;
use legwork_process::tasks::TaskKind;
use legwork_process::tasks::Tasks;
use legwork_queue::port::Begun;
use legwork_queue::port::Claimed;
use tokio::sync::Notify;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::attempt::Attempt;
use crate::attempt::AttemptContext;
use crate::cancel::CancelReason;
use crate::claims::ClaimReport;
use crate::deadline;
use crate::renewal::Load;
use crate::supervisor::Action;
use crate::supervisor::Supervisor;
use crate::supervisor::WorkerEvent;

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
    /// What the claimer found.
    pub(crate) reports: mpsc::Receiver<ClaimReport>,
    /// How many slots are free; the claimer reads it right before each claim.
    pub(crate) free_slots: Arc<AtomicU32>,
    /// Signalled to request a claim.
    pub(crate) requested: Arc<Notify>,
    /// Ends the claimer, after the claim that it is making.
    pub(crate) stop: CancellationToken,
}

/// The loop of one worker, and what it is connected to.
pub(crate) struct Driver {
    /// Decides.
    pub(crate) supervisor: Supervisor,
    /// What attempts share; the loop starts, cancels and resumes them through it.
    pub(crate) context: AttemptContext,
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
    claimed: HashMap<JobId, (Claimed, Begun)>,
    drain: Drain,
    /// Whether the supervisor has ordered the exit.
    exited: bool,
}

/// How far a requested drain has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Drain {
    #[default]
    NotRequested,
    Until(Instant),
    TimedOut,
}

impl Drain {
    fn deadline(self) -> Option<Instant> {
        match self {
            Self::Until(deadline) => Some(deadline),
            Self::NotRequested | Self::TimedOut => None,
        }
    }
}

impl Driver {
    /// Runs until the supervisor orders the exit, or until the worker must end at once.
    pub(crate) async fn run(mut self) {
        self.handle(WorkerEvent::Started);
        while !self.state.exited {
            match self.next_event().await {
                Some(event) => self.handle(event),
                None => {
                    // Cancelled, so that no command of a job is left behind. Their ends are awaited when the program
                    // closes, not here.
                    self.context.active.cancel_all(CancelReason::Release);
                    break;
                }
            }
        }
        self.claimer.stop.cancel();
    }

    /// Waits for the next event; `None` once the worker must end at once. Without a bound: an idle worker has no events.
    async fn next_event(&mut self) -> Option<WorkerEvent> {
        tokio::select! {
            Some(report) = self.claimer.reports.recv() => Some(self.keep(report)),
            Some(event) = self.events.recv() => Some(event),
            () = self.shutdown.drain.cancelled(), if self.state.drain == Drain::NotRequested => {
                let handed_over = self.shutdown.hand_over.is_cancelled();
                let timeout = if handed_over { Duration::ZERO } else { self.drain_timeout };
                self.state.drain = Drain::Until(Instant::now() + timeout);
                Some(WorkerEvent::DrainRequested)
            }
            () = deadline::reached(self.state.drain.deadline()) => {
                self.state.drain = Drain::TimedOut;
                Some(WorkerEvent::DrainTimedOut)
            }
            () = self.shutdown.now.cancelled() => None,
        }
    }

    /// Keeps claimed jobs until they are launched, and turns the report into an event.
    fn keep(&mut self, report: ClaimReport) -> WorkerEvent {
        match report {
            ClaimReport::Idle => WorkerEvent::QueueIdle,
            ClaimReport::Claimed(batch) => {
                let ids = batch.iter().map(|(claimed, _)| claimed.lease.id).collect();
                self.state.claimed.extend(batch.into_iter().map(|job| (job.0.lease.id, job)));
                WorkerEvent::ClaimAnswered(ids)
            }
        }
    }

    fn handle(&mut self, event: WorkerEvent) {
        tracing::trace!(?event);
        let actions = self.supervisor.handle(event);
        // Before any action: the claimer reads the free slots as soon as it is signalled.
        self.claimer.free_slots.store(self.supervisor.free_slots(), Ordering::SeqCst);
        self.load.used.set(u64::from(self.supervisor.used_slots()));
        self.load.jobs.set(u64::from(self.supervisor.active_jobs()));
        for action in actions {
            self.act(action);
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Claim => self.claimer.requested.notify_one(),
            Action::Launch(job) => {
                if let Some((claimed, begun)) = self.state.claimed.remove(&job) {
                    self.launch(claimed, begun);
                }
            }
            Action::GrantSlot(job) => self.context.active.grant_slot(job),
            Action::Release(job) => self.context.active.cancel_job(job, CancelReason::Release),
            Action::StopClaiming => {
                self.context.draining.cancel();
                self.claimer.stop.cancel();
            }
            Action::Exit => self.state.exited = true,
        }
    }

    fn launch(&self, claimed: Claimed, begun: Begun) {
        let job = claimed.lease.id;
        let notice = EndNotice { job, events: self.context.events.clone(), tasks: self.tasks.clone() };
        // Registered before the task starts: a release that follows at once must find it.
        let attempt = Attempt::new(self.context.clone(), claimed, begun);
        self.tasks.spawn(TaskKind::Attempt, async move {
            let _notice = notice;
            Box::pin(attempt.run()).await;
        });
    }
}

/// Reports to the loop that an attempt is over when it is dropped: also when the attempt panicked.
struct EndNotice {
    job: JobId,
    events: mpsc::Sender<WorkerEvent>,
    tasks: Tasks,
}

impl Drop for EndNotice {
    fn drop(&mut self) {
        let event = WorkerEvent::AttemptEnded(self.job);
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
