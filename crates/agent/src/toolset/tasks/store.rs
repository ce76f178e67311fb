//! The file of a task list.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use thiserror::Error;

use super::list::Change;
use super::list::Create;
use super::list::TaskList;
use super::list::Update;
use crate::environment::Environment;
use crate::files::hidden::Hidden;
use crate::toolset::confinement::confine;
use crate::toolset::confinement::escapes;
use crate::toolset::shared_file::Lock;
use crate::toolset::shared_file::SharedFile;
use crate::toolset::shared_file::SharedFileError;

/// The largest file: tens of thousands of tasks. Each call reads and each change writes the whole file.
const MAX_FILE_BYTES: u64 = 4 * 1024 * 1024;
/// The largest file that becomes a description: far more than a task needs, and it is stored in the list.
const MAX_DESCRIPTION_BYTES: u64 = 1024 * 1024;

/// Where a task list is stored.
#[derive(Debug)]
pub(super) struct TaskStore {
    pub(super) file: SharedFile,
    /// Files that do not become descriptions.
    pub(super) hidden: Hidden,
    pub(super) environment: Arc<Environment>,
}

/// Why the list could not be read or written. The file is unchanged.
#[derive(Debug, Error)]
pub(super) enum TaskStoreError {
    #[error(transparent)]
    File(#[from] SharedFileError),
    #[error("{} cannot be written", path.display())]
    Encode { path: PathBuf, source: serde_json::Error },
    #[error("{} does not contain a task list and was not changed: {detail}", path.display())]
    Broken { path: PathBuf, detail: String },
    #[error("{} cannot be read", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("invalid file path: {0}")]
    Description(String),
    #[error("{} would be larger than 4 MiB: delete tasks that are done", path.display())]
    TooLarge { path: PathBuf },
}

impl TaskStore {
    /// See [`SharedFile::lock`].
    pub(super) async fn lock(&self) -> Result<Lock, TaskStoreError> {
        Ok(self.file.lock(&self.environment.blocking).await?)
    }

    /// Reads the list. A file that does not exist yet is an empty list.
    pub(super) fn read(&self) -> Result<TaskList, TaskStoreError> {
        let Some(text) = self.file.read(MAX_FILE_BYTES)? else { return Ok(TaskList::default()) };
        let broken = |detail| TaskStoreError::Broken { path: self.file.path.clone(), detail };
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
        let folder = self.file.folder();
        let file = confine(folder, &path).map_err(|_| outside())?;
        let failed = |source| TaskStoreError::Read { path: file.clone(), source };
        if escapes(&file, folder).map_err(failed)? {
            return Err(outside());
        }
        let file = self.hidden.check(file, &path).map_err(TaskStoreError::Description)?;
        let failed = |source| TaskStoreError::Read { path: file.clone(), source };
        let bytes = match self.environment.files().read(&file, MAX_DESCRIPTION_BYTES) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::FileTooLarge => {
                return Err(TaskStoreError::Description(format!("{path} is larger than 1 MiB")));
            }
            Err(error) => return Err(failed(error)),
        };
        *description = String::from_utf8_lossy(&bytes).into_owned();
        Ok(())
    }

    /// Replaces the list.
    pub(super) fn write(&self, list: &TaskList, lock: &Lock) -> Result<(), TaskStoreError> {
        let path = || self.file.path.clone();
        let mut text = serde_json::to_vec_pretty(list)
            .map_err(|source| TaskStoreError::Encode { path: path(), source })?;
        text.push(b'\n');
        if text.len() as u64 > MAX_FILE_BYTES {
            return Err(TaskStoreError::TooLarge { path: path() });
        }
        Ok(self.file.replace(&text, lock)?)
    }
}
