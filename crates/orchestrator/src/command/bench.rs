//! `legwork bench`: what this Redis and this build do with jobs that do nothing.

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
use legwork_common::id::SessionId;
use legwork_common::id::WorkerId;
use legwork_common::job::JobOptions;
use legwork_common::job::JobSpec;
use legwork_common::job::TeamDigest;
use legwork_common::job::Usage;
use legwork_process::tasks::TaskKind;
use legwork_process::tasks::Tasks;
use legwork_queue::ConnectionKind;
use legwork_queue::Queue;
use legwork_queue::bench::ServerCost;
use legwork_queue::port::Dispatch as _;
use legwork_queue::port::DispatchedBy;
use legwork_queue::port::Enqueue;
use legwork_queue::port::Lane;
use legwork_queue::port::NewJob;
use legwork_queue::port::OpenSession;
use legwork_queue::port::SessionEnd;
use legwork_queue::port::Watch as _;
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

/// Jobs of one dispatch call.
const BATCH: usize = 100;
/// Jobs of the latency measurement, dispatched one by one to an idle worker.
const SINGLES: usize = 300;
/// The bytes of a task.
const TASK_BYTES: usize = 200;
/// How often the drain is looked at.
const POLL_INTERVAL: Duration = Duration::from_millis(5);

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
    // A namespace of its own, which is dropped afterwards.
    let name = format!("bench-{}", SessionId::random());
    let settings = context.common.wanted_settings();
    let queue =
        Queue::connect(connection.backend.target(), &name, &settings, ConnectionKind::Dedicated).await?;
    let measured = measure(&queue, args.jobs.max(1)).await;
    queue.drop_namespace().await?;
    connection.leave().await?;
    let figures = measured?;
    if context.output.json {
        context.output.object(&figures)?;
    } else {
        context.output.text(&table(&figures))?;
    }
    Ok(ExitStatus::Success)
}

async fn measure(queue: &Queue, jobs: u32) -> Result<Figures, Failure> {
    let bench = Bench::open(queue).await?;
    let tasks = Tasks::new();
    let before = queue.server_cost().await?;
    let dispatched = Instant::now();
    bench.dispatch(jobs as usize).await?;
    let dispatch = dispatched.elapsed();

    let (drain_token, worker) = bench.serve(&tasks)?;
    let draining = Instant::now();
    bench.until_done().await?;
    let drain = draining.elapsed();
    let cost = queue.server_cost().await?.since(before);

    let mut latencies = bench.latencies().await?;
    drain_token.cancel();
    worker.await.ok();
    tasks.close_and_wait(Duration::from_secs(5)).await;
    let bare = queue.bare_stream(jobs, TASK_BYTES).await?;
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
         dispatch                 {:.0} jobs/s, {BATCH} in a call\n\
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

/// When each job began.
#[derive(Debug, Default)]
struct Stopwatch {
    begun: Mutex<HashMap<JobId, Instant>>,
    rings: tokio::sync::Notify,
}

#[async_trait]
impl Runner for Stopwatch {
    fn wants_team(&self) -> bool {
        false
    }

    async fn run(&self, run: Run) -> RunEnd {
        let now = Instant::now();
        self.begun.lock().unwrap_or_else(PoisonError::into_inner).insert(run.claimed.lease.id, now);
        self.rings.notify_one();
        RunEnd::Ended(Outcome::Completed { result: String::new(), usage: Usage::default() })
    }
}

impl Stopwatch {
    /// When the job began; waits for it.
    async fn begun(&self, id: JobId) -> Instant {
        loop {
            let ring = self.rings.notified();
            if let Some(begun) = self.begun.lock().unwrap_or_else(PoisonError::into_inner).remove(&id) {
                return begun;
            }
            ring.await;
        }
    }
}

/// One measurement's session.
struct Bench {
    queue: Queue,
    session: SessionId,
    team: TeamDigest,
    stopwatch: Arc<Stopwatch>,
}

impl Bench {
    async fn open(queue: &Queue) -> Result<Self, Failure> {
        let session = SessionId::random();
        let open = OpenSession {
            session,
            owner: None,
            on_end: SessionEnd::Keep,
            cap: 0,
            own_lane: false,
            budget: None,
        };
        queue.open(&open).await?;
        let team = TeamDigest("0".repeat(64));
        queue.store_team(session, &team, "{}").await?;
        Ok(Self { queue: queue.clone(), session, team, stopwatch: Arc::default() })
    }

    async fn dispatch(&self, jobs: usize) -> Result<Vec<JobId>, Failure> {
        let mut ids = Vec::with_capacity(jobs);
        while ids.len() < jobs {
            let batch: Vec<NewJob> = (0..BATCH.min(jobs - ids.len())).map(|_| self.job()).collect();
            ids.extend(batch.iter().map(|job| job.id));
            let request = Enqueue {
                session: self.session,
                by: DispatchedBy::Root,
                team: self.team.clone(),
                jobs: batch,
            };
            let stored = self.queue.enqueue(&request).await?;
            stored.map_err(|refusal| Failure::usage(format!("the dispatch was refused: {refusal:?}")))?;
        }
        Ok(ids)
    }

    fn job(&self) -> NewJob {
        NewJob {
            id: JobId::random_in(self.session),
            spec: JobSpec {
                agent: "bench".to_owned(),
                task: "x".repeat(TASK_BYTES),
                expected_output: None,
                team: self.team.clone(),
                working_dir: None,
                key: None,
                retry_of: None,
                fresh: false,
                budget: None,
                trace: None,
            },
            job_options: JobOptions::default(),
            idempotency_key: None,
        }
    }

    fn serve(&self, tasks: &Tasks) -> Result<(CancellationToken, tokio::task::JoinHandle<()>), Failure> {
        let settings = WorkerSettings {
            policy: Arc::default(),
            stall_after: Duration::MAX,
            id: WorkerId::random_on("bench"),
            host: "bench".to_owned(),
            lanes: vec![Lane::Queue(JobOptions::default().queue)],
            slots: 100,
            drain_timeout: Duration::from_secs(5),
            until_idle: false,
            guard: Guard::default(),
        };
        let runner = Arc::clone(&self.stopwatch);
        let worker = Worker::new(settings, self.queue.clone(), runner, WorkerHealth::default())?;
        let drain = CancellationToken::new();
        let ending = ShutdownTokens {
            drain: drain.clone(),
            now: CancellationToken::new(),
            hand_over: CancellationToken::new(),
        };
        let list = tasks.clone();
        let serving =
            tasks.spawn(TaskKind::LocalWorker, async move { Box::pin(worker.serve(&list, ending)).await });
        Ok((drain, serving))
    }

    async fn until_done(&self) -> Result<(), Failure> {
        while self.queue.unfinished().await? > 0 {
            tokio::time::sleep(POLL_INTERVAL).await;
        }
        Ok(())
    }

    /// How long a job that is dispatched to an idle worker waits until it begins.
    async fn latencies(&self) -> Result<Vec<Duration>, Failure> {
        let mut latencies = Vec::with_capacity(SINGLES);
        for _ in 0..SINGLES {
            let dispatched = Instant::now();
            let ids = self.dispatch(1).await?;
            for id in ids {
                latencies.push(self.stopwatch.begun(id).await.saturating_duration_since(dispatched));
            }
        }
        Ok(latencies)
    }
}
