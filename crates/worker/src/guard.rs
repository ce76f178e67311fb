//! The guard: a small process that ends the commands of a program which cannot do it any more.
//!
//! It is the same program, started with a word of its own, in a session of its own, at the other end of a pipe.
//! Every command is begun by that program too: it writes its process group into the pipe and then becomes the
//! command, so that no command ever runs whose group the guard does not know. At the end of the pipe the
//! program is dead, or done; past the last deadline that it wrote, it stands still.
//!
//! - `books`: what the guard knows, and whom it ends; pure.
//! - `begin`: the way of a command from our program to itself.
//! - `watch`: the guard's own process.

mod begin;
mod process_groups;
mod watch;

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::io::PipeWriter;
use std::io::Write as _;
use std::os::fd::AsRawFd as _;
use std::process::ExitCode;
use std::process::ExitStatus;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;

use legwork_agent::environment::NoGuard;
use legwork_agent::environment::ProcessGuard;
use legwork_process::tasks::TaskKind;
use legwork_process::tasks::Tasks;
use process_wrap::tokio::ChildWrapper;
use process_wrap::tokio::CommandWrap;
use process_wrap::tokio::ProcessSession;
use thiserror::Error;
use tokio_util::sync::CancellationToken;

use self::process_groups::Lifetime;
use self::process_groups::Record;

/// The word that makes a program a guard.
const GUARD: &str = "__guard";
/// The word that makes a program the beginning of a guarded command.
const GUARDED: &str = "__guarded";
/// This program, whatever became of its file.
const THIS_PROGRAM: &str = "/proc/self/exe";

/// Runs the program as what its first argument says, where that is a guard or the beginning of a command. The
/// first thing in `main`: `None` is for everybody else.
pub fn entry(arguments: impl IntoIterator<Item = OsString>) -> Option<ExitCode> {
    let mut arguments = arguments.into_iter().skip(1);
    let first = arguments.next()?;
    if first == GUARD {
        return Some(watch::run());
    }
    (first == GUARDED).then(|| begin::run(arguments))
}

/// Why a program has no guard any more.
#[derive(Debug, Error)]
pub enum GuardError {
    /// Somebody ended it. What it guarded is left to the program, which shall not begin anything new.
    #[error("the guard ended ({0})")]
    Ended(ExitStatus),
    /// The system does not say what became of it.
    #[error("the guard cannot be waited for")]
    Unknown(#[source] io::Error),
}

/// The way to a program's guard. Cheap to clone; the default guards nothing.
#[derive(Debug, Clone, Default)]
pub struct Guard {
    line: Option<Arc<Line>>,
}

impl Guard {
    /// Starts the guard of this program. It ends with the tasks; should it end before, the program drains.
    /// `stake` is a file for it to hold open for as long as it lives. A crash of the program is what it is for.
    ///
    /// # Errors
    ///
    /// The system's, where it starts no process or shows none.
    pub fn start(tasks: &Tasks, stake: Option<File>) -> io::Result<Self> {
        let (reader, writer) = io::pipe()?;
        let mut command = tokio::process::Command::new(THIS_PROGRAM);
        command.arg(GUARD).env_clear().current_dir("/");
        command.stdin(reader).stdout(stake.map_or_else(Stdio::null, Stdio::from)).stderr(Stdio::null());
        let mut command = CommandWrap::from(command);
        // A session of its own: Ctrl-C and the terminal's end are not meant for it.
        command.wrap(ProcessSession);
        let child = command.spawn()?;
        // The command holds the reading end: without this drop nobody would notice the guard's end.
        drop(command);
        let line = Arc::new(Line::new(writer)?);
        tasks.spawn(TaskKind::Guard, attend(child, Arc::clone(&line), tasks.closing()));
        Ok(Self { line: Some(line) })
    }

    /// For commands of jobs, which may run only while the program may act on its leases.
    pub fn of_jobs(&self) -> Arc<dyn ProcessGuard> {
        self.bound(Lifetime::Lease)
    }

    /// For commands that may run for as long as the program lives.
    pub fn of_program(&self) -> Arc<dyn ProcessGuard> {
        self.bound(Lifetime::Process)
    }

    fn bound(&self, bound: Lifetime) -> Arc<dyn ProcessGuard> {
        match &self.line {
            Some(line) => Arc::new(Guarded { line: Arc::clone(line), bound }),
            None => Arc::new(NoGuard),
        }
    }

    /// Past this moment, in milliseconds since the machine started, no command of a job may live.
    pub fn act_until(&self, moment: u64) {
        if let Some(line) = &self.line {
            line.say(&Record::Deadline(moment));
        }
    }
}

/// The program's end of the pipe.
#[derive(Debug)]
struct Line {
    // A std mutex: held for one write that never waits. Empty once the guard shall end.
    writer: Mutex<Option<PipeWriter>>,
    descriptor: i32,
    inode: u64,
}

impl Line {
    fn new(writer: PipeWriter) -> io::Result<Self> {
        // A guard that stands still must not hold the program up. Commands open the pipe anew, and wait.
        rustix::io::ioctl_fionbio(&writer, true)?;
        let inode = rustix::fs::fstat(&writer)?.st_ino;
        Ok(Self { descriptor: writer.as_raw_fd(), inode, writer: Mutex::new(Some(writer)) })
    }

    /// Says it, or not: a lost deadline is said again with the next renewal, and a group that has ended is told
    /// apart by its leader.
    fn say(&self, record: &Record) {
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(mut writer) = writer.as_ref()
            && let Err(error) = writer.write_all(record.line().as_bytes())
        {
            tracing::debug!(%error, "could not tell the guard");
        }
    }

    fn close(&self) {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

/// Waits for the guard's end, and asks for it when the program closes.
async fn attend(
    mut child: Box<dyn ChildWrapper>,
    line: Arc<Line>,
    closing: CancellationToken,
) -> Result<(), GuardError> {
    // Of the process itself: there is nobody else in its session.
    let early = closing.run_until_cancelled(child.inner_mut().wait()).await;
    line.close();
    match early {
        Some(status) => Err(status.map_or_else(GuardError::Unknown, GuardError::Ended)),
        None => child.inner_mut().wait().await.map(drop).map_err(GuardError::Unknown),
    }
}

/// The guard as a run sees it.
#[derive(Debug)]
struct Guarded {
    line: Arc<Line>,
    bound: Lifetime,
}

impl ProcessGuard for Guarded {
    fn before(&self) -> Vec<OsString> {
        begin::words(&self.line, self.bound)
    }

    /// The group has said so itself.
    fn started(&self, _group: u32) {}

    fn ended(&self, group: u32) {
        self.line.say(&Record::Ended(group));
    }
}
