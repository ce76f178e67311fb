//! What every command is given, and how it reaches the queue.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use legwork_agent::Environment;
use legwork_agent::model::ModelPort;
use legwork_common::error::ExitStatus;
use legwork_common::id::SessionId;
use legwork_common::money::Prices;
use legwork_common::team;
use legwork_common::team::Team;
use legwork_common::trace::TraceParent;
use legwork_common::variables;
use legwork_queue::ConnectionKind;
use legwork_queue::Hints;
use legwork_queue::Observer;
use legwork_queue::Operator;
use legwork_queue::Queue;
use legwork_queue::operator::DispatcherKey;
use legwork_queue::operator::SessionLanes;
use legwork_worker::backend::Backend;
use legwork_worker::key_file;
use legwork_worker::options::CommonOptions;
use legwork_worker::runner::for_agents;
use tokio::time::Instant;

use crate::failure::Failure;
use crate::local_worker::replacement::replace_workers;
use crate::outage::Outage;
use crate::outage::with_continuation;
use crate::output::Output;
use crate::suggest::quoted;

/// The most bytes of a file that are read. Agent files end at 8 MiB and batches at what Redis takes, so a larger file,
/// or a device without an end, is a mistake.
const MAX_FILE_BYTES: u64 = 64 * 1024 * 1024;

/// What every command is given.
#[derive(Debug, Clone)]
pub struct Context {
    /// The options of both programs.
    pub common: CommonOptions,
    /// The environment, read once.
    pub variables: BTreeMap<String, String>,
    /// Standard output and standard error.
    pub output: Output,
    /// How long a command that waits asks again while Redis is away.
    pub redis_timeout: Duration,
    /// The arguments of the command line as they were typed, without the program.
    pub arguments: Vec<String>,
}

/// What a command does where Redis is away as it begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhileAway {
    /// It fails: a script learns at once that there is no answer.
    Fail,
    /// It asks again for as long as `--redis-timeout`, as it does in a later outage: it waits anyway.
    Wait {
        /// When the command's own time is over.
        deadline: Option<Instant>,
    },
}

/// A command's connection to the queue.
#[derive(Debug)]
pub struct Connection {
    /// The named Redis, or the embedded server.
    pub backend: Backend,
    /// The handle on its namespace.
    pub operator: Operator,
}

impl Connection {
    /// The queue, for the workers and reapers of this program.
    pub fn queue(&self) -> &Queue {
        self.operator.queue()
    }

    /// The session that a text names: a whole id, or the beginning of one; `None` for no text.
    ///
    /// # Errors
    ///
    /// [`Failure`] when no session or several begin like this, or Redis cannot be reached.
    pub async fn session(&self, text: Option<&str>) -> Result<Option<SessionId>, Failure> {
        match text {
            Some(text) => Ok(Some(self.operator.find_session(text).await?)),
            None => Ok(None),
        }
    }

    /// Where the jobs are, for the line that explains an empty list.
    pub fn place(&self) -> String {
        if self.backend.is_embedded() {
            "embedded server".to_owned()
        } else {
            self.backend.target().to_string()
        }
    }

    /// Disconnects. The last program to leave an embedded server without live jobs shuts it down.
    ///
    /// # Errors
    ///
    /// [`Failure`] when the server cannot be reached or shut down.
    pub async fn leave(self) -> Result<(), Failure> {
        Ok(self.backend.leave(self.operator.queue()).await?)
    }
}

impl Context {
    /// Finds the queue and connects to it.
    ///
    /// # Errors
    ///
    /// [`Failure`] when no Redis can be reached or started.
    pub async fn connect(&self, kind: ConnectionKind) -> Result<Connection, Failure> {
        self.connect_as(kind, WhileAway::Fail).await
    }

    /// Finds the queue and connects to it, for a command that waits: an outage of Redis that has begun already is one of
    /// those that it survives.
    ///
    /// # Errors
    ///
    /// [`Failure`] when no Redis can be reached within `--redis-timeout` and before `deadline`, or started; `continuation`
    /// is the command that its hint names then.
    pub async fn connect_to_wait(
        &self,
        deadline: Option<Instant>,
        continuation: &str,
    ) -> Result<Connection, Failure> {
        let while_away = WhileAway::Wait { deadline };
        let connected = self.connect_as(ConnectionKind::Pooled, while_away).await;
        connected.map_err(|failure| with_continuation(failure, continuation))
    }

    /// The same as [`connect_as`](Self::connect_as), for a command that dispatches jobs: with `--signing-key` it signs them.
    ///
    /// # Errors
    ///
    /// [`Failure`] too where the key or the trust file cannot be used. Commands that sign nothing do not read them.
    pub async fn connect_to_sign(
        &self,
        kind: ConnectionKind,
        while_away: WhileAway,
    ) -> Result<Connection, Failure> {
        let key = self.dispatcher_key()?;
        let Connection { operator, backend } = self.connect_as(kind, while_away).await?;
        Ok(Connection { operator: operator.with_key(key), backend })
    }

