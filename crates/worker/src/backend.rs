//! The backend of the queue: the Redis that was named, or the embedded server.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;

use legwork_common::error::Coded;
use legwork_common::error::ExitStatus;
use legwork_common::variables;
use legwork_process::tasks::Tasks;
use legwork_queue::Queue;
use legwork_queue::QueueError;
use legwork_queue::Retryable;
use legwork_queue::Target;
use legwork_queue::embedded;
use legwork_queue::embedded::EmbeddedConfig;
use legwork_queue::embedded::EmbeddedError;
use legwork_queue::embedded::Joined;
use legwork_queue::embedded::Left;
use legwork_queue::embedded::OwnServer;
use legwork_queue::port::Upkeep as _;
use legwork_queue::port::Watch as _;
use thiserror::Error;

use crate::guard::Guard;
use crate::options::CommonOptions;

/// Why the backend could not be opened or left.
#[derive(Debug, Error)]
pub enum BackendError {
    /// The embedded server could not be used.
    #[error(transparent)]
    Embedded(#[from] EmbeddedError),
    /// The queue could not be asked.
    #[error(transparent)]
    Queue(#[from] QueueError),
    /// Redis could not be reached.
    #[error("Redis at {at} could not be reached: {detail}")]
    Unreachable {
        /// Its host and port, or its socket.
        at: String,
        /// The error of the connection.
        detail: String,
    },
    /// The process that kills the jobs' commands could not be started.
    #[error("the guard of the jobs' commands cannot be started: {0}")]
    Guard(#[source] io::Error),
}

impl Coded for BackendError {
    fn code(&self) -> &'static str {
        match self {
            Self::Embedded(error) => error.code(),
            Self::Queue(error) => error.code(),
            Self::Unreachable { .. } => "redis_unreachable",
            Self::Guard(_) => "system",
        }
    }

    fn exit(&self) -> ExitStatus {
        match self {
            Self::Embedded(error) => error.exit(),
            Self::Queue(error) => error.exit(),
            Self::Unreachable { .. } => ExitStatus::Redis,
            Self::Guard(_) => ExitStatus::Usage,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Embedded(error) => error.hint(),
            Self::Queue(error) => error.hint(),
            Self::Unreachable { .. } => Some(
                "check --redis (LEGWORK_REDIS_URL); without a URL the embedded server is used".to_owned(),
            ),
            Self::Guard(_) => None,
        }
    }
}

impl Retryable for BackendError {
    fn is_transient(&self) -> bool {
        match self {
            Self::Queue(error) => error.is_transient(),
            Self::Unreachable { .. } => true,
            Self::Embedded(_) | Self::Guard(_) => false,
        }
    }
}

/// Where the queue is, and this program's membership among the users of the embedded server.
#[derive(Debug)]
pub struct Backend {
    target: Target,
    joined: Option<Joined>,
}

impl Backend {
    /// Opens the Redis that was named, without connecting yet; without a name, joins the embedded server and starts it if
    /// it does not run.
    ///
    /// # Errors
    ///
    /// [`BackendError`] for an invalid URL, or when no server program was found.
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

    /// The address of Redis.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// An error of the connection to this Redis: one that cannot be reached is named with its host and port.
    pub fn error(&self, error: QueueError) -> BackendError {
        match error {
            QueueError::Unreachable { source, .. } => {
                BackendError::Unreachable { at: self.target.to_string(), detail: source.to_string() }
            }
            other => other.into(),
        }
    }

    /// Whether the server is the embedded one.
    pub fn is_embedded(&self) -> bool {
        self.joined.is_some()
    }

    /// Starts the guard of this program. While the guard lives it counts as a user of the embedded server, so that no
    /// other program reclaims a dead program's jobs while their commands are still being killed.
    ///
    /// # Errors
    ///
    /// [`BackendError::Guard`] when the system cannot start it.
    pub fn guard(&self, tasks: &Tasks) -> Result<Guard, BackendError> {
        let user_lock = self.joined.as_ref().map(Joined::user_lock).transpose();
        user_lock.and_then(|user_lock| Guard::start(tasks, user_lock)).map_err(BackendError::Guard)
    }

    /// The embedded server, to end it where its folder is gone.
    pub fn embedded_server(&self) -> Option<OwnServer> {
        self.joined.as_ref().map(Joined::server)
    }

    /// A line for users about the embedded server: which one was joined or started.
    pub fn notice(&self) -> Option<&str> {
        self.joined.as_ref().map(|joined| joined.notice.as_str())
    }

    /// Reclaims the jobs of dead workers at once, without waiting for their leases, if no other program uses the embedded
    /// server; and then lets other programs in. Returns whether it was so: then no session has a worker. A crash in the
    /// middle leaves the rest to the next program.
    ///
    /// # Errors
    ///
    /// [`BackendError`] when the queue cannot be asked.
    pub async fn reclaim_abandoned(&mut self, queue: &Queue) -> Result<bool, BackendError> {
        let Some(joined) = self.joined.as_mut().filter(|joined| joined.alone) else { return Ok(false) };
        queue.reap(true).await?;
        joined.share();
        Ok(true)
    }

    /// Leaves the embedded server. The last program to leave shuts it down, unless jobs are unfinished.
    ///
    /// # Errors
    ///
    /// [`BackendError`] when the server cannot be asked or shut down.
    pub async fn leave(self, queue: &Queue) -> Result<(), BackendError> {
        let Some(joined) = self.joined else { return Ok(()) };
        let unfinished = joined.server().has_folder() && queue.unfinished().await? > 0;
        match joined.leave(unfinished).await? {
            Left::InUse | Left::Kept => {}
            Left::ShutDown => tracing::info!("the embedded server was shut down; its data are kept"),
            Left::FolderGone => {
                tracing::warn!("the embedded server was shut down, because its folder is gone")
            }
        }
        Ok(())
    }
}

/// The folders of the embedded server, by the XDG Base Directory Specification, and where its program is searched.
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
