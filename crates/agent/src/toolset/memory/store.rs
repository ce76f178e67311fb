//! The database: one table. Every call opens it anew, so agents that share it do not keep each other waiting.

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

use crate::toolset::fence::leads_out;

/// How long a call waits for another that writes.
const BUSY: Duration = Duration::from_secs(10);

/// Where the database is.
#[derive(Debug)]
pub(super) struct Store {
    pub(super) path: PathBuf,
}

/// Why a memory could not be kept or found.
#[derive(Debug, Error)]
pub(super) enum StoreError {
    #[error("the folder {} cannot be made", path.display())]
    Folder { path: PathBuf, source: io::Error },
    #[error("{} leads out of the working folder", path.display())]
    Outside { path: PathBuf },
    #[error("the memory's database failed")]
    Database(#[from] rusqlite::Error),
    #[error("Memory with ID {0} not found")]
    Unknown(String),
}

/// Something remembered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Remembered {
    id: String,
    created_at: String,
    memory: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    category: Option<String>,
}

impl Remembered {
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        let category: Option<String> = row.get(3)?;
        let category = category.filter(|category| !category.is_empty());
        Ok(Self { id: row.get(0)?, created_at: row.get(1)?, memory: row.get(2)?, category })
    }
}

/// As the model reads it; `null` where there is nothing.
pub(super) fn listed(all: &[Remembered]) -> String {
    if all.is_empty() { "null".to_owned() } else { json!(all).to_string() }
}

impl Store {
    /// Makes the folder, for this user alone, and the table. Links on the way must not lead out of `fence`.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; a folder that was made stays.
    pub(super) fn prepare(&self, fence: Option<&Path>) -> Result<(), StoreError> {
        let folder = self.path.parent().unwrap_or(&self.path);
        let failed = |source| StoreError::Folder { path: folder.to_owned(), source };
        if let Some(fence) = fence
            && leads_out(&self.path, fence).map_err(failed)?
        {
            return Err(StoreError::Outside { path: self.path.clone() });
        }
        DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)?;
        let database = self.open()?;
        database.execute_batch(
            "CREATE TABLE IF NOT EXISTS memories (id TEXT PRIMARY KEY, created_at TEXT, memory TEXT, category TEXT)",
        )?;
        // A database of older versions of the format lacks the category.
        let known = "SELECT 1 FROM pragma_table_info('memories') WHERE name = 'category'";
        if database.query_row(known, [], |_| Ok(())).optional()?.is_none() {
            database.execute_batch("ALTER TABLE memories ADD COLUMN category TEXT")?;
        }
        Ok(())
    }

    fn open(&self) -> rusqlite::Result<Connection> {
        let database = Connection::open(&self.path)?;
        database.busy_timeout(BUSY)?;
        Ok(database)
    }

    /// Keeps a memory; its id, the time in nanoseconds.
    pub(super) fn add(&self, memory: &str, category: Option<&str>) -> Result<String, StoreError> {
        let database = self.open()?;
        let now = Timestamp::now();
        let written = now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let mut number = now.as_nanosecond();
        loop {
            let id = number.to_string();
            let added = database.execute(
                "INSERT INTO memories (id, created_at, memory, category) VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING",
                params![id, written, memory, category],
            )?;
            if added == 1 {
                return Ok(id);
            }
            // Two at the same nanosecond: one of them is a little later.
            number += 1;
        }
    }

    /// What holds all the words, in the order in which it was added.
    pub(super) fn search(&self, query: &str, category: Option<&str>) -> Result<Vec<Remembered>, StoreError> {
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
        let found = statement.query_map(params_from_iter(values), Remembered::read)?;
        Ok(found.collect::<rusqlite::Result<_>>()?)
    }

    /// Changes a memory; its category only where one is given.
    pub(super) fn update(&self, id: &str, memory: &str, category: Option<&str>) -> Result<(), StoreError> {
        let changed = self.open()?.execute(
            "UPDATE memories SET memory = ?2, category = COALESCE(?3, category) WHERE id = ?1",
            params![id, memory, category],
        )?;
        if changed == 0 { Err(StoreError::Unknown(id.to_owned())) } else { Ok(()) }
    }

    /// Forgets a memory, if there is one.
    pub(super) fn delete(&self, id: &str) -> Result<(), StoreError> {
        self.open()?.execute("DELETE FROM memories WHERE id = ?1", params![id])?;
        Ok(())
    }
}
