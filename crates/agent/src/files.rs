//! The one way in which a tool opens a file that an agent, an agent file or a project names.
//!
//! Only regular files are opened: a pipe or a device would hold the thread, and may have no end. Files of `/proc`, `/sys`
//! and the like are not opened at all: they are the state of this machine and of this process, with its memory and its
//! descriptors. What is read has a bound, whatever the length of the file is said to be.
//!
//! In a confined run, paths are resolved by the system below the folder of the job, so that no link leads out, also not one
//! that a command puts there in between. Where commands run as another user, files are opened with the rights of that user.

pub(crate) mod hidden;
pub(crate) mod user;

use std::fs;
use std::fs::File;
use std::io;
use std::io::Read as _;
use std::io::Write as _;
use std::os::fd::AsFd;
use std::os::fd::OwnedFd;
use std::path::Component;
use std::path::Path;
use std::path::PathBuf;

use rustix::fs::AtFlags;
use rustix::fs::CWD;
use rustix::fs::Mode;
use rustix::fs::OFlags;
#[cfg(target_os = "linux")]
use rustix::fs::ResolveFlags;
use rustix::io::Errno;

use self::user::AsUser;
use crate::environment::Confinement;

/// The largest file that is read. It protects the worker's memory; a model's context is far smaller.
pub(crate) const MAX_FILE_BYTES: u64 = 10 * 1024 * 1024;

/// File systems whose files are the state of the machine (statfs(2)): proc, sysfs, debugfs, tracefs, securityfs, both
/// cgroups, bpf, pstore, efivarfs, configfs, selinux, fusectl, nsfs, devpts, mqueue.
const STATE_FILE_SYSTEMS: [u64; 16] = [
    0x9fa0,
    0x6265_6572,
    0x6462_6720,
    0x7472_6163,
    0x7363_6673,
    0x0027_e0eb,
    0x6367_7270,
    0xcafe_4a11,
    0x6165_676c,
    0xde5e_81e4,
    0x6265_6570,
    0xf97c_ff8c,
    0x6573_5543,
    0x6e73_6673,
    0x1cd1,
    0x1980_0202,
];

/// The files that one run reaches.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Files<'a> {
    confinement: Option<&'a Confinement>,
}

impl<'a> Files<'a> {
    /// All files, or those within `confinement`.
    pub(crate) fn new(confinement: Option<&'a Confinement>) -> Self {
        Self { confinement }
    }

    /// Takes the identity of the user that commands run as, for this thread and until the value is dropped: for work that finds
    /// files by their paths, such as a search. Nothing where commands run as our own user.
    ///
    /// # Errors
    ///
    /// The system's.
    pub(crate) fn as_user(self) -> io::Result<AsUser> {
        AsUser::enter(self.confinement.and_then(|confinement| confinement.user.as_ref()))
    }

    /// Opens a regular file for reading. Its length may be more than what may be read: see [`read`](Self::read).
    ///
    /// # Errors
    ///
    /// The system's; it is not a regular file; or it is out of reach.
    pub(crate) fn open(self, path: &Path) -> io::Result<File> {
        self.open_as(path, OFlags::RDONLY, true)
    }

    /// The content of a regular file of at most `max_bytes`.
    ///
    /// # Errors
    ///
    /// Those of [`open`](Self::open), or it is too large.
    pub(crate) fn read(self, path: &Path, max_bytes: u64) -> io::Result<Vec<u8>> {
        let file = self.open(path)?;
        let length = file.metadata()?.len();
        if length > max_bytes {
            return Err(too_large(length));
        }
        let mut bytes = Vec::new();
        // It may grow while it is read.
        let read = file.take(max_bytes.saturating_add(1)).read_to_end(&mut bytes)?;
        if read as u64 > max_bytes { Err(too_large(read as u64)) } else { Ok(bytes) }
    }

