//! The user that a command runs as, where it is not the program's: its ids on the command line of the command's start, and
//! the change to it just before the `exec`.

use std::io;
#[cfg(target_os = "linux")]
use std::os::fd::AsFd;

use legwork_agent::environment::CommandUser;
#[cfg(target_os = "linux")]
use rustix::fs::FileType;
#[cfg(target_os = "linux")]
use rustix::process::Gid;
#[cfg(target_os = "linux")]
use rustix::process::Uid;
#[cfg(target_os = "linux")]
use rustix::thread::CapabilitySet;
#[cfg(target_os = "linux")]
use rustix::thread::CapabilitySets;

/// Stands for the program's own user.
const OWN: &str = "-";

/// The argument from which [`parse`] reads the user: its id, and its groups, the first of which is its own.
pub(super) fn argument(user: Option<&CommandUser>) -> String {
    let Some(CommandUser { uid, gid, groups }) = user else { return OWN.to_owned() };
    let others = groups.iter().filter(|group| *group != gid);
    others.fold(format!("{uid}:{gid}"), |text, group| format!("{text}:{group}"))
}

/// Reads an argument.
pub(super) fn parse(argument: &str) -> io::Result<Option<CommandUser>> {
    if argument == OWN {
        return Ok(None);
    }
    let invalid = || io::Error::new(io::ErrorKind::InvalidInput, "unknown user");
    let ids: Result<Vec<u32>, _> = argument.split(':').map(str::parse).collect();
    match ids.map_err(|_| invalid())?.split_first() {
        Some((&uid, groups @ [gid, ..])) if uid != 0 => {
            Ok(Some(CommandUser { uid, gid: *gid, groups: groups.to_vec() }))
        }
        _ => Err(invalid()),
    }
}

/// Becomes the user, permanently: this process has one thread. Its pipes become the user's, because programs open them again by
/// their names in `/dev`.
#[cfg(target_os = "linux")]
pub(super) fn become_user(user: &CommandUser) -> io::Result<()> {
    let (uid, gid) = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
    let groups: Vec<Gid> = user.groups.iter().copied().map(Gid::from_raw).collect();
    own_pipes(uid, gid);
    rustix::thread::set_thread_groups(&groups)?;
    rustix::thread::set_thread_res_gid(Some(gid), Some(gid), Some(gid))?;
    rustix::thread::set_thread_res_uid(Some(uid), Some(uid), Some(uid))?;
    // Gone with root's id already, unless the service manager keeps them.
    rustix::thread::clear_ambient_capability_set()?;
    let none = CapabilitySet::empty();
    let sets = CapabilitySets { effective: none, permitted: none, inheritable: none };
    rustix::thread::set_capabilities(None, sets)?;
    // No set-user-id program gives the command more.
    Ok(rustix::thread::set_no_new_privs(true)?)
}

#[cfg(target_os = "linux")]
fn own_pipes(uid: Uid, gid: Gid) {
    let own = |stream: &dyn AsFd| {
        let stream = stream.as_fd();
        let is_pipe = rustix::fs::fstat(stream)
            .is_ok_and(|found| FileType::from_raw_mode(found.st_mode) == FileType::Fifo);
        if is_pipe {
            // Without it only the names in `/dev` do not work.
            rustix::fs::fchown(stream, Some(uid), Some(gid)).ok();
        }
    };
    own(&io::stdin());
    own(&io::stdout());
    own(&io::stderr());
}

#[cfg(not(target_os = "linux"))]
pub(super) fn become_user(_user: &CommandUser) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_read_as_it_is_written() {
        for user in [
            None,
            Some(CommandUser { uid: 998, gid: 997, groups: vec![997, 50] }),
            Some(CommandUser { uid: 1, gid: 2, groups: vec![2] }),
        ] {
            assert_eq!(parse(&argument(user.as_ref())).unwrap(), user);
        }
        for odd in ["", "998", "0:5", "a:b", "998:", "998:-1"] {
            assert!(parse(odd).is_err(), "{odd}");
        }
    }
}
