//! How the worker of a session was started, kept in the state folder: whatever command replaces one that was killed starts
//! it alike. Keys of providers are not kept: they come from the environment of that command.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;
use std::path::PathBuf;

use legwork_common::id::SessionId;
use serde::Deserialize;
use serde::Serialize;

use crate::context::Context;

/// The folder of these files in the state folder.
const FOLDER: &str = "workers";
/// The version of the file that this release writes, and the newest that it reads.
const VERSION: u32 = 1;

/// The options of a worker that its session decides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Launch {
    version: u32,
    /// The script of model replies; `None` for real providers.
    pub(super) script: Option<PathBuf>,
    /// The policy file.
    pub(super) policy: Option<PathBuf>,
    /// The rate limits of the command line.
    pub(super) limits: Vec<String>,
    /// Whether commands get the whole environment.
    pub(super) inherit_environment: bool,
    /// In milliseconds.
    pub(super) stall_after: u64,
}

impl Launch {
    /// As this command asks for it.
    pub(super) fn of(context: &Context, script: Option<&Path>) -> Self {
        // A later command has another working directory.
        let absolute = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let common = &context.common;
        Self {
            version: VERSION,
            script: script.map(absolute),
            policy: common.policy.as_deref().map(absolute),
            limits: common.limits.clone(),
            inherit_environment: common.inherit_environment,
            stall_after: u64::try_from(common.stall_after.as_millis()).unwrap_or(u64::MAX),
        }
    }

    /// How the worker of a session was started before; `None` where that is not known.
    pub(super) fn read(state_dir: &Path, session: SessionId) -> Option<Self> {
        let text = fs::read_to_string(file(state_dir, session)).ok()?;
        serde_json::from_str::<Self>(&text).ok().filter(|launch| launch.version <= VERSION)
    }

    /// Keeps it. A crash in the middle leaves the earlier file or none.
    pub(super) fn write(&self, state_dir: &Path, session: SessionId) -> io::Result<()> {
        let path = file(state_dir, session);
        fs::create_dir_all(state_dir.join(FOLDER))?;
        let unfinished = path.with_extension(format!("{}.tmp", std::process::id()));
        fs::write(&unfinished, serde_json::to_vec(self).map_err(io::Error::other)?)?;
        fs::rename(unfinished, path)
    }

    /// Removes the files of all sessions but these, whose jobs have not ended. What cannot be removed stays.
    pub(super) fn forget_all_but(state_dir: &Path, kept: &BTreeSet<SessionId>) {
        let names: BTreeSet<String> = kept.iter().map(name).collect();
        let entries = fs::read_dir(state_dir.join(FOLDER)).into_iter().flatten().flatten();
        for entry in entries.filter(|entry| !names.contains(&*entry.file_name().to_string_lossy())) {
            fs::remove_file(entry.path()).ok();
        }
    }
}

fn name(session: &SessionId) -> String {
    format!("{session}.json")
}

fn file(state_dir: &Path, session: SessionId) -> PathBuf {
    state_dir.join(FOLDER).join(name(&session))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn launch(version: u32) -> Launch {
        Launch {
            version,
            script: Some("/tmp/script.json".into()),
            policy: None,
            limits: vec!["openai=concurrent:5".to_owned()],
            inherit_environment: true,
            stall_after: 900_000,
        }
    }

    #[test]
    fn a_launch_is_read_as_it_was_written_until_its_session_has_ended() {
        let folder = tempfile::tempdir().unwrap();
        let [kept, ended] = [SessionId::random(), SessionId::random()];
        for session in [kept, ended] {
            launch(VERSION).write(folder.path(), session).unwrap();
        }
        assert_eq!(Launch::read(folder.path(), kept), Some(launch(VERSION)));
        Launch::forget_all_but(folder.path(), &BTreeSet::from([kept]));
        assert_eq!(Launch::read(folder.path(), kept), Some(launch(VERSION)));
        assert_eq!(Launch::read(folder.path(), ended), None);
    }

    #[test]
    fn a_file_of_a_later_release_is_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let session = SessionId::random();
        launch(VERSION + 1).write(folder.path(), session).unwrap();
        assert_eq!(Launch::read(folder.path(), session), None);
    }
}
