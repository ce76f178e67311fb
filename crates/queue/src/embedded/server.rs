//! Starts the server, waits for it, ends it.
//!
//! The server has a session of its own, so neither Ctrl-C nor the end of the program that started it reaches it. Its
//! standard input is the locked `server.lock`: the lock belongs to the open file, so it is held exactly as long as the
//! server lives, and no other child process inherits it.

use std::fs;
use std::fs::File;
use std::io::Read as _;
use std::io::Seek as _;
use std::io::SeekFrom;
use std::path::Path;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use process_wrap::tokio::ChildWrapper;
use process_wrap::tokio::CommandWrap;
use process_wrap::tokio::ProcessSession;
use tokio::process::Command;
use tokio::time::Instant;

use crate::embedded::EmbeddedConfig;
use crate::embedded::EmbeddedError;
use crate::embedded::find;
use crate::embedded::home;
use crate::embedded::home::Home;
use crate::embedded::home::Lock;
use crate::embedded::home::Mode;
use crate::embedded::home::POLL_INTERVAL;
use crate::embedded::home::Record;
use crate::embedded::wire;
use crate::embedded::wire::Ping;

/// How many bytes of a log's end are read for its last line: far more than one line.
const LOG_TAIL_BYTES: u64 = 4096;

/// A server that answers.
#[derive(Debug)]
pub(super) struct Served {
    pub(super) record: Record,
    /// Whether this call started it.
    pub(super) started: bool,
    /// The server that served the folder before, if this is another program.
    pub(super) replaced: Option<Record>,
}

