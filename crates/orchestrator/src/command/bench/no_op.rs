//! Jobs that do nothing: what the queue alone costs, compared with a bare stream of the same minute.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;
use std::time::Instant;

use async_trait::async_trait;
use legwork_agent::Outcome;
use legwork_common::id::JobId;
use legwork_common::job::Usage;
use legwork_queue::bench::ServerCost;
use legwork_queue::operator::bench::BATCH_SIZE;
use legwork_queue::operator::bench::Measurement;
use legwork_worker::runner::Run;
use legwork_worker::runner::RunEnd;
use legwork_worker::runner::Runner;
use serde::Serialize;

use super::MeasuredWorker;
use super::Row;
use super::percentile;
use crate::failure::Failure;

/// Jobs of the latency measurement, dispatched one by one to an idle worker: enough for a 99th percentile of three.
const LATENCY_JOBS: usize = 300;
/// Slots of the measured worker, as many as a worker has by default.
const SLOTS: u32 = 100;

/// What was measured.
#[derive(Debug, Serialize)]
pub(super) struct Figures {
    section: &'static str,
    jobs: u32,
    dispatch_per_second: f64,
    drain_per_second: f64,
    start_p50_ms: f64,
    start_p99_ms: f64,
    bare_wake_p50_ms: f64,
    bare_wake_p99_ms: f64,
    commands_per_job: f64,
    redis_cpu_us_per_job: f64,
    bare_stream_commands_per_job: f64,
    bare_stream_cpu_us_per_job: f64,
    times_the_bare_stream: f64,
}

/// Dispatches and drains `jobs` jobs, then `LATENCY_JOBS` one by one.
pub(super) async fn measure(measurement: &Measurement, jobs: u32) -> Result<Figures, Failure> {
    let before = measurement.server_cost().await?;
    let dispatched = Instant::now();
    measurement.dispatch(jobs as usize).await?;
    let dispatch = dispatched.elapsed();

    // Started only now, so that dispatching and draining do not compete.
    let stopwatch = Arc::new(Stopwatch::default());
    let worker = MeasuredWorker::start(measurement, Arc::clone(&stopwatch) as _, SLOTS)?;
    let drain = worker.drain(measurement).await?;
    let cost = measurement.server_cost().await?.since(before);

    let mut latencies = latencies(measurement, &stopwatch).await?;
    worker.end().await;
    let bare = measurement.bare_stream(jobs).await?;
    let mut wakes = measurement.bare_wake_ups(LATENCY_JOBS).await?;
    latencies.sort_unstable();
    wakes.sort_unstable();
    Ok(figures(jobs, (dispatch, drain), (&latencies, &wakes), (cost, bare)))
}

fn figures(
    jobs: u32,
    (dispatch, drain): (Duration, Duration),
    (starts, wakes): (&[Duration], &[Duration]),
    (cost, bare): (ServerCost, ServerCost),
) -> Figures {
    let each = f64::from(jobs);
    let ms = |sorted: &[Duration], share| percentile(sorted, share).as_secs_f64() * 1e3;
    Figures {
        section: "no-op",
        jobs,
        dispatch_per_second: each / dispatch.as_secs_f64(),
        drain_per_second: each / drain.as_secs_f64(),
        start_p50_ms: ms(starts, 0.5),
        start_p99_ms: ms(starts, 0.99),
        bare_wake_p50_ms: ms(wakes, 0.5),
        bare_wake_p99_ms: ms(wakes, 0.99),
        commands_per_job: cost.commands / each,
        redis_cpu_us_per_job: cost.cpu_seconds * 1e6 / each,
        bare_stream_commands_per_job: bare.commands / each,
        bare_stream_cpu_us_per_job: bare.cpu_seconds * 1e6 / each,
        times_the_bare_stream: cost.cpu_seconds / bare.cpu_seconds.max(1e-9),
    }
}

impl Figures {
    /// The figures that growth is judged by, in one line.
    pub(super) fn line(&self) -> String {
        format!(
            "{:>9} jobs  {:.1} µs Redis CPU a job ({:.1} times a bare stream), drain {:.0} jobs/s, start p99 {:.1} ms",
            self.jobs,
            self.redis_cpu_us_per_job,
            self.times_the_bare_stream,
            self.drain_per_second,
            self.start_p99_ms
        )
    }
}

impl Row for Figures {
    fn text(&self) -> String {
        let figures = self;
        format!(
            "jobs                     {}\n\
             dispatch                 {:.0} jobs/s, {BATCH_SIZE} in a call\n\
             drain                    {:.0} jobs/s, one worker\n\
             dispatch to start        p50 {:.2} ms, p99 {:.2} ms, one by one (bare wake-up {:.2}, {:.2})\n\
             commands per job         {:.1} (bare stream {:.1})\n\
             Redis CPU per job        {:.1} µs (bare stream {:.1} µs), {:.1} times\n",
            figures.jobs,
            figures.dispatch_per_second,
            figures.drain_per_second,
            figures.start_p50_ms,
            figures.start_p99_ms,
            figures.bare_wake_p50_ms,
            figures.bare_wake_p99_ms,
            figures.commands_per_job,
            figures.bare_stream_commands_per_job,
            figures.redis_cpu_us_per_job,
            figures.bare_stream_cpu_us_per_job,
            figures.times_the_bare_stream,
        )
    }
}

/// When each job started.
#[derive(Debug, Default)]
pub(super) struct Stopwatch {
    started: Mutex<HashMap<JobId, Instant>>,
    any_started: tokio::sync::Notify,
}

#[async_trait]
impl Runner for Stopwatch {
    fn wants_team(&self) -> bool {
        false
    }

    async fn run(&self, run: Box<Run>) -> RunEnd {
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
