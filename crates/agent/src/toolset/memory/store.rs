//! The database: one table. Every call opens its own connection, so agents that share the file do not block each other
//! between calls.
//!
//! SQLite finds files by their paths: a command that puts a link into one between a check and the open leads it elsewhere.
//! So in a confined run the file is read and replaced whole, as other shared files are, and SQLite has it in memory. SQLite's
//! locks do not keep such a run from replacing what another one changes, so all runs take the lock of the shared file first,
//! also to read, unless it cannot be made: a read-only project can be read without it.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;
use rusqlite::Connection;
use rusqlite::OpenFlags;
use rusqlite::OptionalExtension;
use rusqlite::Row;
use rusqlite::ToSql;
use rusqlite::params;
use rusqlite::params_from_iter;
use serde::Serialize;
use serde_json::json;
use thiserror::Error;

use crate::blocking::BlockingThreads;
use crate::files::MAX_FILE_BYTES;
use crate::toolset::confinement::escapes;
use crate::toolset::shared_file::Lock;
use crate::toolset::shared_file::SharedFile;
use crate::toolset::shared_file::SharedFileError;

/// How long a call waits for the database lock. Writes take milliseconds; longer than this means that a process hangs.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// Where the memories are stored.
#[derive(Debug)]
pub(super) enum MemoryStore {
    /// A database in the state folder, where SQLite opens it for every run.
    Own { path: PathBuf },
    /// One in the working folder, where SQLite opens it for this run.
    Shared(SharedFile),
    /// One in the working folder of a confined run.
    Confined(SharedFile),
}

/// Why a memory could not be stored or read.
#[derive(Debug, Error)]
pub(super) enum MemoryError {
    #[error("the folder {} cannot be created", path.display())]
    Folder { path: PathBuf, source: io::Error },
    #[error("{} leads out of the working folder", path.display())]
    Outside { path: PathBuf },
    #[error("the memory database failed")]
    Database(#[from] rusqlite::Error),
    #[error(transparent)]
    File(#[from] SharedFileError),
    #[error("the memory database is larger than {MAX_FILE_BYTES} bytes")]
    TooLarge,
    #[error("Memory with ID {0} not found")]
    Unknown(String),
}

/// One row. Its JSON form is docker-agent's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Memory {
    id: String,
    created_at: String,
    memory: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    category: Option<String>,
}

impl Memory {
    /// Reads a row in the column order of [`MemoryStore::search`].
    fn from_row(row: &Row<'_>) -> rusqlite::Result<Self> {
        let category: Option<String> = row.get(3)?;
        let category = category.filter(|category| !category.is_empty());
        Ok(Self { id: row.get(0)?, created_at: row.get(1)?, memory: row.get(2)?, category })
    }
}

/// The JSON list for the model. An empty one is `null`, as in docker-agent.
pub(super) fn to_json(memories: &[Memory]) -> String {
    if memories.is_empty() { "null".to_owned() } else { json!(memories).to_string() }
}

impl MemoryStore {
    /// The right to read and change a database that confined runs may replace; `None` where SQLite serializes all changes, and
    /// for one that is only to be read where no lock can be made.
    pub(super) async fn lock(
        &self,
        blocking: &BlockingThreads,
        changes: bool,
    ) -> Result<Option<Lock>, MemoryError> {
        match self {
            Self::Own { .. } => Ok(None),
            Self::Shared(file) | Self::Confined(file) if changes => Ok(Some(file.lock(blocking).await?)),
            Self::Shared(file) | Self::Confined(file) => Ok(file.lock_to_read(blocking).await?),
        }
    }

    /// The file that SQLite opens; `None` in a confined run.
    fn path(&self) -> Option<&Path> {
        match self {
            Self::Own { path } | Self::Shared(SharedFile { path, .. }) => Some(path),
            Self::Confined(_) => None,
        }
    }

    /// Creates the folder, readable by this user only; that of a confined run is created with its lock.
    ///
    /// # Errors
    ///
    /// [`MemoryError`].
    pub(super) fn create_folder(&self) -> Result<(), MemoryError> {
        let Some(path) = self.path() else { return Ok(()) };
        self.check()?;
        let folder = path.parent().unwrap_or(path);
        let failed = |source| MemoryError::Folder { path: folder.to_owned(), source };
        DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)
    }

    /// Creates the table; without the lock of a shared database, checks that it is there.
    ///
    /// # Errors
    ///
    /// [`MemoryError`].
    pub(super) fn prepare(&self, lock: Option<&Lock>) -> Result<(), MemoryError> {
        if lock.is_none() && !matches!(self, Self::Own { .. }) {
            return self.check_table();
        }
        self.change(lock, |database| {
            database.execute_batch(
                "CREATE TABLE IF NOT EXISTS memories (id TEXT PRIMARY KEY, created_at TEXT, memory TEXT, category TEXT)",
            )?;
            // Older databases of this format lack the column.
            let has_category = "SELECT 1 FROM pragma_table_info('memories') WHERE name = 'category'";
            if database.query_row(has_category, [], |_| Ok(())).optional()?.is_none() {
                database.execute_batch("ALTER TABLE memories ADD COLUMN category TEXT")?;
            }
            Ok(())
        })
    }

