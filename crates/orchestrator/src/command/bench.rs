//! `legwork bench`: how fast this Redis and this build are with jobs that do nothing.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;
use std::time::Instant;

use async_trait::async_trait;
use legwork_agent::Outcome;
use legwork_common::error::ExitStatus;
use legwork_common::id::JobId;
use legwork_common::id::WorkerId;
use legwork_common::job::Usage;
use legwork_process::tasks::TaskKind;
use legwork_process::tasks::Tasks;
use legwork_queue::ConnectionKind;
use legwork_queue::bench::ServerCost;
use legwork_queue::operator::bench::BATCH_SIZE;
use legwork_queue::operator::bench::Measurement;
use legwork_worker::ShutdownTokens;
use legwork_worker::Worker;
use legwork_worker::WorkerHealth;
use legwork_worker::WorkerSettings;
use legwork_worker::guard::Guard;
use legwork_worker::runner::Run;
use legwork_worker::runner::RunEnd;
use legwork_worker::runner::Runner;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::cli::BenchArgs;
use crate::context::Context;
use crate::failure::Failure;

/// Jobs of the latency measurement, dispatched one by one to an idle worker: enough for a 99th percentile of three.
const LATENCY_JOBS: usize = 300;
/// Slots of the measured worker, as many as a worker has by default.
const SLOTS: u32 = 100;
/// How often the drain is polled: below one percent of the shortest drain worth measuring, and far too rarely to load
/// the server that is measured.
const DRAIN_POLL_INTERVAL: Duration = Duration::from_millis(5);
/// How long the idle worker may take to shut down; it has no job left.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(5);

/// What was measured.
#[derive(Debug, Serialize)]
struct Figures {
    jobs: u32,
    dispatch_per_second: f64,
    drain_per_second: f64,
    start_p50_ms: f64,
    start_p99_ms: f64,
    commands_per_job: f64,
    redis_cpu_us_per_job: f64,
    bare_stream_commands_per_job: f64,
    bare_stream_cpu_us_per_job: f64,
    times_the_bare_stream: f64,
}

/// Measures and prints.
pub(super) async fn bench(context: Context, args: BenchArgs) -> Result<ExitStatus, Failure> {
    let connection = context.connect(ConnectionKind::Dedicated).await?;
    let settings = context.common.wanted_settings();
    let measurement = Measurement::begin(connection.backend.target(), &settings).await?;
    let measured = measure(&measurement, args.jobs.max(1)).await;
    measurement.end().await?;
    connection.leave().await?;
    let figures = measured?;
    if context.output.json {
        context.output.object(&figures)?;
    } else {
        context.output.text(&table(&figures))?;
    }
    Ok(ExitStatus::Success)
}

async fn measure(measurement: &Measurement, jobs: u32) -> Result<Figures, Failure> {
    let tasks = Tasks::new();
    let before = measurement.server_cost().await?;
    let dispatched = Instant::now();
    measurement.dispatch(jobs as usize).await?;
    let dispatch = dispatched.elapsed();

    // Started only now, so that dispatching and draining do not compete.
    let stopwatch = Arc::new(Stopwatch::default());
    let (drain_token, worker) = serve(measurement, &stopwatch, &tasks)?;
    let draining = Instant::now();
    while measurement.unfinished().await? > 0 {
        tokio::time::sleep(DRAIN_POLL_INTERVAL).await;
    }
    let drain = draining.elapsed();
    let cost = measurement.server_cost().await?.since(before);

    let mut latencies = latencies(measurement, &stopwatch).await?;
    drain_token.cancel();
    worker.await.ok();
    tasks.close_and_wait(SHUTDOWN_TIMEOUT).await;
    let bare = measurement.bare_stream(jobs).await?;
    latencies.sort_unstable();
    let at = |share: f64| {
        latencies.get(((latencies.len() as f64 - 1.0) * share) as usize).copied().unwrap_or_default()
    };
    Ok(figures(jobs, (dispatch, drain), (at(0.5), at(0.99)), (cost, bare)))
}

