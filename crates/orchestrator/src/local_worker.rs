//! Workers of the embedded server: within `run` for its own session, or in the background for a session that
//! was left behind.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::path::Path;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use legwork_agent::Environment;
use legwork_agent::model::ModelPort;
use legwork_agent::preflight::preflight;
use legwork_common::error::ExitStatus;
use legwork_common::error::chain;
use legwork_common::id::SessionId;
use legwork_common::id::WorkerId;
use legwork_common::policy::Policy;
use legwork_common::team::Agent;
use legwork_common::team::Team;
use legwork_process::tasks::TaskKind;
use legwork_process::tasks::Tasks;
use legwork_queue::Queue;
use legwork_queue::port::Lane;
use legwork_queue::port::Watch as _;
use legwork_worker::ShutdownTokens;
use legwork_worker::Vitals;
use legwork_worker::Worker;
use legwork_worker::WorkerSettings;
use legwork_worker::backend::embedded_config;
use legwork_worker::guard::Guard;
use legwork_worker::program::host_name;
use legwork_worker::program::worker_program;
use legwork_worker::runner::AgentRunner;
use legwork_worker::runner::WorkDir;
use process_wrap::tokio::ChildWrapper;
use process_wrap::tokio::CommandWrap;
use process_wrap::tokio::ProcessSession;
use tokio_util::sync::CancellationToken;

use crate::context::Connection;
use crate::context::Context;
use crate::failure::Failure;
use crate::root::RootService;

/// Jobs that a hosted worker runs at once.
const SLOTS: u32 = 100;
/// How long a hosted worker's jobs may go on when it ends.
const DRAIN: Duration = Duration::from_secs(5);
/// How often a root that shall be outlived by its jobs is looked at for new ones.
const BESIDE_EVERY: Duration = Duration::from_millis(200);
/// How often a background worker is looked for until it serves.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// How many times.
const LOOKS: u32 = 200;

/// What a hosted worker works with.
#[derive(Debug)]
pub struct Host {
    /// The models.
    pub models: Arc<dyn ModelPort>,
    /// The environment that agents get.
    pub variables: BTreeMap<String, String>,
    /// Whether the models need the keys of their providers.
    pub needs_keys: bool,
    /// What the fleet decides for jobs that jobs dispatch.
    pub policy: Arc<Policy>,
    /// How long nothing may be heard of a job before that is said.
    pub stall_after: Duration,
    /// Who ends the jobs' commands if this program cannot.
    pub guard: Guard,
}

/// A worker within this process, for one session only.
#[derive(Debug)]
pub struct HostedWorker {
    drain: CancellationToken,
    hand_over: CancellationToken,
    serving: tokio::task::JoinHandle<()>,
}

impl HostedWorker {
    /// Starts it; `now` ends it at once.
    ///
    /// # Errors
    ///
    /// [`Failure`] when its connections cannot be prepared.
    pub fn start(
        tasks: &Tasks,
        queue: &Queue,
        session: SessionId,
        host: Host,
        now: CancellationToken,
    ) -> Result<Self, Failure> {
        let name = host_name(&host.variables);
        let settings = WorkerSettings {
            id: WorkerId::random_on(&name),
            host: name,
            lanes: vec![Lane::Session(session)],
            slots: SLOTS,
            drain_timeout: DRAIN,
            until_idle: false,
            policy: host.policy,
            stall_after: host.stall_after,
            guard: host.guard.clone(),
        };
        let runner = AgentRunner {
            models: host.models,
            variables: host.variables,
            work_dir: WorkDir::Dispatchers,
            needs_keys: host.needs_keys,
            guard: host.guard,
        };
        let worker = Worker::new(settings, queue.clone(), Arc::new(runner), Vitals::default())?;
        let drain = CancellationToken::new();
        let hand_over = CancellationToken::new();
        let ending = ShutdownTokens { drain: drain.clone(), now, hand_over: hand_over.clone() };
        let list = tasks.clone();
        let serving =
            tasks.spawn(TaskKind::HostedWorker, async move { Box::pin(worker.serve(&list, ending)).await });
        Ok(Self { drain, hand_over, serving })
    }

    /// Ends it; its jobs have ended already.
    pub async fn end(self) {
        self.drain.cancel();
        self.serving.await.ok();
    }

    /// Hands all its jobs back to the queue at once, and ends it.
    pub async fn hand_over(self) {
        self.hand_over.cancel();
        self.drain.cancel();
        self.serving.await.ok();
    }
}

/// The background worker of a session whose jobs shall outlive the program of their root.
#[derive(Debug)]
pub struct DetachedWorker {
    /// What the command was given.
    pub context: Context,
    /// The queue.
    pub queue: Queue,
    /// The session.
    pub session: SessionId,
    /// The script of model replies, if any.
    pub script: Option<PathBuf>,
}

