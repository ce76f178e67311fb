//! Limits on the commands of one run together: a control group of the system, for each run one.
//!
//! A command enters the group between its announcement to the guard and its `exec`, so that no code of it runs outside. What is
//! left in the group when its run has ended is killed, also what has left its process group, and the group is removed
//! (`ending`). So that a command that starts others without an end does not outrun this, the group counts processes also where
//! only memory is limited. Groups that a worker leaves in a crash are removed by the next one (`left`).
//!
//! Commands of the worker's own user can leave their group again where nothing else confines them: the limits hold against
//! accidents, and with `--sandbox` or `--command-user` against attacks.
//!
//! ```text
//! group of the worker ─┬─ legwork-worker                                  the worker itself (version 2)
//!                      └─ legwork-<process>-<start>-<namespace>-<n>-<job> commands of one run
//! ```

mod choice;
mod ending;
mod error;
mod left;

use std::fs;
use std::io;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use legwork_agent::environment::MetLimit;
use legwork_common::id::JobId;
use rustix::io::Errno;

use self::choice::Controller;
use self::choice::OwnGroups;
use self::choice::Place;
use self::choice::Version;
pub use self::error::ControlGroupError;
use self::left::Owner;

/// The group that a worker moves into in version 2, where a group with limits below it has no processes itself.
const OWN: &str = "legwork-worker";
/// The file with the processes of a group; what is written to it moves there, and `0` stands for the writer.
const PROCESSES: &str = "cgroup.procs";

/// What the commands of one run may hold and be, all together. By default there are no limits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CommandLimits {
    /// Memory in bytes, with swap where the system counts that.
    pub memory: Option<u64>,
    /// Processes and threads.
    pub processes: Option<u64>,
}

/// One limit, and below which group it can be set.
#[derive(Debug, Clone)]
struct Limit {
    controller: Controller,
    place: Place,
    /// `None` for a group without a limit, whose processes can be kept from starting others.
    most: Option<u64>,
}

impl Limit {
    /// Sets the limit of a group.
    fn set(&self, group: &Path) -> io::Result<()> {
        let Some(limit) = self.most else { return Ok(()) };
        let (file, of_swap) = match (self.controller, self.place.version) {
            (Controller::Processes, _) => ("pids.max", None),
            (Controller::Memory, Version::One) => {
                ("memory.limit_in_bytes", Some(("memory.memsw.limit_in_bytes", limit)))
            }
            (Controller::Memory, Version::Two) => ("memory.max", Some(("memory.swap.max", 0))),
        };
        fs::write(group.join(file), limit.to_string())?;
        if let Some((file, most)) = of_swap {
            // Not there on a system that does not count swap.
            fs::write(group.join(file), most.to_string()).ok();
        }
        Ok(())
    }

    /// How often the processes of a group have met the limit.
    fn count(&self, group: &Path) -> u64 {
        let (file, word) = match (self.controller, self.place.version) {
            (Controller::Processes, _) => ("pids.events", "max"),
            (Controller::Memory, Version::One) => ("memory.oom_control", "oom_kill"),
            (Controller::Memory, Version::Two) => ("memory.events", "oom_kill"),
        };
        let events = fs::read_to_string(group.join(file)).unwrap_or_default();
        let mut lines = events.lines().filter_map(|line| line.split_once(' '));
        lines.find(|(name, _)| *name == word).and_then(|(_, count)| count.parse().ok()).unwrap_or(0)
    }

    /// For the agent; `None` without a limit. A group above may have had the one that was met: systems do not tell.
    fn meaning(&self) -> Option<String> {
        let (most, option) = (self.most?, self.controller.option());
        Some(match self.controller {
            Controller::Memory => format!(
                "a limit of memory was met, and the system ended a process: this worker allows the commands of a job {most} bytes \
                 together ({option})"
            ),
            Controller::Processes => format!(
                "a limit of processes was met, and the system started no more: this worker allows the commands of a job {most} \
                 processes and threads together ({option})"
            ),
        })
    }
}

/// Where groups of runs are made, and their limits. Cheap to clone; all clones are one.
#[derive(Debug, Clone)]
pub struct ControlGroups {
    limits: Arc<[Limit]>,
    owner: Owner,
    made: Arc<AtomicU64>,
}

