//! Limits on the commands of one run together: a control group of the system, for each run one.
//!
//! A command enters the group between its announcement to the guard and its `exec`, so that no code of it runs outside. What is
//! left in the group when its run has ended is killed, also what has left its process group, and the group is removed. Groups
//! that a worker leaves in a crash are removed by the next one.
//!
//! Commands of the worker's own user can leave their group again where nothing else confines them: the limits hold against
//! accidents, and with `--sandbox` or `--command-user` against attacks.
//!
//! ```text
//! group of the worker ─┬─ legwork-worker                      the worker itself (version 2)
//!                      └─ legwork-<process>-<start>-<n>-<job> commands of one run
//! ```

mod choice;
mod error;

use std::fs;
use std::io;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::future::join_all;
use legwork_agent::environment::MetLimit;
use legwork_common::id::JobId;
use rustix::io::Errno;
#[cfg(target_os = "linux")]
use rustix::process::Pid;
#[cfg(target_os = "linux")]
use rustix::process::PidfdFlags;
#[cfg(target_os = "linux")]
use rustix::process::Signal;
use tokio::time::Instant;
use tokio::time::sleep;

use self::choice::Controller;
use self::choice::OwnGroups;
use self::choice::Place;
use self::choice::Version;
pub use self::error::ControlGroupError;
use super::watch::started_at;

/// Begins the names of all groups.
const PREFIX: &str = "legwork-";
/// The group that a worker moves into in version 2, where a group with limits below it has no processes itself.
const OWN: &str = "legwork-worker";
/// The file with the processes of a group; what is written to it moves there, and `0` stands for the writer.
const PROCESSES: &str = "cgroup.procs";
/// How long a group may take to be empty. Killed processes leave it within milliseconds; one that hangs in the system never does.
const END_TIMEOUT: Duration = Duration::from_secs(2);
/// Polling interval for that: the system reports the end of a group nowhere in version 1.
const END_POLL_INTERVAL: Duration = Duration::from_millis(10);

/// What the commands of one run may hold and be, all together. By default there are no limits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CommandLimits {
    /// Memory in bytes, swap included.
    pub memory: Option<u64>,
    /// Processes and threads.
    pub processes: Option<u64>,
}

/// One limit, and below which group it can be set.
#[derive(Debug, Clone)]
struct Limit {
    controller: Controller,
    place: Place,
    most: u64,
}

impl Limit {
    /// Sets the limit of a group.
    fn set(&self, group: &Path) -> io::Result<()> {
        let (file, of_swap) = match (self.controller, self.place.version) {
            (Controller::Processes, _) => ("pids.max", None),
            (Controller::Memory, Version::One) => {
                ("memory.limit_in_bytes", Some(("memory.memsw.limit_in_bytes", self.most)))
            }
            (Controller::Memory, Version::Two) => ("memory.max", Some(("memory.swap.max", 0))),
        };
        fs::write(group.join(file), self.most.to_string())?;
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

    fn meaning(&self) -> String {
        let (most, option) = (self.most, self.controller.option());
        match self.controller {
            Controller::Memory => format!(
                "the commands of this job may hold {most} bytes of memory together ({option} of this worker): the system \
                 ended one of them"
            ),
            Controller::Processes => format!(
                "the commands of this job may be {most} processes and threads together ({option} of this worker): the \
                 system started no more"
            ),
        }
    }
}

/// Where groups of runs are made, and their limits. Cheap to clone; all clones are one.
#[derive(Debug, Clone)]
pub struct ControlGroups {
    limits: Arc<[Limit]>,
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
        let memory = limits.memory.map(|most| (Controller::Memory, most));
        let processes = limits.processes.map(|most| (Controller::Processes, most));
        let wanted: Vec<(Controller, u64)> = memory.into_iter().chain(processes).collect();
        if wanted.is_empty() {
            return Ok(None);
        }
        let limits = find(&wanted)?;
        for limit in &limits {
            remove_left(&limit.place.folder).await;
        }
        let groups = Self { limits: limits.into(), made: Arc::default() };
        // Refused at the start and not in every job.
        groups.create("probe").map_err(ControlGroupError::NotPermitted)?;
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
        let process = std::process::id();
        let start = started_at(process).unwrap_or(0);
        let number = self.made.fetch_add(1, Ordering::Relaxed);
        let name = format!("{PREFIX}{process}-{start}-{number}-{of}");
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

/// Where each limit can be set, delegated to this process where that is to be asked for.
fn find(wanted: &[(Controller, u64)]) -> Result<Vec<Limit>, ControlGroupError> {
    let read = |file: &str| fs::read_to_string(file).unwrap_or_default();
    let own = OwnGroups::read(&read("/proc/self/mountinfo"), &read("/proc/self/cgroup"));
    let unified_controllers = own.unified.as_ref().map(|folder| folder.join("cgroup.controllers"));
    let unified_controllers =
        unified_controllers.and_then(|file| fs::read_to_string(file).ok()).unwrap_or_default();
    let mut limits = Vec::new();
    for &(controller, most) in wanted {
        let place = own.place(controller, &unified_controllers);
        let place = place.ok_or(ControlGroupError::NoController {
            option: controller.option(),
            controller: controller.name(),
        })?;
        limits.push(Limit { controller, place, most });
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

/// Removes the groups below `folder` whose worker is gone, with what is left in them.
async fn remove_left(folder: &Path) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let left = names.filter(|name| is_left(name, started_at)).map(|name| folder.join(name));
    join_all(left.map(|group| async move { end(&[group]).await })).await;
}

/// Whether a name is that of a group whose worker is gone. `started_at` is when the process with an id started.
fn is_left(name: &str, started_at: impl Fn(u32) -> Option<u64>) -> bool {
    let mut fields = name.strip_prefix(PREFIX).unwrap_or_default().splitn(3, '-');
    let process = fields.next().and_then(|text| text.parse().ok());
    let start = fields.next().and_then(|text| text.parse::<u64>().ok());
    // Another process may have its id since.
    process.zip(start).is_some_and(|(process, start)| started_at(process).is_none_or(|now| now != start))
}

/// A folder that the system refuses.
#[derive(Debug, thiserror::Error)]
#[error("{}: {source}", folder.display())]
pub struct RefusedFolder {
    folder: PathBuf,
    source: io::Error,
}

/// The group of the commands of one run. Dropping it removes it where no process is left in it.
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
        let met = |(folder, limit): &(PathBuf, Limit)| MetLimit {
            count: limit.count(folder),
            meaning: limit.meaning(),
        };
        self.limits.iter().map(met).collect()
    }

