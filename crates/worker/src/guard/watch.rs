//! The guard's own process: reads the pipe, looks at the clock, and ends groups.

use std::io;
use std::os::fd::AsFd as _;
use std::process::ExitCode;
use std::time::Duration;

use rustix::process::Pid;
use rustix::process::Signal;
use tokio::io::AsyncBufReadExt as _;
use tokio::io::BufReader;
use tokio::net::unix::pipe;
use tokio::signal::unix;
use tokio::signal::unix::SignalKind;
use tokio::time::Instant;
use tokio::time::sleep;
use tokio::time::timeout;

use super::process_groups::ProcessGroups;
use super::process_groups::Record;
use super::process_groups::TrackedGroup;
use crate::lease_clock::boot_millis;

/// Between SIGTERM and SIGKILL at the end of the program.
const GRACE: Duration = Duration::from_secs(2);
/// How often a deadline is looked at: timers stand still while the machine sleeps, deadlines do not.
const LOOK: Duration = Duration::from_millis(200);
/// How often a group that was told to end is looked at.
const LOOK_AFTER: Duration = Duration::from_millis(10);

/// Guards until the program at the other end of standard input is gone, and what it left too.
pub(super) fn run() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    match runtime.and_then(|runtime| runtime.block_on(watch())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

async fn watch() -> io::Result<()> {
    // A service manager may signal all processes of a service; this one ends after the program, not with it.
    let _deaf = [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup()]
        .map(unix::signal)
        .into_iter()
        .collect::<io::Result<Vec<_>>>()?;
    let input = io::stdin().as_fd().try_clone_to_owned()?;
    let mut lines = BufReader::new(pipe::Receiver::from_owned_fd(input)?).lines();
    let mut books = ProcessGroups::default();
    loop {
        let patience = if books.waits_for_a_deadline() { LOOK } else { Duration::MAX };
        match timeout(patience, lines.next_line()).await {
            Ok(Ok(Some(line))) => {
                if let Some(record) = Record::parse(&line) {
                    books.take(record, started_at);
                }
            }
            Ok(Ok(None) | Err(_)) => break,
            Err(_) => {}
        }
        for known in books.overdue(boot_millis()) {
            signal(&known, Signal::KILL);
        }
    }
    end(books.into_groups()).await;
    Ok(())
}

/// SIGTERM, and SIGKILL to what is left after the grace.
async fn end(mut groups: Vec<TrackedGroup>) {
    let until = Instant::now() + GRACE;
    groups.retain(|known| signal(known, Signal::TERM));
    while !groups.is_empty() && Instant::now() < until {
        sleep(LOOK_AFTER).await;
        groups.retain(|known| {
            pid(known).is_some_and(|id| rustix::process::test_kill_process_group(id).is_ok())
        });
    }
    for known in groups {
        signal(&known, Signal::KILL);
    }
}

/// Sends a signal to a group; whether there is such a group.
fn signal(known: &TrackedGroup, signal: Signal) -> bool {
    pid(known).is_some_and(|id| {
        known.is_meant(started_at(known.group)) && rustix::process::kill_process_group(id, signal).is_ok()
    })
}

/// The group as the system takes it; never 0 or 1, which would mean others.
fn pid(known: &TrackedGroup) -> Option<Pid> {
    i32::try_from(known.group).ok().filter(|&number| number > 1).and_then(Pid::from_raw)
}

/// When the process with this number started, in ticks since the machine did (proc_pid_stat(5), field 22).
fn started_at(process: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The name before may hold anything.
    stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_started_and_another_did_not() {
        assert!(started_at(std::process::id()).is_some_and(|ticks| ticks > 0));
        assert_eq!(started_at(u32::MAX), None);
    }
}