    /// Replaces the content of a file, which is created where it does not exist, with the folders above it. A crash in the
    /// middle may leave a part of the content.
    ///
    /// # Errors
    ///
    /// Those of [`open`](Self::open).
    pub(crate) fn write(self, path: &Path, content: &[u8]) -> io::Result<()> {
        if let Some(folder) = path.parent() {
            self.create_folders(folder)?;
        }
        let mut file = self.open_as(path, OFlags::WRONLY | OFlags::CREATE, false)?;
        // Truncated only now that it is known to be a regular file.
        file.set_len(0)?;
        file.write_all(content)
    }

    /// Replaces the content of a file atomically, by way of `temporary` in the same folder, which must exist. The
    /// permissions stay. Of a link its target is replaced; in a confined run the link itself. A crash leaves the old content
    /// or the new, and maybe the temporary file.
    ///
    /// # Errors
    ///
    /// The system's, or it is out of reach.
    pub(crate) fn replace(self, path: &Path, temporary: &Path, content: &[u8]) -> io::Result<()> {
        let _as_user = self.as_user()?;
        let old = self.open(path).ok().and_then(|old| old.metadata().ok());
        let (folder, target) = match self.confinement {
            None => {
                let target = if path.exists() { fs::canonicalize(path)? } else { path.to_owned() };
                (folder(CWD, temporary.parent().unwrap_or(Path::new(".")))?, target)
            }
            Some(confinement) => {
                let (root, below) = confinement.find(path, false)?;
                let above = below.parent().unwrap_or(Path::new("."));
                let target = below.file_name().map(PathBuf::from).ok_or_else(|| out_of_reach(path))?;
                (beneath(&folder(CWD, root)?, above, OFlags::PATH | OFlags::DIRECTORY)?, target)
            }
        };
        let temporary = temporary.file_name().ok_or_else(|| out_of_reach(temporary))?;
        // A crash may have left one.
        match rustix::fs::unlinkat(&folder, temporary, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let new = rustix::fs::openat(&folder, temporary, flags, Mode::from_raw_mode(0o666))?;
        let mut new = File::from(new);
        new.write_all(content)?;
        if let Some(old) = old {
            new.set_permissions(old.permissions())?;
        }
        new.sync_all()?;
        // A target that is absolute is found by that.
        Ok(rustix::fs::renameat(&folder, temporary, &folder, &target)?)
    }

    /// Opens a file to be locked, created where it does not exist. Its content does not matter.
    ///
    /// # Errors
    ///
    /// Those of [`open`](Self::open).
    pub(crate) fn open_lock(self, path: &Path) -> io::Result<File> {
        self.open_as(path, OFlags::WRONLY | OFlags::CREATE | OFlags::APPEND, false)
    }

    /// Creates a folder with the folders above it.
    ///
    /// # Errors
    ///
    /// The system's, or it is out of reach.
    pub(crate) fn create_folders(self, path: &Path) -> io::Result<()> {
        let Some(confinement) = self.confinement else { return fs::create_dir_all(path) };
        let _as_user = self.as_user()?;
        let (root, below) = confinement.find(path, false)?;
        let root = folder(CWD, root)?;
        let mut made = PathBuf::new();
        for name in below.components() {
            let parent = beneath(&root, &made, OFlags::PATH | OFlags::DIRECTORY)?;
            match rustix::fs::mkdirat(&parent, name.as_os_str(), Mode::from_raw_mode(0o777)) {
                Ok(()) | Err(Errno::EXIST) => made.push(name),
                Err(error) => return Err(error.into()),
            }
        }
        beneath(&root, &made, OFlags::PATH | OFlags::DIRECTORY).map(drop)
    }

    /// Removes an empty folder.
    ///
    /// # Errors
    ///
    /// The system's, or it is out of reach.
    pub(crate) fn remove_folder(self, path: &Path) -> io::Result<()> {
        let Some(confinement) = self.confinement else { return fs::remove_dir(path) };
        let _as_user = self.as_user()?;
        let (root, below) = confinement.find(path, false)?;
        let (Some(parent), Some(name)) = (below.parent(), below.file_name()) else {
            return Err(out_of_reach(path));
        };
        let parent = beneath(&folder(CWD, root)?, parent, OFlags::PATH | OFlags::DIRECTORY)?;
        Ok(rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR)?)
    }

