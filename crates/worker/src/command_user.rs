//! The user of `--command-user`: found in the system's files, and checked before the worker serves.

use std::fs;
use std::fs::Permissions;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use legwork_agent::environment::CommandUser;
use legwork_common::error::Coded;
use legwork_common::error::ExitStatus;
#[cfg(target_os = "linux")]
use rustix::thread::CapabilitySet;
use thiserror::Error;

use crate::options::WorkerOptions;
use crate::runner::WorkDir;

/// Where the system has its users, and their groups. A user that is only in a directory service is named by its ids.
const FILES: [&str; 2] = ["/etc/passwd", "/etc/group"];

/// Why commands cannot run as a user.
#[derive(Debug, Error)]
pub(crate) enum CommandUserError {
    /// It is not in the system's files.
    #[error("--command-user {name}: there is no such user in {}", FILES[0])]
    Unknown {
        /// The name.
        name: String,
    },
    /// The system's files cannot be read.
    #[error("--command-user: {file} cannot be read: {source}")]
    File {
        /// Which one.
        file: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It would be no other user.
    #[error("--command-user {name}: commands must run as another user than root and the worker")]
    NotAnother {
        /// The name.
        name: String,
    },
    /// This program may not start commands as another user, or not end them.
    #[error("--command-user {name}: this worker may not run commands as another user: {detail}")]
    NotPermitted {
        /// The name.
        name: String,
        /// What it lacks.
        detail: String,
    },
    /// Jobs do not run below a work dir.
    #[error("--command-user: workers of the embedded server run jobs in the folders of their dispatchers")]
    Embedded,
    /// The permissions of the default work dir cannot be set.
    #[error("--command-user: the permissions of {folder} cannot be set: {source}")]
    Folder {
        /// The folder.
        folder: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The user cannot enter the folders of jobs.
    #[error(
        "--command-user {name}: the user cannot enter {folder} (mode {mode:o}), where the jobs' folders are"
    )]
    Unreachable {
        /// The name.
        name: String,
        /// The first folder on the way.
        folder: String,
        /// Its permissions.
        mode: u32,
    },
}

impl Coded for CommandUserError {
    fn code(&self) -> &'static str {
        "command_user"
    }

    fn exit(&self) -> ExitStatus {
        ExitStatus::Usage
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Unknown { .. } => Some(
                "`useradd --system --no-create-home NAME` makes one, or name it as UID:GID".to_owned(),
            ),
            Self::File { .. } | Self::Folder { .. } | Self::NotAnother { .. } => None,
            Self::NotPermitted { .. } => Some(
                "run the worker as root with CAP_SETUID, CAP_SETGID, CAP_CHOWN, CAP_KILL and CAP_DAC_OVERRIDE; a worker \
                 that runs as a user of its own in a container needs no --command-user"
                    .to_owned(),
            ),
            Self::Embedded => Some("name a Redis with --redis (LEGWORK_REDIS_URL)".to_owned()),
            Self::Unreachable { .. } => {
                Some("select another work dir with --work-dir (LEGWORK_WORK_DIR), such as /var/lib/legwork-jobs".to_owned())
            }
        }
    }
}

/// The user of `--command-user`, if there is one, and the work dir for its jobs: their folders belong to it, with mode 0700,
/// and it can enter the folder above them.
///
/// # Errors
///
/// [`CommandUserError`].
pub(crate) fn prepare(
    options: &WorkerOptions,
    work_dir: WorkDir,
) -> Result<(WorkDir, Option<CommandUser>), CommandUserError> {
    let Some(name) = &options.command_user else { return Ok((work_dir, None)) };
    let user = find(name)?;
    let work_dir = match work_dir {
        WorkDir::Dispatchers => return Err(CommandUserError::Embedded),
        WorkDir::Shared(folder) => {
            check_reachable(name, &user, &folder)?;
            WorkDir::Shared(folder)
        }
        WorkDir::Own(folders) => {
            // The default was made for this worker alone. Names of jobs cannot be listed in it.
            if options.work_dir.is_none() {
                let failed = |source| CommandUserError::Folder {
                    folder: folders.root().display().to_string(),
                    source,
                };
                fs::set_permissions(folders.root(), Permissions::from_mode(0o711)).map_err(failed)?;
            }
            check_reachable(name, &user, folders.root())?;
            WorkDir::Own(folders.of_user(user.clone()))
        }
    };
    Ok((work_dir, Some(user)))
}

/// The user of this name, or `UID:GID`, checked: it is another one, and this program may become it.
///
/// # Errors
///
/// [`CommandUserError`].
fn find(name: &str) -> Result<CommandUser, CommandUserError> {
    let read = |file| fs::read_to_string(file).map_err(|source| CommandUserError::File { file, source });
    let user = match by_ids(name) {
        Some(user) => user,
        None => by_name(name, &read(FILES[0])?, &read(FILES[1])?)
            .ok_or_else(|| CommandUserError::Unknown { name: name.to_owned() })?,
    };
    if user.uid == 0 || user.gid == 0 || user.uid == rustix::process::geteuid().as_raw() {
        return Err(CommandUserError::NotAnother { name: name.to_owned() });
    }
    let not_permitted = |detail| CommandUserError::NotPermitted { name: name.to_owned(), detail };
    missing_right().map_or(Ok(()), |what| Err(not_permitted(what)))?;
    user.check().map_err(|error| not_permitted(error.to_string()))?;
    Ok(user)
}

