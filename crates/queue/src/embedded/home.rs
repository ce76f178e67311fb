//! The state folder: what lies where, who may read it, and its locks.
//!
//! | file | what it is |
//! | --- | --- |
//! | `server.lock` | locked for as long as a server lives: the server inherits the locked descriptor |
//! | `users.lock` | every user holds it shared; who can have it alone is the only one |
//! | `door.lock` | held while somebody comes or goes, so that both see a folder at rest |
//! | `server.json` | the server's program, version and socket |
//! | `server.sock`, `server.log`, `server.pid` | the server's own |
//! | `data/` | the append-only files |
//!
//! Lock files are never deleted: somebody may hold one that others could no longer see.

use std::fs;
use std::fs::DirBuilder;
use std::fs::File;
use std::fs::OpenOptions;
use std::fs::Permissions;
use std::fs::TryLockError;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::os::unix::fs::MetadataExt as _;
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

/// How this release keeps the folder.
const FORMAT: u32 = 1;
/// The longest path of a socket, in bytes, without its closing zero.
const SOCKET_LIMIT: usize = if cfg!(target_os = "macos") { 103 } else { 107 };
/// How often a lock or a server is asked again.
pub(super) const POLL: Duration = Duration::from_millis(10);

/// What `server.json` says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    format: u32,
    /// The server's program.
    pub(super) path: PathBuf,
    pub(super) product: Product,
    pub(super) version: Version,
    /// Where it listens. Recorded, because the next command may know another runtime folder.
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
    /// The folder as it may or may not be there.
    pub(super) fn locate(config: &EmbeddedConfig) -> Result<Self, EmbeddedError> {
        let absolute = |path: &Path| path::absolute(path).map_err(EmbeddedError::folder("find", path));
        Ok(Self { folder: absolute(&config.state_dir)?, runtime: absolute(&config.runtime_dir)? })
    }

    /// The folder, made where it is not there, for its owner alone.
    pub(super) fn open(config: &EmbeddedConfig) -> Result<Self, EmbeddedError> {
        let home = Self::locate(config)?;
        private_folder(&home.folder)?;
        private_folder(&home.data())?;
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

    pub(super) fn door_lock(&self) -> PathBuf {
        self.folder.join("door.lock")
    }

    /// Where a new server shall listen: in the state folder, or in a private one below the runtime folder.
    pub(super) fn socket(&self) -> Result<PathBuf, EmbeddedError> {
        let fits = |socket: &Path| socket.as_os_str().len() <= SOCKET_LIMIT;
        let usual = self.folder.join("server.sock");
        if fits(&usual) {
            return Ok(usual);
        }
        let digest = Sha256::digest(self.folder.as_os_str().as_bytes());
        let name: String = digest.iter().take(6).map(|byte| format!("{byte:02x}")).collect();
        let folder = self.runtime.join(format!("legwork-{name}"));
        let short = folder.join("s");
        if !fits(&short) {
            let path = if short.as_os_str().len() < usual.as_os_str().len() { short } else { usual };
            return Err(EmbeddedError::SocketPath { path, limit: SOCKET_LIMIT });
        }
        private_folder(&folder)?;
        Ok(short)
    }

    /// What is recorded, if anything is.
    pub(super) fn record(&self) -> Result<Option<Record>, EmbeddedError> {
        let path = self.record_file();
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(EmbeddedError::folder("read", &path)(error)),
        };
        parse_record(&text).map(Some).map_err(|detail| EmbeddedError::Format { path, detail })
    }

    /// Replaces the record in one step, so that a reader never sees half of it.
    pub(super) fn write_record(&self, record: &Record) -> Result<(), EmbeddedError> {
        let path = self.record_file();
        let failed = |error| EmbeddedError::folder("write", &path)(error);
        let text = serde_json::to_vec(record).map_err(|error| failed(error.into()))?;
        let beside = self.folder.join("server.json.new");
        fs::write(&beside, text).and_then(|()| fs::rename(&beside, &path)).map_err(failed)
    }
}

/// Reads a record; the format comes first, since the rest may have changed with it.
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

/// Makes sure that `path` is a folder which only we can enter.
fn private_folder(path: &Path) -> Result<(), EmbeddedError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(EmbeddedError::folder("make", path))?;
    let found = fs::metadata(path).map_err(EmbeddedError::folder("read", path))?;
    if found.uid() != rustix::process::geteuid().as_raw() {
        return Err(EmbeddedError::NotOurs { path: path.to_owned() });
    }
    if found.permissions().mode() & 0o077 != 0 {
        fs::set_permissions(path, Permissions::from_mode(0o700))
            .map_err(EmbeddedError::folder("close to others", path))?;
    }
    Ok(())
}

/// Opens a lock file without locking it. No child inherits it unless it is handed over.
fn open_lock(path: &Path) -> Result<File, EmbeddedError> {
    OpenOptions::new()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .open(path)
        .map_err(EmbeddedError::folder("open", path))
}

/// Whether a lock is for one or for many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    Exclusive,
    Shared,
}

/// A lock, given back with the value, or by the system with the process.
#[derive(Debug)]
pub(super) struct Lock(File);

impl Lock {
    /// Another handle of the locked file. The lock lives as long as any, or until the lock is given back.
    pub(super) fn copy(&self) -> io::Result<File> {
        self.0.try_clone()
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing alone is too late: a child that another thread forks has a copy until it execs. Where
        // unlocking fails, closing still does it.
        self.0.unlock().ok();
    }
}

/// The lock at `path`, or nothing when others have it.
pub(super) fn try_lock(path: &Path, mode: Mode) -> Result<Option<Lock>, EmbeddedError> {
    Ok(try_lock_file(path, mode)?.map(Lock))
}

/// A locked file for a child to inherit, or nothing when others have the lock. The lock lives as long as
/// any copy of the file.
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

/// The lock at `path`, waited for as long as `patience`. Dropping the future leaves nothing behind.
pub(super) async fn lock(path: &Path, mode: Mode, patience: Duration) -> Result<Lock, EmbeddedError> {
    let end = Instant::now() + patience;
    loop {
        if let Some(file) = try_lock(path, mode)? {
            return Ok(file);
        }
        if Instant::now() >= end {
            return Err(EmbeddedError::Busy { path: path.to_owned() });
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Deletes what may be gone already.
pub(super) fn delete(path: &Path, remove: impl FnOnce(&Path) -> io::Result<()>) -> Result<(), EmbeddedError> {
    match remove(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(EmbeddedError::folder("delete", path)(error))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}
