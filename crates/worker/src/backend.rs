//! Where the queue is: the Redis that was named, or the embedded server.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use legwork_agent::Environment;
use legwork_agent::model::ModelPort;
use legwork_agent::model::provider::ClientError;
use legwork_agent::model::provider::GenaiModels;
use legwork_agent::model::scripted::ScriptError;
use legwork_agent::model::scripted::ScriptedModels;
use legwork_common::error::Coded;
use legwork_common::error::ExitStatus;
use legwork_common::id::SessionId;
use legwork_common::job::Cause;
use legwork_common::lifecycle::State;
use legwork_common::variables;
use legwork_process::tasks::Tasks;
use legwork_queue::Queue;
use legwork_queue::QueueError;
use legwork_queue::Target;
use legwork_queue::embedded;
use legwork_queue::embedded::EmbeddedConfig;
use legwork_queue::embedded::EmbeddedError;
use legwork_queue::embedded::Joined;
use legwork_queue::embedded::Left;
use legwork_queue::port::Asker;
use legwork_queue::port::Dispatch as _;
use legwork_queue::port::JobFilter;
use legwork_queue::port::StopRoot;
use legwork_queue::port::Upkeep as _;
use legwork_queue::port::Watch as _;
use thiserror::Error;

use crate::guard::Guard;
use crate::options::CommonOptions;

/// Jobs of one read of those that wait.
const PAGE: usize = 1000;

/// Why the queue's place could not be found or left.
#[derive(Debug, Error)]
pub enum BackendError {
    /// The embedded server could not be used.
    #[error(transparent)]
    Embedded(#[from] EmbeddedError),
    /// The queue could not be asked.
    #[error(transparent)]
    Queue(#[from] QueueError),
    /// The process that looks after the jobs' commands could not be started.
    #[error("the guard of the jobs' commands cannot be started: {0}")]
    Guard(#[source] io::Error),
}

impl Coded for BackendError {
    fn code(&self) -> &'static str {
        match self {
            Self::Embedded(error) => error.code(),
            Self::Queue(error) => error.code(),
            Self::Guard(_) => "system",
        }
    }

    fn exit(&self) -> ExitStatus {
        match self {
            Self::Embedded(error) => error.exit(),
            Self::Queue(error) => error.exit(),
            Self::Guard(_) => ExitStatus::Usage,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Embedded(error) => error.hint(),
            Self::Queue(error) => error.hint(),
            Self::Guard(_) => None,
        }
    }
}

/// What a program means to do with the embedded server, should nobody else be using it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrival {
    /// It operates: sessions whose workers are gone have ended.
    Operator,
    /// It is the worker that such a session waits for.
    SessionsWorker,
}

/// A place where the queue is.
#[derive(Debug)]
pub struct Backend {
    target: Target,
    joined: Option<Joined>,
}

impl Backend {
    /// Finds the Redis that was named, or joins the embedded server and starts it if need be.
    ///
    /// # Errors
    ///
    /// [`BackendError`] for a URL that cannot be one, or when there is no server to be started.
    pub async fn find(
        common: &CommonOptions,
        environment: &BTreeMap<String, String>,
    ) -> Result<Self, BackendError> {
        if let Some(url) = &common.redis {
            return Ok(Self { target: Target::parse(url)?, joined: None });
        }
        let joined = embedded::join(&embedded_config(common, environment)).await?;
        Ok(Self { target: joined.target.clone(), joined: Some(joined) })
    }

    /// Where Redis is.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// Whether the server is the embedded one.
    pub fn is_embedded(&self) -> bool {
        self.joined.is_some()
    }

    /// Starts the guard of this program. While it lives it counts as a user of the embedded server, so that nobody
    /// takes a dead program's jobs back while it still ends their commands.
    ///
    /// # Errors
    ///
    /// [`BackendError::Guard`] when the system starts none.
    pub fn guard(&self, tasks: &Tasks) -> Result<Guard, BackendError> {
        let stake = self.joined.as_ref().map(Joined::stake).transpose();
        stake.and_then(|stake| Guard::start(tasks, stake)).map_err(BackendError::Guard)
    }

    /// The line that says what was done.
    pub fn notice(&self) -> Option<&str> {
        self.joined.as_ref().map(|joined| joined.notice.as_str())
    }

