//! A file that several processes of a machine change: it is replaced atomically, and a lock next to it serializes the
//! changes.

use std::fs::File;
use std::fs::TryLockError;
use std::io;
use std::io::Read;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use thiserror::Error;
use tokio::time::sleep;
use tokio::time::timeout;

use super::confinement::confine;
use super::confinement::escapes;
use crate::blocking::BlockingThreads;
use crate::environment::Confinement;
use crate::environment::Environment;
use crate::files::Files;
use crate::tool::ToolOutcome;

/// How long a change waits for the lock. Changes take milliseconds; longer than this means that a process hangs.
const LOCK_TIMEOUT: Duration = Duration::from_secs(10);
/// Polling interval for the lock: several changes long, and too short to notice in a tool call. A file lock cannot be
/// awaited without a thread that blocks.
const LOCK_POLL_INTERVAL: Duration = Duration::from_millis(20);

/// Where the file is.
#[derive(Debug, Clone)]
pub(crate) struct SharedFile {
    pub(crate) path: PathBuf,
    /// The folder that links must not lead out of; `None` where the operator chose the place.
    pub(crate) root: Option<PathBuf>,
    /// What the run may reach; `None` for all, and where the operator chose the place.
    pub(crate) confinement: Option<Confinement>,
}

/// Why the file could not be read or replaced. It is unchanged.
#[derive(Debug, Error)]
pub(crate) enum SharedFileError {
    #[error("{} leads out of the working folder", path.display())]
    Outside { path: PathBuf },
    #[error("{} cannot be read", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{} cannot be written", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("{} is locked by another process for too long", path.display())]
    Busy { path: PathBuf },
}

/// The exclusive right to change the file. Dropping it, or the exit of the process, releases it.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

impl SharedFile {
    /// The file that an agent file names, below the working folder of the run and within what the run may reach.
    ///
    /// # Errors
    ///
    /// The path is not below the working folder. The message is for the agent and the operator.
    pub(crate) fn of_run(environment: &Environment, path: &str) -> Result<Self, String> {
        let root = environment.working_dir.clone();
        let confinement = environment.confinement.clone();
        Ok(Self { path: confine(&root, path)?, root: Some(root), confinement })
    }

    /// Waits for the lock, for [`LOCK_TIMEOUT`] at most. The lock is on a file next to this one, which stays: a lock on
    /// the file itself would be on one that the next change replaces.
    pub(crate) async fn lock(&self, blocking: &BlockingThreads) -> Result<Lock, SharedFileError> {
        let failed = |source| SharedFileError::Write { path: self.path.clone(), source };
        let this = self.clone();
        let opening = blocking.run(move || Ok(this.open_lock()));
        let hangs = |outcome: ToolOutcome| failed(io::Error::new(io::ErrorKind::TimedOut, outcome.text));
        let file = opening.await.map_err(hangs)??;
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
            .map_err(|_| SharedFileError::Busy { path: self.path.clone() })??;
        Ok(Lock { _file: file })
    }

    /// The lock where the file is only to be read; `None` where this user cannot make it, as in a read-only folder: such a reader
    /// changes nothing.
    pub(crate) async fn lock_to_read(
        &self,
        blocking: &BlockingThreads,
    ) -> Result<Option<Lock>, SharedFileError> {
        match self.lock(blocking).await {
            Err(SharedFileError::Write { source, .. })
                if matches!(
                    source.kind(),
                    io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem
                ) =>
            {
                Ok(None)
            }
            locked => locked.map(Some),
        }
    }

    fn open_lock(&self) -> Result<File, SharedFileError> {
        let failed = |source| SharedFileError::Write { path: self.path.clone(), source };
        self.check()?;
        self.files().create_folders(self.folder()).map_err(failed)?;
        self.files().open_lock(&self.sibling("lock")).map_err(failed)
    }

    /// The content, up to one byte more than `max_bytes`; `None` for a file that does not exist.
    pub(crate) fn read(&self, max_bytes: u64) -> Result<Option<Vec<u8>>, SharedFileError> {
        let failed = |source| SharedFileError::Read { path: self.path.clone(), source };
        let file = match self.files().open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        self.check()?;
        let mut content = Vec::new();
        file.take(max_bytes.saturating_add(1)).read_to_end(&mut content).map_err(failed)?;
        Ok(Some(content))
    }

    /// Replaces the content atomically. A crash leaves the old content or the new, and maybe a temporary file next to it.
    pub(crate) fn replace(&self, content: &[u8], _lock: &Lock) -> Result<(), SharedFileError> {
        self.check()?;
        let temporary = self.sibling("new");
        let replaced = self.files().replace(&self.path, &temporary, content);
        replaced.map_err(|source| SharedFileError::Write { path: self.path.clone(), source })
    }

    fn files(&self) -> Files<'_> {
        Files::new(self.confinement.as_ref())
    }

    /// The folder of the file.
    pub(crate) fn folder(&self) -> &Path {
        self.path.parent().or(self.root.as_deref()).unwrap_or(Path::new("."))
    }

    /// A hidden file in the same folder.
    fn sibling(&self, extension: &str) -> PathBuf {
        let name = self.path.file_name().unwrap_or_default().to_string_lossy();
        self.folder().join(format!(".{name}.{extension}"))
    }

    /// Checks that links do not lead out of the root.
    fn check(&self) -> Result<(), SharedFileError> {
        let failed = |source| SharedFileError::Read { path: self.path.clone(), source };
        match &self.root {
            Some(root) if escapes(&self.path, root).map_err(failed)? => {
                Err(SharedFileError::Outside { path: self.path.clone() })
            }
            Some(_) | None => Ok(()),
        }
    }
}
