//! Does what the supervisor decides: the one loop of a worker.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;
use std::time::Duration;

use legwork_common::id::JobId;
use legwork_common::id::WorkerId;
use legwork_common::policy::Policy;
use legwork_process::health::Readiness;
use legwork_process::tasks::TaskKind;
use legwork_process::tasks::Tasks;
use legwork_queue::Hints;
use legwork_queue::Observer;
use legwork_queue::Queue;
use legwork_queue::QueueError;
use legwork_queue::port::Begun;
use legwork_queue::port::Claimed;
use legwork_queue::port::Lane;
use legwork_queue::port::Work;
use tokio::sync::Notify;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::active_attempts::ActiveAttempts;
use crate::attempt::Attempt;
use crate::attempt::AttemptContext;
use crate::attempt::sleep_until;
use crate::cancel::CancelReason;
use crate::claims::ClaimReport;
use crate::claims::Claimer;
use crate::guard::Guard;
use crate::lease_clock::LeaseClock;
use crate::log_writer::LogWriter;
use crate::renewal::Load;
use crate::renewal::Renewer;
use crate::runner::Runner;
use crate::supervisor::Action;
use crate::supervisor::Supervisor;
use crate::supervisor::WorkerEvent;
use crate::upkeep::reap_for_ever;

/// Events that may wait for the loop; senders wait beyond it.
const EVENTS: usize = 256;
/// How long a goodbye may take.
const GOODBYE: Duration = Duration::from_secs(1);
/// Claims that may wait for the loop.
const REPORTS: usize = 4;

/// How a worker works.
#[derive(Debug, Clone)]
pub struct WorkerSettings {
    /// Its id.
    pub id: WorkerId,
    /// The host it runs on.
    pub host: String,
    /// The lanes it serves, the most urgent first.
    pub lanes: Vec<Lane>,
    /// Jobs at once.
    pub slots: u32,
    /// How long held jobs may go on after a drain was asked for.
    pub drain_timeout: Duration,
    /// Whether it ends when there is nothing to do.
    pub until_idle: bool,
    /// What the fleet decides for jobs that its jobs dispatch.
    pub policy: Arc<Policy>,
    /// How long nothing may be heard of a job before that is said.
    pub stall_after: Duration,
    /// Who ends the jobs' commands if this program cannot.
    pub guard: Guard,
}

/// When a worker shall end.
#[derive(Debug, Clone)]
pub struct ShutdownTokens {
    /// Take nothing new, finish or hand back what runs.
    pub drain: CancellationToken,
    /// End at once.
    pub now: CancellationToken,
    /// Hand back what runs without waiting for the drain's time.
    pub hand_over: CancellationToken,
}

/// A worker before it serves.
#[derive(Debug)]
pub struct Worker {
    settings: WorkerSettings,
    queue: Queue,
    hints: Hints,
    runner: Arc<dyn Runner>,
    vitals: Vitals,
}

/// What a worker shows of itself. The default is shown to nobody.
#[derive(Debug, Clone, Default)]
pub struct Vitals {
    /// Whether it can do its work.
    pub readiness: Readiness,
    /// How full it is.
    pub load: Load,
}

impl Worker {
    /// A worker on `queue` that runs its jobs with `runner`.
    ///
    /// # Errors
    ///
    /// [`QueueError`] when the hints' connection cannot be prepared.
    pub fn new(
        settings: WorkerSettings,
        queue: Queue,
        runner: Arc<dyn Runner>,
        vitals: Vitals,
    ) -> Result<Self, QueueError> {
        let hints = Hints::new(queue.target())?;
        Ok(Self { settings, queue, hints, runner, vitals })
    }

