//! `legwork bench`: how fast this Redis and this build are, in sections that can be run alone.

mod agents;
mod cancel;
mod followers;
mod growth;
mod no_op;
mod running;
mod streaming;

use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use legwork_common::error::ExitStatus;
use legwork_common::id::WorkerId;
use legwork_process::tasks::TaskKind;
use legwork_process::tasks::Tasks;
use legwork_queue::ConnectionKind;
use legwork_queue::operator::bench::Measurement;
use legwork_worker::ShutdownTokens;
use legwork_worker::Worker;
use legwork_worker::WorkerHealth;
use legwork_worker::WorkerSettings;
use legwork_worker::guard::Guard;
use legwork_worker::runner::Runner;
use serde::Serialize;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::cli::BenchArgs;
use crate::cli::BenchSection;
use crate::context::Context;
use crate::failure::Failure;

/// How often the drain is polled: below one percent of the shortest drain worth measuring, and far too rarely to load
/// the server that is measured.
const DRAIN_POLL_INTERVAL: Duration = Duration::from_millis(5);
/// How long the idle worker may take to shut down; it has no job left.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(5);

/// The figures of a section as text; its JSON is that of the type.
trait Row: Serialize {
    /// Lines for people.
    fn text(&self) -> String;
}

/// Measures each section in a namespace of its own, and prints its figures.
pub(super) async fn bench(context: Context, args: BenchArgs) -> Result<ExitStatus, Failure> {
    let connection = context.connect(ConnectionKind::Dedicated).await?;
    let settings = context.common.wanted_settings();
    let jobs = args.jobs.max(1);
    for section in args.sections {
        let mut measurement = Measurement::begin(connection.backend.target(), &settings).await?;
        let printed = match section {
            BenchSection::NoOp => print(&context, no_op::measure(&measurement, jobs).await),
            BenchSection::Agents => print(&context, agents::measure(&mut measurement, jobs).await),
            BenchSection::Streaming => print(&context, streaming::measure(&mut measurement, jobs).await),
            BenchSection::Followers => {
                let target = connection.backend.target();
                print(&context, followers::measure(&measurement, target, jobs).await)
            }
            BenchSection::Running => print(&context, running::measure(&mut measurement, jobs).await),
            BenchSection::Cancel => print(&context, cancel::measure(&measurement, jobs).await),
            BenchSection::Growth => print(&context, growth::measure(&measurement, jobs).await),
        };
        measurement.end().await?;
        printed?;
    }
    connection.leave().await?;
    Ok(ExitStatus::Success)
}

fn print(context: &Context, figures: Result<impl Row, Failure>) -> Result<(), Failure> {
    let figures = figures?;
    if context.output.json {
        context.output.object(&figures)?;
    } else {
        context.output.text(&figures.text())?;
    }
    Ok(())
}

/// The worker that is measured, in this process.
struct MeasuredWorker {
    tasks: Tasks,
    drain: CancellationToken,
    serving: JoinHandle<()>,
}

impl MeasuredWorker {
    /// Starts it.
    fn start(measurement: &Measurement, runner: Arc<dyn Runner>, slots: u32) -> Result<Self, Failure> {
        let tasks = Tasks::new();
        let settings = WorkerSettings {
            policy: Arc::default(),
            stall_after: Duration::MAX,
            id: WorkerId::random_on("bench"),
            host: "bench".to_owned(),
            lanes: vec![measurement.lane()],
            slots,
            drain_timeout: SHUTDOWN_TIMEOUT,
            until_idle: false,
            guard: Guard::default(),
            admission: None,
            memory_limit: None,
            webhooks: None,
        };
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
        Ok(Self { tasks, drain, serving })
    }

    /// Waits until all jobs have ended; how long that took.
    async fn drain(&self, measurement: &Measurement) -> Result<Duration, Failure> {
        let draining = Instant::now();
        while measurement.unfinished().await? > 0 {
            tokio::time::sleep(DRAIN_POLL_INTERVAL).await;
        }
        Ok(draining.elapsed())
    }

    /// Ends it; it has no job left.
    async fn end(self) {
        self.drain.cancel();
        self.serving.await.ok();
        self.tasks.close_and_wait(SHUTDOWN_TIMEOUT).await;
    }
}

/// The value below which this share of sorted values is.
fn percentile(sorted: &[Duration], share: f64) -> Duration {
    let at = ((sorted.len().saturating_sub(1)) as f64 * share) as usize;
    sorted.get(at).copied().unwrap_or_default()
}
