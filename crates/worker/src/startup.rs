//! What a worker program needs before it serves: the queue, its settings, and a runner.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use legwork_agent::Environment;
use legwork_agent::environment::CommandUser;
use legwork_common::error::Coded;
use legwork_common::error::ExitStatus;
use legwork_common::error::chain;
use legwork_common::id::WorkerId;
use legwork_common::policy::Policy;
use legwork_common::variables;
use legwork_process::tasks::TaskKind;
use legwork_process::tasks::Tasks;
use legwork_queue::ConnectionKind;
use legwork_queue::Queue;
use legwork_queue::port::Lane;
use thiserror::Error;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::admission::Admission;
use crate::backend::Backend;
use crate::backend::BackendError;
use crate::backend::embedded_config;
use crate::guard::ControlGroups;
use crate::guard::Guard;
use crate::guard::Restrictions;
use crate::guard::Sandbox;
use crate::host::host_name;
use crate::key_file;
use crate::ledger::Ledger;
use crate::ledger::LedgerError;
use crate::memory;
use crate::metered::MeteredModels;
use crate::metered::ModelMetrics;
use crate::models;
use crate::options::CommonOptions;
use crate::options::WorkerOptions;
use crate::rate_limit::RateLimitedModels;
use crate::runner::AgentRunner;
use crate::runner::Runner;
use crate::runner::WorkDir;
use crate::webhooks::SecretError;
use crate::webhooks::Webhooks;
use crate::worker::WorkerSettings;

/// How long a worker waits for an unreachable Redis when it starts: the services of a fleet start in any order, and a
/// Redis first loads its data. After that the service manager restarts the worker, and an operator sees it.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
/// Delay between two tries to connect.
const CONNECT_RETRY_DELAY: Duration = Duration::from_secs(1);

/// The only `maxmemory-policy` that loses no jobs.
const NO_EVICTION: &str = "noeviction";

/// Why the program could not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// The system refused something that every program needs, such as a signal handler or a working directory.
    #[error("the system refuses: {0}")]
    System(#[from] io::Error),
    /// The environment could not be concealed: commands of jobs could read its secrets.
    #[error("the environment of this process cannot be concealed from its commands: {0}")]
    Environment(#[source] io::Error),
    /// The system cannot confine commands.
    #[error("commands cannot be confined on this system: {detail}")]
    Sandbox {
        /// The reason.
        detail: String,
    },
    /// The ledger of signed jobs cannot be opened.
    #[error("the ledger of signed jobs in {folder} cannot be opened: {source}")]
    Ledger {
        /// Its folder.
        folder: String,
        /// Why.
        #[source]
        source: LedgerError,
    },
    /// The work dir cannot be used.
    #[error("the work dir {folder} {detail}")]
    WorkDir {
        /// Its path.
        folder: String,
        /// What is wrong with it.
        detail: String,
    },
}

impl Coded for StartError {
    fn code(&self) -> &'static str {
        match self {
            Self::System(_) => "system",
            Self::Environment(_) => "environment",
            Self::Sandbox { .. } => "no_sandbox",
            Self::Ledger { .. } => "no_ledger",
            Self::WorkDir { .. } => "no_work_dir",
        }
    }

    fn exit(&self) -> ExitStatus {
        ExitStatus::Usage
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::System(_) | Self::Environment(_) => None,
            Self::Sandbox { .. } => Some("it needs Linux 6.2 or newer with Landlock, --sandbox-ports Linux 6.7; leave out --sandbox, or run the worker in a container of its own".to_owned()),
            Self::Ledger { .. } => {
                Some("select a folder that outlives the worker with --state-dir (LEGWORK_STATE_DIR)".to_owned())
            }
            Self::WorkDir { .. } => Some("select another one with --work-dir (LEGWORK_WORK_DIR)".to_owned()),
        }
    }
}

/// An error of any type as one that `main` can report.
pub fn boxed(error: impl Coded) -> Box<dyn Coded> {
    Box::new(error)
}

/// Opens the backend and connects to the queue; reclaims the jobs of dead workers where no other program uses the
/// embedded server. `None` where `drain` was cancelled first.
pub(crate) async fn open_queue(
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
    backend.reclaim_abandoned(&queue).await.map_err(boxed)?;
    warn_of_eviction(&queue).await;
    Ok(Some((backend, queue)))
}

/// Connects to the queue; an unreachable Redis is tried again for [`CONNECT_TIMEOUT`]. `None` where `drain` was cancelled
/// first.
async fn connect(
    backend: &Backend,
    common: &CommonOptions,
    drain: &CancellationToken,
) -> Result<Option<Queue>, BackendError> {
    let wanted = common.wanted_settings();
    let deadline = Instant::now() + CONNECT_TIMEOUT;
    loop {
        let error =
            match Queue::connect(backend.target(), &common.namespace, &wanted, ConnectionKind::Dedicated)
                .await
            {
                Err(error) if error.is_transient() && Instant::now() < deadline => error,
                final_answer => return final_answer.map(Some).map_err(|error| backend.error(error)),
            };
        let error = backend.error(error);
        tracing::warn!(error = %chain(&error), "cannot reach the queue yet, trying again");
        if drain.run_until_cancelled(tokio::time::sleep(CONNECT_RETRY_DELAY)).await.is_none() {
            return Ok(None);
        }
    }
}

