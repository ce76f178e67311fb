//! Jobs of a real agent with a scripted model, one turn each: what a job costs, and the memory that it takes in Redis.

use std::env;
use std::sync::Arc;
use std::time::Instant;

use legwork_agent::environment::Inherited;
use legwork_agent::model::scripted::ScriptedModels;
use legwork_common::job::TeamDigest;
use legwork_common::policy::Policy;
use legwork_common::team;
use legwork_queue::operator::bench::Measurement;
use legwork_worker::guard::Guard;
use legwork_worker::guard::Restrictions;
use legwork_worker::permits::Permits;
use legwork_worker::rate_limit::RateLimitedModels;
use legwork_worker::runner::AgentRunner;
use legwork_worker::runner::AgentVariables;
use legwork_worker::runner::Runner;
use legwork_worker::runner::WorkDir;
use serde::Serialize;
use serde_json::json;

use super::MeasuredWorker;
use super::Row;
use crate::failure::Failure;

/// Slots of the measured worker, as many as a worker has by default.
const SLOTS: u32 = 100;
/// The agent of all jobs.
const AGENT: &str = "bench";
/// Its file.
const TEAM: &[u8] = b"agents: {bench: {model: scripted/any, instruction: Answer.}}\n";

/// What was measured.
#[derive(Debug, Serialize)]
pub(super) struct Figures {
    section: &'static str,
    jobs: u32,
    drain_per_second: f64,
    drain_commands_per_job: f64,
    drain_cpu_us_per_job: f64,
    queued_bytes_per_job: f64,
    ended_bytes_per_job: f64,
    bare_stream_cpu_us_per_job: f64,
}

/// Dispatches and drains `jobs` jobs of one short reply.
pub(super) async fn measure(measurement: &mut Measurement, jobs: u32) -> Result<Figures, Failure> {
    let runner = agents(measurement, &json!({"text": "Done: {{task}}"})).await?;
    let each = f64::from(jobs);
    let empty = measurement.used_memory().await?;
    measurement.dispatch(jobs as usize).await?;
    let queued = measurement.used_memory().await? - empty;
    let before = measurement.server_cost().await?;
    let worker = MeasuredWorker::start(measurement, runner, SLOTS)?;
    let began = Instant::now();
    worker.drain(measurement).await?;
    let drain = began.elapsed();
    let cost = measurement.server_cost().await?.since(before);
    worker.end().await;
    let ended = measurement.used_memory().await? - empty;
    let bare = measurement.bare_stream(jobs).await?;
    Ok(Figures {
        section: "agents",
        jobs,
        drain_per_second: each / drain.as_secs_f64(),
        drain_commands_per_job: cost.commands / each,
        drain_cpu_us_per_job: cost.cpu_seconds * 1e6 / each,
        queued_bytes_per_job: queued / each,
        ended_bytes_per_job: ended / each,
        bare_stream_cpu_us_per_job: bare.cpu_seconds * 1e6 / each,
    })
}

/// A runner of agents that give this reply to each job, and the team that the measurement dispatches from now on.
pub(super) async fn agents(
    measurement: &mut Measurement,
    reply: &serde_json::Value,
) -> Result<Arc<dyn Runner>, Failure> {
    let invalid = |error: String| Failure::usage(error);
    let team = team::parse("bench.yaml", TEAM).map_err(|errors| invalid(errors.to_string()))?.team;
    let digest = team.sha256().map_err(|error| invalid(error.to_string()))?;
    let json = team.to_json().map_err(|error| invalid(error.to_string()))?;
    measurement.use_team(TeamDigest(digest), &json, AGENT).await?;
    let script = json!({"agents": {AGENT: [reply]}}).to_string();
    let models = ScriptedModels::parse(script.as_bytes()).map_err(|error| invalid(error.to_string()))?;
    let permits = Arc::new(measurement.queue().clone());
    Ok(Arc::new(AgentRunner {
        models: Arc::new(RateLimitedModels::new(Arc::new(models), permits, Arc::new(Policy::default()))),
        variables: AgentVariables::default(),
        inherited: Inherited::default(),
        permits: Permits::default(),
        restrictions: Restrictions::default(),
        control_groups: None,
        work_dir: WorkDir::Shared(env::temp_dir()),
        needs_keys: false,
        guard: Guard::default(),
    }))
}

impl Row for Figures {
    fn text(&self) -> String {
        format!(
            "agents                   {}, one scripted turn each\n\
             drain                    {:.0} jobs/s, one worker\n\
             commands per job         {:.1}, without dispatch\n\
             Redis CPU per job        {:.1} µs, without dispatch (bare stream {:.1} µs)\n\
             Redis memory per job     {:.0} bytes queued, {:.0} ended\n",
            self.jobs,
            self.drain_per_second,
            self.drain_commands_per_job,
            self.drain_cpu_us_per_job,
            self.bare_stream_cpu_us_per_job,
            self.queued_bytes_per_job,
            self.ended_bytes_per_job,
        )
    }
}
