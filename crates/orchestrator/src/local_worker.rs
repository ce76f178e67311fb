//! Workers of the embedded server: inside `run` for its own session, or detached, as a program of its own that outlives
//! this one.

mod launch;
pub mod replacement;

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use legwork_agent::environment::Inherited;
use legwork_agent::model::ModelPort;
use legwork_common::id::SessionId;
use legwork_common::id::WorkerId;
use legwork_common::policy::Policy;
use legwork_common::variables;
use legwork_process::tasks::TaskKind;
use legwork_process::tasks::Tasks;
use legwork_queue::Operator;
use legwork_queue::Queue;
use legwork_queue::QueueError;
use legwork_queue::Service;
use legwork_queue::operator::Lane;
use legwork_queue::operator::WorkerRecord;
use legwork_worker::ShutdownTokens;
use legwork_worker::Worker;
use legwork_worker::WorkerHealth;
use legwork_worker::WorkerSettings;
use legwork_worker::backend::embedded_config;
use legwork_worker::guard::Guard;
use legwork_worker::guard::Restrictions;
use legwork_worker::host::host_name;
use legwork_worker::host::is_running;
use legwork_worker::host::worker_program;
use legwork_worker::permits::Permits;
use legwork_worker::runner::AgentRunner;
use legwork_worker::runner::WorkDir;
use legwork_worker::webhooks::Webhooks;
use process_wrap::tokio::ChildWrapper;
use process_wrap::tokio::CommandWrap;
use process_wrap::tokio::ProcessSession;
use tokio_util::sync::CancellationToken;

use self::launch::Launch;
use crate::context::Connection;
use crate::context::Context;
use crate::failure::Failure;
use crate::outage::Outage;
use crate::suggest;

/// Jobs that a local worker runs at once: the default of `legwork-worker --concurrency`, so that a session runs alike
/// in `run` and detached.
const SLOTS: u32 = 100;
/// Grace period for running jobs when a local worker drains. Short, because someone is waiting at the terminal.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);
/// Polling interval for new jobs of a detached session.
const DETACHED_POLL_INTERVAL: Duration = Duration::from_millis(200);
/// Polling interval for a detached worker that is starting.
const STARTUP_POLL_INTERVAL: Duration = Duration::from_millis(50);
/// Polls until a detached worker counts as failed to start: ten seconds, enough for a loaded machine.
const MAX_STARTUP_POLLS: u32 = 200;

/// What a local worker runs its jobs with.
#[derive(Debug)]
pub struct LocalWorkerConfig {
    /// The models of its agents.
    pub models: Arc<dyn ModelPort>,
    /// The environment of its agents.
    pub variables: BTreeMap<String, String>,
    /// Which of it their commands get without asking.
    pub inherited: Inherited,
    /// Whether the models need their providers' keys; a script's do not.
    pub needs_keys: bool,
    /// The fleet's policy, applied to the jobs that its jobs dispatch.
    pub policy: Arc<Policy>,
    /// Time without activity after which a running job counts as stalled.
    pub stall_after: Duration,
    /// The guard process that ends the jobs' commands if this program is killed.
    pub guard: Guard,
}

/// A worker inside this process, for the jobs of one session.
#[derive(Debug)]
pub struct LocalWorker {
    drain: CancellationToken,
    hand_over: CancellationToken,
    serving: tokio::task::JoinHandle<()>,
}

impl LocalWorker {
    /// Starts the worker. Cancelling `now` ends it at once, without draining.
    ///
    /// # Errors
    ///
    /// [`Failure`] when its connections cannot be prepared, or a secret of webhooks cannot be used.
    pub fn start(
        tasks: &Tasks,
        queue: &Queue,
        session: SessionId,
        config: LocalWorkerConfig,
        now: CancellationToken,
    ) -> Result<Self, Failure> {
        let name = host_name(&config.variables);
        let settings = WorkerSettings {
            id: WorkerId::random_on(&name),
            host: name,
            lanes: vec![Lane::Session(session)],
            slots: SLOTS,
            drain_timeout: DRAIN_TIMEOUT,
            until_idle: false,
            policy: config.policy,
            stall_after: config.stall_after,
            guard: config.guard.clone(),
            admission: None,
            memory_limit: None,
            webhooks: Webhooks::find(&config.variables)?,
        };
        let runner = AgentRunner {
            models: config.models,
            variables: config.variables.into(),
            inherited: config.inherited,
            permits: Permits::default(),
            restrictions: Restrictions::default(),
            control_groups: None,
            work_dir: WorkDir::Dispatchers,
            needs_keys: config.needs_keys,
            guard: config.guard,
        };
        let worker = Worker::new(settings, queue.clone(), Arc::new(runner), WorkerHealth::default())?;
        let drain = CancellationToken::new();
        let hand_over = CancellationToken::new();
        let shutdown = ShutdownTokens { drain: drain.clone(), now, hand_over: hand_over.clone() };
        let list = tasks.clone();
        let serving =
            tasks.spawn(TaskKind::LocalWorker, async move { Box::pin(worker.serve(&list, shutdown)).await });
        Ok(Self { drain, hand_over, serving })
    }

