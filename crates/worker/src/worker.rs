//! A worker: its settings, the tasks that it starts, and its life from the first claim to the last release.
//!
//! ```text
//! task (TaskKind)            what it does                                        ends
//! driver (the caller's)      events → supervisor → actions                       drained, or at once
//! claims (Claims)            claims jobs on order                                with the driver
//! attempts (Attempt)         one task for each job                               on their own, or cancelled
//! log writer (Output)        writes output, turns and ends                       nothing left to write
//! renewal (Renewal × 3)      renews leases, sends heartbeats, suspends           with the driver
//! stop hints (Hints)         nudges the renewal when a stop was requested        with the driver
//! reaper (Upkeep)            reclaims the jobs of dead workers                   with the driver
//! attempt log (Upkeep)       counts attempts that have no line of their own      with the driver
//! webhooks (Webhooks)        reports ends of jobs                                after the driver, with a last round
//! ```
//!
//! Claims, attempts and the log writer are dropped once the time of a drain is over.

use std::sync::Arc;
use std::time::Duration;

use legwork_common::id::WorkerId;
use legwork_common::policy::Policy;
use legwork_process::health::Readiness;
use legwork_process::tasks::TaskKind;
use legwork_process::tasks::Tasks;
use legwork_queue::Hints;
use legwork_queue::Observer;
use legwork_queue::Queue;
use legwork_queue::QueueError;
use legwork_queue::port::Lane;
use legwork_queue::port::Work;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::active_attempts::ActiveAttempts;
use crate::admission::Admission;
use crate::attempt::AttemptContext;
use crate::attempt_log::AttemptLog;
use crate::claims::Claimer;
use crate::driver::ClaimerHandle;
use crate::driver::Driver;
use crate::driver::LoopState;
use crate::driver::ShutdownTokens;
use crate::guard::Guard;
use crate::lease_clock::LeaseClock;
use crate::log_writer::LogWriter;
use crate::memory;
use crate::metered::ModelMetrics;
use crate::renewal::Load;
use crate::renewal::Renewer;
use crate::renewal_requests::RenewalRequests;
use crate::renewal_requests::listen_for_stops;
use crate::runner::Runner;
use crate::supervisor::Supervisor;
use crate::supervisor::WorkerEvent;
use crate::team_cache::TeamCache;
use crate::upkeep::reap_forever;
use crate::webhooks::Webhooks;

/// Events of attempts that may wait for the driver. More than the default slots (100), so that all attempts may report
/// at once without waiting, as when a worker drains. Senders wait while it is full.
const EVENT_CHANNEL_CAPACITY: usize = 256;
/// Orders and reports between driver and claimer. The driver gives one order at a time and awaits the report on it; the
/// rest is for the return of wake tokens, which is not reported, and for reports that the queue is idle.
const CLAIMER_CHANNEL_CAPACITY: usize = 4;
/// How long a worker that ends waits for Redis to remove its record. The record expires three leases after the last
/// heartbeat anyway, so an unreachable Redis must not delay the exit.
const GOODBYE_TIMEOUT: Duration = Duration::from_secs(1);

/// The settings of a worker.
#[derive(Debug, Clone)]
pub struct WorkerSettings {
    /// Its id, unique in the fleet.
    pub id: WorkerId,
    /// The host that it runs on, as shown to users.
    pub host: String,
    /// The lanes that it serves, the most urgent first.
    pub lanes: Vec<Lane>,
    /// How many jobs may run at once; at least one.
    pub slots: u32,
    /// How long active jobs may continue after a drain was requested.
    pub drain_timeout: Duration,
    /// Whether it ends once its queues are idle.
    pub until_idle: bool,
    /// What the fleet has decided for jobs that its jobs dispatch.
    pub policy: Arc<Policy>,
    /// After how long without activity a job is reported as stalled; zero for never.
    pub stall_after: Duration,
    /// Kills the commands of jobs if this program cannot.
    pub guard: Guard,
    /// Which signed jobs it runs; `None` for all jobs, signed or not.
    pub admission: Option<Admission>,
    /// Bytes that this program and the commands of its jobs may hold together, before the heaviest job is ended; `None` for
    /// no limit.
    pub memory_limit: Option<u64>,
    /// Reports ends of jobs; `None` where this worker has no secret to sign with.
    pub webhooks: Option<Webhooks>,
}

