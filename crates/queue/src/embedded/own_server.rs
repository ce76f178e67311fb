//! The server that a user joined, for when its folder is moved or deleted: then no other program finds it any more.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use rustix::io::Errno;
use rustix::net::RecvFlags;
use rustix::net::recv;
use rustix::process::Pid;
use rustix::process::Signal;
use rustix::process::getpid;
use rustix::process::kill_process;
use tokio::io::AsyncReadExt as _;
use tokio::net::UnixStream;
use tokio::sync::Mutex;

use crate::embedded::EmbeddedError;
use crate::embedded::SERVER_TIMEOUT;
use crate::embedded::home::identity;

/// A handle on the server that a user joined. Its connection stays open where the folder, and with it the socket, is gone;
/// while it is open it names the server's process, and never another one. Cheap to clone.
#[derive(Debug, Clone)]
pub struct OwnServer(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    folder: PathBuf,
    /// Device and inode of the folder when it was joined; `None` where it was gone by then.
    identity: Option<(u64, u64)>,
    connection: Mutex<UnixStream>,
}

impl OwnServer {
    /// Connects to the server of a folder.
    pub(super) async fn of(folder: &Path, socket: &Path) -> Result<Self, EmbeddedError> {
        let connection =
            UnixStream::connect(socket).await.map_err(EmbeddedError::folder("connect to", socket))?;
        Ok(Self::on(folder, connection))
    }

    /// The server at the other end of a connection.
    pub(super) fn on(folder: &Path, connection: UnixStream) -> Self {
        let (folder, identity) = (folder.to_owned(), identity(folder));
        Self(Arc::new(Inner { folder, identity, connection: Mutex::new(connection) }))
    }

    /// Whether the folder is where it was when it was joined. False where it was moved or deleted, even if there is another
    /// one in its place.
    pub fn has_folder(&self) -> bool {
        let found = fs::metadata(&self.0.folder);
        match found {
            Ok(found) => self.0.identity == Some((found.dev(), found.ino())),
            // One that cannot be read now is still there.
            Err(error) => error.kind() != ErrorKind::NotFound,
        }
    }

    /// Ends the server, and waits up to 10 s for its end. Every write that it answered is on the disk. A repeat, or a server
    /// that has ended already, changes nothing. Returns whether it has ended.
    ///
    /// It is killed: told to shut down, it would delete the socket and the file of its process at the paths that it was
    /// started with, which may be those of another server by now.
    pub async fn end(&self) -> bool {
        let mut connection = self.0.connection.lock().await;
        // While the connection is open, its process lives, so the id is not another one's.
        if has_ended(&connection) {
            return true;
        }
        let Some(server) = process_of(&connection) else { return false };
        if let Err(error) = kill_process(server, Signal::KILL) {
            tracing::warn!(%error, "could not end the embedded server");
            return false;
        }
        let closed = async { matches!(connection.read(&mut [0; 16]).await, Ok(0) | Err(_)) };
        tokio::time::timeout(SERVER_TIMEOUT, closed).await.unwrap_or(false)
    }
}

/// Whether the process at the other end closed the connection, which it does only when it ends.
fn has_ended(connection: &UnixStream) -> bool {
    // Asks the system: what the runtime knows of the connection may be older.
    match recv(connection, &mut [0; 1], RecvFlags::PEEK | RecvFlags::DONTWAIT) {
        Ok((bytes, _)) => bytes == 0,
        Err(error) => error != Errno::AGAIN,
    }
}

/// The process at the other end of a connection; never this one.
fn process_of(connection: &UnixStream) -> Option<Pid> {
    let id = connection.peer_cred().ok()?.pid()?;
    Pid::from_raw(id).filter(|process| *process != getpid())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tempfile::TempDir;

    use super::*;

    #[tokio::test]
    async fn a_folder_that_was_moved_deleted_or_replaced_is_gone() {
        let above = TempDir::new().unwrap();
        let folder = above.path().join("state");
        let moved = above.path().join("moved");
        fs::create_dir(&folder).unwrap();
        let server = OwnServer::on(&folder, UnixStream::pair().unwrap().0);
        assert!(server.has_folder());
        fs::rename(&folder, &moved).unwrap();
        assert!(!server.has_folder());
        fs::create_dir(&folder).unwrap();
        assert!(!server.has_folder());
        fs::remove_dir(&folder).unwrap();
        fs::rename(&moved, &folder).unwrap();
        assert!(server.has_folder());
    }

    #[tokio::test]
    async fn a_server_that_has_ended_already_counts_as_ended_and_this_process_is_not_ended() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let server = OwnServer::on(Path::new("/nowhere"), ours);
        assert!(!server.end().await);
        drop(theirs);
        // A child that another test starts at this moment has a copy of it until its `exec`.
        let ended = async {
            while !server.end().await {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), ended).await.unwrap();
        assert!(server.end().await);
    }
}
