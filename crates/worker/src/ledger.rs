//! What this worker ran: a database in its state folder, by which it recognizes a signed job that is run once more, and turns
//! that lack their last entries.
//!
//! All workers that share the folder share it. Redis counts the attempts of a job up with each claim, so an attempt whose
//! number is not above those that were begun here is a replay, and so is one of a job that ended here. Rows are kept until
//! the signature of their job expires. A crash of the machine may lose the last ones. An entry is noted once it is stored, so a
//! worker that dies in between has not noted its last one.

use std::path::Path;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use legwork_common::id::JobId;
use rusqlite::Connection;
use rusqlite::OptionalExtension as _;
use rusqlite::TransactionBehavior;
use rusqlite::params;
use thiserror::Error;
use tokio::task::spawn_blocking;

use crate::job_folders::create_private;

/// How long a call waits for another worker's: each takes less than a millisecond.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Why the ledger could not be asked.
#[derive(Debug, Error)]
pub enum LedgerError {
    /// The folder cannot be created.
    #[error("the folder of the ledger cannot be created: {0}")]
    Folder(#[from] std::io::Error),
    /// The database.
    #[error("the ledger cannot be used: {0}")]
    Database(#[from] rusqlite::Error),
    /// A call to it panicked.
    #[error("the ledger did not answer")]
    NoAnswer,
}

/// What is known of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Known {
    /// The latest attempt that was begun here.
    attempt: u32,
    /// Whether the job ended here.
    has_ended: bool,
}

/// Decides whether an attempt is a replay; what is against it, if it is one.
fn decide(known: Option<Known>, attempt: u32) -> Option<String> {
    match known {
        Some(Known { has_ended: true, .. }) => Some("it ended on this machine before".to_owned()),
        Some(Known { attempt: last, .. }) if attempt <= last => {
            Some(format!("attempt {attempt} comes after attempt {last} on this machine"))
        }
        _ => None,
    }
}

/// The ledger. Cheap to clone; all clones are one.
#[derive(Debug, Clone)]
pub struct Ledger {
    // A std mutex: locked on threads for blocking calls only.
    database: Arc<Mutex<Connection>>,
}

impl Ledger {
    /// Opens the ledger in a folder, which only this user may enter. Waits for the disk.
    ///
    /// # Errors
    ///
    /// [`LedgerError`].
    pub fn open(folder: &Path) -> Result<Self, LedgerError> {
        create_private(folder)?;
        let mut database = Connection::open(folder.join("ledger.sqlite3"))?;
        database.busy_timeout(BUSY_TIMEOUT)?;
        // A write that is not forced to the disk outlives a crash of this program, but not of the machine.
        database.pragma_update(None, "journal_mode", "WAL")?;
        database.pragma_update(None, "synchronous", "NORMAL")?;
        database.execute_batch(
            "CREATE TABLE IF NOT EXISTS jobs (job TEXT PRIMARY KEY, attempt INTEGER, ended INTEGER, expires INTEGER);
             CREATE INDEX IF NOT EXISTS jobs_by_expiry ON jobs (expires);",
        )?;
        add_turns(&mut database)?;
        Ok(Self { database: Arc::new(Mutex::new(database)) })
    }

    /// Begins an attempt: writes it down, unless it is a replay; then what is against it. Dropping the future leaves it
    /// written or not.
    ///
    /// # Errors
    ///
    /// [`LedgerError`]; the attempt must not run then.
    pub async fn begin(
        &self,
        job: JobId,
        attempt: u32,
        (now_ms, expires_ms): (u64, u64),
    ) -> Result<Option<String>, LedgerError> {
        self.with(move |database| {
            let change = database.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let job = job.to_string();
            let row = |row: &rusqlite::Row<'_>| Ok(Known { attempt: row.get(0)?, has_ended: row.get(1)? });
            let known =
                change.query_row("SELECT attempt, ended FROM jobs WHERE job = ?1", [&job], row).optional()?;
            let against = decide(known, attempt);
            if against.is_none() {
                change.execute(
                    "INSERT INTO jobs (job, attempt, ended, expires) VALUES (?1, ?2, 0, ?3)
                     ON CONFLICT (job) DO UPDATE SET attempt = ?2, ended = 0, expires = ?3",
                    params![job, attempt, signed(expires_ms)],
                )?;
                change.execute("DELETE FROM jobs WHERE expires < ?1", [signed(now_ms)])?;
            }
            change.commit()?;
            Ok(against)
        })
        .await
    }

    /// Writes down that a job has ended.
    ///
    /// # Errors
    ///
    /// [`LedgerError`]; a replay with a higher number of its attempt is not recognized then.
    pub async fn end(&self, job: JobId) -> Result<(), LedgerError> {
        self.with(move |database| {
            database.execute("UPDATE jobs SET ended = 1 WHERE job = ?1", [job.to_string()]).map(drop)
        })
        .await
    }