/// `UID:GID`; `None` for anything else.
fn by_ids(text: &str) -> Option<CommandUser> {
    let (uid, gid) = text.split_once(':')?;
    let (uid, gid) = (uid.parse().ok()?, gid.parse().ok()?);
    // For the system this id means that nothing is changed.
    let is_id = |id: u32| id != u32::MAX;
    (is_id(uid) && is_id(gid)).then(|| CommandUser { uid, gid, groups: vec![gid] })
}

/// A user as passwd(5) and group(5) have it, with all of its groups.
fn by_name(name: &str, users: &str, groups: &str) -> Option<CommandUser> {
    let fields = |line: &'_ str| line.split(':').map(str::to_owned).collect::<Vec<_>>();
    let user = users.lines().map(fields).find(|user| user.first().is_some_and(|first| first == name))?;
    let (uid, gid) = (user.get(2)?.parse().ok()?, user.get(3)?.parse().ok()?);
    let is_of_user =
        |group: &Vec<String>| group.get(3).is_some_and(|all| all.split(',').any(|member| member == name));
    let others = groups.lines().map(fields).filter(is_of_user);
    let mut groups: Vec<u32> = others.filter_map(|group| group.get(2)?.parse().ok()).collect();
    // The own group first. Root's would be more than another user's.
    groups.retain(|group| *group != gid && *group != 0);
    groups.insert(0, gid);
    Some(CommandUser { uid, gid, groups })
}

/// What this program needs and does not have; the system's own names.
#[cfg(target_os = "linux")]
fn missing_right() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("it does not run as root".to_owned());
    }
    let effective = match rustix::thread::capabilities(None) {
        Ok(sets) => sets.effective,
        Err(error) => return Some(error.to_string()),
    };
    let needed = [
        (CapabilitySet::SETUID, "CAP_SETUID"),
        (CapabilitySet::SETGID, "CAP_SETGID"),
        (CapabilitySet::CHOWN, "CAP_CHOWN"),
        (CapabilitySet::KILL, "CAP_KILL"),
        (CapabilitySet::DAC_OVERRIDE, "CAP_DAC_OVERRIDE"),
    ];
    let (_, name) = needed.into_iter().find(|(right, _)| !effective.contains(*right))?;
    Some(format!("it lacks {name}"))
}

#[cfg(not(target_os = "linux"))]
fn missing_right() -> Option<String> {
    Some("only on Linux".to_owned())
}

/// Whether the user can enter a folder: all on the way are searchable by it.
///
/// # Errors
///
/// [`CommandUserError::Unreachable`] for the first that is not.
fn check_reachable(name: &str, user: &CommandUser, folder: &Path) -> Result<(), CommandUserError> {
    let mut way: Vec<&Path> = folder.ancestors().filter(|part| !part.as_os_str().is_empty()).collect();
    way.reverse();
    for part in way {
        // What cannot be asked about is reported by the job that needs it.
        let Ok(found) = fs::metadata(part) else { return Ok(()) };
        if !may_search(user, (found.uid(), found.gid()), found.mode()) {
            return Err(CommandUserError::Unreachable {
                name: name.to_owned(),
                folder: part.display().to_string(),
                mode: found.mode() & 0o7777,
            });
        }
    }
    Ok(())
}

/// Whether a user may search a folder of this owner, group and mode: the first class that it is in counts.
fn may_search(user: &CommandUser, (owner, group): (u32, u32), mode: u32) -> bool {
    let bit = if user.uid == owner {
        0o100
    } else if user.gid == group || user.groups.contains(&group) {
        0o010
    } else {
        0o001
    };
    mode & bit != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_found_by_its_name_or_by_its_ids() {
        let users =
            "root:x:0:0::/root:/bin/sh\n# odd\nagents:x:998:997:of jobs:/nonexistent:/bin/false\nhalf:x:7\n";
        let groups = "root:x:0:agents\nagents:x:997:\nbuild:x:50:ada,agents\ndocker:x:60:ada\n";
        let user = |uid, gid, groups: &[u32]| Some(CommandUser { uid, gid, groups: groups.to_vec() });
        assert_eq!(by_name("agents", users, groups), user(998, 997, &[997, 50]));
        for unknown in ["half", "ada", "", "998"] {
            assert_eq!(by_name(unknown, users, groups), None, "{unknown}");
        }
        assert_eq!(by_ids("1000:1001"), user(1000, 1001, &[1001]));
        for odd in ["1000", "a:b", "-1:1", "1000:1001:1002", "4294967295:5", "5:4294967295"] {
            assert_eq!(by_ids(odd), None, "{odd}");
        }
    }

    #[test]
    fn root_and_the_worker_itself_are_not_another_user() {
        let own = rustix::process::geteuid().as_raw();
        for name in ["root".to_owned(), "0:5".to_owned(), "5:0".to_owned(), format!("{own}:5")] {
            assert!(matches!(find(&name), Err(CommandUserError::NotAnother { .. })), "{name}");
        }
        assert!(matches!(find("no-such-user-here"), Err(CommandUserError::Unknown { .. })));
    }

    #[test]
    fn a_folder_is_searched_by_the_class_that_the_user_is_in() {
        let user = CommandUser { uid: 5, gid: 6, groups: vec![6, 7] };
        for (owner, group, mode, expected) in [
            (5, 0, 0o700, true),
            (5, 6, 0o011, false),
            (0, 7, 0o710, true),
            (0, 6, 0o701, false),
            (0, 0, 0o711, true),
            (0, 0, 0o700, false),
        ] {
            assert_eq!(may_search(&user, (owner, group), mode), expected, "{owner} {group} {mode:o}");
        }
    }
}
