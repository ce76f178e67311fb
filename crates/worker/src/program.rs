//! The story of `legwork-worker`: find the queue, answer health, serve, drain, leave.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use legwork_agent::Environment;
use legwork_common::error::Coded;
use legwork_common::error::ExitStatus;
use legwork_common::error::chain;
use legwork_common::id::WorkerId;
use legwork_common::policy::Policy;
use legwork_common::variables;
use legwork_process::health::Gauges;
use legwork_process::health::HealthListener;
use legwork_process::health::Readiness;
use legwork_process::shutdown::Shutdown;
use legwork_process::tasks::TaskKind;
use legwork_process::tasks::Tasks;
use legwork_queue::ConnectionKind;
use legwork_queue::Queue;
use legwork_queue::QueueError;
use legwork_queue::port::Lane;
use legwork_queue::port::Watch as _;
use thiserror::Error;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::backend;
use crate::backend::Arrival;
use crate::backend::Backend;
use crate::driver::ShutdownTokens;
use crate::driver::Vitals;
use crate::driver::Worker;
use crate::driver::WorkerSettings;
use crate::guard::Guard;
use crate::options::CommonOptions;
use crate::options::WorkerOptions;
use crate::rate_limit::RateLimitedModels;
use crate::renewal::Load;
use crate::runner::AgentRunner;
use crate::runner::Runner;
use crate::runner::WorkDir;
use crate::server_watch::end_without_server;

/// How long the tasks beside the loop may take to end.
const LAST_GRACE: Duration = Duration::from_secs(5);
/// The same after a second signal: long enough to end the commands of jobs.
const HASTY_GRACE: Duration = Duration::from_secs(1);

/// How long a worker waits at its start for a Redis that cannot be reached.
const START_PATIENCE: Duration = Duration::from_secs(30);
/// How long it leaves it alone between two tries.
const START_PAUSE: Duration = Duration::from_secs(1);

/// The one `maxmemory-policy` that loses nothing.
const NO_EVICTION: &str = "noeviction";

/// Why the program could not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// The system refused something that every program needs.
    #[error("the system refuses: {0}")]
    System(#[from] io::Error),
    /// There is no folder to work in.
    #[error("on a fleet a worker needs a folder for its jobs")]
    NoWorkDir,
}

impl Coded for StartError {
    fn code(&self) -> &'static str {
        match self {
            Self::System(_) => "system",
            Self::NoWorkDir => "no_work_dir",
        }
    }

    fn exit(&self) -> ExitStatus {
        ExitStatus::Usage
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::System(_) => None,
            Self::NoWorkDir => Some("give it one with --work-dir (LEGWORK_WORK_DIR)".to_owned()),
        }
    }
}

/// An error of any kind as one that the edge can print.
pub fn boxed(error: impl Coded) -> Box<dyn Coded> {
    Box::new(error)
}

/// Serves until a signal says otherwise, or until there is nothing to do where that was asked for.
///
/// # Errors
///
/// What kept it from starting. Once it serves, trouble is logged and tried again.
pub async fn serve(
    options: WorkerOptions,
    variables: BTreeMap<String, String>,
) -> Result<(), Box<dyn Coded>> {
    let tasks = Tasks::new();
    let shutdown = Shutdown::listen(&tasks).map_err(|error| boxed(StartError::from(error)))?;
    let gauges = Gauges::default();
    let vitals = Vitals { readiness: Readiness::default(), load: Load::shown_in(&gauges) };
    if let Some(address) = options.health {
        let listener = HealthListener::bind(address).await.map_err(boxed)?;
        listener.serve(&tasks, vitals.readiness.clone(), gauges);
    }

    let Some((backend, queue)) = arrive(&options, &variables, &shutdown.drain).await? else { return Ok(()) };
    let policy = options.common.policy().map_err(boxed)?;
    let guard = backend.guard(&tasks).map_err(boxed)?;
    let settings = settings(&options, &variables, Arc::clone(&policy), guard.clone());
    let runner = runner(&options, variables, &backend, (&queue, policy), guard)?;
    if backend.is_embedded() {
        let ends = [shutdown.drain.clone(), shutdown.now.clone()];
        tasks.spawn(TaskKind::Upkeep, end_without_server(queue.clone(), ends));
    }
    loop {
        let runner = Arc::clone(&runner);
        let worker = Worker::new(settings.clone(), queue.clone(), runner, vitals.clone()).map_err(boxed)?;
        worker.serve(&tasks, ending(&shutdown)).await;
        // Said goodbye, it looks once more: whoever dispatched meanwhile and still saw it relies on it.
        if shutdown.drain.is_cancelled() || is_idle(&queue, &settings.lanes).await {
            break;
        }
    }

    let grace = if shutdown.now.is_cancelled() { HASTY_GRACE } else { LAST_GRACE };
    let left = tasks.close_and_wait(grace).await;
    if !left.is_empty() {
        tracing::warn!(?left, "tasks did not end in time");
    }
    depart(backend, &queue).await
}

/// Finds the queue and, on an embedded server that nobody else uses, sweeps up after the dead.
async fn arrive(
    options: &WorkerOptions,
    variables: &BTreeMap<String, String>,
    drain: &CancellationToken,
) -> Result<Option<(Backend, Queue)>, Box<dyn Coded>> {
    let mut backend = Backend::find(&options.common, variables).await.map_err(boxed)?;
    if let Some(notice) = backend.notice() {
        tracing::info!("{notice}");
    }
    let Some(queue) = connect(&backend, &options.common, drain).await.map_err(boxed)? else {
        return Ok(None);
    };
    backend.sweep_up(&queue, Arrival::SessionsWorker).await.map_err(boxed)?;
    warn_of_eviction(&queue).await;
    Ok(Some((backend, queue)))
}