impl ControlGroups {
    /// Finds out where these limits can be set, and removes the groups that dead workers have left; `None` without limits. In
    /// version 2 this process moves into a group of its own. To be called before it starts others.
    ///
    /// # Errors
    ///
    /// [`ControlGroupError`] where a limit cannot be set.
    pub async fn open(limits: CommandLimits) -> Result<Option<Self>, ControlGroupError> {
        if limits == CommandLimits::default() {
            return Ok(None);
        }
        let limits = find(limits)?;
        let owner = Owner::this_process().map_err(ControlGroupError::NotPermitted)?;
        for limit in &limits {
            left::remove(&limit.place.folder, &owner).await;
        }
        let groups = Self { limits: limits.into(), owner, made: Arc::default() };
        // Refused at the start and not in every job.
        let Err(refused) = groups.create("probe") else { return Ok(Some(groups)) };
        let asked_for: Arc<[Limit]> =
            groups.limits.iter().filter(|limit| limit.most.is_some()).cloned().collect();
        if asked_for.len() == groups.limits.len() {
            return Err(ControlGroupError::NotPermitted(refused));
        }
        let groups = Self { limits: asked_for, ..groups };
        groups.create("probe").map_err(ControlGroupError::NotPermitted)?;
        tracing::warn!(%refused, "commands that start others without an end may outlive their job");
        Ok(Some(groups))
    }

    /// A group for the commands of a run. Waits for the system.
    ///
    /// # Errors
    ///
    /// The folder and the system's error, where the group cannot be made.
    pub fn of_run(&self, job: JobId) -> Result<Arc<RunGroup>, RefusedFolder> {
        self.create(&job.to_string()).map(Arc::new)
    }

    fn create(&self, of: &str) -> Result<RunGroup, RefusedFolder> {
        let name = self.owner.name(self.made.fetch_add(1, Ordering::Relaxed), of);
        // From here on dropped, and so removed, where something fails.
        let mut group = RunGroup { limits: Vec::new() };
        for limit in self.limits.iter() {
            let folder = limit.place.folder.join(&name);
            let refused = |source| RefusedFolder { folder: folder.clone(), source };
            match fs::create_dir(&folder) {
                // Two limits of one hierarchy.
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(refused(error)),
                _ => {}
            }
            group.limits.push((folder.clone(), limit.clone()));
            limit.set(&folder).map_err(refused)?;
        }
        Ok(group)
    }
}

/// Where each limit can be set, delegated to this process where that is to be asked for; and where processes are counted, if that
/// takes no more.
fn find(wanted: CommandLimits) -> Result<Vec<Limit>, ControlGroupError> {
    let read = |file: &str| fs::read_to_string(file).unwrap_or_default();
    let own = OwnGroups::read(&read("/proc/self/mountinfo"), &read("/proc/self/cgroup"));
    let unified_controllers = own.unified.as_ref().map(|folder| folder.join("cgroup.controllers"));
    let unified_controllers =
        unified_controllers.and_then(|file| fs::read_to_string(file).ok()).unwrap_or_default();
    let mut limits: Vec<Limit> = Vec::new();
    for (controller, most) in [(Controller::Memory, wanted.memory), (Controller::Processes, wanted.processes)]
    {
        match (own.place(controller, &unified_controllers), most) {
            (Some(place), Some(_)) => limits.push(Limit { controller, place, most }),
            (None, Some(_)) => {
                let (option, controller) = (controller.option(), controller.name());
                return Err(ControlGroupError::NoController { option, controller });
            }
            // Of version 2 only where its groups are made anyway: that moves this process.
            (Some(place), None)
                if controller == Controller::Processes
                    && (place.version == Version::One
                        || limits.iter().any(|limit| limit.place.version == Version::Two)) =>
            {
                limits.push(Limit { controller, place, most });
            }
            _ => {}
        }
    }
    let unified: Vec<&Limit> = limits.iter().filter(|limit| limit.place.version == Version::Two).collect();
    if let Some(first) = unified.first() {
        let folder = &first.place.folder;
        delegate(folder, unified.iter().map(|limit| limit.controller)).map_err(|source| {
            ControlGroupError::NotDelegated(RefusedFolder { folder: folder.clone(), source })
        })?;
    }
    Ok(limits)
}

