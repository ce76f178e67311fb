//! The user that the commands of a run are, where it is not the program's: files are opened with its rights and not with
//! ours.
//!
//! A command can put a link, also a hard one, into its folder, and agents ask for paths through it. The system knows what a
//! user may open; so the thread that opens a file takes the identity of the user for that moment. Linux has it for each
//! thread; the program's real and saved ids stay, so that no process of the user may signal or trace it.

use std::io;
use std::marker::PhantomData;

use rustix::process::Gid;
use rustix::process::Uid;
#[cfg(target_os = "linux")]
use rustix::thread::CapabilitySet;

/// A user that commands run as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandUser {
    /// Its id.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// Its other groups.
    pub groups: Vec<u32>,
}

impl CommandUser {
    /// Checks that this program may take the identity of the user.
    ///
    /// # Errors
    ///
    /// The system's.
    pub fn check(&self) -> io::Result<()> {
        AsUser::enter(Some(self)).map(drop)
    }
}

/// A thread with the identity of a [`CommandUser`]; dropping it restores our own. Not to be held over an await: another
/// thread would continue.
#[derive(Debug)]
pub(crate) struct AsUser {
    own: Option<Identity>,
    _of_this_thread: PhantomData<*const ()>,
}

#[derive(Debug)]
struct Identity {
    uid: Uid,
    gid: Gid,
    groups: Vec<Gid>,
}

impl AsUser {
    /// Takes the identity of `user` for this thread; nothing where there is none, or where the thread has it already.
    ///
    /// # Errors
    ///
    /// The system's, where this program may not; or the thread would keep rights that the user has not. It is as it was then.
    pub(crate) fn enter(user: Option<&CommandUser>) -> io::Result<Self> {
        let none = Self { own: None, _of_this_thread: PhantomData };
        let uid = rustix::process::geteuid();
        let Some(user) = user.filter(|user| user.uid != uid.as_raw()) else { return Ok(none) };
        let groups = rustix::process::getgroups()?;
        let own = Identity { uid, gid: rustix::process::getegid(), groups };
        let wanted = Identity {
            uid: Uid::from_raw(user.uid),
            gid: Gid::from_raw(user.gid),
            groups: user.groups.iter().copied().map(Gid::from_raw).collect(),
        };
        let entered = Self { own: Some(own), ..none };
        // The groups first: without our own id we may change none.
        set_groups(&wanted)?;
        set_uid(wanted.uid)?;
        check_no_capabilities()?;
        Ok(entered)
    }
}

impl Drop for AsUser {
    fn drop(&mut self) {
        let Some(own) = &self.own else { return };
        if set_uid(own.uid).and_then(|()| set_groups(own)).is_err() {
            // The saved id is our own, so this cannot fail; a thread with a wrong identity must not do anything else.
            std::process::abort();
        }
    }
}

#[cfg(target_os = "linux")]
fn set_groups(identity: &Identity) -> io::Result<()> {
    rustix::thread::set_thread_groups(&identity.groups)?;
    Ok(rustix::thread::set_thread_res_gid(None, Some(identity.gid), None)?)
}

#[cfg(target_os = "linux")]
fn set_uid(uid: Uid) -> io::Result<()> {
    Ok(rustix::thread::set_thread_res_uid(None, Some(uid), None)?)
}

/// Checks that the thread may do nothing that others may not. The system takes that away with root's id, unless it was asked not to
/// (`SECBIT_NO_SETUID_FIXUP`).
#[cfg(target_os = "linux")]
fn check_no_capabilities() -> io::Result<()> {
    let kept = rustix::thread::capabilities(None)?.effective;
    if kept == CapabilitySet::empty() {
        return Ok(());
    }
    let reason = format!("the rights of another user cannot be taken on: {kept:?} would stay");
    Err(io::Error::new(io::ErrorKind::PermissionDenied, reason))
}

#[cfg(not(target_os = "linux"))]
fn check_no_capabilities() -> io::Result<()> {
    Ok(())
}

