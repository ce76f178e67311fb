//! The guard's own process: hears the program and its commands, watches the deadline, and kills process groups.

use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixListener;
use std::os::unix::net::UnixStream as StdStream;
use std::process::ExitCode;
use std::time::Duration;

use rustix::process::Pid;
use rustix::process::Signal;
use tokio::io::AsyncBufReadExt as _;
use tokio::io::BufReader;
use tokio::net::UnixStream;
use tokio::signal::unix;
use tokio::signal::unix::SignalKind;
use tokio::time::Instant;
use tokio::time::sleep;
use tokio::time::timeout;

use super::announcements::Announcement;
use super::announcements::Announcements;
use super::process_groups::ProcessGroups;
use super::process_groups::Record;
use super::process_groups::TrackedGroup;
use crate::lease_clock::boot_millis;

/// Time between SIGTERM and SIGKILL when the program is gone: the same that the program itself gives its commands.
const GRACE_PERIOD: Duration = Duration::from_secs(2);
/// Polling interval for the deadline. Polled because timers stand still while the machine sleeps and deadlines do not;
/// short compared with the second between the deadline and the end of the lease.
const DEADLINE_POLL_INTERVAL: Duration = Duration::from_millis(200);
/// Polling interval for the end of groups after SIGTERM. The guard is not their parent, so it cannot wait for them; it
/// polls for two seconds at most.
const EXIT_POLL_INTERVAL: Duration = Duration::from_millis(10);

/// Guards until the program at the other end of standard input is gone, and then kills what it left. Commands announce
/// themselves at the socket on standard error: a program can be given three descriptors without unsafe code, and a guard
/// writes to no one.
pub(super) fn run() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    match runtime.and_then(|runtime| runtime.block_on(watch())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

async fn watch() -> io::Result<()> {
    // A service manager may signal all processes of a service. The guard ends after the program, not with it.
    let _ignored = [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup()]
        .map(unix::signal)
        .into_iter()
        .collect::<io::Result<Vec<_>>>()?;
    let input = StdStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    input.set_nonblocking(true)?;
    let mut lines = BufReader::new(UnixStream::from_std(input)?).lines();
    let listener = UnixListener::from(io::stderr().as_fd().try_clone_to_owned()?);
    let mut announcements = Announcements::new(listener)?;
    let mut groups = ProcessGroups::default();
    loop {
        let wait = if groups.has_deadline() { DEADLINE_POLL_INTERVAL } else { Duration::MAX };
        let next = async {
            tokio::select! {
                line = lines.next_line() => Next::Line(line),
                announcement = announcements.next() => Next::Announcement(announcement),
            }
        };
        match timeout(wait, next).await {
            Ok(Next::Line(Ok(Some(line)))) => {
                if let Some(record) = Record::parse(&line) {
                    groups.apply(record);
                }
            }
            Ok(Next::Line(Ok(None) | Err(_))) => break,
            Ok(Next::Announcement(announcement)) => {
                let group = announcement.group;
                groups.start(announcement.lifetime, group, started_at(group));
                announcement.confirm();
            }
            Err(_) => {}
        }
        // After every event, not only after a timeout: a busy program must not delay the deadline.
        for tracked in groups.overdue(boot_millis()) {
            signal(&tracked, Signal::KILL);
        }
    }
    // From here on no command starts: those that wait for an answer get none.
    drop(announcements);
    end(groups.into_groups()).await;
    Ok(())
}

/// What the guard hears.
enum Next {
    Line(io::Result<Option<String>>),
    Announcement(Announcement),
}

/// Sends SIGTERM, and SIGKILL to what is left after the grace period.
async fn end(mut groups: Vec<TrackedGroup>) {
    let deadline = Instant::now() + GRACE_PERIOD;
    groups.retain(|tracked| signal(tracked, Signal::TERM));
    while !groups.is_empty() && Instant::now() < deadline {
        sleep(EXIT_POLL_INTERVAL).await;
        groups.retain(|tracked| {
            group_id(tracked).is_some_and(|id| rustix::process::test_kill_process_group(id).is_ok())
        });
    }
    for tracked in groups {
        signal(&tracked, Signal::KILL);
    }
}

/// Sends a signal to a group; returns whether the group exists.
pub(super) fn signal(tracked: &TrackedGroup, signal: Signal) -> bool {
    group_id(tracked).is_some_and(|id| {
        tracked.is_same(started_at(tracked.group)) && rustix::process::kill_process_group(id, signal).is_ok()
    })
}

/// The group's id as the system takes it; never 0 or 1, which would stand for other processes.
fn group_id(tracked: &TrackedGroup) -> Option<Pid> {
    i32::try_from(tracked.group).ok().filter(|&number| number > 1).and_then(Pid::from_raw)
}

/// When the process with this id started, in clock ticks since the machine did (proc_pid_stat(5), field 22).
pub(super) fn started_at(process: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The program's name, in parentheses before it, may contain spaces and parentheses.
    stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_existing_process_has_a_start_time() {
        assert!(started_at(std::process::id()).is_some_and(|ticks| ticks > 0));
        assert_eq!(started_at(u32::MAX), None);
    }
}
