//! Which control groups this process is in, and which of them can limit what. Pure.

use std::collections::BTreeMap;
use std::path::Path;
use std::path::PathBuf;

/// What is limited, as the system calls it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Controller {
    Memory,
    Processes,
}

impl Controller {
    /// The system's name for it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Processes => "pids",
        }
    }

    /// The option that asks for the limit.
    pub(super) fn option(self) -> &'static str {
        match self {
            Self::Memory => "--command-memory",
            Self::Processes => "--command-processes",
        }
    }
}

/// The version of a hierarchy, which decides on the files of its groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Version {
    One,
    Two,
}

/// A group of this process, below which there may be groups with a limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) folder: PathBuf,
    pub(super) version: Version,
}

/// The groups of this process.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct OwnGroups {
    /// Its group in the hierarchy of version 2.
    pub(super) unified: Option<PathBuf>,
    /// Its groups in those of version 1, by controller.
    by_controller: BTreeMap<String, PathBuf>,
}

impl OwnGroups {
    /// Reads them from `/proc/self/mountinfo` and `/proc/self/cgroup` (proc_pid_mountinfo(5), cgroups(7)). What is not mounted,
    /// or not within reach of its mount, is left out.
    pub(super) fn read(mounts: &str, membership: &str) -> Self {
        let mounts: Vec<Mount> = mounts.lines().filter_map(Mount::read).collect();
        let mut own = Self::default();
        for line in membership.lines() {
            let mut fields = line.splitn(3, ':').skip(1);
            let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else { continue };
            if controllers.is_empty() {
                let mut unified = mounts.iter().filter(|mount| mount.controllers.is_none());
                own.unified = unified.find_map(|mount| mount.folder_of(path));
                continue;
            }
            for name in controllers.split(',') {
                let mut with = mounts.iter().filter(|mount| mount.has(name));
                if let Some(folder) = with.find_map(|mount| mount.folder_of(path)) {
                    own.by_controller.insert(name.to_owned(), folder);
                }
            }
        }
        own
    }

    /// Where groups with this controller can be: version 2 where it has the controller, whose groups there are
    /// `unified_controllers` (`cgroup.controllers`), else version 1.
    pub(super) fn place(&self, controller: Controller, unified_controllers: &str) -> Option<Place> {
        let name = controller.name();
        let is_unified = unified_controllers.split_whitespace().any(|available| available == name);
        let unified = self.unified.as_ref().filter(|_| is_unified);
        let two = unified.map(|folder| Place { folder: folder.clone(), version: Version::Two });
        let one = || Some(Place { folder: self.by_controller.get(name)?.clone(), version: Version::One });
        two.or_else(one)
    }
}

/// A mounted hierarchy.
struct Mount {
    /// The group that is seen at its folder.
    root: PathBuf,
    folder: PathBuf,
    /// The options of version 1, its controllers among them; `None` for version 2.
    controllers: Option<String>,
}

impl Mount {
    fn read(line: &str) -> Option<Self> {
        let (mount, kind) = line.split_once(" - ")?;
        let (mut mount, mut kind) = (mount.split(' ').skip(3), kind.split(' '));
        let (root, folder) = (mount.next()?, mount.next()?);
        let controllers = match kind.next()? {
            "cgroup" => Some(kind.nth(1)?.to_owned()),
            "cgroup2" => None,
            _ => return None,
        };
        Some(Self { root: unescaped(root).into(), folder: unescaped(folder).into(), controllers })
    }

    fn has(&self, controller: &str) -> bool {
        self.controllers.as_ref().is_some_and(|all| all.split(',').any(|name| name == controller))
    }

    /// The folder of a group; `None` for one that is not below what is mounted.
    fn folder_of(&self, group: &str) -> Option<PathBuf> {
        let below = Path::new(group).strip_prefix(&self.root).ok()?;
        let leads_out = below.components().any(|part| part.as_os_str() == "..");
        (!leads_out).then(|| self.folder.join(below))
    }
}

/// A path without the escapes of mountinfo, such as `\134` for a backslash, which names of systemd's units have.
fn unescaped(path: &str) -> String {
    let mut parts = path.split('\\');
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        match part.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                text.push(char::from(byte));
                text.push_str(&part[3..]);
            }
            None => {
                text.push('\\');
                text.push_str(part);
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A hierarchy of version 1 next to one of version 2 that has no controllers.
    const HYBRID: &str = "\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
39 31 0:36 / /sys/fs/cgroup/cpu,pids rw,relatime shared:7 - cgroup cgroup rw,cpu,pids
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
";
    const UNIFIED: &str = "29 22 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";
    /// Of a container, which sees its own group only.
    const CONTAINER: &str =
        "900 890 0:32 /docker/a\\134x2db /sys/fs/cgroup/memory ro master:20 - cgroup cgroup rw,memory\n";

    #[test]
    fn the_group_of_each_limit_is_found_or_there_is_none() {
        let hybrid = "8:cpu,pids:/\n4:memory:/api/x\n9:name=systemd:/\n0::/\n";
        let service = "0::/system.slice/legwork-worker@a.service\n";
        let in_container = "4:memory:/docker/a\\x2db/c:d\n";
        let one = |folder: &str| Some((Version::One, folder.to_owned()));
        let two = |folder: &str| Some((Version::Two, folder.to_owned()));
        let of_service = "/sys/fs/cgroup/system.slice/legwork-worker@a.service";
        for (mounts, membership, unified_controllers, memory, processes) in [
            (HYBRID, hybrid, "", one("/sys/fs/cgroup/memory/api/x"), one("/sys/fs/cgroup/cpu,pids/")),
            (HYBRID, hybrid, "pids", one("/sys/fs/cgroup/memory/api/x"), two("/sys/fs/cgroup/unified/")),
            (UNIFIED, service, "cpu memory pids\n", two(of_service), two(of_service)),
            (UNIFIED, service, "pids", None, two(of_service)),
            // Nothing was delegated.
            (UNIFIED, service, "", None, None),
            (CONTAINER, in_container, "", one("/sys/fs/cgroup/memory/c:d"), None),
            // The group of another container, and one above what is mounted.
            (CONTAINER, "4:memory:/docker/other\n", "", None, None),
            (UNIFIED, "0::/../up\n", "memory", None, None),
            ("", hybrid, "memory pids", None, None),
            ("nonsense\n1 - cgroup\n", "odd\n1:memory\n", "memory", None, None),
        ] {
            let own = OwnGroups::read(mounts, membership);
            let found = [Controller::Memory, Controller::Processes].map(|controller| {
                let place = own.place(controller, unified_controllers)?;
                Some((place.version, place.folder.display().to_string()))
            });
            assert_eq!(found, [memory, processes], "{membership} {unified_controllers}");
        }
    }
}
