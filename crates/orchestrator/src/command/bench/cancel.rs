//! Stopping running jobs: one among many, and all.

use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use async_trait::async_trait;
use legwork_agent::Outcome;
use legwork_common::id::JobId;
use legwork_common::job::Usage;
use legwork_queue::operator::bench::Measurement;
use legwork_worker::runner::Run;
use legwork_worker::runner::RunEnd;
use legwork_worker::runner::Runner;
use serde::Serialize;
use tokio::sync::mpsc;

use super::MeasuredWorker;
use super::Row;
use super::percentile;
use crate::failure::Failure;

/// Jobs that run at once, at most.
const MAX_JOBS: u32 = 1000;
/// Jobs that are stopped one by one.
const SINGLE_STOPS: usize = 100;
/// Reports that wait to be read: there is room for those of all jobs.
const REPORT_CHANNEL_CAPACITY: usize = 1024;

/// What was measured.
#[derive(Debug, Serialize)]
pub(super) struct Figures {
    section: &'static str,
    running: u32,
    one_p50_ms: f64,
    one_p99_ms: f64,
    all_seconds: f64,
}

/// Stops some of the running jobs one by one, from the request until the run is cancelled, then the rest together, until
/// all have ended.
pub(super) async fn measure(measurement: &Measurement, jobs: u32) -> Result<Figures, Failure> {
    let running = jobs.min(MAX_JOBS);
    let (started, mut starts) = mpsc::channel(REPORT_CHANNEL_CAPACITY);
    let (cancelled, mut cancels) = mpsc::channel(REPORT_CHANNEL_CAPACITY);
    let worker = MeasuredWorker::start(measurement, Arc::new(Sleeper { started, cancelled }), running)?;
    let ids = measurement.dispatch(running as usize).await?;
    for _ in &ids {
        starts.recv().await;
    }
    let mut latencies = Vec::new();
    for id in ids.iter().take(SINGLE_STOPS) {
        let asked = Instant::now();
        measurement.stop(*id).await?;
        while let Some((stopped, at)) = cancels.recv().await {
            if stopped == *id {
                latencies.push(at.saturating_duration_since(asked));
                break;
            }
        }
    }
    let asked = Instant::now();
    measurement.stop_all().await?;
    worker.drain(measurement).await?;
    let all: Duration = asked.elapsed();
    worker.end().await;
    latencies.sort_unstable();
    Ok(Figures {
        section: "cancel",
        running,
        one_p50_ms: percentile(&latencies, 0.5).as_secs_f64() * 1e3,
        one_p99_ms: percentile(&latencies, 0.99).as_secs_f64() * 1e3,
        all_seconds: all.as_secs_f64(),
    })
}

/// Runs until it is cancelled.
#[derive(Debug)]
struct Sleeper {
    started: mpsc::Sender<JobId>,
    cancelled: mpsc::Sender<(JobId, Instant)>,
}

#[async_trait]
impl Runner for Sleeper {
    fn wants_team(&self) -> bool {
        false
    }

    async fn run(&self, run: Box<Run>) -> RunEnd {
        let id = run.claimed.lease.id;
        // Without a receiver the measurement is over.
        self.started.send(id).await.ok();
        run.cancel.cancelled().await;
        self.cancelled.send((id, Instant::now())).await.ok();
        RunEnd::Ended(Outcome::Stopped { usage: Usage::default() })
    }
}

impl Row for Figures {
    fn text(&self) -> String {
        format!(
            "cancel                   {} running jobs\n\
             one stopped              p50 {:.1} ms, p99 {:.1} ms until its run is cancelled\n\
             the rest stopped         {:.2} s until all have ended\n",
            self.running, self.one_p50_ms, self.one_p99_ms, self.all_seconds,
        )
    }
}
