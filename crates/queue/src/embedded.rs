//! The embedded server: a private server that is used where no Redis is named.
//!
//! All programs of one user share one server, found through the state folder. It is a real `valkey-server` or
//! `redis-server` of this machine, on a Unix socket that only its owner can reach. It outlives the program that started
//! it, and its data outlive it.
//!
//! # Joining and leaving
//!
//! - [`join`] makes sure that a server answers, and counts the caller among its users. The lock on `server.lock`
//!   decides which of several callers starts one: the server itself holds it for as long as it lives.
//! - Users hold `users.lock` shared. A caller that could lock it exclusively while it joined is [`Joined::alone`]: no
//!   worker lives, so no lease need be waited for. Until it calls [`Joined::share`] it holds `join.lock`, and no other
//!   caller can join.
//! - [`Joined::leave`] gives the lock back. The last user shuts the server down, unless work is left.
//!
//! The system releases the locks of a user that dies at once, whatever killed it.
//!
//! A server whose folder was moved or deleted is found by no other program. Its users end it, through [`OwnServer`].
//!
//! # Layout
//!
//! - `find`: which program serves; `install`: the command that installs one.
//! - `home`: the folder, its record and its locks.
//! - `server`: starts, waits for and ends the server; `wire`: the commands for that.
//! - `own_server`: the server of a user whose folder may be gone.
//! - `manage`: [`status`], [`stop`], [`reset`].

mod error;
mod find;
mod home;
mod install;
mod manage;
mod own_server;
mod server;
mod wire;

use std::fmt::Write as _;
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

pub use error::EmbeddedError;
pub use find::Product;
pub use find::Rejected;
pub use find::Version;
pub use manage::KnownServer;
pub use manage::ServerState;
pub use manage::Status;
pub use manage::reset;
pub use manage::status;
pub use manage::stop;
pub use own_server::OwnServer;

use crate::embedded::home::Home;
use crate::embedded::home::Lock;
use crate::embedded::home::Mode;
use crate::embedded::server::Served;
use crate::link::Target;

/// How long a server may give no answer before that is an error. A server that reports that it still loads its data is
/// waited for longer.
const SERVER_TIMEOUT: Duration = Duration::from_secs(10);
/// How long other users may take to join or leave: one start or one end of a server, and one round of reaping.
const JOIN_TIMEOUT: Duration = Duration::from_secs(30);

/// Where the embedded server lives and where its program may be. The caller passes all of it, because this library
/// reads no environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EmbeddedConfig {
    /// The folder for data, socket, log and locks. It must be local; it is created where needed, for its owner alone.
    pub state_dir: PathBuf,
    /// The folder for the socket, if the state folder's path is too long for one.
    pub runtime_dir: PathBuf,
    /// The folders of the search path.
    pub search_path: Vec<PathBuf>,
    /// Server programs to try before the search path.
    pub extra_servers: Vec<PathBuf>,
}

/// One user of a server that answered. Dropping it gives up the use and leaves the server running.
#[derive(Debug)]
pub struct Joined {
    /// The server's address, its Unix socket.
    pub target: Target,
    /// Whether this was the only user when it joined. No other can join until [`share`](Self::share) is called, so jobs
    /// and sessions that seem to live until then belong to processes that died.
    pub alone: bool,
    /// Whether this call started the server.
    pub started: bool,
    /// One line for users: which server is used, and whether it was started.
    pub notice: String,
    home: Home,
    server: OwnServer,
    users: Lock,
    join_lock: Option<Lock>,
}

/// What became of the server when a user left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Left {
    /// It has other users.
    InUse,
    /// It has no users and runs on, because unfinished work is left.
    Kept,
    /// It was shut down. Its data are kept.
    ShutDown,
    /// The state folder was moved or deleted since this user joined, so the server was shut down, whatever work was left.
    FolderGone,
}

/// Joins the users of the folder's server, and starts a server where none lives.
///
/// Waits up to 30 s for others that join or leave, and up to 10 s for a server that gives no answer. Dropping the
/// future may leave a server without users, which the next user to leave shuts down.
///
/// # Errors
///
/// [`EmbeddedError`], with a hint for each case.
pub async fn join(config: &EmbeddedConfig) -> Result<Joined, EmbeddedError> {
    join_within(config, SERVER_TIMEOUT).await
}