    /// Kills what is left in the group, and removes it, within two seconds. Dropping the future leaves that to the next
    /// worker.
    pub async fn end(&self) {
        end(&self.folders()).await;
    }
}

impl Drop for RunGroup {
    fn drop(&mut self) {
        for folder in self.folders() {
            // One with processes stays, and the next worker removes it.
            fs::remove_dir(folder).ok();
        }
    }
}

async fn end(folders: &[PathBuf]) {
    for folder in folders {
        // Nothing in it can start more while it is killed. Not there where only memory is limited.
        if folder.join("pids.max").exists() {
            fs::write(folder.join("pids.max"), "0").ok();
        }
    }
    let deadline = Instant::now() + END_TIMEOUT;
    loop {
        let is_gone = |folder: &PathBuf| match fs::remove_dir(folder) {
            Ok(()) => true,
            Err(error) => error.kind() == io::ErrorKind::NotFound,
        };
        let left: Vec<&PathBuf> = folders.iter().filter(|folder| !is_gone(folder)).collect();
        let Some(first) = left.first() else { return };
        if Instant::now() >= deadline {
            tracing::warn!(group = %first.display(), "a control group cannot be removed: a process in it does not end");
            return;
        }
        for folder in left {
            kill(folder);
        }
        sleep(END_POLL_INTERVAL).await;
    }
}

/// Sends SIGKILL to every process of a group.
#[cfg(target_os = "linux")]
fn kill(folder: &Path) {
    let processes = || fs::read_to_string(folder.join(PROCESSES)).unwrap_or_default();
    let open = |line: &str| {
        let id = line.parse().ok().filter(|&id: &i32| id > 1).and_then(Pid::from_raw)?;
        Some((line.to_owned(), rustix::process::pidfd_open(id, PidfdFlags::empty()).ok()?))
    };
    let opened: Vec<_> = processes().lines().filter_map(open).collect();
    // Between the reading and the opening an id may have become another process': what is still in the group under it is what
    // was opened, or that has died.
    let still = processes();
    for (id, process) in opened {
        if still.lines().any(|line| line == id) {
            rustix::process::pidfd_send_signal(process, Signal::KILL).ok();
        }
    }
}

#[cfg(not(target_os = "linux"))]
fn kill(_folder: &Path) {}

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
    use super::*;

    fn limit(controller: Controller, version: Version, folder: &Path, most: u64) -> Limit {
        Limit { controller, place: Place { folder: folder.to_owned(), version }, most }
    }

    fn groups(limits: Vec<Limit>) -> ControlGroups {
        ControlGroups { limits: limits.into(), made: Arc::default() }
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

    #[test]
    fn groups_of_workers_that_are_gone_are_known_by_their_names() {
        let started_at = |process| (process == 7).then_some(50);
        for (name, expected) in [
            ("legwork-7-50-0-job_1-2", false),
            ("legwork-7-49-0-job_1-2", true),
            ("legwork-8-50-3-probe", true),
            ("legwork-worker", false),
            ("legwork-7", false),
            ("other-8-50-0-x", false),
        ] {
            assert_eq!(is_left(name, started_at), expected, "{name}");
        }
    }
}
