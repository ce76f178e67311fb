//! What `legwork local` does: status, stop, reset.

use std::fs;
use std::path::Path;
use std::path::PathBuf;

use crate::embedded::EmbeddedConfig;
use crate::embedded::EmbeddedError;
use crate::embedded::JOIN_TIMEOUT;
use crate::embedded::Product;
use crate::embedded::SERVER_TIMEOUT;
use crate::embedded::Version;
use crate::embedded::home;
use crate::embedded::home::Home;
use crate::embedded::home::Mode;
use crate::embedded::server;
use crate::embedded::wire;
use crate::embedded::wire::Ping;

/// The status of the embedded server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// The state folder, which may not exist.
    pub folder: PathBuf,
    /// The server's log, which may not exist.
    pub log: PathBuf,
    /// Whether any program uses the server now.
    pub in_use: bool,
    /// Whether a server runs and answers.
    pub state: ServerState,
    /// The server that serves the folder, or served it last.
    pub server: Option<KnownServer>,
}

/// Whether a server runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServerState {
    /// No server runs.
    Stopped,
    /// A server runs and does not answer, or still loads its data.
    NotAnswering {
        /// Its process, if it has written its number.
        process_id: Option<u32>,
    },
    /// A server runs and answers.
    Running {
        /// Its process, unless `INFO` failed.
        process_id: Option<u32>,
        /// How many connections it has, that of this call included.
        clients: Option<u32>,
    },
}

/// The server that the folder has on record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownServer {
    /// The program that was started.
    pub program: PathBuf,
    /// Redis or Valkey.
    pub product: Product,
    /// Its version when it was started.
    pub version: Version,
    /// The socket that it listens on.
    pub socket: PathBuf,
}

/// The status of the folder's server. Changes nothing, and does not create the folder.
///
/// # Errors
///
/// [`EmbeddedError`] when the folder cannot be read.
pub async fn status(config: &EmbeddedConfig) -> Result<Status, EmbeddedError> {
    let home = Home::locate(config)?;
    let (folder, log) = (home.folder().to_owned(), home.log());
    if !folder.exists() {
        return Ok(Status { folder, log, in_use: false, state: ServerState::Stopped, server: None });
    }
    let record = home.record()?;
    // Locked and released at once. A server that is started in that moment tries again.
    let lives = home::try_lock(&home.server_lock(), Mode::Exclusive)?.is_none();
    let state = match record.as_ref() {
        _ if !lives => ServerState::Stopped,
        Some(record) if home.owns(&record.socket) => running(&home, &record.socket).await,
        Some(_) | None => not_answering(&home),
    };
    let server = record.map(|record| KnownServer {
        program: record.path,
        product: record.product,
        version: record.version,
        socket: record.socket,
    });
    Ok(Status { folder, log, in_use: in_use(&home)?, state, server })
}

async fn running(home: &Home, socket: &Path) -> ServerState {
    if wire::ping(socket).await != Ping::Ready {
        return not_answering(home);
    }
    let info = wire::info(socket).await;
    ServerState::Running {
        process_id: info.as_ref().and_then(|info| info.process_id),
        clients: info.as_ref().and_then(|info| info.clients),
    }
}

/// The server has written its process number itself: the file of an earlier server was deleted before it started.
fn not_answering(home: &Home) -> ServerState {
    let text = fs::read_to_string(home.pid_file()).unwrap_or_default();
    ServerState::NotAnswering { process_id: text.trim().parse().ok() }
}

/// Whether the server has users. One that is joining or leaving counts.
fn in_use(home: &Home) -> Result<bool, EmbeddedError> {
    let Some(_join_lock) = home::try_lock(&home.join_lock(), Mode::Exclusive)? else { return Ok(true) };
    Ok(home::try_lock(&home.users_lock(), Mode::Exclusive)?.is_none())
}

/// Ends the server, even if it has users. Its data are kept. Returns whether there was one.
///
/// # Errors
///
/// [`EmbeddedError::Stuck`] when it does not end in time.
pub async fn stop(config: &EmbeddedConfig) -> Result<bool, EmbeddedError> {
    let home = Home::locate(config)?;
    if !home.folder().exists() {
        return Ok(false);
    }
    let _join_lock = home::lock(&home.join_lock(), Mode::Exclusive, JOIN_TIMEOUT).await?;
    Ok(server::end(&home, SERVER_TIMEOUT).await?.was_running)
}

/// Ends the server and deletes its data, its record and its log. A crash in between leaves some of them; a repeat
/// completes it.
///
/// # Errors
///
/// [`EmbeddedError::InUse`] while the server has users, unless `force`; nothing is changed then.
pub async fn reset(config: &EmbeddedConfig, force: bool) -> Result<(), EmbeddedError> {
    let home = Home::locate(config)?;
    if !home.folder().exists() {
        return Ok(());
    }
    let _join_lock = home::lock(&home.join_lock(), Mode::Exclusive, JOIN_TIMEOUT).await?;
    let alone = home::try_lock(&home.users_lock(), Mode::Exclusive)?;
    if alone.is_none() && !force {
        return Err(EmbeddedError::InUse { folder: home.folder().to_owned() });
    }
    let ended = server::end(&home, SERVER_TIMEOUT).await?;
    home::delete(&home.data(), |path| fs::remove_dir_all(path))?;
    for file in [home.record_file(), home.log(), home.pid_file()] {
        home::delete(&file, |path| fs::remove_file(path))?;
    }
    // Only now another program may start a server: not on data that are being deleted.
    drop(ended.lock);
    Ok(())
}