#[cfg(not(target_os = "linux"))]
fn set_groups(_identity: &Identity) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(not(target_os = "linux"))]
fn set_uid(_uid: Uid) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write as _;
    use std::os::unix::fs::MetadataExt as _;
    use std::os::unix::fs::PermissionsExt as _;
    use std::os::unix::fs::chown;
    use std::os::unix::fs::symlink;

    #[cfg(target_os = "linux")]
    use rustix::thread::CapabilitiesSecureBits;
    use tempfile::TempDir;

    use super::*;
    use crate::environment::Confinement;
    use crate::files::Files;

    /// It need not exist.
    const USER: u32 = 65534;

    fn is_root() -> bool {
        let is_root = rustix::process::geteuid().is_root();
        if !is_root {
            // To the real standard error, which the test harness does not capture.
            writeln!(io::stderr(), "skipped: only root can become another user").unwrap();
        }
        is_root
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_thread_that_would_keep_capabilities_does_not_become_another_user() {
        if !is_root() {
            return;
        }
        let user = CommandUser { uid: USER, gid: USER, groups: vec![USER] };
        user.check().unwrap();
        let before = rustix::thread::capabilities(None).unwrap();
        // The bits are those of this thread.
        let bits = rustix::thread::capabilities_secure_bits().unwrap();
        rustix::thread::set_capabilities_secure_bits(bits | CapabilitiesSecureBits::NO_SETUID_FIXUP).unwrap();
        let outcome = user.check();
        let is_own = rustix::process::geteuid().is_root() && rustix::process::getegid().is_root();
        let after = rustix::thread::capabilities(None).unwrap();
        rustix::thread::set_capabilities_secure_bits(bits).unwrap();
        let refused = outcome.unwrap_err().to_string();
        assert!(refused.contains("DAC_OVERRIDE"), "{refused}");
        assert!(is_own && after == before);
        user.check().unwrap();
    }

    #[test]
    fn files_are_opened_with_the_rights_of_the_user_and_belong_to_it() {
        if !is_root() {
            return;
        }
        let top = TempDir::new().unwrap();
        fs::set_permissions(top.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let at = |name: &str| top.path().join(name);
        fs::create_dir(at("job")).unwrap();
        fs::set_permissions(at("job"), fs::Permissions::from_mode(0o700)).unwrap();
        chown(at("job"), Some(USER), Some(USER)).unwrap();
        // What only root may read: next to the folder, and in it by a hard link.
        fs::write(at("secret"), "secret").unwrap();
        fs::set_permissions(at("secret"), fs::Permissions::from_mode(0o600)).unwrap();
        fs::hard_link(at("secret"), at("job/hard")).unwrap();
        symlink("../secret", at("job/soft")).unwrap();
        let user = CommandUser { uid: USER, gid: USER, groups: vec![USER] };
        let confinement = Confinement { folder: at("job"), readable: Vec::new(), user: Some(user.clone()) };
        let files = Files::new(Some(&confinement));
        for name in ["job/hard", "job/soft", "secret"] {
            assert!(files.read(&at(name), 10).is_err(), "{name}");
            assert!(files.write(&at(name), b"x").is_err(), "{name}");
        }
        files.write(&at("job/a/b"), b"one").unwrap();
        files.replace(&at("job/a/b"), &at("job/a/.b.new"), b"two").unwrap();
        assert_eq!(files.read(&at("job/a/b"), 10).unwrap(), b"two");
        for name in ["job/a", "job/a/b"] {
            let found = fs::metadata(at(name)).unwrap();
            assert_eq!((found.uid(), found.gid()), (USER, USER), "{name}");
        }
        assert_eq!(fs::read(at("secret")).unwrap(), b"secret");
        let inner = AsUser::enter(Some(&user)).unwrap();
        drop(AsUser::enter(Some(&user)).unwrap());
        assert_eq!(rustix::process::geteuid().as_raw(), USER);
        drop(inner);
        assert!(rustix::process::geteuid().is_root() && rustix::process::getegid().is_root());
    }
}