    /// Serves until it is told to end and all it held is ended or handed back. Dropped in the middle, its
    /// leases run out and its jobs are tried again elsewhere.
    pub async fn serve(self, tasks: &Tasks, ending: ShutdownTokens) {
        let (events, events_rx) = mpsc::channel(EVENTS);
        let parts = self.start(tasks, events);
        tracing::info!(worker = %self.settings.id, slots = self.settings.slots, "worker serves");
        self.vitals.readiness.set(true);
        let queue = self.queue.clone();
        let worker = self.settings.id.clone();
        let readiness = self.vitals.readiness.clone();
        Loop::new(self.settings, parts, tasks.clone()).run(events_rx, &ending).await;
        readiness.set(false);
        // Unsaid, the heartbeat runs out.
        match tokio::time::timeout(GOODBYE, queue.goodbye(&worker)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, "could not say goodbye"),
            Err(_) => tracing::debug!("could not say goodbye in time"),
        }
        tracing::info!(%worker, "worker ended");
    }

    /// Starts what runs beside the loop.
    fn start(&self, tasks: &Tasks, events: mpsc::Sender<WorkerEvent>) -> Parts {
        let over = CancellationToken::new();
        let work: Arc<dyn Work> = Arc::new(self.queue.clone());
        let clock = LeaseClock::new(self.queue.settings().lease);
        let context = AttemptContext {
            worker: self.settings.id.clone(),
            observer: Observer::new(self.queue.clone(), self.hints.clone()),
            runner: Arc::clone(&self.runner),
            log_writer: LogWriter::new(Arc::clone(&work), clock.clone()),
            held: ActiveAttempts::default(),
            clock,
            draining: CancellationToken::new(),
            events,
            output_cap: self.queue.settings().output_cap,
            policy: Arc::clone(&self.settings.policy),
            stall_after: self.settings.stall_after,
            work,
        };
        self.start_renewal(tasks, &context, &over);
        tasks.spawn(TaskKind::Upkeep, until(over.clone(), reap_for_ever(self.queue.clone())));
        let (writer, written) = (context.log_writer.clone(), over.clone());
        tasks.spawn(TaskKind::Output, async move { writer.write(written).await });
        let claims = self.start_claims(tasks);
        Parts { context, claims, load: self.vitals.load.clone(), over }
    }

    /// Starts what keeps the leases and hears of stops.
    fn start_renewal(&self, tasks: &Tasks, context: &AttemptContext, over: &CancellationToken) {
        let nudge = Arc::new(Notify::new());
        let renewer = Arc::new(Renewer {
            queue: self.queue.clone(),
            worker: self.settings.id.clone(),
            host: self.settings.host.clone(),
            lanes: self.settings.lanes.clone(),
            slots: self.settings.slots,
            load: self.vitals.load.clone(),
            readiness: self.vitals.readiness.clone(),
            held: context.held.clone(),
            clock: context.clock.clone(),
            nudge: Arc::clone(&nudge),
            guard: self.settings.guard.clone(),
            draining: context.draining.clone(),
        });
        tasks.spawn(TaskKind::Renewal, until(over.clone(), Arc::clone(&renewer).run()));
        tasks.spawn(TaskKind::Renewal, until(over.clone(), Arc::clone(&renewer).beat_for_ever()));
        tasks.spawn(TaskKind::Renewal, until(over.clone(), renewer.watch()));
        let hears = hear_stops(self.queue.clone(), self.hints.clone(), nudge);
        tasks.spawn(TaskKind::Hints, until(over.clone(), hears));
    }

    /// Starts the claimer.
    fn start_claims(&self, tasks: &Tasks) -> Claims {
        let (free, asked) = (Arc::new(AtomicU32::new(self.settings.slots)), Arc::new(Notify::new()));
        let claimer = Claimer {
            queue: self.queue.clone(),
            worker: self.settings.id.clone(),
            lanes: self.settings.lanes.clone(),
            free: Arc::clone(&free),
            asked: Arc::clone(&asked),
            until_idle: self.settings.until_idle,
        };
        let stop = CancellationToken::new();
        let (sender, reports) = mpsc::channel(REPORTS);
        tasks.spawn(TaskKind::Claims, claimer.run(sender, stop.clone()));
        Claims { reports, free, asked, stop }
    }
}

/// What the loop holds of the claimer.
struct Claims {
    reports: mpsc::Receiver<ClaimReport>,
    free: Arc<AtomicU32>,
    asked: Arc<Notify>,
    stop: CancellationToken,
}

/// What the loop holds of the tasks beside it.
struct Parts {
    context: AttemptContext,
    claims: Claims,
    load: Load,
    /// Ends what runs beside the loop.
    over: CancellationToken,
}

/// The loop: select, decide, act.
struct Loop {
    settings: WorkerSettings,
    supervisor: Supervisor,
    parts: Parts,
    tasks: Tasks,
    // Claimed jobs whose launch the supervisor has not ordered yet.
    arrived: HashMap<JobId, (Claimed, Begun)>,
    over: bool,
}

impl Loop {
    fn new(settings: WorkerSettings, parts: Parts, tasks: Tasks) -> Self {
        let supervisor = Supervisor::new(settings.slots, settings.until_idle);
        Self { settings, supervisor, parts, tasks, arrived: HashMap::new(), over: false }
    }

