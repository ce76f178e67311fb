//! The file. It is replaced in one step, and changed by one at a time on this machine.

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

use super::list::List;
use crate::toolset::fence::leads_out;

/// The most bytes of the file.
const FILE_BYTES: u64 = 4 * 1024 * 1024;
/// How long a change waits for another.
const BUSY: Duration = Duration::from_secs(10);
/// How often it looks whether the other is done.
const LOOK: Duration = Duration::from_millis(20);

/// Where the list is.
#[derive(Debug)]
pub(super) struct Store {
    pub(super) path: PathBuf,
    /// The folder that it must not leave, by links either.
    pub(super) fence: PathBuf,
}

/// Why the list could not be read or changed. The file is as it was.
#[derive(Debug, Error)]
pub(super) enum StoreError {
    #[error("{} leads out of the working folder", path.display())]
    Outside { path: PathBuf },
    #[error("{} cannot be read", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{} cannot be written", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("{} holds no list of tasks; it is left as it is: {detail}", path.display())]
    Broken { path: PathBuf, detail: String },
    #[error("{} would be over 4 MiB: delete tasks that are completed", path.display())]
    TooLong { path: PathBuf },
    #[error("{} is being changed by another for too long", path.display())]
    Busy { path: PathBuf },
}

/// The right to change the list, until it is dropped.
#[derive(Debug)]
pub(super) struct Lock {
    _file: File,
}

impl Store {
    /// Waits until nobody else changes the list, ten seconds at most. Makes the folder and a file beside the list, which
    /// stays: a lock on the list itself would be on a file that the next change replaces.
    pub(super) async fn lock(&self) -> Result<Lock, StoreError> {
        let failed = |source| StoreError::Write { path: self.path.clone(), source };
        self.check()?;
        fs::create_dir_all(self.folder()).map_err(failed)?;
        let file = OpenOptions::new().create(true).append(true).open(self.beside("lock")).map_err(failed)?;
        let locking = async {
            loop {
                match file.try_lock() {
                    Ok(()) => return Ok(()),
                    Err(TryLockError::WouldBlock) => sleep(LOOK).await,
                    Err(TryLockError::Error(error)) => return Err(failed(error)),
                }
            }
        };
        timeout(BUSY, locking).await.map_err(|_| StoreError::Busy { path: self.path.clone() })??;
        Ok(Lock { _file: file })
    }

    /// The list; an empty one where there is no file yet.
    pub(super) fn read(&self) -> Result<List, StoreError> {
        let path = || self.path.clone();
        let failed = |source| StoreError::Read { path: path(), source };
        let file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(List::default()),
            Err(error) => return Err(failed(error)),
        };
        self.check()?;
        let mut text = Vec::new();
        file.take(FILE_BYTES + 1).read_to_end(&mut text).map_err(failed)?;
        let broken = |detail| StoreError::Broken { path: path(), detail };
        if text.len() as u64 > FILE_BYTES {
            return Err(broken("it is over 4 MiB".to_owned()));
        }
        let list: List = serde_json::from_slice(&text).map_err(|error| broken(error.to_string()))?;
        match list.double() {
            Some(id) => Err(broken(format!("two tasks have the id {id}"))),
            None => Ok(list),
        }
    }

    /// Replaces the list. A crash leaves the file as it was, or a second one beside it.
    pub(super) fn write(&self, list: &List, _lock: &Lock) -> Result<(), StoreError> {
        let failed = |source: io::Error| StoreError::Write { path: self.path.clone(), source };
        let mut text = serde_json::to_vec_pretty(list).map_err(|error| failed(error.into()))?;
        text.push(b'\n');
        if text.len() as u64 > FILE_BYTES {
            return Err(StoreError::TooLong { path: self.path.clone() });
        }
        self.replace(&text).map_err(failed)
    }

    fn replace(&self, text: &[u8]) -> io::Result<()> {
        // Where the file is a link, what it leads to is replaced.
        let place = if self.path.exists() { fs::canonicalize(&self.path)? } else { self.path.clone() };
        let beside = self.beside("new");
        match fs::remove_file(&beside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let mut new = OpenOptions::new().create_new(true).write(true).open(&beside)?;
        new.write_all(text)?;
        if let Ok(old) = fs::metadata(&place) {
            new.set_permissions(old.permissions())?;
        }
        new.sync_all()?;
        fs::rename(&beside, &place)
    }

    fn folder(&self) -> &Path {
        self.path.parent().unwrap_or(&self.fence)
    }

    /// A hidden file in the same folder.
    fn beside(&self, ending: &str) -> PathBuf {
        let name = self.path.file_name().unwrap_or_default().to_string_lossy();
        self.folder().join(format!(".{name}.{ending}"))
    }

    fn check(&self) -> Result<(), StoreError> {
        let path = || self.path.clone();
        let failed = |source| StoreError::Read { path: path(), source };
        if leads_out(&self.path, &self.fence).map_err(failed)? {
            return Err(StoreError::Outside { path: path() });
        }
        Ok(())
    }
}