fn figures(
    jobs: u32,
    (dispatch, drain): (Duration, Duration),
    (p50, p99): (Duration, Duration),
    (cost, bare): (ServerCost, ServerCost),
) -> Figures {
    let each = f64::from(jobs);
    Figures {
        jobs,
        dispatch_per_second: each / dispatch.as_secs_f64(),
        drain_per_second: each / drain.as_secs_f64(),
        start_p50_ms: p50.as_secs_f64() * 1e3,
        start_p99_ms: p99.as_secs_f64() * 1e3,
        commands_per_job: cost.commands / each,
        redis_cpu_us_per_job: cost.cpu_seconds * 1e6 / each,
        bare_stream_commands_per_job: bare.commands / each,
        bare_stream_cpu_us_per_job: bare.cpu_seconds * 1e6 / each,
        times_the_bare_stream: cost.cpu_seconds / bare.cpu_seconds.max(1e-9),
    }
}

fn table(figures: &Figures) -> String {
    format!(
        "jobs                     {}\n\
         dispatch                 {:.0} jobs/s, {BATCH_SIZE} in a call\n\
         drain                    {:.0} jobs/s, one worker\n\
         dispatch to start        p50 {:.1} ms, p99 {:.1} ms, one by one\n\
         commands per job         {:.1} (bare stream {:.1})\n\
         Redis CPU per job        {:.1} µs (bare stream {:.1} µs), {:.1} times\n",
        figures.jobs,
        figures.dispatch_per_second,
        figures.drain_per_second,
        figures.start_p50_ms,
        figures.start_p99_ms,
        figures.commands_per_job,
        figures.bare_stream_commands_per_job,
        figures.redis_cpu_us_per_job,
        figures.bare_stream_cpu_us_per_job,
        figures.times_the_bare_stream,
    )
}

/// When each job started.
#[derive(Debug, Default)]
struct Stopwatch {
    started: Mutex<HashMap<JobId, Instant>>,
    any_started: tokio::sync::Notify,
}

#[async_trait]
impl Runner for Stopwatch {
    fn wants_team(&self) -> bool {
        false
    }

    async fn run(&self, run: Run) -> RunEnd {
        let now = Instant::now();
        self.started.lock().unwrap_or_else(PoisonError::into_inner).insert(run.claimed.lease.id, now);
        self.any_started.notify_one();
        RunEnd::Ended(Outcome::Completed { result: String::new(), usage: Usage::default() })
    }
}

impl Stopwatch {
    /// When the job started; waits for it.
    async fn started(&self, id: JobId) -> Instant {
        loop {
            // Before the lookup: a job that starts in between leaves a permit, so that no notification is lost.
            let any_started = self.any_started.notified();
            if let Some(started) = self.started.lock().unwrap_or_else(PoisonError::into_inner).remove(&id) {
                return started;
            }
            any_started.await;
        }
    }
}

/// Starts the measured worker; the token drains it.
fn serve(
    measurement: &Measurement,
    stopwatch: &Arc<Stopwatch>,
    tasks: &Tasks,
) -> Result<(CancellationToken, tokio::task::JoinHandle<()>), Failure> {
    let settings = WorkerSettings {
        policy: Arc::default(),
        stall_after: Duration::MAX,
        id: WorkerId::random_on("bench"),
        host: "bench".to_owned(),
        lanes: vec![measurement.lane()],
        slots: SLOTS,
        drain_timeout: SHUTDOWN_TIMEOUT,
        until_idle: false,
        guard: Guard::default(),
        memory_limit: None,
    };
    let runner = Arc::clone(stopwatch);
    let worker = Worker::new(settings, measurement.queue().clone(), runner, WorkerHealth::default())?;
    let drain = CancellationToken::new();
    let tokens = ShutdownTokens {
        drain: drain.clone(),
        now: CancellationToken::new(),
        hand_over: CancellationToken::new(),
    };
    let worker_tasks = tasks.clone();
    let serving = tasks.spawn(TaskKind::LocalWorker, async move {
        Box::pin(worker.serve(&worker_tasks, tokens)).await;
    });
    Ok((drain, serving))
}

/// The time from dispatch to start of jobs that are dispatched one by one to an idle worker.
async fn latencies(measurement: &Measurement, stopwatch: &Stopwatch) -> Result<Vec<Duration>, Failure> {
    let mut latencies = Vec::with_capacity(LATENCY_JOBS);
    for _ in 0..LATENCY_JOBS {
        let dispatched = Instant::now();
        for id in measurement.dispatch(1).await? {
            latencies.push(stopwatch.started(id).await.saturating_duration_since(dispatched));
        }
    }
    Ok(latencies)
}