/// Gives the groups below `folder` these controllers. A group of version 2 that does so has no processes itself, so this one
/// moves into a group below; others that are in it make it fail.
fn delegate(folder: &Path, controllers: impl Iterator<Item = Controller>) -> io::Result<()> {
    let enabled: Vec<String> = controllers.map(|controller| format!("+{}", controller.name())).collect();
    let enable = || fs::write(folder.join("cgroup.subtree_control"), enabled.join(" "));
    match enable() {
        Err(error) if Errno::from_io_error(&error) == Some(Errno::BUSY) => {}
        done => return done,
    }
    let own = folder.join(OWN);
    match fs::create_dir(&own) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    fs::write(own.join(PROCESSES), "0")?;
    enable().inspect_err(|_| {
        // As it was; where that fails too, an empty group stays.
        fs::write(folder.join(PROCESSES), "0").and_then(|()| fs::remove_dir(&own)).ok();
    })
}

/// A folder that the system refuses.
#[derive(Debug, thiserror::Error)]
#[error("{}: {source}", folder.display())]
pub struct RefusedFolder {
    folder: PathBuf,
    source: io::Error,
}

/// The group of the commands of one run. Dropping it kills what is in it and removes it; a group whose processes have not left
/// by then stays, and is removed by the next worker that starts once this one has ended.
#[derive(Debug)]
pub struct RunGroup {
    /// The folder of each limit, which is one where both are of one hierarchy.
    limits: Vec<(PathBuf, Limit)>,
}

impl RunGroup {
    /// The folders whose groups a command enters.
    pub(super) fn folders(&self) -> Vec<PathBuf> {
        let mut folders: Vec<PathBuf> = self.limits.iter().map(|(folder, _)| folder.clone()).collect();
        folders.dedup();
        folders
    }

    /// The limits, and how often they were met.
    pub(super) fn met_limits(&self) -> Vec<MetLimit> {
        let met = |(folder, limit): &(PathBuf, Limit)| {
            Some(MetLimit { meaning: limit.meaning()?, count: limit.count(folder) })
        };
        self.limits.iter().filter_map(met).collect()
    }

    /// Kills what is left in the group, and removes it, within two seconds. Dropping the future leaves the rest to the drop of
    /// the group.
    pub async fn end(&self) {
        ending::end(&self.folders()).await;
    }

    /// Kills what is in the group and removes it where that has left: for a run that is dropped.
    pub fn end_at_once(&self) {
        ending::end_at_once(&self.folders());
    }
}

impl Drop for RunGroup {
    fn drop(&mut self) {
        self.end_at_once();
    }
}