    fn check_table(&self) -> Result<(), MemoryError> {
        let database = match self.path() {
            Some(path) => {
                self.check()?;
                // A database that is not there is not created.
                Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?
            }
            None => self.open()?,
        };
        Ok(database.prepare("SELECT id, created_at, memory, category FROM memories").map(drop)?)
    }

    /// Checks that no link leads out of the root.
    fn check(&self) -> Result<(), MemoryError> {
        let Self::Shared(SharedFile { path, root: Some(root), .. }) = self else { return Ok(()) };
        let failed = |source| MemoryError::Folder { path: path.clone(), source };
        if escapes(path, root).map_err(failed)? {
            return Err(MemoryError::Outside { path: path.clone() });
        }
        Ok(())
    }

    fn open(&self) -> Result<Connection, MemoryError> {
        match self {
            Self::Own { path } | Self::Shared(SharedFile { path, .. }) => {
                self.check()?;
                let database = Connection::open(path)?;
                database.busy_timeout(BUSY_TIMEOUT)?;
                Ok(database)
            }
            Self::Confined(file) => {
                let mut database = Connection::open_in_memory()?;
                let content = file.read(MAX_FILE_BYTES)?.unwrap_or_default();
                if content.len() as u64 > MAX_FILE_BYTES {
                    return Err(MemoryError::TooLarge);
                }
                if !content.is_empty() {
                    database.deserialize_read_exact("main", content.as_slice(), content.len(), false)?;
                }
                Ok(database)
            }
        }
    }

    /// Changes the database. A crash in the middle leaves it as it was.
    fn change<T>(
        &self,
        lock: Option<&Lock>,
        work: impl FnOnce(&Connection) -> Result<T, MemoryError>,
    ) -> Result<T, MemoryError> {
        let mut database = self.open()?;
        let done = work(&database)?;
        if let (Self::Confined(file), Some(lock)) = (self, lock) {
            file.replace(&database.serialize("main")?, lock)?;
        }
        Ok(done)
    }

    /// Stores a memory and returns its id: the current time in nanoseconds, as in docker-agent.
    pub(super) fn add(
        &self,
        lock: Option<&Lock>,
        memory: &str,
        category: Option<&str>,
    ) -> Result<String, MemoryError> {
        let now = Timestamp::now();
        let created_at = now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let mut nanoseconds = now.as_nanosecond();
        self.change(lock, |database| {
            loop {
                let id = nanoseconds.to_string();
                let added = database.execute(
                    "INSERT INTO memories (id, created_at, memory, category) VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING",
                    params![id, created_at, memory, category],
                )?;
                if added == 1 {
                    return Ok(id);
                }
                // Another process used this nanosecond. The insertion is atomic, so trying the next one is safe.
                nanoseconds += 1;
            }
        })
    }

    /// The memories that contain all words of `query`, ignoring case, in the order of insertion. An empty query matches
    /// every memory.
    pub(super) fn search(&self, query: &str, category: Option<&str>) -> Result<Vec<Memory>, MemoryError> {
        let mut sql = "SELECT id, created_at, memory, category FROM memories WHERE TRUE".to_owned();
        let mut values: Vec<String> = Vec::new();
        for word in query.split_whitespace() {
            let escaped = word.replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_");
            values.push(format!("%{escaped}%"));
            sql.push_str(" AND memory LIKE ? ESCAPE '\\'");
        }
        if let Some(category) = category.filter(|category| !category.is_empty()) {
            values.push(category.to_owned());
            sql.push_str(" AND category = ? COLLATE NOCASE");
        }
        sql.push_str(" ORDER BY rowid");
        let database = self.open()?;
        let mut statement = database.prepare(&sql)?;
        let values = values.iter().map(|value| value as &dyn ToSql);
        let found = statement.query_map(params_from_iter(values), Memory::from_row)?;
        Ok(found.collect::<rusqlite::Result<_>>()?)
    }

    /// Replaces the text of a memory, and its category if one is given.
    ///
    /// # Errors
    ///
    /// [`MemoryError::Unknown`] where no memory has this id.
    pub(super) fn update(
        &self,
        lock: Option<&Lock>,
        id: &str,
        memory: &str,
        category: Option<&str>,
    ) -> Result<(), MemoryError> {
        self.change(lock, |database| {
            let changed = database.execute(
                "UPDATE memories SET memory = ?2, category = COALESCE(?3, category) WHERE id = ?1",
                params![id, memory, category],
            )?;
            if changed == 0 { Err(MemoryError::Unknown(id.to_owned())) } else { Ok(()) }
        })
    }

    /// Deletes a memory. An unknown id is not an error.
    pub(super) fn delete(&self, lock: Option<&Lock>, id: &str) -> Result<(), MemoryError> {
        self.change(lock, |database| {
            database.execute("DELETE FROM memories WHERE id = ?1", params![id])?;
            Ok(())
        })
    }
}
