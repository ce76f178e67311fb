//! Scripted agents that wait for their models' replies: what a running agent takes of the memory of its worker.

use std::fs;
use std::time::Duration;
use std::time::Instant;

use legwork_queue::operator::bench::Measurement;
use serde::Serialize;
use serde_json::json;

use super::MeasuredWorker;
use super::Row;
use super::agents::agents;
use crate::failure::Failure;

/// How long each agent waits for its model: long enough for all to run at once on a busy machine.
const MODEL_DELAY_MS: u32 = 20_000;
/// How often memory is read until the first job ends.
const POLL_INTERVAL: Duration = Duration::from_millis(200);
/// Bytes of a page of memory, as `/proc/self/statm` counts.
const PAGE_BYTES: f64 = 4096.0;

/// What was measured.
#[derive(Debug, Serialize)]
pub(super) struct Figures {
    section: &'static str,
    agents: u32,
    seconds: f64,
    idle_mb: f64,
    running_mb: f64,
    kb_per_agent: f64,
}

/// Runs as many agents at once as jobs were asked for, and reads the memory of this process while they run.
pub(super) async fn measure(measurement: &mut Measurement, jobs: u32) -> Result<Figures, Failure> {
    let reply = json!({"text": "done", "delay_ms": MODEL_DELAY_MS});
    let runner = agents(measurement, &reply).await?;
    measurement.dispatch(jobs as usize).await?;
    let began = Instant::now();
    let worker = MeasuredWorker::start(measurement, runner, jobs)?;
    let idle = resident_bytes();
    let mut running: f64 = 0.0;
    while measurement.unfinished().await? == u64::from(jobs) {
        running = running.max(resident_bytes());
        tokio::time::sleep(POLL_INTERVAL).await;
    }
    worker.drain(measurement).await?;
    worker.end().await;
    Ok(Figures {
        section: "running",
        agents: jobs,
        seconds: began.elapsed().as_secs_f64(),
        idle_mb: idle / 1e6,
        running_mb: running / 1e6,
        kb_per_agent: (running - idle) / 1e3 / f64::from(jobs),
    })
}

/// Memory of this process that is resident; 0 where the system does not report it.
fn resident_bytes() -> f64 {
    let statm = fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: f64 = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok()).unwrap_or(0.0);
    pages * PAGE_BYTES
}

impl Row for Figures {
    fn text(&self) -> String {
        format!(
            "running                  {} agents at once on one worker, in {:.1} s\n\
             memory                   {:.0} MB, {:.0} MB before them: {:.1} kB an agent\n",
            self.agents, self.seconds, self.running_mb, self.idle_mb, self.kb_per_agent,
        )
    }
}