    /// Checks that a file or folder can be listed and searched: it exists and is within reach.
    ///
    /// # Errors
    ///
    /// The system's, or it is out of reach.
    pub(crate) fn check(self, path: &Path) -> io::Result<()> {
        match self.confinement {
            None => fs::metadata(path).map(drop),
            Some(confinement) => {
                let _as_user = self.as_user()?;
                let (root, below) = confinement.find(path, true)?;
                beneath(&folder(CWD, root)?, &below, OFlags::PATH).map(drop)
            }
        }
    }

    fn open_as(self, path: &Path, flags: OFlags, reads: bool) -> io::Result<File> {
        let _as_user = self.as_user()?;
        // Asked first, because already opening a device may do something.
        if self.confinement.is_none() && fs::metadata(path).is_ok_and(|found| !found.is_file()) {
            return Err(not_regular());
        }
        // Non-blocking: a pipe without another end would hold the thread.
        let flags = flags | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let opened = match self.confinement {
            None => rustix::fs::open(path, flags, Mode::from_raw_mode(0o666)).map_err(io::Error::from),
            Some(confinement) => {
                let (root, below) = confinement.find(path, reads)?;
                beneath(&folder(CWD, root)?, &below, flags)
            }
        };
        let file =
            File::from(opened.map_err(|error| match error.raw_os_error().map(Errno::from_raw_os_error) {
                // A pipe without a reader, or a folder that is opened for writing.
                Some(Errno::NXIO | Errno::ISDIR) => not_regular(),
                _ => error,
            })?);
        if !file.metadata()?.is_file() {
            return Err(not_regular());
        }
        #[cfg(target_os = "linux")]
        {
            // The magic numbers have 32 bits; some systems extend the sign.
            let kind = rustix::fs::fstatfs(&file)?.f_type as u64 & 0xffff_ffff;
            if STATE_FILE_SYSTEMS.contains(&kind) {
                return Err(io::Error::new(
                    io::ErrorKind::PermissionDenied,
                    "it is not a file but the state of the machine, which is not opened",
                ));
            }
        }
        Ok(file)
    }
}

impl Confinement {
    /// The folder that contains `path`, and the rest of it, without `..`.
    fn find(&self, path: &Path, reads: bool) -> io::Result<(&Path, PathBuf)> {
        let mut plain = PathBuf::new();
        for component in path.components() {
            match component {
                Component::ParentDir => {
                    plain.pop();
                }
                Component::CurDir => {}
                other => plain.push(other),
            }
        }
        let readable = self.readable.iter().filter(|_| reads);
        let mut roots = std::iter::once(&self.folder).chain(readable);
        let found = roots.find_map(|root| Some((root.as_path(), plain.strip_prefix(root).ok()?.to_owned())));
        found.ok_or_else(|| out_of_reach(path))
    }
}

fn folder(at: impl AsFd, path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(at, path, flags, Mode::empty())?)
}

/// Opens what is below `root`. No link leads out of it.
#[cfg(target_os = "linux")]
fn beneath(root: &OwnedFd, path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    let mode = if flags.contains(OFlags::CREATE) { Mode::from_raw_mode(0o666) } else { Mode::empty() };
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    rustix::fs::openat2(root, path, flags | OFlags::CLOEXEC, mode, resolve).map_err(|error| match error {
        Errno::XDEV => out_of_reach(path),
        other => other.into(),
    })
}

#[cfg(not(target_os = "linux"))]
fn beneath(_root: &OwnedFd, path: &Path, _flags: OFlags) -> io::Result<OwnedFd> {
    Err(out_of_reach(path))
}

fn too_large(bytes: u64) -> io::Error {
    io::Error::new(io::ErrorKind::FileTooLarge, format!("too large to read whole: {bytes} bytes"))
}

fn not_regular() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "not a regular file")
}

