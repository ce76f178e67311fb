//! The story of `legwork-worker`: answer health, open the queue, serve, drain, leave.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use legwork_common::error::Coded;
use legwork_process::health::HealthListener;
use legwork_process::health::Metrics;
use legwork_process::health::Readiness;
use legwork_process::service_manager::ServiceManager;
use legwork_process::shutdown::Shutdown;
use legwork_process::spans::SpanExport;
use legwork_process::tasks::TaskKind;
use legwork_process::tasks::Tasks;
use legwork_queue::Queue;
use legwork_queue::port::Lane;
use legwork_queue::port::Watch as _;
use tokio_util::sync::CancellationToken;

use crate::backend::Backend;
use crate::command_user;
use crate::driver::ShutdownTokens;
use crate::guard::ControlGroups;
use crate::job_folders::sweep_forever;
use crate::metered::ModelMetrics;
use crate::options::WorkerOptions;
use crate::renewal::Load;
use crate::runner::WorkDir;
use crate::server_watch::shut_down_without_server;
use crate::startup;
use crate::startup::StartError;
use crate::startup::boxed;
use crate::work_dir;
use crate::worker::Worker;
use crate::worker::WorkerHealth;

/// How long the remaining tasks may take to end, and each last call to Redis: a call is bounded by 3 s itself, so one
/// that is repeated once still fits.
const EXIT_GRACE_PERIOD: Duration = Duration::from_secs(5);
/// The grace period after a second signal: time for the commands of jobs to end after SIGTERM. The guard kills those
/// that are left.
const URGENT_GRACE_PERIOD: Duration = Duration::from_secs(1);

/// Serves until a signal ends it, or until its queues are idle with `--until-idle`.
///
/// # Errors
///
/// What kept it from starting, or from leaving the embedded server. While it serves, errors are logged and retried.
pub async fn serve(
    options: WorkerOptions,
    variables: BTreeMap<String, String>,
    spans: Option<SpanExport>,
) -> Result<(), Box<dyn Coded>> {
    let tasks = Tasks::new();
    if let Some(spans) = spans {
        spans.start(&tasks);
    }
    let shutdown = Shutdown::listen(&tasks).map_err(|error| boxed(StartError::from(error)))?;
    let health = answer_health(&options, &tasks).await?;
    let manager = ServiceManager::find(&variables).map_err(|error| boxed(StartError::from(error)))?;
    // Before the first connection: an unusable folder is not worth waiting for Redis.
    let work_dir = work_dir::select(&options, &variables).map_err(boxed)?;
    let (work_dir, user) = command_user::prepare(&options, work_dir).map_err(boxed)?;
    // Before the guard, which must not be left in a control group that this process leaves.
    let control_groups = ControlGroups::open(options.command_limits()).await.map_err(boxed)?;
    let admission = startup::admission(&options, &variables)?;

    let opened = startup::open_queue(&options, &variables, &shutdown.drain).await?;
    let Some((backend, queue)) = opened else { return Ok(()) };
    let policy = options.common.policy().map_err(boxed)?;
    let guard = backend.guard(&tasks).map_err(boxed)?;
    let settings = startup::settings(&options, &variables, Arc::clone(&policy), guard.clone(), admission)
        .map_err(boxed)?;
    sweep_job_folders(&options, &tasks, &queue, &work_dir);
    let metrics = (&health.models, &tasks);
    let places = (work_dir, user, control_groups);
    let runner = startup::runner(&options, variables, (&queue, policy), places, guard, metrics)?;
    if let Some(server) = backend.embedded_server() {
        let tokens = [shutdown.drain.clone(), shutdown.now.clone()];
        tasks.spawn(TaskKind::Upkeep, shut_down_without_server(queue.clone(), server, tokens));
    }

    manager.ready(&tasks, shutdown.drain.clone());
    loop {
        let runner = Arc::clone(&runner);
        let worker = Worker::new(settings.clone(), queue.clone(), runner, health.clone()).map_err(boxed)?;
        worker.serve(&tasks, shutdown_tokens(&shutdown)).await;
        // Checked once more after the worker has removed its record: a process that dispatched before that saw a live
        // worker, and starts none of its own.
        if shutdown.drain.is_cancelled() || is_idle(&queue, &settings.lanes).await {
            break;
        }
    }

    let grace_period = if shutdown.now.is_cancelled() { URGENT_GRACE_PERIOD } else { EXIT_GRACE_PERIOD };
    tasks.end(grace_period).await;
    leave(backend, &queue).await
}

/// Removes the folders of ended jobs, where this fleet's workers created them.
fn sweep_job_folders(options: &WorkerOptions, tasks: &Tasks, queue: &Queue, work_dir: &WorkDir) {
    if let WorkDir::Own(folders) = work_dir {
        let keep = options.keep_job_folders.unwrap_or(queue.settings().retention);
        let closing = tasks.closing();
        let (queue, folders) = (queue.clone(), folders.clone());
        tasks.spawn(TaskKind::Upkeep, async move {
            let _closed = closing.run_until_cancelled(sweep_forever(queue, folders, keep)).await;
        });
    }
}

/// Answers `/healthz`, `/readyz` and `/metrics` where `--health` names an address, from now on: a worker that waits for
/// Redis is alive and not ready.
async fn answer_health(options: &WorkerOptions, tasks: &Tasks) -> Result<WorkerHealth, Box<dyn Coded>> {
    let metrics = Metrics::default();
    let health = WorkerHealth {
        readiness: Readiness::default(),
        load: Load::registered_in(&metrics),
        models: ModelMetrics::registered_in(&metrics),
    };
    if let Some(address) = options.health {
        let listener = HealthListener::bind(address).await.map_err(boxed)?;
        listener.serve(tasks, health.readiness.clone(), metrics);
    }
    Ok(health)
}

/// The signals as the worker takes them. Only a worker within `legwork run` hands its jobs over.
fn shutdown_tokens(shutdown: &Shutdown) -> ShutdownTokens {
    ShutdownTokens {
        drain: shutdown.drain.clone(),
        now: shutdown.now.clone(),
        hand_over: CancellationToken::new(),
    }
}

/// Whether the queues are idle. An unreachable Redis counts as idle: this worker must not stay for it.
async fn is_idle(queue: &Queue, lanes: &[Lane]) -> bool {
    let idle = tokio::time::timeout(EXIT_GRACE_PERIOD, queue.is_idle(lanes)).await;
    idle.is_ok_and(|idle| idle.unwrap_or(true))
}

/// Leaves the backend. A Redis that does not answer does not delay the exit further.
async fn leave(backend: Backend, queue: &Queue) -> Result<(), Box<dyn Coded>> {
    if let Ok(left) = tokio::time::timeout(EXIT_GRACE_PERIOD, backend.leave(queue)).await {
        return left.map_err(boxed);
    }
    tracing::warn!("could not ask Redis for unfinished jobs; the worker exits anyway");
    Ok(())
}
