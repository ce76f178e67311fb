//! The commands that announce themselves to a guard.

use std::io;
use std::os::unix::net::UnixListener as StdListener;
use std::time::Duration;

use futures::StreamExt as _;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use rustix::process::Pid;
use tokio::io::AsyncReadExt as _;
use tokio::net::UnixListener;
use tokio::net::UnixStream;
use tokio::net::unix::UCred;
use tokio::time::timeout;

use super::begin::NOTED;
use super::process_groups::Lifetime;

/// How long a connection may take to say its word, which a command does at once.
const TIMEOUT: Duration = Duration::from_secs(1);
/// Connections that are heard at once. Others wait: commands start in far less than [`TIMEOUT`].
const MAX_CONNECTIONS: usize = 64;
/// Bytes of the longest word and its line break, and one more.
const MAX_WORD_BYTES: usize = 16;

/// A command that waits for the guard before it runs.
#[derive(Debug)]
pub(super) struct Announcement {
    pub(super) lifetime: Lifetime,
    /// Its process group, which it leads: as the system tells, and not the command.
    pub(super) group: u32,
    connection: UnixStream,
}

impl Announcement {
    /// Lets the command run. One that is gone does not run.
    pub(super) fn confirm(self) {
        // A new connection has room for a byte.
        self.connection.try_write(&[NOTED]).ok();
    }
}

/// The socket of a guard.
pub(super) struct Announcements {
    listener: UnixListener,
    open: FuturesUnordered<BoxFuture<'static, Option<Announcement>>>,
}

impl Announcements {
    /// # Errors
    ///
    /// The system's.
    pub(super) fn new(listener: StdListener) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        Ok(Self { listener: UnixListener::from_std(listener)?, open: FuturesUnordered::new() })
    }

    /// The next command. Dropping the future loses none.
    pub(super) async fn next(&mut self) -> Announcement {
        loop {
            let has_room = self.open.len() < MAX_CONNECTIONS;
            tokio::select! {
                Some(heard) = self.open.next(), if !self.open.is_empty() => {
                    if let Some(announcement) = heard {
                        return announcement;
                    }
                }
                accepted = self.listener.accept(), if has_room => match accepted {
                    Ok((connection, _)) => self.open.push(Box::pin(hear(connection))),
                    // Out of descriptors: connections in progress free some.
                    Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
                },
            }
        }
    }
}

/// What a connection announces; nothing for one that is not a command of this user.
async fn hear(mut connection: UnixStream) -> Option<Announcement> {
    let group = leader(connection.peer_cred().ok()?)?;
    let mut word = [0; MAX_WORD_BYTES];
    let length = timeout(TIMEOUT, connection.read(&mut word)).await.ok()?.ok()?;
    let word = str::from_utf8(&word[..length]).ok()?;
    Some(Announcement { lifetime: Lifetime::parse(word.strip_suffix('\n')?)?, group, connection })
}

/// The process at the other end, if it is of our user and leads a process group. The id is that of the process that
/// connected, whatever it gave the connection to since.
fn leader(peer: UCred) -> Option<u32> {
    if peer.uid() != rustix::process::geteuid().as_raw() {
        return None;
    }
    let id = Pid::from_raw(peer.pid()?)?;
    let leads = rustix::process::getpgid(Some(id)).is_ok_and(|group| group == id);
    // 1 is not the group of a command, and a signal to it would reach other processes.
    u32::try_from(id.as_raw_nonzero().get()).ok().filter(|&group| leads && group > 1)
}