fn out_of_reach(path: &Path) -> io::Error {
    let reason = format!("{} is outside of the folders that this job may use", path.display());
    io::Error::new(io::ErrorKind::PermissionDenied, reason)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use tempfile::TempDir;

    use super::*;

    const ALL: Files<'static> = Files { confinement: None };

    #[test]
    fn only_regular_files_are_opened_and_at_once() {
        let folder = TempDir::new().unwrap();
        let fifo = folder.path().join("fifo");
        rustix::fs::mkfifoat(CWD, &fifo, Mode::from_raw_mode(0o600)).unwrap();
        for path in ["/dev/zero", "/dev/null", "/dev/tty", "/", fifo.to_str().unwrap()] {
            for refused in [ALL.read(path.as_ref(), 10).map(drop), ALL.write(path.as_ref(), b"x")] {
                assert_eq!(refused.unwrap_err().to_string(), "not a regular file", "{path}");
            }
        }
        let pid = std::process::id();
        for path in [
            "/proc/self/environ".to_owned(),
            format!("/proc/{pid}/maps"),
            "/proc/cpuinfo".to_owned(),
            "/sys/kernel/mm/transparent_hugepage/enabled".to_owned(),
        ] {
            if Path::new(&path).exists() {
                let refused = ALL.read(path.as_ref(), 10).unwrap_err().to_string();
                assert!(refused.contains("the state of the machine"), "{path}: {refused}");
            }
        }
        let link = folder.path().join("link");
        symlink("/proc/self/environ", &link).unwrap();
        assert!(ALL.read(&link, u64::MAX).is_err());
    }

    #[test]
    fn reads_have_a_bound_and_writes_replace() {
        let folder = TempDir::new().unwrap();
        let file = folder.path().join("a/b/file");
        ALL.write(&file, b"a long text").unwrap();
        ALL.write(&file, b"short").unwrap();
        assert_eq!(ALL.read(&file, 5).unwrap(), b"short");
        assert_eq!(ALL.read(&file, 4).unwrap_err().to_string(), "too large to read whole: 5 bytes");
        assert_eq!(ALL.read(&folder.path().join("none"), 4).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn a_confined_run_reaches_its_folder_and_no_link_leads_out() {
        let top = TempDir::new().unwrap();
        let at = |name: &str| top.path().join(name);
        for folder in ["job", "shared", "other"] {
            fs::create_dir(at(folder)).unwrap();
            fs::write(at(folder).join("file"), folder).unwrap();
        }
        let confinement = Confinement { folder: at("job"), readable: vec![at("shared")], user: None };
        let files = Files::new(Some(&confinement));
        assert_eq!(files.read(&at("job/file"), 10).unwrap(), b"job");
        assert_eq!(files.read(&at("job/../job/./file"), 10).unwrap(), b"job");
        assert_eq!(files.read(&at("shared/file"), 10).unwrap(), b"shared");
        files.write(&at("job/new/deep/file"), b"x").unwrap();
        files.check(&at("job/new/deep")).unwrap();
        files.check(&at("job")).unwrap();
        files.create_folders(&at("job/empty")).unwrap();
        files.remove_folder(&at("job/empty")).unwrap();
        symlink(at("other"), at("job/out")).unwrap();
        symlink("../other/file", at("job/up")).unwrap();
        for path in ["other/file", "job/out/file", "job/up", "job/../other/file"] {
            assert!(files.read(&at(path), 10).is_err(), "{path}");
            assert!(files.write(&at(path), b"x").is_err(), "{path}");
        }
        for path in ["job/out", "other"] {
            assert!(files.check(&at(path)).is_err(), "{path}");
            assert!(files.create_folders(&at(path).join("new")).is_err(), "{path}");
            assert!(files.remove_folder(&at(path).join("new")).is_err(), "{path}");
        }
        assert!(files.write(&at("shared/file"), b"x").is_err());
        assert!(files.remove_folder(&at("job")).is_err());
        assert_eq!(fs::read(at("other/file")).unwrap(), b"other");
        assert!(!at("other/new").exists());
    }
}