/// What a worker reports about itself. The default is reported nowhere.
#[derive(Debug, Clone, Default)]
pub struct WorkerHealth {
    /// Whether it can do its work.
    pub readiness: Readiness,
    /// How full it is.
    pub load: Load,
    /// Counts of the calls of its models.
    pub models: ModelMetrics,
}

/// A worker that does not serve yet.
#[derive(Debug)]
pub struct Worker {
    settings: WorkerSettings,
    queue: Queue,
    hints: Hints,
    runner: Arc<dyn Runner>,
    health: WorkerHealth,
    log: AttemptLog,
}

impl Worker {
    /// A worker on `queue` that runs its jobs with `runner`.
    ///
    /// # Errors
    ///
    /// [`QueueError`] when the connection for hints cannot be prepared.
    pub fn new(
        settings: WorkerSettings,
        queue: Queue,
        runner: Arc<dyn Runner>,
        health: WorkerHealth,
    ) -> Result<Self, QueueError> {
        let hints = Hints::new(queue.target())?;
        Ok(Self { settings, queue, hints, runner, health, log: AttemptLog::default() })
    }

    /// Serves until `shutdown` asks it to end, or its queues are idle with `until_idle`, and every job it had has ended
    /// or was released. A few seconds after the drain timeout it returns in any case, and what has not ended then is
    /// dropped. Dropped in the middle, its leases expire and its jobs are attempted again elsewhere.
    pub async fn serve(self, tasks: &Tasks, shutdown: ShutdownTokens) {
        let over = CancellationToken::new();
        let driver = self.start(tasks, shutdown, &over);
        tracing::info!(worker = %self.settings.id, slots = self.settings.slots, "worker serves");
        self.health.readiness.set(true);
        driver.run().await;
        over.cancel();
        self.log.summarise();
        self.health.readiness.set(false);
        self.say_goodbye().await;
        tracing::info!(worker = %self.settings.id, "worker ended");
    }

    /// Starts the tasks of the worker, which end with `over`, and prepares the loop that drives them.
    fn start(&self, tasks: &Tasks, shutdown: ShutdownTokens, over: &CancellationToken) -> Driver {
        let (events, events_rx) = mpsc::channel(EVENT_CHANNEL_CAPACITY);
        let context = self.attempt_context(events);
        let renewals = RenewalRequests::default();
        self.start_renewal(tasks, &context, &renewals, &shutdown.drain, over);
        let reaping = reap_forever(self.queue.clone(), self.health.load.tally.clone());
        tasks.spawn(TaskKind::Upkeep, until(over.clone(), reaping));
        tasks.spawn(TaskKind::Upkeep, until(over.clone(), self.log.clone().summarise_forever()));
        if let Some(limit) = self.settings.memory_limit {
            let watching = memory::watch(limit, self.settings.guard.clone(), context.active.clone());
            tasks.spawn(TaskKind::Upkeep, until(over.clone(), watching));
        }
        if let Some(webhooks) = self.settings.webhooks.clone() {
            tasks.spawn(TaskKind::Webhooks, webhooks.run(self.queue.clone(), over.clone()));
        }
        let (log_writer, writer_over) = (context.log_writer.clone(), over.clone());
        let writing = async move { log_writer.run(writer_over).await };
        tasks.spawn(TaskKind::Output, until(context.abandoned.clone(), writing));
        let claimer = self.start_claimer(tasks, &context, renewals);
        Driver {
            supervisor: Supervisor::new(self.settings.slots, self.settings.until_idle),
            context: Arc::new(context),
            events: events_rx,
            claimer,
            load: self.health.load.clone(),
            tasks: tasks.clone(),
            shutdown,
            drain_timeout: self.settings.drain_timeout,
            state: LoopState::default(),
        }
    }