/// Moves this process into the groups of its run. Called by the start of a command.
///
/// # Errors
///
/// The system's, or the group has more processes than it may have: a process that enters is not refused by the system.
pub(super) fn join(folders: &[PathBuf]) -> io::Result<()> {
    for folder in folders {
        fs::write(folder.join(PROCESSES), "0").map_err(|error| {
            io::Error::new(error.kind(), format!("it cannot enter its control group: {error}"))
        })?;
        let number = |file: &str| fs::read_to_string(folder.join(file)).ok()?.trim().parse::<u64>().ok();
        if let Some((current, most)) = number("pids.current").zip(number("pids.max"))
            && current > most
        {
            if most == 0 {
                return Err(io::Error::other("its job's run has ended"));
            }
            let option = Controller::Processes.option();
            return Err(io::Error::other(format!(
                "the commands of this job may be {most} processes and threads together ({option} of this worker)"
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::process::Command;

    use legwork_common::id::SessionId;

    use super::*;

    fn limit(controller: Controller, version: Version, folder: &Path, most: u64) -> Limit {
        Limit { controller, place: Place { folder: folder.to_owned(), version }, most: Some(most) }
    }

    fn groups(limits: Vec<Limit>) -> ControlGroups {
        ControlGroups { limits: limits.into(), owner: Owner::this_process().unwrap(), made: Arc::default() }
    }

    /// Real groups with a limit of memory; `None`, with the reason on the real standard error, where this user has none of version
    /// 1: version 2 would move this process.
    async fn real() -> Option<ControlGroups> {
        if !Path::new("/sys/fs/cgroup/memory").is_dir() || !Path::new("/sys/fs/cgroup/pids").is_dir() {
            writeln!(io::stderr(), "skipped: no control groups of version 1").ok()?;
            return None;
        }
        match ControlGroups::open(CommandLimits { memory: Some(1 << 30), processes: None }).await {
            Ok(groups) => groups,
            Err(error) if rustix::process::geteuid().is_root() => panic!("{error}"),
            Err(error) => {
                writeln!(io::stderr(), "skipped: {error}").ok()?;
                None
            }
        }
    }

    #[tokio::test]
    async fn a_group_that_is_dropped_or_ended_leaves_no_process_also_not_in_groups_below() {
        let Some(groups) = real().await else { return };
        let start = |folders: &[PathBuf]| {
            let child = Command::new("sleep").arg("71.85").spawn().unwrap();
            for folder in folders {
                fs::write(folder.join(PROCESSES), child.id().to_string()).unwrap();
            }
            child
        };
        for is_dropped in [true, false] {
            let group = groups.of_run(JobId::random_in(SessionId::random())).unwrap();
            let folders = group.folders();
            // Without a limit of processes these are counted, and no one reads of it.
            assert_eq!((folders.len(), group.met_limits().len()), (2, 1));
            assert_eq!(fs::read_to_string(folders[1].join("pids.max")).unwrap(), "max\n");
            let below: Vec<PathBuf> = folders.iter().map(|folder| folder.join("a/b")).collect();
            below.iter().for_each(|folder| fs::create_dir_all(folder).unwrap());
            let mut children = [start(&folders), start(&below)];
            if is_dropped {
                drop(group);
            } else {
                group.end().await;
            }
            for child in &mut children {
                assert!(!child.wait().unwrap().success());
            }
            assert!(is_dropped || folders.iter().all(|folder| !folder.exists()));
            ending::end(&folders).await;
        }
    }

    #[test]
    fn limits_are_set_and_events_are_read_in_the_files_of_both_versions() {
        let top = tempfile::tempdir().unwrap();
        let at = |name: &str| {
            let folder = top.path().join(name);
            fs::create_dir(&folder).unwrap();
            folder
        };
        let (memory, pids, unified) = (at("memory"), at("pids"), at("unified"));
        let one = groups(vec![
            limit(Controller::Memory, Version::One, &memory, 4096),
            limit(Controller::Processes, Version::One, &pids, 7),
        ]);
        let two = groups(vec![
            limit(Controller::Memory, Version::Two, &unified, 8192),
            limit(Controller::Processes, Version::Two, &unified, 9),
        ]);
        for (groups, expected, events) in [
            (
                one,
                vec![
                    ("memory.limit_in_bytes", "4096"),
                    ("memory.memsw.limit_in_bytes", "4096"),
                    ("pids.max", "7"),
                ],
                [
                    ("memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n"),
                    ("pids.events", "max 3\n"),
                ],
            ),
            (
                two,
                vec![("memory.max", "8192"), ("memory.swap.max", "0"), ("pids.max", "9")],
                [("memory.events", "low 0\nmax 90\noom 4\noom_kill 2\n"), ("pids.events", "max 3\n")],
            ),
        ] {
            let group = groups.create("job").unwrap();
            let folders = group.folders();
            let find =
                |file: &str| folders.iter().find_map(|folder| fs::read_to_string(folder.join(file)).ok());
            for (file, content) in expected {
                assert_eq!(find(file).as_deref(), Some(content), "{file}");
            }
            assert_eq!(group.met_limits().iter().map(|met| met.count).collect::<Vec<_>>(), [0, 0]);
            let (first, last) = (&folders[0], &folders[folders.len() - 1]);
            fs::write(first.join(events[0].0), events[0].1).unwrap();
            fs::write(last.join(events[1].0), events[1].1).unwrap();
            assert_eq!(group.met_limits().iter().map(|met| met.count).collect::<Vec<_>>(), [2, 3]);
        }
    }

    #[test]
    fn a_command_that_is_one_too_many_does_not_begin() {
        let top = tempfile::tempdir().unwrap();
        let write = |file: &str, text: &str| fs::write(top.path().join(file), text).unwrap();
        write("pids.max", "3\n");
        let folders = [top.path().to_owned()];
        for (current, begins) in [("3\n", true), ("4\n", false)] {
            write("pids.current", current);
            assert_eq!(join(&folders).is_ok(), begins, "{current}");
        }
        write("pids.max", "max\n");
        assert!(join(&folders).is_ok());
        assert_eq!(fs::read_to_string(top.path().join(PROCESSES)).unwrap(), "0");
    }
}