    /// Drains the worker, whose jobs have ended already, and waits until it has ended.
    pub async fn end(self) {
        self.drain.cancel();
        self.serving.await.ok();
    }

    /// Releases all jobs to the queue without a grace period, and waits until the worker has ended.
    pub async fn hand_over(self) {
        self.hand_over.cancel();
        self.drain.cancel();
        self.serving.await.ok();
    }
}

/// The detached worker of a session whose jobs outlive this program (`run --detach`).
#[derive(Debug)]
pub struct DetachedWorker {
    /// The command's context, for the options that the worker program inherits.
    pub context: Context,
    /// The handle on the namespace that the worker program registers in.
    pub operator: Operator,
    /// The session to serve.
    pub session: SessionId,
    /// The script of model replies; `None` for real providers.
    pub script: Option<PathBuf>,
}

impl DetachedWorker {
    /// Polls the root's jobs until `over` and starts a worker whenever there are live ones and none serves: for the
    /// first job, and after a worker was killed. Errors are logged and retried at the next poll.
    pub async fn serve_until(self, over: CancellationToken, root: Arc<Service>) {
        while over.run_until_cancelled(tokio::time::sleep(DETACHED_POLL_INTERVAL)).await.is_some() {
            let served = match root.is_settled().await {
                Ok(true) => Ok(()),
                Ok(false) => {
                    serve_in_background(&self.context, &self.operator, self.session, self.script.as_deref())
                        .await
                }
                Err(error) => Err(error.into()),
            };
            if let Err(failure) = served {
                tracing::error!(session = %self.session, "{}", failure.message);
            }
        }
    }
}

/// Starts a detached worker for a session of the embedded server, in this working directory and environment, unless
/// one serves it already.
///
/// Returns once the worker is registered in Redis: until then, a command that finds the server unused would start another
/// one. A worker that has already exited successfully also counts, because a short job may end before the first poll.
///
/// # Errors
///
/// [`Failure`] when the program cannot be started, fails, or does not register within ten seconds; its hint names the
/// log.
pub async fn serve_in_background(
    context: &Context,
    operator: &Operator,
    session: SessionId,
    script: Option<&Path>,
) -> Result<(), Failure> {
    serve_as(context, operator, session, &Launch::of(context, script)).await
}

/// The same, for a worker with these options.
async fn serve_as(
    context: &Context,
    operator: &Operator,
    session: SessionId,
    launch: &Launch,
) -> Result<(), Failure> {
    if is_served(operator, session).await? {
        return Ok(());
    }
    let config = embedded_config(&context.common, &context.variables);
    let log = config.state_dir.join("workers.log");
    if let Err(error) = launch.write(&config.state_dir, session) {
        tracing::warn!(%session, %error, "a worker that replaces this one gets the options of its command");
    }
    let mut worker = start_worker(context, session, launch, &config.state_dir, &log)?;
    for _ in 0..MAX_STARTUP_POLLS {
        match worker.try_wait() {
            Ok(Some(status)) if status.success() => return Ok(()),
            Ok(Some(_)) => break,
            Ok(None) | Err(_) => {}
        }
        if is_served(operator, session).await? {
            return Ok(());
        }
        tokio::time::sleep(STARTUP_POLL_INTERVAL).await;
    }
    Err(Failure::usage("the background worker did not start")
        .with_hint(format!("its log is {}", log.display())))
}