    fn attempt_context(&self, events: mpsc::Sender<WorkerEvent>) -> AttemptContext {
        let work: Arc<dyn Work> = Arc::new(self.queue.clone());
        let clock = LeaseClock::new(self.queue.settings().lease);
        AttemptContext {
            worker: self.settings.id.clone(),
            observer: Observer::new(self.queue.clone(), self.hints.clone()),
            runner: Arc::clone(&self.runner),
            log_writer: LogWriter::new(Arc::clone(&work), clock.clone()),
            active: ActiveAttempts::default(),
            clock,
            draining: CancellationToken::new(),
            abandoned: CancellationToken::new(),
            events,
            output_cap: self.queue.settings().output_cap,
            policy: Arc::clone(&self.settings.policy),
            stall_after: self.settings.stall_after,
            tally: self.health.load.tally.clone(),
            log: self.log.clone(),
            teams: TeamCache::default(),
            admission: self.settings.admission.clone(),
            work,
        }
    }

    /// Starts the tasks that keep the leases, send the heartbeat and learn of stops.
    fn start_renewal(
        &self,
        tasks: &Tasks,
        context: &AttemptContext,
        renewals: &RenewalRequests,
        drain: &CancellationToken,
        over: &CancellationToken,
    ) {
        let renewer = Arc::new(Renewer {
            queue: self.queue.clone(),
            worker: self.settings.id.clone(),
            host: self.settings.host.clone(),
            lanes: self.settings.lanes.clone(),
            slots: self.settings.slots,
            load: self.health.load.clone(),
            readiness: self.health.readiness.clone(),
            active: context.active.clone(),
            clock: context.clock.clone(),
            requests: renewals.clone(),
            guard: self.settings.guard.clone(),
            draining: context.draining.clone(),
            drain: drain.clone(),
        });
        tasks.spawn(TaskKind::Renewal, until(over.clone(), Arc::clone(&renewer).run()));
        tasks.spawn(TaskKind::Renewal, until(over.clone(), Arc::clone(&renewer).send_heartbeats()));
        tasks.spawn(TaskKind::Renewal, until(over.clone(), renewer.suspend_when_in_doubt()));
        let listening = listen_for_stops(self.queue.clone(), self.hints.clone(), renewals.clone());
        tasks.spawn(TaskKind::Hints, until(over.clone(), listening));
    }

    /// Starts the claimer. It ends with its orders, not with `over`: a claim must not be cut off.
    fn start_claimer(
        &self,
        tasks: &Tasks,
        context: &AttemptContext,
        renewals: RenewalRequests,
    ) -> ClaimerHandle {
        let stop = CancellationToken::new();
        let claimer = Claimer {
            queue: self.queue.clone(),
            worker: self.settings.id.clone(),
            lanes: self.settings.lanes.clone(),
            active: context.active.clone(),
            renewals,
            until_idle: self.settings.until_idle,
            stop: stop.clone(),
        };
        let (orders, orders_rx) = mpsc::channel(CLAIMER_CHANNEL_CAPACITY);
        let (reports_tx, reports) = mpsc::channel(CLAIMER_CHANNEL_CAPACITY);
        tasks.spawn(TaskKind::Claims, until(context.abandoned.clone(), claimer.run(orders_rx, reports_tx)));
        ClaimerHandle { orders, reports, stop }
    }

    /// Removes the worker's record; where that fails the record expires.
    async fn say_goodbye(&self) {
        match tokio::time::timeout(GOODBYE_TIMEOUT, self.queue.goodbye(&self.settings.id)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, "could not remove the worker's record"),
            Err(_) => tracing::debug!("could not remove the worker's record in time"),
        }
    }
}

/// Runs `future` until `over` is cancelled, whichever is first.
async fn until<T>(over: CancellationToken, future: impl Future<Output = T>) {
    let _over = over.run_until_cancelled(future).await;
}
