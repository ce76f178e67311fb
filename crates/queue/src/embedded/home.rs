//! The state folder: its files, its permissions and its locks.
//!
//! | file | what it is |
//! | --- | --- |
//! | `server.lock` | locked for as long as a server lives: the server inherits the locked descriptor |
//! | `users.lock` | held shared by every user; a process that can lock it exclusively is the only one |
//! | `join.lock` | held while a user joins or leaves, so that no other sees the folder halfway |
//! | `server.json` | the server's program, version and socket |
//! | `server.sock`, `server.log`, `server.pid` | the server's own files |
//! | `data/` | the append-only files |
//!
//! Lock files are never deleted: a process may hold one that others could no longer open.

use std::fs;
use std::fs::DirBuilder;
use std::fs::File;
use std::fs::OpenOptions;
use std::fs::Permissions;
use std::fs::TryLockError;
use std::io;
use std::io::Read as _;
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use serde::Serialize;
use sha2::Digest as _;
use sha2::Sha256;
use tokio::time::Instant;

use crate::embedded::EmbeddedConfig;
use crate::embedded::EmbeddedError;
use crate::embedded::find::Product;
use crate::embedded::find::Version;

/// The format in which this release writes the folder's record.
const FORMAT: u32 = 1;
/// The name of the socket in the state folder.
const SOCKET: &str = "server.sock";
/// The longest path of a socket that the system allows, in bytes, without its closing zero.
const MAX_SOCKET_PATH: usize = if cfg!(target_os = "macos") { 103 } else { 107 };
/// Poll interval for a lock or a server: neither can be waited for with a timeout. A start takes some 30 ms, so a
/// shorter one gains little.
pub(super) const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// The content of `server.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    format: u32,
    /// The program that serves the folder, which is tried first the next time.
    pub(super) path: PathBuf,
    pub(super) product: Product,
    pub(super) version: Version,
    /// Where it listens. Recorded, because the next program may have another runtime folder.
    pub(super) socket: PathBuf,
}

impl Record {
    pub(super) fn new(path: PathBuf, product: Product, version: Version, socket: PathBuf) -> Self {
        Self { format: FORMAT, path, product, version, socket }
    }
}

/// The state folder of one user.
#[derive(Debug, Clone)]
pub(super) struct Home {
    folder: PathBuf,
    runtime: PathBuf,
}

impl Home {
    /// The folder, whether or not it exists.
    pub(super) fn locate(config: &EmbeddedConfig) -> Result<Self, EmbeddedError> {
        let absolute = |path: &Path| path::absolute(path).map_err(EmbeddedError::folder("find", path));
        Ok(Self { folder: absolute(&config.state_dir)?, runtime: absolute(&config.runtime_dir)? })
    }

    /// The folder, created where it does not exist, for its owner alone.
    pub(super) fn open(config: &EmbeddedConfig) -> Result<Self, EmbeddedError> {
        let home = Self::locate(config)?;
        // The user may have put the folder itself elsewhere.
        private_folder(&home.folder, |path| fs::metadata(path))?;
        private_folder(&home.data(), |path| fs::symlink_metadata(path))?;
        Ok(home)
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(super) fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    pub(super) fn log(&self) -> PathBuf {
        self.folder.join("server.log")
    }

    pub(super) fn pid_file(&self) -> PathBuf {
        self.folder.join("server.pid")
    }

    pub(super) fn record_file(&self) -> PathBuf {
        self.folder.join("server.json")
    }

    pub(super) fn server_lock(&self) -> PathBuf {
        self.folder.join("server.lock")
    }

    pub(super) fn users_lock(&self) -> PathBuf {
        self.folder.join("users.lock")
    }

    pub(super) fn join_lock(&self) -> PathBuf {
        self.folder.join("join.lock")
    }

    /// Where a new server is to listen: in the state folder, or in a private folder below the runtime folder.
    pub(super) fn socket(&self) -> Result<PathBuf, EmbeddedError> {
        let fits = |socket: &Path| socket.as_os_str().len() <= MAX_SOCKET_PATH;
        let usual = self.folder.join(SOCKET);
        if fits(&usual) {
            return Ok(usual);
        }
        let digest = Sha256::digest(self.folder.as_os_str().as_bytes());
        let name: String = digest.iter().take(6).map(|byte| format!("{byte:02x}")).collect();
        let folder = self.runtime.join(format!("legwork-{name}"));
        let short = folder.join("s");
        if !fits(&short) {
            let path = if short.as_os_str().len() < usual.as_os_str().len() { short } else { usual };
            return Err(EmbeddedError::SocketPath { path, limit: MAX_SOCKET_PATH });
        }
        private_folder(&folder, |path| fs::symlink_metadata(path))?;
        Ok(short)
    }

    /// Whether a recorded socket is this folder's. One in the folder may be another's: a folder that was moved still names
    /// the path where it was, and another folder may be there by now.
    pub(super) fn owns(&self, socket: &Path) -> bool {
        let usual = self.folder.join(SOCKET);
        let found = identity(socket);
        socket.file_name() != usual.file_name() || (found.is_some() && found == identity(&usual))
    }

    /// The record, if there is one.
    pub(super) fn record(&self) -> Result<Option<Record>, EmbeddedError> {
        let path = self.record_file();
        let mut text = Vec::new();
        match no_link().read(true).open(&path).and_then(|mut file| file.read_to_end(&mut text)) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(EmbeddedError::folder("read", &path)(error)),
        };
        parse_record(&text).map(Some).map_err(|detail| EmbeddedError::Format { path, detail })
    }