impl DetachedWorker {
    /// Sees to it that the root's jobs have a worker, until `over`. One that was killed is followed by another.
    pub async fn serve_until(self, over: CancellationToken, root: Arc<RootService>) {
        while over.run_until_cancelled(tokio::time::sleep(BESIDE_EVERY)).await.is_some() {
            let served = match root.is_settled().await {
                Ok(true) => Ok(()),
                Ok(false) => {
                    serve_in_background(&self.context, &self.queue, self.session, self.script.as_deref())
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

/// Starts a worker of its own for a session of the embedded server, in this folder and environment. Returns
/// once it serves, so that nobody takes the session for abandoned in between, or has served: a short job may
/// have ended before the first look.
///
/// # Errors
///
/// [`Failure`] when the program cannot be started, ends badly, or does not serve within ten seconds; it names
/// the log.
pub async fn serve_in_background(
    context: &Context,
    queue: &Queue,
    session: SessionId,
    script: Option<&Path>,
) -> Result<(), Failure> {
    let lane = Lane::Session(session).name();
    if is_served(queue, &lane).await? {
        return Ok(());
    }
    let config = embedded_config(&context.common, &context.variables);
    let log = config.state_dir.join("workers.log");
    let mut worker = start_worker(context, session, script, &config.state_dir, &log)?;
    for _ in 0..LOOKS {
        match worker.try_wait() {
            Ok(Some(status)) if status.success() => return Ok(()),
            Ok(Some(_)) => break,
            Ok(None) | Err(_) => {}
        }
        if is_served(queue, &lane).await? {
            return Ok(());
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    Err(Failure::usage("the background worker does not serve")
        .with_hint(format!("its log is {}", log.display())))
}

/// Starts the program that serves a session until it is idle, and writes to this log.
fn start_worker(
    context: &Context,
    session: SessionId,
    script: Option<&Path>,
    state_dir: &Path,
    log: &Path,
) -> Result<Box<dyn ChildWrapper>, Failure> {
    let open = || OpenOptions::new().create(true).append(true).open(log);
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
    if let Some(script) = script {
        command.arg("--script").arg(script);
    }
    if let Some(policy) = &context.common.policy {
        command.arg("--policy").arg(policy);
    }
    for limit in &context.common.limits {
        command.arg("--rate-limit").arg(limit);
    }
    command.arg("--stall-after").arg(format!("{}ms", context.common.stall_after.as_millis()));
    command.stdin(Stdio::null()).stdout(Stdio::from(out)).stderr(Stdio::from(err));
    let mut command = CommandWrap::from(command);
    // A session of its own: Ctrl-C and the terminal's end are not meant for it.
    command.wrap(ProcessSession);
    command.spawn().map_err(|error| {
        Failure::usage(format!("cannot start {}: {error}", program.display()))
            .with_hint("legwork-worker belongs beside legwork, or on the PATH")
    })
}

/// Says which queues no worker serves: their jobs wait.
///
/// # Errors
///
/// [`Failure`] when the queue cannot be asked.
pub async fn hint_unserved(
    context: &Context,
    connection: &Connection,
    queues: &[String],
) -> Result<(), Failure> {
    let workers = connection.queue().workers().await?;
    let mut unserved: Vec<&String> =
        queues.iter().filter(|queue| !workers.iter().any(|worker| worker.lanes.contains(queue))).collect();
    unserved.sort_unstable();
    unserved.dedup();
    for queue in unserved {
        context.output.note(&format!(
            "hint: no worker serves queue {queue}; start one with legwork-worker --queues {queue}"
        ));
    }
    Ok(())
}

async fn is_served(queue: &Queue, lane: &String) -> Result<bool, Failure> {
    let workers = queue.workers().await?;
    Ok(workers.iter().any(|worker| worker.lanes.contains(lane) && !worker.draining))
}

/// The agent of this name.
///
/// # Errors
///
/// [`Failure`] that names the agents there are.
pub fn known_agent(team: &Team, name: &str) -> Result<String, Failure> {
    if team.agent(name).is_some() {
        return Ok(name.to_owned());
    }
    let names: Vec<&str> = team.agents().iter().map(|agent| agent.name.as_str()).collect();
    Err(Failure::not_found(format!("no such agent: {name}"))
        .with_hint(format!("this file has {}", names.join(", "))))
}

/// Checks that the keys of an agent's models are set; with `below`, those of all agents that it can reach.
///
/// # Errors
///
/// [`Failure`] that names every missing variable and the agent that needs it.
pub fn check_keys(team: &Team, agent: &str, below: bool, environment: &Environment) -> Result<(), Failure> {
    let agents = if below { reachable(team, agent) } else { team.agent(agent).into_iter().collect() };
    let missing: Vec<String> = agents
        .into_iter()
        .filter_map(|agent| preflight(agent, environment).err())
        .map(|missing| chain(&missing))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(Failure {
        code: "missing_key",
        message: missing.join("; "),
        detail: None,
        hint: Some("set the variable in the environment".to_owned()),
        exit: ExitStatus::Usage,
    })
}

/// An agent and all that it can dispatch to, directly or not.
fn reachable<'team>(team: &'team Team, agent: &str) -> Vec<&'team Agent> {
    let mut seen = BTreeSet::new();
    let mut walk = vec![agent.to_owned()];
    let mut agents = Vec::new();
    while let Some(name) = walk.pop() {
        if seen.insert(name.clone())
            && let Some(agent) = team.agent(&name)
        {
            walk.extend(agent.sub_agents.iter().cloned());
            agents.push(agent);
        }
    }
    agents
}
