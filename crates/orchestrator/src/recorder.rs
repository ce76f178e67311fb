//! `run --record FILE`: what the models answered in a session, as a script that gives the same answers.
//!
//! The turns of the root and of its jobs are recorded anyway; the script is put together from them when the run ends, so
//! the jobs may have run on any worker.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;

use legwork_agent::Opening;
use legwork_agent::journal::TurnEntry;
use legwork_agent::message::Message;
use legwork_agent::model::scripted::Recording;
use legwork_common::id::SessionId;
use legwork_common::job::Job;
use legwork_common::team::Team;
use legwork_common::variables::REDIS_URL;
use legwork_queue::Queue;
use legwork_queue::port::JobFilter;
use legwork_queue::port::Watch as _;
use legwork_queue::port::Work as _;

use crate::failure::Failure;
use crate::panel::Screen;

/// Jobs of one read.
const PAGE: usize = 500;
/// Words in a variable's name by which its value is a secret.
const SECRET_WORDS: [&str; 11] = [
    "KEY",
    "APIKEY",
    "TOKEN",
    "SECRET",
    "PASSWORD",
    "PASSWD",
    "PASSPHRASE",
    "CREDENTIAL",
    "CREDENTIALS",
    "PAT",
    "AUTH",
];

/// Writes the script of one run.
#[derive(Debug)]
pub struct Recorder {
    file: PathBuf,
    team: Arc<Team>,
    agent: String,
    secrets: Vec<(String, String)>,
    root: Mutex<Option<(String, Vec<TurnEntry>)>>,
}

impl Recorder {
    /// A recorder for `file`, which is made if it is not there; none without a file.
    ///
    /// # Errors
    ///
    /// [`Failure`] for a file that cannot be written: better now than after the run.
    pub fn begin(
        file: Option<&Path>,
        team: &Arc<Team>,
        agent: &str,
        variables: &BTreeMap<String, String>,
    ) -> Result<Option<Self>, Failure> {
        let Some(file) = file else { return Ok(None) };
        let open = std::fs::OpenOptions::new().create(true).append(true).mode(0o600).open(file);
        open.map_err(|error| unwritable(file, &error))?;
        let secret = |(name, value): (&String, &String)| {
            let value = if is_secret(name) { Some(value.as_str()) } else { password(value) };
            value.map(|value| (name.clone(), value.to_owned()))
        };
        Ok(Some(Self {
            file: file.to_owned(),
            team: Arc::clone(team),
            agent: agent.to_owned(),
            secrets: variables.iter().filter_map(secret).collect(),
            root: Mutex::default(),
        }))
    }

    /// Keeps what the root's models answered since the first prompt.
    pub fn keep_root(&self, prompt: &str, entries: &[TurnEntry]) {
        let mut root = self.root.lock().unwrap_or_else(PoisonError::into_inner);
        *root = Some((prompt.to_owned(), entries.to_vec()));
    }

    /// Writes the script: of the root, then of the session's jobs, the oldest first. The file has either what it had or
    /// all of it.
    ///
    /// # Errors
    ///
    /// [`Failure`] when the jobs cannot be read, or the file cannot be written.
    pub async fn write(&self, queue: &Queue, session: SessionId, screen: &Screen) -> Result<(), Failure> {
        let mut recording = Recording::new(self.secrets.iter().cloned());
        let root = self.root.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some((prompt, entries)) = root {
            let opening = Opening::Conversation { messages: vec![Message::user(prompt)] };
            recording.add(&self.team, &self.agent, opening, &entries);
        }
        for job in jobs(queue, session).await? {
            let turns = queue.turns(job.id, 0).await?;
            let entries: Vec<TurnEntry> =
                turns.iter().filter_map(|(_, entry)| serde_json::from_str(entry).ok()).collect();
            let opening = Opening::Delegated { task: job.task, expected_output: None };
            recording.add(&self.team, &job.agent, opening, &entries);
        }
        let json = recording.to_json().map_err(|error| Failure::usage(error.to_string()))?;
        replace(&self.file, &json).map_err(|error| unwritable(&self.file, &error))?;
        for agent in recording.twins() {
            screen.note(&format!(
                "hint: two runs of agent {agent} had the same task and other replies; a replay gives both the first's"
            ));
        }
        screen.note(&format!("recorded in {0}; play it with --script {0}", self.file.display()));
        Ok(())
    }
}

/// The jobs of a session, the oldest first.
async fn jobs(queue: &Queue, session: SessionId) -> Result<Vec<Job>, Failure> {
    let filter = JobFilter { session: Some(session), ..JobFilter::default() };
    let (mut jobs, mut after) = (Vec::new(), None);
    loop {
        let page = queue.list(&filter, PAGE, after).await?;
        jobs.extend(page.jobs);
        after = page.next;
        if after.is_none() {
            jobs.reverse();
            return Ok(jobs);
        }
    }
}

/// Whether a variable of this name holds a secret.
fn is_secret(name: &str) -> bool {
    name == REDIS_URL
        || name.split('_').any(|word| SECRET_WORDS.contains(&word.to_ascii_uppercase().as_str()))
}

/// The password in a URL: `scheme://user:password@host`.
fn password(value: &str) -> Option<&str> {
    let authority = value.split_once("://")?.1.split('/').next()?;
    let (login, _host) = authority.rsplit_once('@')?;
    login.split_once(':').map(|(_user, password)| password)
}

/// Puts `text` in place of the file. A crash leaves the file as it was, or a second one beside it.
fn replace(file: &Path, text: &str) -> std::io::Result<()> {
    let mut beside = file.as_os_str().to_owned();
    beside.push(".new");
    let mut new =
        std::fs::OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&beside)?;
    new.write_all(text.as_bytes())?;
    new.sync_all()?;
    std::fs::rename(&beside, file)
}

fn unwritable(file: &Path, error: &std::io::Error) -> Failure {
    Failure { message: format!("cannot write {}: {error}", file.display()), ..Failure::file(file, error) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_may_hold_a_password() {
        assert_eq!(password("postgres://me:hush:hush@db.example/x?y=@"), Some("hush:hush"));
        for other in
            ["postgres://db.example/me:x@y", "postgres://me@db.example", "me:hush@db", "/usr/bin:/bin"]
        {
            assert_eq!(password(other), None, "{other}");
        }
    }

    #[test]
    fn secrets_are_known_by_their_names() {
        for name in [
            "OPENAI_API_KEY",
            "GITHUB_TOKEN",
            "DB_PASSWORD",
            "AWS_SECRET_ACCESS_KEY",
            "SOME_APIKEY",
            REDIS_URL,
        ] {
            assert!(is_secret(name), "{name}");
        }
        for name in ["PATH", "KEYBOARD", "HOME", "MONKEY"] {
            assert!(!is_secret(name), "{name}");
        }
    }
}