/// Whether a live process serves a session of the embedded server. The heartbeat of a worker that was killed is kept for a
/// while, so its process is checked too: it is on this machine.
///
/// # Errors
///
/// [`QueueError`] when Redis cannot be reached.
pub async fn is_served(operator: &Operator, session: SessionId) -> Result<bool, QueueError> {
    let workers = operator.workers_of(&Lane::Session(session)).await?;
    Ok(workers.iter().any(is_serving))
}

/// Whether a worker of this machine takes jobs: it does not drain, and its process lives.
fn is_serving(worker: &WorkerRecord) -> bool {
    !worker.draining && worker.process.is_none_or(is_running)
}

/// Spawns `legwork-worker` for one session. It exits when the session is idle, and appends its output to `log`.
fn start_worker(
    context: &Context,
    session: SessionId,
    launch: &Launch,
    state_dir: &Path,
    log: &Path,
) -> Result<Box<dyn ChildWrapper>, Failure> {
    let no_link = rustix::fs::OFlags::NOFOLLOW.bits().cast_signed();
    let open = || OpenOptions::new().create(true).append(true).custom_flags(no_link).open(log);
    let (out, err) = open()
        .and_then(|file| Ok((file.try_clone()?, file)))
        .map_err(|error| Failure::usage(format!("cannot write {}: {error}", log.display())))?;
    let program = worker_program(std::env::current_exe().ok());
    let mut command = tokio::process::Command::new(&program);
    command.args([
        "--session",
        &session.to_string(),
        "--until-idle",
        "--namespace",
        &context.common.namespace,
    ]);
    command.arg("--state-dir").arg(state_dir);
    if let Some(script) = &launch.script {
        command.arg("--script").arg(script);
    }
    if let Some(policy) = &launch.policy {
        command.arg("--policy").arg(policy);
    }
    for limit in &launch.limits {
        command.arg("--rate-limit").arg(limit);
    }
    if launch.inherit_environment {
        command.arg("--inherit-environment");
    }
    if let Some(level) = &context.common.log {
        command.args(["--log", level]);
    }
    command.arg("--stall-after").arg(format!("{}ms", launch.stall_after));
    // Ours is no longer in this process.
    command.env_clear().envs(&context.variables);
    // It runs what this user dispatches here. A trust file is for workers of a fleet.
    command.env_remove(variables::TRUST).env_remove(variables::SIGNING_KEY);
    command.stdin(Stdio::null()).stdout(Stdio::from(out)).stderr(Stdio::from(err));
    let mut command = CommandWrap::from(command);
    // A process session of its own: Ctrl-C and the terminal's hangup do not reach it.
    command.wrap(ProcessSession);
    command.spawn().map_err(|error| {
        Failure::usage(format!("cannot start {}: {error}", program.display()))
            .with_hint("install legwork-worker next to legwork, or on the PATH")
    })
}

/// Prints a hint for each of these queues that is paused; its jobs wait until the pause ends.
///
/// # Errors
///
/// [`Failure`] when Redis cannot be asked.
pub async fn hint_paused(
    context: &Context,
    connection: &Connection,
    queues: &[String],
) -> Result<(), Failure> {
    let paused = Outage::of(context, connection).ask(|| connection.operator.paused()).await?;
    let wanted: BTreeSet<&String> = queues.iter().filter(|queue| paused.contains_key(*queue)).collect();
    for queue in wanted {
        let command = suggest::command(context, "legwork", &format!("unpause {queue}"));
        context.output.note(&format!("hint: queue {queue} is paused; to end the pause: {command}"));
    }
    Ok(())
}

/// Prints a hint for each of these queues that is paused or that no worker serves; their jobs wait.
///
/// # Errors
///
/// [`Failure`] when Redis cannot be asked.
pub async fn hint_unserved(
    context: &Context,
    connection: &Connection,
    queues: &[String],
) -> Result<(), Failure> {
    hint_paused(context, connection, queues).await?;
    let outage = Outage::of(context, connection);
    for queue in outage.ask(|| connection.operator.unserved(queues)).await? {
        context.output.note(&format!(
            "hint: no worker serves queue {queue}; start one with {}",
            worker_for(context, &queue)
        ));
    }
    Ok(())
}

/// The command that starts a worker for a queue of this namespace.
fn worker_for(context: &Context, queue: &str) -> String {
    suggest::quoted_command(context, "legwork-worker", &format!("--queues {queue}"))
}