/// Warns where the server may drop jobs when its memory is full. A server that does not tell its policy, as some hosted
/// ones, is not warned of.
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

/// The worker's settings, from its options and the environment.
///
/// # Errors
///
/// [`SecretError`] for a secret of webhooks that cannot be used.
pub(crate) fn settings(
    options: &WorkerOptions,
    variables: &BTreeMap<String, String>,
    policy: Arc<Policy>,
    guard: Guard,
    admission: Option<Admission>,
) -> Result<WorkerSettings, SecretError> {
    let host = host_name(variables);
    let lanes = match options.session {
        Some(session) => vec![Lane::Session(session)],
        None => options.queues.iter().cloned().map(Lane::Queue).collect(),
    };
    Ok(WorkerSettings {
        id: WorkerId::random_on(&host),
        host,
        lanes,
        slots: options.concurrency,
        drain_timeout: options.drain_timeout,
        until_idle: options.until_idle,
        policy,
        stall_after: options.common.stall_after,
        guard,
        admission,
        memory_limit: memory::limit(options.memory_limit),
        webhooks: Webhooks::find(variables)?,
    })
}

/// Which signed jobs the worker runs, with `--trust`: the trust file, the ledger in the state folder, and the worker's own
/// key.
pub(crate) fn admission(
    worker: &WorkerOptions,
    variables: &BTreeMap<String, String>,
) -> Result<Option<Admission>, Box<dyn Coded>> {
    let options = &worker.common;
    let Some(file) = &options.trust else {
        if options.signing_key.is_some() {
            tracing::warn!(
                "--signing-key has no effect on a worker without --trust: it signs for no job that it did not verify"
            );
        }
        return Ok(None);
    };
    let trust = key_file::trust(file).map_err(boxed)?;
    let key = options.signing_key.as_deref().map(key_file::signing_key).transpose().map_err(boxed)?;
    match &key {
        None => tracing::warn!(
            "without --signing-key this worker signs neither turns nor jobs of jobs: no worker with --trust continues them"
        ),
        Some(key) if !trust.has_worker(key) => tracing::warn!(
            key = %key.id(),
            "the trust file does not have this worker's key with `worker: true`: no worker with --trust continues its jobs, or runs jobs of them"
        ),
        Some(_) => {}
    }
    let folder = embedded_config(options, variables).state_dir.join("trust");
    let ledger = Ledger::open(&folder)
        .map_err(|source| boxed(StartError::Ledger { folder: folder.display().to_string(), source }))?;
    let queues = worker.session.is_none().then(|| worker.queues.iter().cloned().collect());
    Ok(Some(Admission::new(trust, ledger, queues, key)))
}

/// The runner of the worker's jobs: agents, with models behind the fleet's rate limits.
pub(crate) fn runner(
    options: &WorkerOptions,
    variables: BTreeMap<String, String>,
    (queue, policy): (&Queue, Arc<Policy>),
    (work_dir, user, control_groups): (WorkDir, Option<CommandUser>, Option<ControlGroups>),
    guard: Guard,
    (metrics, tasks): (&ModelMetrics, &Tasks),
) -> Result<Arc<dyn Runner>, Box<dyn Coded>> {
    let here = std::env::current_dir().map_err(|error| boxed(StartError::from(error)))?;
    let environment = Environment::new(variables.clone(), here);
    let models = models::open(options.script.as_deref(), &environment).map_err(boxed)?;
    // Within the limits: the time that a call waits for them is not the model's.
    let metered = Arc::new(MeteredModels::new(models, metrics.clone(), policy.prices()));
    let limited = RateLimitedModels::new(metered, Arc::new(queue.clone()), policy);
    let models = Arc::new(limited.counted_by(metrics.clone()));
    tasks.spawn(TaskKind::Upkeep, Arc::clone(&models).return_forever());
    let (inherited, needs_keys) = (options.common.inherited(), options.script.is_none());
    let (permits, sandbox) = (options.permits(), sandbox(options, &variables)?);
    let restrictions = Restrictions { sandbox, user, group: None };
    Ok(Arc::new(AgentRunner {
        models,
        variables: variables.into(),
        inherited,
        permits,
        restrictions,
        control_groups,
        work_dir,
        needs_keys,
        guard,
    }))
}

/// What commands are confined to, if they are, besides the folder of their job: for reading the folders of
/// `--sandbox-read` and those of programs, and the ports.
fn sandbox(
    options: &WorkerOptions,
    variables: &BTreeMap<String, String>,
) -> Result<Option<Sandbox>, Box<dyn Coded>> {
    if !options.sandbox {
        return Ok(None);
    }
    let path = variables.get(variables::PATH).map(String::as_str).unwrap_or_default();
    let programs = std::env::split_paths(path).filter(|folder| folder.is_absolute());
    let readable = options.sandbox_read.iter().cloned().chain(programs).collect();
    let sandbox = Sandbox { writable: Vec::new(), readable, ports: options.sandbox_ports.clone() };
    sandbox.check_supported().map_err(|error| boxed(StartError::Sandbox { detail: error.to_string() }))?;
    Ok(Some(sandbox))
}
