//! The file of a task list. It is replaced atomically, and a lock file serializes changes on this machine.

use std::fs;
use std::fs::File;
use std::fs::OpenOptions;
use std::fs::TryLockError;
use std::io;
use std::io::Read;
use std::io::Write;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use thiserror::Error;
use tokio::time::sleep;
use tokio::time::timeout;

use super::list::Change;
use super::list::Create;
use super::list::TaskList;
use super::list::Update;
use crate::files::Files;
use crate::toolset::confinement::confine;
use crate::toolset::confinement::escapes;

/// The largest file: tens of thousands of tasks. Each call reads and each change writes the whole file.
const MAX_FILE_BYTES: u64 = 4 * 1024 * 1024;
/// The largest file that becomes a description: far more than a task needs, and it is stored in the list.
const MAX_DESCRIPTION_BYTES: u64 = 1024 * 1024;
/// How long a change waits for the lock. Changes take milliseconds; longer than this means that a process hangs.
const LOCK_TIMEOUT: Duration = Duration::from_secs(10);
/// Polling interval for the lock: several changes long, and too short to notice in a tool call. A file lock cannot be
/// awaited without a thread that blocks.
const LOCK_POLL_INTERVAL: Duration = Duration::from_millis(20);

/// Where a task list is stored.
#[derive(Debug)]
pub(super) struct TaskStore {
    pub(super) path: PathBuf,
    /// The folder that the file must be in. Links must not lead out of it.
    pub(super) root: PathBuf,
}

/// Why the list could not be read or written. The file is unchanged.
#[derive(Debug, Error)]
pub(super) enum TaskStoreError {
    #[error("{} leads out of the working folder", path.display())]
    Outside { path: PathBuf },
    #[error("{} cannot be read", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{} cannot be written", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("{} does not contain a task list and was not changed: {detail}", path.display())]
    Broken { path: PathBuf, detail: String },
    #[error("invalid file path: {0}")]
    Description(String),
    #[error("{} would be larger than 4 MiB: delete tasks that are done", path.display())]
    TooLarge { path: PathBuf },
    #[error("{} is locked by another process for too long", path.display())]
    Busy { path: PathBuf },
}

/// The exclusive right to change the list. Dropping it, or the exit of the process, releases it.
#[derive(Debug)]
pub(super) struct Lock {
    _file: File,
}

impl TaskStore {
    /// Waits for the lock, for [`LOCK_TIMEOUT`] at most. The lock is on a file next to the list, which stays: a lock on
    /// the list itself would be on a file that the next change replaces.
    pub(super) async fn lock(&self) -> Result<Lock, TaskStoreError> {
        let failed = |source| TaskStoreError::Write { path: self.path.clone(), source };
        self.check()?;
        fs::create_dir_all(self.folder()).map_err(failed)?;
        let file = Files::new(None).open_lock(&self.sibling("lock")).map_err(failed)?;
        let locking = async {
            loop {
                match file.try_lock() {
                    Ok(()) => return Ok(()),
                    Err(TryLockError::WouldBlock) => sleep(LOCK_POLL_INTERVAL).await,
                    Err(TryLockError::Error(error)) => return Err(failed(error)),
                }
            }
        };
        timeout(LOCK_TIMEOUT, locking)
            .await
            .map_err(|_| TaskStoreError::Busy { path: self.path.clone() })??;
        Ok(Lock { _file: file })
    }

    /// Reads the list. A file that does not exist yet is an empty list.
    pub(super) fn read(&self) -> Result<TaskList, TaskStoreError> {
        let path = || self.path.clone();
        let failed = |source| TaskStoreError::Read { path: path(), source };
        let file = match Files::new(None).open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(TaskList::default()),
            Err(error) => return Err(failed(error)),
        };
        self.check()?;
        let mut text = Vec::new();
        file.take(MAX_FILE_BYTES + 1).read_to_end(&mut text).map_err(failed)?;
        let broken = |detail| TaskStoreError::Broken { path: path(), detail };
        if text.len() as u64 > MAX_FILE_BYTES {
            return Err(broken("it is larger than 4 MiB".to_owned()));
        }
        let list: TaskList = serde_json::from_slice(&text).map_err(|error| broken(error.to_string()))?;
        match list.duplicate_id() {
            Some(id) => Err(broken(format!("two tasks have the id {id}"))),
            None => Ok(list),
        }
    }

    /// Replaces the path of a description by the content of the file. The file must be in the folder of the list, or
    /// below it.
    pub(super) fn describe(&self, change: &mut Change) -> Result<(), TaskStoreError> {
        let (path, description) = match change {
            Change::Create(Create { path, description, .. })
            | Change::Update(Update { path, description, .. }) => (path.take(), description),
            Change::Delete(_) | Change::AddDependency(_) | Change::RemoveDependency(_) => return Ok(()),
        };
        let Some(path) = path.filter(|path| !path.is_empty()) else { return Ok(()) };
        let outside = || TaskStoreError::Description(format!("{path} is not in the folder of the task list"));
        let file = confine(self.folder(), &path).map_err(|_| outside())?;
        let failed = |source| TaskStoreError::Read { path: file.clone(), source };
        if escapes(&file, self.folder()).map_err(failed)? {
            return Err(outside());
        }
        let bytes = match Files::new(None).read(&file, MAX_DESCRIPTION_BYTES) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::FileTooLarge => {
                return Err(TaskStoreError::Description(format!("{path} is larger than 1 MiB")));
            }
            Err(error) => return Err(failed(error)),
        };
        *description = String::from_utf8_lossy(&bytes).into_owned();
        Ok(())
    }

    /// Replaces the file atomically. A crash leaves the old content or the new, and maybe a temporary file next to it.
    pub(super) fn write(&self, list: &TaskList, _lock: &Lock) -> Result<(), TaskStoreError> {
        let failed = |source: io::Error| TaskStoreError::Write { path: self.path.clone(), source };
        let mut text = serde_json::to_vec_pretty(list).map_err(|error| failed(error.into()))?;
        text.push(b'\n');
        if text.len() as u64 > MAX_FILE_BYTES {
            return Err(TaskStoreError::TooLarge { path: self.path.clone() });
        }
        self.replace(&text).map_err(failed)
    }

    /// Writes a temporary file with the permissions of the old one, and renames it.
    fn replace(&self, text: &[u8]) -> io::Result<()> {
        // Of a link, the target is replaced.
        let target = if self.path.exists() { fs::canonicalize(&self.path)? } else { self.path.clone() };
        let temporary = self.sibling("new");
        // A crash may have left one.
        match fs::remove_file(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let mut new = OpenOptions::new().create_new(true).write(true).open(&temporary)?;
        new.write_all(text)?;
        if let Ok(old) = fs::metadata(&target) {
            new.set_permissions(old.permissions())?;
        }
        new.sync_all()?;
        fs::rename(&temporary, &target)
    }

    fn folder(&self) -> &Path {
        self.path.parent().unwrap_or(&self.root)
    }

    /// A hidden file in the same folder.
    fn sibling(&self, extension: &str) -> PathBuf {
        let name = self.path.file_name().unwrap_or_default().to_string_lossy();
        self.folder().join(format!(".{name}.{extension}"))
    }

    /// Checks that links do not lead out of the root.
    fn check(&self) -> Result<(), TaskStoreError> {
        let path = || self.path.clone();
        let failed = |source| TaskStoreError::Read { path: path(), source };
        if escapes(&self.path, &self.root).map_err(failed)? {
            return Err(TaskStoreError::Outside { path: path() });
        }
        Ok(())
    }
}