    /// Replaces the record atomically, so that a reader never sees half of it.
    pub(super) fn write_record(&self, record: &Record) -> Result<(), EmbeddedError> {
        let path = self.record_file();
        let failed = |error| EmbeddedError::folder("write", &path)(error);
        let text = serde_json::to_vec(record).map_err(|error| failed(error.into()))?;
        let new = self.folder.join("server.json.new");
        let written = no_link().create(true).truncate(true).write(true).open(&new);
        written
            .and_then(|mut file| file.write_all(&text))
            .and_then(|()| fs::rename(&new, &path))
            .map_err(failed)
    }
}

/// Reads a record, its format first, because the other fields may differ with it.
fn parse_record(text: &[u8]) -> Result<Record, String> {
    #[derive(Deserialize)]
    struct Format {
        format: u32,
    }
    let format = serde_json::from_slice::<Format>(text).map_err(|error| error.to_string())?.format;
    if format != FORMAT {
        return Err(format!("it has format {format}, this release knows format {FORMAT}"));
    }
    serde_json::from_slice(text).map_err(|error| error.to_string())
}

/// Makes sure that `path` is a folder that only its owner, this user, can enter. One that others could write to is refused,
/// because of what they may have put there; so is a link, where `read` follows none.
fn private_folder(
    path: &Path,
    read: impl FnOnce(&Path) -> io::Result<fs::Metadata>,
) -> Result<(), EmbeddedError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(EmbeddedError::folder("make", path))?;
    let found = read(path).map_err(EmbeddedError::folder("read", path))?;
    if !found.is_dir() {
        return Err(EmbeddedError::folder("use the link", path)(io::ErrorKind::NotADirectory.into()));
    }
    if found.uid() != rustix::process::geteuid().as_raw() {
        return Err(EmbeddedError::NotOurs { path: path.to_owned() });
    }
    let mode = found.permissions().mode();
    if mode & 0o022 != 0 {
        return Err(EmbeddedError::Writable { path: path.to_owned() });
    }
    if mode & 0o077 != 0 {
        fs::set_permissions(path, Permissions::from_mode(0o700))
            .map_err(EmbeddedError::folder("close to others", path))?;
    }
    Ok(())
}

/// Device and inode of what is at a path; `None` where nothing is, or it cannot be read.
pub(super) fn identity(path: &Path) -> Option<(u64, u64)> {
    let found = fs::metadata(path).ok()?;
    Some((found.dev(), found.ino()))
}

/// Options that open no link: what is in the folder stays in the folder.
pub(super) fn no_link() -> OpenOptions {
    let mut options = OpenOptions::new();
    // The bits of the system's flags, in the type that the standard library takes.
    options.custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed());
    options
}

/// Opens a lock file without locking it. A child process inherits it only where it is passed on.
fn open_lock(path: &Path) -> Result<File, EmbeddedError> {
    no_link()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .open(path)
        .map_err(EmbeddedError::folder("open", path))
}

/// How a lock is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// By one process alone.
    Exclusive,
    /// By any number of processes.
    Shared,
}

/// A lock, released with the value, or by the system when the process ends.
#[derive(Debug)]
pub(super) struct Lock(File);

impl Lock {
    /// Another handle of the locked file. If this process dies, the lock is held until the last handle is closed.
    pub(super) fn copy(&self) -> io::Result<File> {
        self.0.try_clone()
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing the file is too late: a child that another thread forks just now has a copy until it execs. If
        // unlocking fails, closing releases the lock in the end.
        self.0.unlock().ok();
    }
}

/// The lock at `path`; `None` if another process holds it.
pub(super) fn try_lock(path: &Path, mode: Mode) -> Result<Option<Lock>, EmbeddedError> {
    Ok(try_lock_file(path, mode)?.map(Lock))
}

/// A locked file for a child process to inherit; `None` if another process holds the lock. The lock is held until the
/// last copy of the file is closed.
pub(super) fn try_lock_file(path: &Path, mode: Mode) -> Result<Option<File>, EmbeddedError> {
    let file = open_lock(path)?;
    let outcome = match mode {
        Mode::Exclusive => file.try_lock(),
        Mode::Shared => file.try_lock_shared(),
    };
    match outcome {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(EmbeddedError::folder("lock", path)(error)),
    }
}

/// The lock at `path`, waited for up to `timeout`. Dropping the future leaves it as it is.
pub(super) async fn lock(path: &Path, mode: Mode, timeout: Duration) -> Result<Lock, EmbeddedError> {
    let end = Instant::now() + timeout;
    loop {
        if let Some(file) = try_lock(path, mode)? {
            return Ok(file);
        }
        if Instant::now() >= end {
            return Err(EmbeddedError::Busy { path: path.to_owned() });
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

/// Deletes a file or folder that may not exist.
pub(super) fn delete(path: &Path, remove: impl FnOnce(&Path) -> io::Result<()>) -> Result<(), EmbeddedError> {
    match remove(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(EmbeddedError::folder("delete", path)(error))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}