/// Connects to the queue. A Redis that is away when a fleet starts is waited for a while; `None` where `drain` came
/// first.
async fn connect(
    backend: &Backend,
    common: &CommonOptions,
    drain: &CancellationToken,
) -> Result<Option<Queue>, QueueError> {
    let wanted = common.wanted_settings();
    let patience = Instant::now() + START_PATIENCE;
    loop {
        let error =
            match Queue::connect(backend.target(), &common.namespace, &wanted, ConnectionKind::Dedicated)
                .await
            {
                Err(error) if error.is_transient() && Instant::now() < patience => error,
                settled => return settled.map(Some),
            };
        tracing::warn!(error = %chain(&error), "cannot reach the queue yet, trying again");
        if drain.run_until_cancelled(tokio::time::sleep(START_PAUSE)).await.is_none() {
            return Ok(None);
        }
    }
}

/// Says so where the server may drop what is stored. A server that does not say is not asked again.
async fn warn_of_eviction(queue: &Queue) {
    match queue.eviction_policy().await {
        Ok(Some(policy)) if policy != NO_EVICTION => {
            tracing::warn!(
                "Redis' maxmemory-policy is {policy}: when its memory is full it drops jobs; set it to {NO_EVICTION}"
            );
        }
        Ok(_) => {}
        Err(error) => tracing::debug!(%error, "could not ask for the maxmemory-policy"),
    }
}

/// What runs the jobs.
fn runner(
    options: &WorkerOptions,
    variables: BTreeMap<String, String>,
    backend: &Backend,
    (queue, policy): (&Queue, Arc<Policy>),
    guard: Guard,
) -> Result<Arc<dyn Runner>, Box<dyn Coded>> {
    let work_dir = work_dir(options, backend).map_err(boxed)?;
    let here = std::env::current_dir().map_err(|error| boxed(StartError::from(error)))?;
    let environment = Environment::new(variables.clone(), here);
    let models = backend::models(options.script.as_deref(), &environment).map_err(boxed)?;
    let models = Arc::new(RateLimitedModels::new(models, Arc::new(queue.clone()), policy));
    Ok(Arc::new(AgentRunner { models, variables, work_dir, needs_keys: options.script.is_none(), guard }))
}

/// Leaves the queue's backend. A Redis that does not answer keeps nobody.
async fn depart(backend: Backend, queue: &Queue) -> Result<(), Box<dyn Coded>> {
    if let Ok(left) = tokio::time::timeout(LAST_GRACE, backend.leave(queue)).await {
        return left.map_err(boxed);
    }
    tracing::warn!("could not ask Redis whether anything is left; leaving all the same");
    Ok(())
}

/// Whether there is nothing to do; so it seems, too, where Redis does not say in time.
async fn is_idle(queue: &Queue, lanes: &[Lane]) -> bool {
    tokio::time::timeout(LAST_GRACE, queue.is_idle(lanes)).await.is_ok_and(|idle| idle.unwrap_or(true))
}

/// The signals as the worker takes them.
fn ending(shutdown: &Shutdown) -> ShutdownTokens {
    ShutdownTokens {
        drain: shutdown.drain.clone(),
        now: shutdown.now.clone(),
        hand_over: CancellationToken::new(),
    }
}

fn settings(
    options: &WorkerOptions,
    variables: &BTreeMap<String, String>,
    policy: Arc<Policy>,
    guard: Guard,
) -> WorkerSettings {
    let host = host_name(variables);
    let lanes = match options.session {
        Some(session) => vec![Lane::Session(session)],
        None => options.queues.iter().cloned().map(Lane::Queue).collect(),
    };
    WorkerSettings {
        id: WorkerId::random_on(&host),
        host,
        lanes,
        slots: options.concurrency,
        drain_timeout: options.drain_timeout,
        until_idle: options.until_idle,
        policy,
        stall_after: options.common.stall_after,
        guard,
    }
}

/// Where jobs run: on the embedded server in their dispatcher's folder, on a fleet below the work dir.
fn work_dir(options: &WorkerOptions, backend: &Backend) -> Result<WorkDir, StartError> {
    match (&options.work_dir, options.shared_work_dir) {
        (Some(folder), true) => Ok(WorkDir::Shared(folder.clone())),
        (Some(folder), false) => Ok(WorkDir::Own(folder.clone())),
        (None, _) if backend.is_embedded() => Ok(WorkDir::Dispatchers),
        (None, _) => Err(StartError::NoWorkDir),
    }
}

/// The machine's name: as the shell says, as the kernel says, or a plain word.
pub fn host_name(variables: &BTreeMap<String, String>) -> String {
    let kernel = || rustix::system::uname().nodename().to_str().ok().map(str::to_owned);
    variables
        .get(variables::HOSTNAME)
        .cloned()
        .or_else(kernel)
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| "worker".to_owned())
}

/// The program that serves a session on its own: beside `program`, or on the search path.
pub fn worker_program(program: Option<PathBuf>) -> PathBuf {
    let name = "legwork-worker";
    let beside = program.and_then(|program| Some(program.parent()?.join(name)));
    beside.filter(|path| path.is_file()).unwrap_or_else(|| PathBuf::from(name))
}
