//! The end of a control group: its processes are killed, with those of groups that a command has made below it, and all of
//! these groups are removed.

use std::fs;
use std::fs::OpenOptions;
use std::io;
use std::io::Write as _;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

#[cfg(target_os = "linux")]
use rustix::process::Pid;
#[cfg(target_os = "linux")]
use rustix::process::PidfdFlags;
#[cfg(target_os = "linux")]
use rustix::process::Signal;
use tokio::time::Instant;
use tokio::time::sleep;

use super::PROCESSES;

/// How long a group may take to be empty. Killed processes leave it within milliseconds; one that hangs in the system never does.
const END_TIMEOUT: Duration = Duration::from_secs(2);
/// Polling interval for that: the system reports the end of a group nowhere in version 1.
const END_POLL_INTERVAL: Duration = Duration::from_millis(10);
/// The most groups of one round, about 50 ms of work: a command that may make groups can make any number of them.
const MAX_GROUPS: usize = 1024;
/// Rounds of an end that waits for nothing. A process that was being started may be in no group yet at the first.
const ROUNDS_AT_ONCE: usize = 4;

/// Kills what is in these groups and below, and removes them, within [`END_TIMEOUT`]. Dropping the future leaves the rest.
pub(super) async fn end(folders: &[PathBuf]) {
    stop_forks(folders);
    let deadline = Instant::now() + END_TIMEOUT;
    while let Some(left) = round(folders) {
        if Instant::now() >= deadline {
            tracing::warn!(group = %left.display(), "a control group cannot be removed: a process in it does not end");
            return;
        }
        sleep(END_POLL_INTERVAL).await;
    }
}

/// The same without a wait: what was killed here and has not left yet keeps its group.
pub(super) fn end_at_once(folders: &[PathBuf]) {
    stop_forks(folders);
    for _ in 0..ROUNDS_AT_ONCE {
        if round(folders).is_none() {
            return;
        }
    }
}

/// What is in the groups, also below, can start no more processes: it would outrun who kills it.
fn stop_forks(folders: &[PathBuf]) {
    for folder in folders {
        // Not there where the processes of these groups are not counted.
        write(&folder.join("pids.max"), "0").ok();
    }
}

/// Removes what is empty and kills what is not; a group that is left.
fn round(folders: &[PathBuf]) -> Option<PathBuf> {
    let mut left = None;
    for folder in folders {
        let groups = with_those_below(folder);
        // Those below first.
        for group in groups.iter().rev() {
            fs::remove_dir(group).ok();
        }
        let is_gone =
            fs::symlink_metadata(folder).is_err_and(|error| error.kind() == io::ErrorKind::NotFound);
        if is_gone {
            continue;
        }
        // Of version 2 since Linux 5.14; it includes all groups below.
        if write(&folder.join("cgroup.kill"), "1").is_err() {
            groups.iter().for_each(|group| kill(group));
        }
        left = Some(folder.clone());
    }
    left
}

/// A group and those below it, each before its own; [`MAX_GROUPS`] at most.
fn with_those_below(folder: &Path) -> Vec<PathBuf> {
    let (mut groups, mut next) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(group) = next.pop() {
        let free = MAX_GROUPS.saturating_sub(groups.len() + next.len() + 1);
        let entries = fs::read_dir(&group).into_iter().flatten().filter_map(Result::ok);
        // The system's own entries are files.
        let below = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        next.extend(below.take(free).map(|entry| entry.path()));
        groups.push(group);
    }
    groups
}

/// Writes to a file that is there.
fn write(file: &Path, text: &str) -> io::Result<()> {
    OpenOptions::new().write(true).open(file)?.write_all(text.as_bytes())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_below_are_found_from_the_top_and_not_without_a_bound() {
        let top = tempfile::tempdir().unwrap();
        let group = top.path().join("group");
        fs::create_dir_all(group.join("a/b/c")).unwrap();
        fs::create_dir_all(group.join("d")).unwrap();
        fs::write(group.join("pids.max"), "max").unwrap();
        let found = with_those_below(&group);
        assert_eq!(found.len(), 5);
        for (place, below) in found.iter().enumerate().skip(1) {
            let above = below.parent().unwrap();
            assert!(found[..place].iter().any(|group| group == above), "{found:?}");
        }
        for number in 0..MAX_GROUPS + 10 {
            fs::create_dir(group.join(format!("d/{number}"))).unwrap();
        }
        assert_eq!(with_those_below(&group).len(), MAX_GROUPS);
    }

    #[test]
    fn empty_groups_are_removed_with_those_below() {
        let top = tempfile::tempdir().unwrap();
        let folders = ["one", "two"].map(|name| top.path().join(name));
        fs::create_dir_all(folders[0].join("a/b")).unwrap();
        fs::create_dir_all(folders[1].join("c")).unwrap();
        end_at_once(&folders);
        assert_eq!(fs::read_dir(top.path()).unwrap().count(), 0);
    }
}
