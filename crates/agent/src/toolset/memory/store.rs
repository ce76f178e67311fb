//! The database: one table. Every call opens its own connection, so agents that share the file do not block each other
//! between calls.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;
use rusqlite::Connection;
use rusqlite::OptionalExtension;
use rusqlite::Row;
use rusqlite::ToSql;
use rusqlite::params;
use rusqlite::params_from_iter;
use serde::Serialize;
use serde_json::json;
use thiserror::Error;

use crate::toolset::confinement::escapes;

/// How long a call waits for the database lock. Writes take milliseconds; longer than this means that a process hangs.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// Where the memories are stored.
#[derive(Debug)]
pub(super) struct MemoryStore {
    pub(super) path: PathBuf,
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
    /// Creates the folder, readable by this user only, and the table. With `root`, links must not lead out of it.
    ///
    /// # Errors
    ///
    /// [`MemoryError`]. A folder that was created stays.
    pub(super) fn prepare(&self, root: Option<&Path>) -> Result<(), MemoryError> {
        let folder = self.path.parent().unwrap_or(&self.path);
        let failed = |source| MemoryError::Folder { path: folder.to_owned(), source };
        if let Some(root) = root
            && escapes(&self.path, root).map_err(failed)?
        {
            return Err(MemoryError::Outside { path: self.path.clone() });
        }
        DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)?;
        let database = self.open()?;
        database.execute_batch(
            "CREATE TABLE IF NOT EXISTS memories (id TEXT PRIMARY KEY, created_at TEXT, memory TEXT, category TEXT)",
        )?;
        // Older databases of this format lack the column.
        let has_category = "SELECT 1 FROM pragma_table_info('memories') WHERE name = 'category'";
        if database.query_row(has_category, [], |_| Ok(())).optional()?.is_none() {
            database.execute_batch("ALTER TABLE memories ADD COLUMN category TEXT")?;
        }
        Ok(())
    }

    fn open(&self) -> rusqlite::Result<Connection> {
        let database = Connection::open(&self.path)?;
        database.busy_timeout(BUSY_TIMEOUT)?;
        Ok(database)
    }

    /// Stores a memory and returns its id: the current time in nanoseconds, as in docker-agent.
    pub(super) fn add(&self, memory: &str, category: Option<&str>) -> Result<String, MemoryError> {
        let database = self.open()?;
        let now = Timestamp::now();
        let created_at = now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let mut nanoseconds = now.as_nanosecond();
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
    pub(super) fn update(&self, id: &str, memory: &str, category: Option<&str>) -> Result<(), MemoryError> {
        let changed = self.open()?.execute(
            "UPDATE memories SET memory = ?2, category = COALESCE(?3, category) WHERE id = ?1",
            params![id, memory, category],
        )?;
        if changed == 0 { Err(MemoryError::Unknown(id.to_owned())) } else { Ok(()) }
    }

    /// Deletes a memory. An unknown id is not an error.
    pub(super) fn delete(&self, id: &str) -> Result<(), MemoryError> {
        self.open()?.execute("DELETE FROM memories WHERE id = ?1", params![id])?;
        Ok(())
    }
}
