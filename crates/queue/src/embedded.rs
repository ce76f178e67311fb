//! The embedded default: a private server that serves where no Redis is named.
//!
//! Every program of one user shares one server, found through the state folder. It is a real
//! `valkey-server` or `redis-server` of this machine, on a Unix socket that only its owner can reach; it
//! outlives whoever started it, and its data outlive it.
//!
//! # Coming and going
//!
//! - [`join`] makes sure that a server answers and counts the caller among its users. The lock of
//!   `server.lock` decides who starts one: the server itself holds it, for as long as it lives.
//! - Users hold `users.lock` shared. Who can have it alone on the way in is [`Joined::alone`]: no worker
//!   lives, so leases need not be waited for. The door stays closed to others until [`Joined::share`].
//! - [`Joined::leave`] gives the lock back; the last one shuts the server down, unless work is left.
//!
//! A user that dies is gone from the locks at once, whatever killed it.
//!
//! # Layout
//!
//! - `find`: which program serves; `install`: what to say when there is none.
//! - `home`: the folder, its record and its locks.
//! - `server`: start, wait, end; `wire`: the words for that.
//! - `manage`: [`status`], [`stop`], [`reset`].

mod error;
mod find;
mod home;
mod install;
mod manage;
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

use crate::embedded::home::Home;
use crate::embedded::home::Lock;
use crate::embedded::home::Mode;
use crate::embedded::server::Served;
use crate::link::Target;

/// How long a server may be silent before that is an error.
const SERVER_PATIENCE: Duration = Duration::from_secs(10);
/// How long others may take to come or go: one start or one end of a server, and a sweep.
const DOOR_PATIENCE: Duration = Duration::from_secs(30);

/// Where the embedded server lives and where its program may be. The program passes all of it: this
/// library reads no environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EmbeddedConfig {
    /// The folder for data, socket, log and locks; a local one. Made, and closed to others, when needed.
    pub state_dir: PathBuf,
    /// Where the socket goes when the state folder's path is too long for one.
    pub runtime_dir: PathBuf,
    /// The folders of the search path.
    pub search_path: Vec<PathBuf>,
    /// Programs to try before the search path.
    pub extra_servers: Vec<PathBuf>,
}

/// One user of a server that answered. Dropping it is leaving without a look back: the server goes on.
#[derive(Debug)]
pub struct Joined {
    /// The server's address.
    pub target: Target,
    /// Whether nobody else used the server when this user came. While it is true and [`share`](Self::share)
    /// was not called, nobody else comes in: jobs and sessions that seem to live are remains of the dead.
    pub alone: bool,
    /// Whether this call started the server.
    pub started: bool,
    /// The one line that says what was done.
    pub notice: String,
    home: Home,
    users: Lock,
    door: Option<Lock>,
}

/// What became of the server when a user left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Left {
    /// Others use it.
    InUse,
    /// Nobody uses it, and it keeps unfinished work.
    Kept,
    /// It was shut down; its data stay.
    ShutDown,
}

/// Joins the users of the folder's server, and starts one where none lives.
///
/// Waits for others that come or go for 30 s at most, and for a silent server 10 s. Dropping the future
/// may leave a server without users, which the next one to leave ends.
///
/// # Errors
///
/// [`EmbeddedError`], with a hint for each case.
pub async fn join(config: &EmbeddedConfig) -> Result<Joined, EmbeddedError> {
    join_within(config, SERVER_PATIENCE).await
}

async fn join_within(config: &EmbeddedConfig, patience: Duration) -> Result<Joined, EmbeddedError> {
    let home = Home::open(config)?;
    let door = home::lock(&home.door_lock(), Mode::Exclusive, DOOR_PATIENCE).await?;
    // Looked at and given back: turning the lock into a shared one is no single step for the system, but
    // under the door nobody can come between.
    let alone = home::try_lock(&home.users_lock(), Mode::Exclusive)?.is_some();
    let users = home::lock(&home.users_lock(), Mode::Shared, DOOR_PATIENCE).await?;
    // A server may be slow to start; who is not alone has nothing to do that others must wait for.
    let door = alone.then_some(door);
    // Only once the users know of us, so that nobody who leaves shuts it down under our hands.
    let served = server::ensure(&home, config, patience).await?;
    let target = Target::parse(&socket_url(&served.record.socket)).map_err(EmbeddedError::Address)?;
    let notice = notice(&served, home.folder());
    Ok(Joined { target, alone, started: served.started, notice, home, users, door })
}

impl Joined {
    /// Lets others in. A user who is [`alone`](Self::alone) calls it once it has swept up after the dead,
    /// within 30 s; for others it does nothing.
    pub fn share(&mut self) {
        self.door = None;
    }

    /// A file for a guard to hold open: should this user die without leaving, it counts as a user until the guard
    /// has ended, so that nobody takes the dead user's jobs back while their commands are still being ended.
    ///
    /// # Errors
    ///
    /// The system's, where it gives no more files.
    pub fn user_lock(&self) -> io::Result<File> {
        self.users.copy()
    }

    /// Gives up the use. The last user shuts the server down, unless `unfinished` says that jobs are left
    /// which somebody may still want to look at or go on with; the data stay in any case.
    ///
    /// # Errors
    ///
    /// [`EmbeddedError::Busy`] or [`EmbeddedError::Stuck`]; the use is given up all the same.
    pub async fn leave(self, unfinished: bool) -> Result<Left, EmbeddedError> {
        let Self { home, users, door, .. } = self;
        let _door = match door {
            Some(door) => door,
            None => home::lock(&home.door_lock(), Mode::Exclusive, DOOR_PATIENCE).await?,
        };
        drop(users);
        let Some(_alone) = home::try_lock(&home.users_lock(), Mode::Exclusive)? else {
            return Ok(Left::InUse);
        };
        if unfinished {
            return Ok(Left::Kept);
        }
        server::end(&home, SERVER_PATIENCE).await?;
        Ok(Left::ShutDown)
    }
}

/// What was done, for a person.
fn notice(served: &Served, folder: &Path) -> String {
    let record = &served.record;
    let (product, version) = (record.product, record.version);
    if !served.started {
        return format!("using the {product} {version} that serves {}", folder.display());
    }
    let mut text =
        format!("started {product} {version} ({}), data in {}", record.path.display(), folder.display());
    if let Some(before) = &served.replaced {
        // Writing to a string cannot fail.
        write!(text, "; before it was {} {} ({})", before.product, before.version, before.path.display())
            .ok();
    }
    text
}

/// The URL of a socket, whatever bytes its path has.
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
