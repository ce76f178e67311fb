//! What every command is given, and how it reaches the queue.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;

use legwork_agent::Environment;
use legwork_agent::model::ModelPort;
use legwork_common::error::ExitStatus;
use legwork_common::id::JobId;
use legwork_common::team;
use legwork_common::team::Team;
use legwork_common::trace::TraceParent;
use legwork_common::variables;
use legwork_queue::ConnectionKind;
use legwork_queue::Hints;
use legwork_queue::Observer;
use legwork_queue::Queue;
use legwork_queue::port::Watch as _;
use legwork_worker::backend::Arrival;
use legwork_worker::backend::Backend;
use legwork_worker::options::CommonOptions;

use crate::failure::Failure;
use crate::output::Output;

/// The most bytes of a file that are read.
const MOST: u64 = 64 * 1024 * 1024;

/// What every command is given.
#[derive(Debug, Clone)]
pub struct Context {
    /// What both programs share.
    pub common: CommonOptions,
    /// The environment, read once.
    pub variables: BTreeMap<String, String>,
    /// Where answers go.
    pub output: Output,
}

/// A command's way to the queue.
#[derive(Debug)]
pub struct Connection {
    /// Where the queue is.
    pub backend: Backend,
    /// The queue and its hints.
    pub observer: Observer,
}

impl Connection {
    /// The queue.
    pub fn queue(&self) -> &Queue {
        self.observer.queue()
    }

    /// Leaves; the last to leave an embedded server on which nothing is live shuts it down.
    ///
    /// # Errors
    ///
    /// [`Failure`] when the server cannot be asked or shut down.
    pub async fn leave(self) -> Result<(), Failure> {
        Ok(self.backend.leave(self.observer.queue()).await?)
    }
}

impl Context {
    /// Finds the queue and connects to it.
    ///
    /// # Errors
    ///
    /// [`Failure`] when there is no Redis to be reached or started.
    pub async fn connect(&self, kind: ConnectionKind) -> Result<Connection, Failure> {
        self.connect_as(kind, Arrival::Operator).await
    }

    /// Finds the queue and connects to it, meaning to do this with an embedded server that nobody else uses.
    ///
    /// # Errors
    ///
    /// [`Failure`] when there is no Redis to be reached or started.
    pub async fn connect_as(&self, kind: ConnectionKind, arrival: Arrival) -> Result<Connection, Failure> {
        let mut backend = Backend::find(&self.common, &self.variables).await?;
        if let Some(notice) = backend.notice() {
            tracing::info!("{notice}");
        }
        let queue =
            Queue::connect(backend.target(), &self.common.namespace, &self.common.wanted_settings(), kind)
                .await?;
        backend.reclaim_abandoned(&queue, arrival).await?;
        let hints = Hints::new(backend.target())?;
        Ok(Connection { backend, observer: Observer::new(queue, hints) })
    }

    /// Reads and resolves an agent file; prints its warnings.
    ///
    /// # Errors
    ///
    /// [`Failure`] that names line and column of what is wrong.
    pub fn team(&self, file: &Path) -> Result<(Arc<Team>, Arc<str>), Failure> {
        let bytes = read(file)?;
        let name = file.display().to_string();
        let parsed = team::parse(&name, &bytes).map_err(|errors| team_failure(&errors))?;
        for warning in &parsed.warnings {
            self.output
                .note(&format!("warning: {name}:{}:{}: {}", warning.line, warning.column, warning.message));
        }
        let json = parsed.team.to_json().map_err(|error| Failure::usage(error.to_string()))?;
        Ok((Arc::new(parsed.team), Arc::from(json)))
    }

    /// The trace that this program belongs to. A variable that holds none is as good as not set.
    pub fn trace(&self) -> Option<TraceParent> {
        self.variables.get(variables::TRACEPARENT)?.parse().ok()
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

    /// The job that a person means: a whole id, or an unambiguous beginning of four characters or more.
    ///
    /// # Errors
    ///
    /// [`Failure`] when there is none, or when there are several; then the candidates are named.
    pub async fn job_id(&self, queue: &Queue, text: &str) -> Result<JobId, Failure> {
        if let Ok(id) = text.parse() {
            return Ok(id);
        }
        let missing = || {
            Failure::not_found(format!("task not found: {text}"))
                .with_hint("`legwork list` shows the jobs that are kept")
        };
        let bare = text.strip_prefix(legwork_common::id::JOB_ID_PREFIX).unwrap_or(text);
        let fits = bare.len() >= 4 && bare.chars().all(|c| c.is_ascii_hexdigit() || c == '-');
        if !fits {
            return Err(missing());
        }
        let found = queue.find(bare, 10).await?;
        match found.as_slice() {
            [] => Err(missing()),
            [id] => Ok(*id),
            several => {
                let names: Vec<String> = several.iter().map(ToString::to_string).collect();
                Err(Failure {
                    code: "ambiguous",
                    message: format!("`{text}` may be any of {}", names.join(", ")),
                    detail: None,
                    hint: Some("write more of the id".to_owned()),
                    exit: ExitStatus::Usage,
                })
            }
        }
    }
}

/// Reads a file that the command line names.
/// Of what is longer than any file of ours only the beginning is read: a device has no end.
pub fn read(file: &Path) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let read = std::fs::File::open(file).and_then(|file| file.take(MOST).read_to_end(&mut bytes));
    read.map_err(|error| Failure::file(file, &error))?;
    Ok(bytes)
}

/// What is wrong with an agent file: the first error with its snippet, and how many more there are.
pub fn team_failure(errors: &team::TeamErrors) -> Failure {
    let first = errors.iter().next();
    let more = errors.iter().count().saturating_sub(1) + errors.left_out();
    let mut detail = first.and_then(|error| error.snippet()).unwrap_or_default().trim_end().to_owned();
    if more > 0 {
        detail.push_str(&format!("\nand {more} more; `legwork check` shows them"));
    }
    Failure {
        code: "agent_file",
        message: first.map_or_else(|| errors.to_string(), ToString::to_string),
        detail: Some(detail).filter(|detail| !detail.is_empty()),
        hint: first.and_then(|error| error.hint().map(str::to_owned)),
        exit: ExitStatus::AgentFile,
    }
}
