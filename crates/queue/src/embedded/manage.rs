//! What `legwork local` does: look, stop, reset.

use std::fs;
use std::path::Path;
use std::path::PathBuf;

use crate::embedded::DOOR_PATIENCE;
use crate::embedded::EmbeddedConfig;
use crate::embedded::EmbeddedError;
use crate::embedded::Product;
use crate::embedded::SERVER_PATIENCE;
use crate::embedded::Version;
use crate::embedded::home;
use crate::embedded::home::Home;
use crate::embedded::home::Mode;
use crate::embedded::server;
use crate::embedded::wire;
use crate::embedded::wire::Pulse;

/// How the embedded server is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// The state folder.
    pub folder: PathBuf,
    /// The server's log; it may not be there.
    pub log: PathBuf,
    /// Whether any command uses the server now.
    pub in_use: bool,
    /// The server.
    pub state: ServerState,
    /// What serves the folder, or served it last.
    pub server: Option<KnownServer>,
}

/// Whether a server lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServerState {
    /// None does.
    Stopped,
    /// One holds the folder and does not answer, or still reads its data.
    NotAnswering {
        /// Its process, where it came far enough to say.
        process_id: Option<u32>,
    },
    /// One serves.
    Running {
        /// Its process.
        process_id: Option<u32>,
        /// How many connections it has, this question's included.
        clients: Option<u32>,
    },
}

/// A server that the folder remembers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownServer {
    /// Its program.
    pub program: PathBuf,
    /// Whose it is.
    pub product: Product,
    /// Its version.
    pub version: Version,
    /// Where it listens.
    pub socket: PathBuf,
}

/// Looks, and changes nothing: a folder that is not there stays so.
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
    // Taken and given back at once. Whoever needs the lock in that moment asks again.
    let lives = home::try_lock(&home.server_lock(), Mode::Exclusive)?.is_none();
    let state = match record.as_ref() {
        _ if !lives => ServerState::Stopped,
        Some(record) => running(&home, &record.socket).await,
        None => not_answering(&home),
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
    if wire::ping(socket).await != Pulse::Ready {
        return not_answering(home);
    }
    let info = wire::info(socket).await;
    ServerState::Running {
        process_id: info.as_ref().and_then(|info| info.process_id),
        clients: info.as_ref().and_then(|info| info.clients),
    }
}

/// The server's own file names it: an older one's was deleted before it started.
fn not_answering(home: &Home) -> ServerState {
    let text = fs::read_to_string(home.pid_file()).unwrap_or_default();
    ServerState::NotAnswering { process_id: text.trim().parse().ok() }
}

/// Whether anybody uses the server; who stands in the door counts.
fn in_use(home: &Home) -> Result<bool, EmbeddedError> {
    let Some(_door) = home::try_lock(&home.door_lock(), Mode::Exclusive)? else { return Ok(true) };
    Ok(home::try_lock(&home.users_lock(), Mode::Exclusive)?.is_none())
}

/// Ends the server, whoever uses it; its data stay. Says whether there was one.
///
/// # Errors
///
/// [`EmbeddedError::Stuck`] when it does not end in time.
pub async fn stop(config: &EmbeddedConfig) -> Result<bool, EmbeddedError> {
    let home = Home::locate(config)?;
    if !home.folder().exists() {
        return Ok(false);
    }
    let _door = home::lock(&home.door_lock(), Mode::Exclusive, DOOR_PATIENCE).await?;
    Ok(server::end(&home, SERVER_PATIENCE).await?.was_running)
}

/// Ends the server and deletes its data, its record and its log. A crash on the way leaves a folder from
/// which some of it is gone; doing it again completes it.
///
/// # Errors
///
/// [`EmbeddedError::InUse`] while anybody uses the server, unless `force`; nothing is changed then.
pub async fn reset(config: &EmbeddedConfig, force: bool) -> Result<(), EmbeddedError> {
    let home = Home::locate(config)?;
    if !home.folder().exists() {
        return Ok(());
    }
    let _door = home::lock(&home.door_lock(), Mode::Exclusive, DOOR_PATIENCE).await?;
    let alone = home::try_lock(&home.users_lock(), Mode::Exclusive)?;
    if alone.is_none() && !force {
        return Err(EmbeddedError::InUse { folder: home.folder().to_owned() });
    }
    let ended = server::end(&home, SERVER_PATIENCE).await?;
    home::delete(&home.data(), |path| fs::remove_dir_all(path))?;
    for file in [home.record_file(), home.log(), home.pid_file()] {
        home::delete(&file, |path| fs::remove_file(path))?;
    }
    // Until here nobody may start a server on data that vanish.
    drop(ended.lock);
    Ok(())
}