    /// If nobody else uses the embedded server, takes back at once what dead workers held, and then lets
    /// others in. For an operator, sessions that nobody owns and nobody works for have ended.
    ///
    /// # Errors
    ///
    /// [`BackendError`] when the queue cannot be asked.
    pub async fn sweep_up(&mut self, queue: &Queue, arrival: Arrival) -> Result<(), BackendError> {
        let Some(joined) = self.joined.as_mut().filter(|joined| joined.alone) else { return Ok(()) };
        queue.reap(true).await?;
        if arrival == Arrival::Operator {
            end_abandoned(queue).await?;
        }
        joined.share();
        Ok(())
    }

    /// Leaves; the last to leave an embedded server without unfinished jobs shuts it down.
    ///
    /// # Errors
    ///
    /// [`BackendError`] when the server cannot be asked or shut down.
    pub async fn leave(self, queue: &Queue) -> Result<(), BackendError> {
        let Some(joined) = self.joined else { return Ok(()) };
        let unfinished = queue.unfinished().await? > 0;
        match joined.leave(unfinished).await? {
            Left::InUse | Left::Kept => {}
            Left::ShutDown => tracing::info!("shut the embedded server down; its data stay"),
        }
        Ok(())
    }
}

/// Stops what waits in sessions whose workers are gone.
async fn end_abandoned(queue: &Queue) -> Result<(), QueueError> {
    let filter = JobFilter { states: vec![State::Queued, State::Scheduled], ..JobFilter::default() };
    let mut sessions: BTreeSet<SessionId> = BTreeSet::new();
    let mut after = None;
    loop {
        let page = queue.list(&filter, PAGE, after).await?;
        sessions.extend(page.jobs.iter().map(|job| job.session));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    for id in sessions {
        tracing::warn!(session = %id, "no worker is left for this session; its jobs are stopped");
        queue.stop(StopRoot::Session { id, close: true }, Asker::Operator, Cause::SessionEnd).await?;
    }
    Ok(())
}

/// Where the embedded server lives, by the XDG Base Directory Specification, and where its program may be.
pub fn embedded_config(common: &CommonOptions, environment: &BTreeMap<String, String>) -> EmbeddedConfig {
    let path = |name: &str| environment.get(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let home = path(variables::HOME).unwrap_or_else(|| PathBuf::from("/"));
    let state = path(variables::XDG_STATE_HOME).unwrap_or_else(|| home.join(".local/state"));
    let state_dir = common.state_dir.clone().unwrap_or_else(|| state.join("legwork"));
    EmbeddedConfig {
        runtime_dir: path(variables::XDG_RUNTIME_DIR).unwrap_or_else(std::env::temp_dir),
        state_dir,
        search_path: path(variables::PATH)
            .map(|path| std::env::split_paths(&path).collect())
            .unwrap_or_default(),
        extra_servers: Vec::new(),
    }
}

/// Why there are no models to ask.
#[derive(Debug, Error)]
pub enum ModelsError {
    /// The script's file cannot be read.
    #[error("cannot read the script {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is no script.
    #[error("{} is no script", path.display())]
    Script {
        /// The file.
        path: PathBuf,
        /// Why.
        source: ScriptError,
    },
    /// The client for providers cannot be made.
    #[error(transparent)]
    Client(#[from] ClientError),
}

impl Coded for ModelsError {
    fn code(&self) -> &'static str {
        "models"
    }

    fn exit(&self) -> ExitStatus {
        ExitStatus::Usage
    }
}

/// The models: a script's, or the providers'.
///
/// # Errors
///
/// [`ModelsError`] for a script that cannot be read, or an HTTP client that cannot be made.
pub fn models(script: Option<&Path>, environment: &Environment) -> Result<Arc<dyn ModelPort>, ModelsError> {
    let Some(path) = script else {
        return Ok(Arc::new(GenaiModels::new(environment.clone())?));
    };
    let bytes = std::fs::read(path).map_err(|source| ModelsError::File { path: path.to_owned(), source })?;
    let script = ScriptedModels::parse(&bytes)
        .map_err(|source| ModelsError::Script { path: path.to_owned(), source })?;
    Ok(Arc::new(script))
}
