//! Jobs that do nothing, in growing numbers, for growing numbers of sessions and by growing fleets: whether a job costs the
//! same however much there is.

use std::slice;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use legwork_queue::operator::bench::Measurement;
use serde::Serialize;

use super::MeasuredWorker;
use super::Row;
use super::no_op;
use crate::failure::Failure;

/// The least number of jobs; each step has ten times as many.
const FIRST: u32 = 1000;
/// Jobs of each step of sessions and of workers: some for each of the most of them, and over in seconds.
const JOBS: usize = 10_000;
/// Jobs of one dispatch there. The same in all steps, because jobs that are sent together share the cost of a call.
const BATCH: usize = 10;
/// How many sessions or idle workers there are in each step.
const STEPS: [usize; 4] = [1, 10, 100, 1000];
/// Slots of each worker, so that any of them could take a whole dispatch.
const SLOTS: u32 = 10;
/// How long a fleet is left alone, and then watched, while it has nothing to do: a few heartbeats of each worker.
const IDLE: Duration = Duration::from_secs(10);

/// What was measured.
#[derive(Debug, Serialize)]
pub(super) struct Figures {
    section: &'static str,
    steps: Vec<no_op::Figures>,
    sessions: Vec<Sessions>,
    idle_workers: Vec<IdleWorkers>,
}

/// Jobs that are dispatched to so many sessions in turn, and done by one worker meanwhile.
#[derive(Debug, Serialize)]
struct Sessions {
    sessions: usize,
    redis_cpu_us_per_job: f64,
}

/// Jobs of one session, and so many workers that wait for them.
#[derive(Debug, Serialize)]
struct IdleWorkers {
    workers: usize,
    redis_cpu_us_per_job: f64,
    /// The same, less what the waiting of so many costs in that time.
    redis_cpu_us_per_job_beyond_waiting: f64,
    /// What one of them costs Redis while it waits.
    idle_us_per_second: f64,
}

/// Measures 1,000 jobs, then ten times as many, up to `jobs`; then sessions, then idle workers. What ended stays.
pub(super) async fn measure(measurement: &Measurement, jobs: u32) -> Result<Figures, Failure> {
    let mut steps = Vec::new();
    let mut count = FIRST;
    while count <= jobs.max(FIRST) {
        steps.push(no_op::measure(measurement, count).await?);
        count = count.saturating_mul(10);
    }
    let mut sessions = Vec::new();
    for count in STEPS {
        sessions.push(of_sessions(measurement, count).await?);
    }
    let mut idle_workers = Vec::new();
    for count in STEPS {
        idle_workers.push(of_idle_workers(measurement, count).await?);
    }
    Ok(Figures { section: "growth", steps, sessions, idle_workers })
}

async fn of_sessions(measurement: &Measurement, count: usize) -> Result<Sessions, Failure> {
    let mut sessions = Vec::with_capacity(count);
    for _ in 0..count {
        sessions.push(measurement.another_session().await?);
    }
    let fleet = fleet(measurement, 1).await?;
    let (_, cost) = cost_per_job(&fleet, &sessions).await?;
    end(fleet).await;
    Ok(Sessions { sessions: count, redis_cpu_us_per_job: cost })
}

async fn of_idle_workers(measurement: &Measurement, count: usize) -> Result<IdleWorkers, Failure> {
    let fleet = fleet(measurement, count).await?;
    tokio::time::sleep(IDLE).await;
    let before = measurement.server_cost().await?;
    tokio::time::sleep(IDLE).await;
    let idle = measurement.server_cost().await?.since(before).cpu_seconds * 1e6 / IDLE.as_secs_f64();
    let (took, cost) = cost_per_job(&fleet, slice::from_ref(measurement)).await?;
    end(fleet).await;
    Ok(IdleWorkers {
        workers: count,
        redis_cpu_us_per_job: cost,
        redis_cpu_us_per_job_beyond_waiting: cost - idle * took.as_secs_f64() / JOBS as f64,
        idle_us_per_second: idle / count as f64,
    })
}

/// How long it takes to dispatch `JOBS` jobs to the sessions in turn, until all have ended; and Redis' processor time, in
/// microseconds, of each.
async fn cost_per_job(
    fleet: &[MeasuredWorker],
    sessions: &[Measurement],
) -> Result<(Duration, f64), Failure> {
    let [worker, ..] = fleet else { return Ok((Duration::ZERO, 0.0)) };
    let [first, ..] = sessions else { return Ok((Duration::ZERO, 0.0)) };
    let (began, before) = (Instant::now(), first.server_cost().await?);
    for session in sessions.iter().cycle().take(JOBS / BATCH) {
        session.dispatch(BATCH).await?;
    }
    worker.drain(first).await?;
    let cost = first.server_cost().await?.since(before).cpu_seconds * 1e6 / JOBS as f64;
    Ok((began.elapsed(), cost))
}

/// Workers that wait each on connections of its own: on one, only one could wait at a time.
async fn fleet(measurement: &Measurement, workers: usize) -> Result<Vec<MeasuredWorker>, Failure> {
    let runner = Arc::new(no_op::Stopwatch::default());
    let mut fleet = Vec::with_capacity(workers);
    for _ in 0..workers {
        let own = measurement.another_connection().await?;
        fleet.push(MeasuredWorker::start(&own, Arc::clone(&runner) as _, SLOTS)?);
    }
    Ok(fleet)
}

async fn end(fleet: Vec<MeasuredWorker>) {
    for worker in &fleet {
        worker.drain.cancel();
    }
    for worker in fleet {
        worker.end().await;
    }
}

impl Row for Figures {
    fn text(&self) -> String {
        let steps = self.steps.iter().map(|step| format!("{}\n", step.line()));
        let sessions = self.sessions.iter().map(|step| {
            format!("{:>9} sessions  {:.1} µs Redis CPU a job\n", step.sessions, step.redis_cpu_us_per_job)
        });
        let workers = self.idle_workers.iter().map(|step| {
            format!(
                "{:>9} idle workers  {:.1} µs Redis CPU a job, {:.1} beyond their waiting, which costs {:.0} µs a second each\n",
                step.workers,
                step.redis_cpu_us_per_job,
                step.redis_cpu_us_per_job_beyond_waiting,
                step.idle_us_per_second
            )
        });
        steps.chain(sessions).chain(workers).collect()
    }
}