async fn join_within(config: &EmbeddedConfig, timeout: Duration) -> Result<Joined, EmbeddedError> {
    let home = Home::open(config)?;
    let join_lock = home::lock(&home.join_lock(), Mode::Exclusive, JOIN_TIMEOUT).await?;
    // Locked exclusively, given back, and locked shared: the system cannot turn one into the other atomically, but no
    // other user can join or leave in between, because that takes the join lock.
    let alone = home::try_lock(&home.users_lock(), Mode::Exclusive)?.is_some();
    let users = home::lock(&home.users_lock(), Mode::Shared, JOIN_TIMEOUT).await?;
    // A server may be slow to start. Only a user that is alone has work to do before others join.
    let join_lock = alone.then_some(join_lock);
    // Only after this user holds the users' lock, so that another one that leaves does not shut the server down.
    let served = server::ensure(&home, config, timeout).await?;
    let target = Target::parse(&socket_url(&served.record.socket)).map_err(EmbeddedError::Address)?;
    let notice = notice(&served, home.folder());
    let server = OwnServer::of(home.folder(), &served.record.socket).await?;
    Ok(Joined { target, alone, started: served.started, notice, home, server, users, join_lock })
}

impl Joined {
    /// Lets other users join. A user that is [`alone`](Self::alone) calls it once it has reclaimed the jobs of
    /// processes that died, within 30 s. For others it does nothing.
    pub fn share(&mut self) {
        self.join_lock = None;
    }

    /// A second handle of this user's lock, for its guard to hold open. If this user dies without leaving, it counts as
    /// a user until the guard has ended, so that no other process is alone, and reclaims the dead user's jobs, while
    /// the guard still ends their commands.
    ///
    /// # Errors
    ///
    /// The system's error where it opens no more files.
    pub fn user_lock(&self) -> io::Result<File> {
        self.users.copy()
    }

    /// The server, to end it where its folder is gone.
    pub fn server(&self) -> OwnServer {
        self.server.clone()
    }

    /// Gives up the use. The last user shuts the server down, unless `unfinished` states that jobs are left. The data
    /// are kept in any case. Where the state folder is gone, any user shuts it down.
    ///
    /// # Errors
    ///
    /// [`EmbeddedError::Busy`] or [`EmbeddedError::Stuck`]. The use is given up all the same.
    pub async fn leave(self, unfinished: bool) -> Result<Left, EmbeddedError> {
        let Self { home, server, users, join_lock, .. } = self;
        if !server.has_folder() {
            // The locks of a folder in its place are those of another server.
            return match server.end().await {
                true => Ok(Left::FolderGone),
                false => Err(server::stuck(&home, SERVER_TIMEOUT)),
            };
        }
        // Held until the server has ended, so that no user joins a server that is about to.
        let _join_lock = match join_lock {
            Some(lock) => lock,
            None => home::lock(&home.join_lock(), Mode::Exclusive, JOIN_TIMEOUT).await?,
        };
        drop(users);
        let Some(_alone) = home::try_lock(&home.users_lock(), Mode::Exclusive)? else {
            return Ok(Left::InUse);
        };
        if unfinished {
            return Ok(Left::Kept);
        }
        server::end(&home, SERVER_TIMEOUT).await?;
        Ok(Left::ShutDown)
    }
}

/// The line for users about a server that was found or started.
fn notice(served: &Served, folder: &Path) -> String {
    let record = &served.record;
    let (product, version) = (record.product, record.version);
    if !served.started {
        return format!("using the running {product} {version} of {}", folder.display());
    }
    let mut text =
        format!("started {product} {version} ({}), data in {}", record.path.display(), folder.display());
    if let Some(before) = &served.replaced {
        // Writing to a string cannot fail.
        write!(text, "; previously {} {} ({})", before.product, before.version, before.path.display()).ok();
    }
    text
}

/// The URL of a socket. Its path may have any bytes, so all but the plainest are escaped.
fn socket_url(socket: &Path) -> String {
    socket.as_os_str().as_bytes().iter().fold("unix://".to_owned(), |mut url, &byte| {
        match byte {
            b'/' | b'-' | b'_' | b'.' | b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => url.push(char::from(byte)),
            _ => {
                // Writing to a string cannot fail.
                write!(url, "%{byte:02X}").ok();
            }
        }
        url
    })
}

#[cfg(test)]
mod tests;
