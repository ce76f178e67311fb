//! `run --record FILE`: the model replies of a session as a script, which `--script` replays.
//!
//! The script is built when the run ends, from the turns that are recorded in any case: the root's in memory, the jobs'
//! in Redis. So it does not matter which workers ran the jobs.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;

use futures::TryStreamExt as _;
use legwork_agent::Opening;
use legwork_agent::journal::TurnEntry;
use legwork_agent::message::Message;
use legwork_agent::model::scripted::Recording;
use legwork_common::id::SessionId;
use legwork_common::job::Job;
use legwork_common::secrets::Secrets;
use legwork_common::team::Team;
use legwork_queue::Operator;
use legwork_queue::operator::JobFilter;

use crate::failure::Failure;
use crate::panel::Screen;

/// Collects one run and writes its script.
#[derive(Debug)]
pub struct Recorder {
    file: PathBuf,
    team: Arc<Team>,
    agent: String,
    /// To be hidden in the script.
    secrets: Secrets,
    /// The root's first prompt and its turns; `None` before the first answer.
    root: Mutex<Option<(String, Vec<TurnEntry>)>>,
}

impl Recorder {
    /// A recorder that writes to `file`; `None` without a file. Creates the file now, readable by its owner only.
    ///
    /// # Errors
    ///
    /// [`Failure`] when the file cannot be written, which is found out here rather than after the run.
    pub fn begin(
        file: Option<&Path>,
        team: &Arc<Team>,
        agent: &str,
        variables: &BTreeMap<String, String>,
    ) -> Result<Option<Self>, Failure> {
        let Some(file) = file else { return Ok(None) };
        let open = std::fs::OpenOptions::new().create(true).append(true).mode(0o600).open(file);
        open.map_err(|error| unwritable(file, &error))?;
        Ok(Some(Self {
            file: file.to_owned(),
            team: Arc::clone(team),
            agent: agent.to_owned(),
            secrets: Secrets::of(variables),
            root: Mutex::default(),
        }))
    }

    /// Replaces the root's turns with all `entries` since its first prompt.
    pub fn keep_root(&self, prompt: &str, entries: &[TurnEntry]) {
        let mut root = self.root.lock().unwrap_or_else(PoisonError::into_inner);
        *root = Some((prompt.to_owned(), entries.to_vec()));
    }

    /// Writes the script: the root's replies, then those of the session's jobs, oldest first. The file is replaced
    /// atomically, so an error leaves it as it was.
    ///
    /// # Errors
    ///
    /// [`Failure`] when the jobs or their turns cannot be read, or the file cannot be written.
    pub async fn write(
        &self,
        operator: &Operator,
        session: SessionId,
        screen: &Screen,
    ) -> Result<(), Failure> {
        let mut recording = Recording::new(self.secrets.clone());
        let root = self.root.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some((prompt, entries)) = root {
            let opening = Opening::Conversation { messages: vec![Message::user(prompt)] };
            recording.add(&self.team, &self.agent, opening, &entries);
        }
        for job in jobs(operator, session).await? {
            let turns = operator.turns(job.id).await?;
            let entries: Vec<TurnEntry> =
                turns.iter().filter_map(|(_, entry)| TurnEntry::decode(entry).ok()).collect();
            let opening = Opening::Delegated { task: job.task, expected_output: None };
            recording.add(&self.team, &job.agent, opening, &entries);
        }
        let json = recording.to_json().map_err(|error| Failure::usage(error.to_string()))?;
        replace(&self.file, &json).map_err(|error| unwritable(&self.file, &error))?;
        for agent in recording.ambiguous_agents() {
            screen.note(&format!(
                "hint: two runs of agent {agent} had the same task but different replies; a replay gives both the \
                 first one's"
            ));
        }
        screen.note(&format!("recorded to {0}; replay it with --script {0}", self.file.display()));
        Ok(())
    }
}

/// All jobs of a session that Redis still keeps, oldest first.
async fn jobs(operator: &Operator, session: SessionId) -> Result<Vec<Job>, Failure> {
    let filter = JobFilter { session: Some(session), ..JobFilter::default() };
    let mut jobs: Vec<Job> = operator.pages(filter).try_concat().await?;
    jobs.reverse();
    Ok(jobs)
}

/// Replaces the file's content atomically. A crash before the rename leaves the old content, and may leave a file
/// `.new` next to it.
fn replace(file: &Path, text: &str) -> std::io::Result<()> {
    let mut path = file.as_os_str().to_owned();
    path.push(".new");
    let mut new =
        std::fs::OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&path)?;
    new.write_all(text.as_bytes())?;
    // Synced before the rename: after a power loss the new name must not point at an empty file.
    new.sync_all()?;
    std::fs::rename(&path, file)
}

fn unwritable(file: &Path, error: &std::io::Error) -> Failure {
    Failure { message: format!("cannot write {}: {error}", file.display()), ..Failure::file(file, error) }
}