    /// Finds the queue and connects to it. Where this program is the only one on an embedded server, it starts workers for
    /// the sessions whose jobs wait: theirs are gone.
    ///
    /// # Errors
    ///
    /// [`Failure`] when no Redis can be reached or started.
    pub async fn connect_as(
        &self,
        kind: ConnectionKind,
        while_away: WhileAway,
    ) -> Result<Connection, Failure> {
        let mut backend = Backend::find(&self.common, &self.variables).await?;
        if let Some(notice) = backend.notice() {
            tracing::info!("{notice}");
        }
        let settings = self.common.wanted_settings();
        let connect = || async {
            let queue = Queue::connect(backend.target(), &self.common.namespace, &settings, kind).await;
            queue.map_err(|error| backend.error(error))
        };
        let queue = match while_away {
            WhileAway::Fail => connect().await?,
            WhileAway::Wait { deadline } => {
                Outage::at(self, backend.target()).until(deadline).ask(connect).await?
            }
        };
        let is_alone = backend.reclaim_abandoned(&queue).await?;
        let hints = Hints::new(backend.target())?;
        let lanes = if backend.is_embedded() { SessionLanes::Own } else { SessionLanes::Shared };
        let prices = match self.common.policy() {
            Ok(policy) => policy.prices(),
            // A command that needs the policy fails with this; one that only reads must work without.
            Err(error) => {
                tracing::warn!(%error, "prices are those of the table");
                Prices::default()
            }
        };
        let operator = Operator::new(Observer::new(queue, hints), lanes).with_prices(prices);
        if is_alone {
            Box::pin(replace_workers(self, &operator)).await?;
        }
        Ok(Connection { operator, backend })
    }

    /// The key that signs what this program dispatches; `None` without `--signing-key`.
    ///
    /// # Errors
    ///
    /// [`Failure`] for files that cannot be used.
    pub fn dispatcher_key(&self) -> Result<Option<DispatcherKey>, Failure> {
        let Some(file) = &self.common.signing_key else { return Ok(None) };
        let key = key_file::signing_key(file)?;
        let trust = self.common.trust.as_deref().map(key_file::trust).transpose()?;
        Ok(Some(DispatcherKey::new(key, trust.unwrap_or_default())))
    }

    /// Reads and resolves an agent file; prints its warnings.
    ///
    /// # Errors
    ///
    /// [`Failure`] with line and column of the first mistake.
    pub fn team(&self, file: &Path) -> Result<(Arc<Team>, Arc<str>), Failure> {
        let bytes = read(file)?;
        let name = file.display().to_string();
        let parsed = parse(file, &bytes).map_err(|errors| team_failure(&errors))?;
        for warning in &parsed.warnings {
            self.output
                .note(&format!("warning: {name}:{}:{}: {}", warning.line, warning.column, warning.message));
        }
        let json = parsed.team.to_json().map_err(|error| Failure::usage(error.to_string()))?;
        Ok((Arc::new(parsed.team), Arc::from(json)))
    }

    /// The trace that this program is part of. A variable that holds no trace counts as unset.
    pub fn trace(&self) -> Option<TraceParent> {
        self.variables.get(variables::TRACEPARENT)?.parse().ok()
    }

    /// The environment of agents that run here, without a guard.
    pub fn agent_environment(&self, working_dir: PathBuf) -> Environment {
        for_agents(&self.variables.clone().into(), self.common.inherited(), working_dir)
    }

    /// The models: a script's, or the providers'.
    ///
    /// # Errors
    ///
    /// [`Failure`] for a script that cannot be read, or an HTTP client that cannot be made.
    pub fn models(
        &self,
        script: Option<&Path>,
        environment: &Environment,
    ) -> Result<Arc<dyn ModelPort>, Failure> {
        Ok(legwork_worker::models::open(script, environment)?)
    }
}

/// The working directory of this program.
///
/// # Errors
///
/// [`Failure`] when it was deleted or may not be read.
pub fn working_dir() -> Result<PathBuf, Failure> {
    std::env::current_dir().map_err(|error| Failure::usage(format!("no working directory: {error}")))
}

/// Reads a file that the command line names: at most its first 64 MiB, because a device has no end.
///
/// # Errors
///
/// [`Failure`] when it cannot be opened or read.
pub fn read(file: &Path) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let read = std::fs::File::open(file).and_then(|file| file.take(MAX_FILE_BYTES).read_to_end(&mut bytes));
    read.map_err(|error| Failure::file(file, &error))?;
    Ok(bytes)
}

/// Parses an agent file, with the files that it names below its own folder.
///
/// # Errors
///
/// All mistakes, with line and column.
pub fn parse(file: &Path, bytes: &[u8]) -> Result<team::Parsed, team::TeamErrors> {
    let name = file.display().to_string();
    team::parse_with(&name, bytes, &|path| read_beside(file, path))
}

/// The text of a file below the folder of an agent file; or why it cannot be read.
fn read_beside(file: &Path, path: &str) -> Result<String, String> {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let folder = folder.canonicalize().map_err(|error| error.to_string())?;
    let target = folder.join(path).canonicalize().map_err(|error| error.to_string())?;
    // A link may lead anywhere.
    if !target.starts_with(&folder) {
        return Err("it is a link out of the folder of the agent file".to_owned());
    }
    let bytes = read(&target).map_err(|failure| failure.message)?;
    String::from_utf8(bytes).map_err(|_| "it is not UTF-8".to_owned())
}

/// The mistakes of an agent file as one error: the first with its snippet, and the number of others.
pub fn team_failure(errors: &team::TeamErrors) -> Failure {
    let first = errors.iter().next();
    let more = errors.iter().count().saturating_sub(1) + errors.left_out();
    let mut detail = first.and_then(|error| error.snippet()).unwrap_or_default().trim_end().to_owned();
    if more > 0 {
        let file = quoted(first.map(team::TeamError::file).unwrap_or_default());
        detail.push_str(&format!("\nand {more} more; `legwork check {file}` shows them"));
    }
    Failure {
        code: "agent_file",
        message: first.map_or_else(|| errors.to_string(), ToString::to_string),
        detail: Some(detail).filter(|detail| !detail.is_empty()),
        hint: first.and_then(|error| error.hint().map(str::to_owned)),
        exit: ExitStatus::AgentFile,
    }
}