    /// Writes down that so many entries of a job's turns are stored. Dropping the future leaves it written or not.
    ///
    /// # Errors
    ///
    /// [`LedgerError`]; that entries are missing at the end is not noticed then.
    pub async fn note_turns(&self, job: JobId, entries: u64) -> Result<(), LedgerError> {
        self.with(move |database| {
            let change = "UPDATE jobs SET turns = ?2 WHERE job = ?1 AND turns < ?2";
            database.execute(change, params![job.to_string(), signed(entries)]).map(drop)
        })
        .await
    }

    /// How many entries of a job's turns were stored from here; 0 where that is not known.
    ///
    /// # Errors
    ///
    /// [`LedgerError`].
    pub async fn turns(&self, job: JobId) -> Result<u64, LedgerError> {
        self.with(move |database| {
            let turns = "SELECT turns FROM jobs WHERE job = ?1";
            let found =
                database.query_row(turns, [job.to_string()], |row| row.get::<_, i64>(0)).optional()?;
            Ok(found.and_then(|turns| u64::try_from(turns).ok()).unwrap_or(0))
        })
        .await
    }

    async fn with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, LedgerError> {
        let database = Arc::clone(&self.database);
        let done = spawn_blocking(move || {
            work(&mut database.lock().unwrap_or_else(PoisonError::into_inner)).map_err(LedgerError::from)
        });
        done.await.map_err(|_| LedgerError::NoAnswer)?
    }
}

/// Adds the column that a ledger of an earlier release lacks.
fn add_turns(database: &mut Connection) -> rusqlite::Result<()> {
    let change = database.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let has_turns = "SELECT 1 FROM pragma_table_info('jobs') WHERE name = 'turns'";
    if change.query_row(has_turns, [], |_| Ok(())).optional()?.is_none() {
        change.execute_batch("ALTER TABLE jobs ADD COLUMN turns INTEGER NOT NULL DEFAULT 0")?;
    }
    change.commit()
}

/// A time or a count as the database has it.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use legwork_common::id::SessionId;

    use super::*;

    #[test]
    fn an_attempt_is_begun_once_and_never_after_the_end() {
        let running = |attempt| Some(Known { attempt, has_ended: false });
        let ended = |attempt| Some(Known { attempt, has_ended: true });
        for (known, attempt, is_replay) in [
            (None, 1, false),
            (None, 7, false),
            (running(1), 1, true),
            (running(1), 2, false),
            (running(3), 2, true),
            (ended(1), 2, true),
        ] {
            assert_eq!(decide(known, attempt).is_some(), is_replay, "{known:?} {attempt}");
        }
    }

    #[tokio::test]
    async fn replays_are_recognized_by_every_worker_of_the_folder_until_they_expire() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("trust");
        let (first, second) = (Ledger::open(&path).unwrap(), Ledger::open(&path).unwrap());
        let session = SessionId::random();
        let (job, other) = (JobId::random_in(session), JobId::random_in(session));
        assert_eq!(first.begin(job, 1, (10, 100)).await.unwrap(), None);
        let replay = second.begin(job, 1, (10, 100)).await.unwrap();
        assert_eq!(replay.as_deref(), Some("attempt 1 comes after attempt 1 on this machine"));
        assert_eq!(second.begin(job, 2, (10, 100)).await.unwrap(), None);
        first.end(job).await.unwrap();
        drop((first, second));
        let again = Ledger::open(&path).unwrap();
        let replay = again.begin(job, 3, (10, 100)).await.unwrap();
        assert_eq!(replay.as_deref(), Some("it ended on this machine before"));
        assert_eq!(again.turns(job).await.unwrap(), 0);
        // After its expiry it is forgotten: its signature keeps it from running.
        assert_eq!(again.begin(other, 1, (101, 200)).await.unwrap(), None);
        assert_eq!(again.begin(job, 3, (101, 100)).await.unwrap(), None);
    }

    #[tokio::test]
    async fn the_most_entries_are_noted_until_the_job_is_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let old = Connection::open(folder.path().join("ledger.sqlite3")).unwrap();
        let of_earlier_release =
            "CREATE TABLE jobs (job TEXT PRIMARY KEY, attempt INTEGER, ended INTEGER, expires INTEGER)";
        old.execute_batch(of_earlier_release).unwrap();
        drop(old);
        let ledger = Ledger::open(folder.path()).unwrap();
        let job = JobId::random_in(SessionId::random());
        ledger.note_turns(job, 5).await.unwrap();
        assert_eq!(ledger.turns(job).await.unwrap(), 0, "a job that did not begin here");
        ledger.begin(job, 1, (10, 100)).await.unwrap();
        for entries in [2, 3, 1] {
            ledger.note_turns(job, entries).await.unwrap();
        }
        ledger.begin(job, 2, (10, 100)).await.unwrap();
        ledger.end(job).await.unwrap();
        let again = Ledger::open(folder.path()).unwrap();
        assert_eq!(again.turns(job).await.unwrap(), 3);
        again.begin(JobId::random_in(SessionId::random()), 1, (101, 200)).await.unwrap();
        assert_eq!(again.turns(job).await.unwrap(), 0);
    }
}