    async fn run(mut self, mut events: mpsc::Receiver<WorkerEvent>, ending: &ShutdownTokens) {
        self.take(WorkerEvent::Started);
        let mut drain_asked = false;
        let mut drain_ends = None;
        while !self.over {
            let drain_time_up = sleep_until(drain_ends);
            let event = tokio::select! {
                Some(report) = self.parts.claims.reports.recv() => self.read(report),
                Some(event) = events.recv() => event,
                () = ending.drain.cancelled(), if !drain_asked => {
                    drain_asked = true;
                    let patience = if ending.hand_over.is_cancelled() { Duration::ZERO } else { self.settings.drain_timeout };
                    drain_ends = Some(tokio::time::Instant::now() + patience);
                    WorkerEvent::DrainAsked
                }
                () = drain_time_up => {
                    drain_ends = None;
                    WorkerEvent::DrainTimeUp
                }
                () = ending.now.cancelled() => {
                    // Nothing is waited for, but no command of a job may be left behind.
                    self.parts.context.held.cancel_all(CancelReason::HandBack);
                    break;
                }
            };
            self.take(event);
        }
        self.parts.claims.stop.cancel();
        self.parts.over.cancel();
    }

    /// Keeps what was claimed and turns the report into an event.
    fn read(&mut self, report: ClaimReport) -> WorkerEvent {
        match report {
            ClaimReport::Idle => WorkerEvent::IdleFound,
            ClaimReport::Claimed(batch) => {
                let ids = batch.iter().map(|(claimed, _)| claimed.lease.id).collect();
                self.arrived.extend(batch.into_iter().map(|job| (job.0.lease.id, job)));
                WorkerEvent::ClaimAnswered(ids)
            }
        }
    }

    fn take(&mut self, event: WorkerEvent) {
        tracing::trace!(?event);
        let actions = self.supervisor.handle(event);
        // Before anybody acts on it: a claimer that waits reads it.
        self.parts.claims.free.store(self.supervisor.free(), Ordering::SeqCst);
        self.parts.load.used.set(u64::from(self.supervisor.used()));
        self.parts.load.jobs.set(u64::from(self.supervisor.jobs()));
        for action in actions {
            self.act(action);
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Claim => self.parts.claims.asked.notify_one(),
            Action::Launch(job) => {
                if let Some((claimed, begun)) = self.arrived.remove(&job) {
                    self.launch(claimed, begun);
                }
            }
            Action::GrantSlot(job) => self.parts.context.held.grant_slot(job),
            Action::HandBack(job) => self.parts.context.held.cancel_job(job, CancelReason::HandBack),
            Action::StopClaiming => {
                self.parts.context.draining.cancel();
                self.parts.claims.stop.cancel();
            }
            Action::Exit => self.over = true,
        }
    }

    fn launch(&self, claimed: Claimed, begun: Begun) {
        let job = claimed.lease.id;
        let ended = EndedNotice { job, events: self.parts.context.events.clone(), tasks: self.tasks.clone() };
        let attempt = Attempt::take_up(self.parts.context.clone(), claimed, begun);
        self.tasks.spawn(TaskKind::Attempt, async move {
            let _notice = ended;
            Box::pin(attempt.run()).await;
        });
    }
}

/// Tells the loop that an attempt is over, also when it panicked.
struct EndedNotice {
    job: JobId,
    events: mpsc::Sender<WorkerEvent>,
    tasks: Tasks,
}

impl Drop for EndedNotice {
    fn drop(&mut self) {
        let event = WorkerEvent::AttemptEnded(self.job);
        // Dropping cannot wait; a full channel is handed to a task that can.
        if let Err(mpsc::error::TrySendError::Full(event)) = self.events.try_send(event) {
            let events = self.events.clone();
            self.tasks.spawn(TaskKind::Attempt, async move {
                let _gone = events.send(event).await;
            });
        }
    }
}

/// Runs `future` until `over`.
async fn until<T>(over: CancellationToken, future: impl Future<Output = T>) {
    let _over = over.run_until_cancelled(future).await;
}

/// Rings `nudge` whenever a stop is asked for in any shard.
async fn hear_stops(queue: Queue, hints: Hints, nudge: Arc<Notify>) {
    let mut listeners = Vec::new();
    for shard in 0..queue.settings().shards {
        listeners.push(hints.listen(queue.keys().stop_channel(shard)).await);
    }
    let hears = listeners.into_iter().map(|mut listener| {
        let nudge = Arc::clone(&nudge);
        async move {
            loop {
                let _root = listener.next().await;
                nudge.notify_one();
            }
        }
    });
    futures::future::join_all(hears).await;
}