/// Finds the folder's server or starts one. Returns when it answers.
///
/// `timeout` starts again with each answer that the server still loads, so one with much data is waited for. Dropping
/// the future may leave a server that starts; the next caller finds it.
pub(super) async fn ensure(
    home: &Home,
    config: &EmbeddedConfig,
    timeout: Duration,
) -> Result<Served, EmbeddedError> {
    let mut end = Instant::now() + timeout;
    loop {
        // Tried again each time, because the server that holds the lock may die before it answers.
        if let Some(lock) = home::try_lock_file(&home.server_lock(), Mode::Exclusive)? {
            return start(home, config, lock, timeout).await;
        }
        if let Some(record) = home.record()?.filter(|record| home.owns(&record.socket)) {
            match wire::ping(&record.socket).await {
                Ping::Ready => return Ok(Served { record, started: false, replaced: None }),
                Ping::Loading => end = Instant::now() + timeout,
                Ping::NoAnswer => {}
            }
        }
        if Instant::now() >= end {
            return Err(no_answer(home, timeout));
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

/// Starts a server that inherits `lock`, and waits for its first answer.
async fn start(
    home: &Home,
    config: &EmbeddedConfig,
    lock: File,
    timeout: Duration,
) -> Result<Served, EmbeddedError> {
    let before = home.record()?;
    let server = find::find(config, before.as_ref().map(|record| record.path.as_path())).await?;
    let record = Record::new(server.path, server.product, server.version, home.socket()?);
    // Written before the server holds the lock, so that a caller that cannot lock it finds the socket here.
    home.write_record(&record)?;
    // The file of a server that was killed may name another process by now.
    home::delete(&home.pid_file(), |path| fs::remove_file(path))?;
    let child = spawn(home, &record, lock)?;
    await_answer(home, &record, child, timeout).await?;
    let replaced = before.filter(|before| before.path != record.path);
    Ok(Served { record, started: true, replaced })
}

/// Starts the server's process, in a session of its own.
fn spawn(home: &Home, record: &Record, lock: File) -> Result<Box<dyn ChildWrapper>, EmbeddedError> {
    let path = home.log();
    let failed = |error| EmbeddedError::folder("open", &path)(error);
    let log = home::no_link().create(true).append(true).open(&path).map_err(failed)?;
    let again = log.try_clone().map_err(failed)?;
    let mut command = Command::new(&record.path);
    command.args(arguments(home, &record.socket));
    // It needs nothing of our environment, which may contain keys of model providers.
    command.env_clear().current_dir(home.data());
    command.stdin(Stdio::from(lock)).stdout(Stdio::from(log)).stderr(Stdio::from(again));
    let mut command = CommandWrap::from(command);
    command.wrap(ProcessSession);
    command.spawn().map_err(EmbeddedError::folder("run", &record.path))
}

/// The settings of the server. Every write reaches the disk before it is answered. The append-only file has no RDB
/// preamble, so that Redis can read what Valkey wrote, and the reverse.
fn arguments(home: &Home, socket: &Path) -> Vec<PathBuf> {
    let pairs: [(&str, PathBuf); 15] = [
        ("--port", "0".into()),
        ("--unixsocket", socket.to_owned()),
        ("--unixsocketperm", "700".into()),
        ("--dir", home.data()),
        ("--appendonly", "yes".into()),
        ("--appendfsync", "always".into()),
        ("--aof-use-rdb-preamble", "no".into()),
        ("--save", "".into()),
        ("--maxmemory-policy", "noeviction".into()),
        ("--daemonize", "no".into()),
        ("--supervised", "no".into()),
        ("--pidfile", home.pid_file()),
        ("--logfile", home.log()),
        ("--loglevel", "notice".into()),
        ("--always-show-logo", "no".into()),
    ];
    pairs.into_iter().flat_map(|(name, value)| [PathBuf::from(name), value]).collect()
}

/// Waits for the first answer of a server that was started here. One that does not answer in time is ended, so that it
/// does not keep the folder locked for the next caller.
async fn await_answer(
    home: &Home,
    record: &Record,
    mut child: Box<dyn ChildWrapper>,
    timeout: Duration,
) -> Result<(), EmbeddedError> {
    let mut end = Instant::now() + timeout;
    loop {
        match wire::ping(&record.socket).await {
            Ping::Ready => return Ok(()),
            Ping::Loading => end = Instant::now() + timeout,
            Ping::NoAnswer => {}
        }
        // The status of the process itself, not of its group, in which it is alone.
        let exited = child.inner_mut().try_wait().map_err(EmbeddedError::folder("watch", &record.path))?;
        if let Some(status) = exited {
            let (server, log) = (record.path.clone(), home.log());
            let last = last_line(&log).unwrap_or_default();
            return Err(EmbeddedError::Ended { server, status, log, last });
        }
        if Instant::now() >= end {
            child.inner_mut().start_kill().map_err(EmbeddedError::folder("end", &record.path))?;
            child.inner_mut().wait().await.map_err(EmbeddedError::folder("end", &record.path))?;
            return Err(no_answer(home, timeout));
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

/// Ends the folder's server and returns its lock. No other server can be started before the lock is dropped. No data
/// are lost, because every write that was answered is on the disk.
pub(super) async fn end(home: &Home, timeout: Duration) -> Result<Ended, EmbeddedError> {
    if let Some(lock) = home::try_lock(&home.server_lock(), Mode::Exclusive)? {
        return Ok(Ended { was_running: false, lock });
    }
    let until = Instant::now() + timeout;
    loop {
        // Sent again each time, because a server that still starts does not listen yet.
        let socket = listening_at(home)?;
        if home.owns(&socket) {
            wire::shut_down(&socket).await;
        }
        if let Some(lock) = home::try_lock(&home.server_lock(), Mode::Exclusive)? {
            return Ok(Ended { was_running: true, lock });
        }
        if Instant::now() >= until {
            return Err(stuck(home, timeout));
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

/// Where the folder's server listens. A record that cannot be read must not prevent a caller from ending it.
fn listening_at(home: &Home) -> Result<PathBuf, EmbeddedError> {
    match home.record() {
        Ok(Some(record)) => Ok(record.socket),
        Ok(None) | Err(EmbeddedError::Format { .. }) => home.socket(),
        Err(error) => Err(error),
    }
}

/// A folder whose server has ended.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) was_running: bool,
    /// No server can be started until it is dropped.
    pub(super) lock: Lock,
}

/// The error of a server that did not end within `waited`.
pub(super) fn stuck(home: &Home, waited: Duration) -> EmbeddedError {
    EmbeddedError::Stuck { folder: home.folder().to_owned(), waited, log: home.log() }
}

fn no_answer(home: &Home, timeout: Duration) -> EmbeddedError {
    EmbeddedError::Silent { folder: home.folder().to_owned(), waited: timeout, log: home.log() }
}

/// The last line of a log that is not empty.
fn last_line(log: &Path) -> Option<String> {
    let mut file = File::open(log).ok()?;
    let length = fs::metadata(log).ok()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(LOG_TAIL_BYTES))).ok()?;
    let mut tail = Vec::new();
    file.take(LOG_TAIL_BYTES).read_to_end(&mut tail).ok()?;
    let tail = String::from_utf8_lossy(&tail);
    tail.lines().rfind(|line| !line.trim().is_empty()).map(|line| line.trim().to_owned())
}
