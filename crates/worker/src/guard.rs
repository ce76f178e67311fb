//! The guard: a small process that kills the commands of a program which can no longer do it.
//!
//! It is the same program, started with an argument of its own, in a process session of its own, at the other end of a
//! pipe. Every command is started through the same program too: that writes its process group into the pipe and then
//! becomes the command by `exec`, so that no command ever runs whose group the guard does not know. At the end of the
//! pipe the program has died or finished. Past the last deadline in the pipe it is stopped, or too slow to be relied on.
//!
//! ```text
//! program ── deadlines, ended groups ──► pipe ──► guard ── SIGTERM, SIGKILL ──► process groups
//! command, before its exec ── its group ──► pipe
//! ```
//!
//! - `process_groups`: what the guard knows and which groups it kills when; pure.
//! - `pipe`: the program's end of the pipe.
//! - `begin`: how a command starts, from our program to its `exec`.
//! - `watch`: the guard's own process.

mod begin;
mod pipe;
mod process_groups;
mod watch;

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::process::ExitCode;
use std::process::ExitStatus;
use std::process::Stdio;
use std::sync::Arc;

use legwork_agent::environment::NoGuard;
use legwork_agent::environment::ProcessGuard;
use legwork_process::tasks::TaskKind;
use legwork_process::tasks::Tasks;
use process_wrap::tokio::ChildWrapper;
use process_wrap::tokio::CommandWrap;
use process_wrap::tokio::ProcessSession;
use thiserror::Error;
use tokio_util::sync::CancellationToken;

use self::begin::GUARDED;
use self::begin::THIS_PROGRAM;
use self::pipe::GuardPipe;
use self::process_groups::Lifetime;
use self::process_groups::Record;

/// The first argument of a program that is a guard.
const GUARD: &str = "__guard";

/// Runs the program as a guard, or as the start of a guarded command, if its first argument asks for that. Must be the
/// first call in `main`. `None`: continue as the program itself.
pub fn entry(arguments: impl IntoIterator<Item = OsString>) -> Option<ExitCode> {
    let mut arguments = arguments.into_iter().skip(1);
    let first = arguments.next()?;
    if first == GUARD {
        return Some(watch::run());
    }
    (first == GUARDED).then(|| begin::run(arguments))
}

/// Why a program no longer has a guard.
#[derive(Debug, Error)]
pub enum GuardError {
    /// It ended first, as when it was killed. The program drains: it must not start commands without a guard.
    #[error("the guard ended ({0})")]
    Ended(ExitStatus),
    /// The system does not report its end.
    #[error("the guard cannot be waited for")]
    Unknown(#[source] io::Error),
}

/// The connection to a program's guard. Cheap to clone; all clones are one. The default guards nothing.
#[derive(Debug, Clone, Default)]
pub struct Guard {
    pipe: Option<Arc<GuardPipe>>,
}

impl Guard {
    /// Starts the guard of this program. It ends with the tasks; if it ends before, the program drains. If the program
    /// crashes, the guard kills the commands that are left and ends. `user_lock` is a file that the guard holds open for as
    /// long as it lives.
    ///
    /// # Errors
    ///
    /// The system's, where it cannot start a process or create a pipe.
    pub fn start(tasks: &Tasks, user_lock: Option<File>) -> io::Result<Self> {
        let (reader, writer) = io::pipe()?;
        let mut command = tokio::process::Command::new(THIS_PROGRAM);
        command.arg(GUARD).env_clear().current_dir("/");
        command.stdin(reader).stdout(user_lock.map_or_else(Stdio::null, Stdio::from)).stderr(Stdio::null());
        let mut command = CommandWrap::from(command);
        // A session of its own: Ctrl-C and the end of the terminal are not for the guard.
        command.wrap(ProcessSession);
        let child = command.spawn()?;
        // `command` holds a reading end. Without this drop the pipe would keep a reader after the guard's death, and
        // commands would start unguarded.
        drop(command);
        let pipe = Arc::new(GuardPipe::new(writer)?);
        tasks.spawn(TaskKind::Guard, supervise(child, Arc::clone(&pipe), tasks.closing()));
        Ok(Self { pipe: Some(pipe) })
    }

    /// The guard for commands of jobs, which may run only while the program's leases are valid.
    pub fn of_jobs(&self) -> Arc<dyn ProcessGuard> {
        self.with(Lifetime::Lease)
    }

    /// The guard for commands that may run for as long as the program lives.
    pub fn of_program(&self) -> Arc<dyn ProcessGuard> {
        self.with(Lifetime::Process)
    }

    fn with(&self, lifetime: Lifetime) -> Arc<dyn ProcessGuard> {
        match &self.pipe {
            Some(pipe) => Arc::new(GuardedCommands { pipe: Arc::clone(pipe), lifetime }),
            None => Arc::new(NoGuard),
        }
    }

    /// Sets the moment, in milliseconds since the machine started, from which the guard kills every command of a job.
    /// Each renewal of the leases moves it.
    pub fn set_deadline(&self, moment: u64) {
        if let Some(pipe) = &self.pipe {
            pipe.write(&Record::Deadline(moment));
        }
    }
}

/// Waits for the guard's end, and causes it when the program closes: the end of the pipe is the guard's signal.
async fn supervise(
    mut child: Box<dyn ChildWrapper>,
    pipe: Arc<GuardPipe>,
    closing: CancellationToken,
) -> Result<(), GuardError> {
    // The inner child is enough: no other process is in the guard's session.
    let early = closing.run_until_cancelled(child.inner_mut().wait()).await;
    pipe.close();
    match early {
        Some(status) => Err(status.map_or_else(GuardError::Unknown, GuardError::Ended)),
        // As long as the guard's own grace period; the program's bounds it.
        None => child.inner_mut().wait().await.map(drop).map_err(GuardError::Unknown),
    }
}

/// The guard as a run sees it.
#[derive(Debug)]
struct GuardedCommands {
    pipe: Arc<GuardPipe>,
    lifetime: Lifetime,
}

impl ProcessGuard for GuardedCommands {
    fn command_prefix(&self) -> Vec<OsString> {
        begin::arguments(&self.pipe, self.lifetime)
    }

    /// Nothing to do: the command has written its group into the pipe itself.
    fn started(&self, _group: u32) {}

    fn ended(&self, group: u32) {
        self.pipe.write(&Record::Ended(group));
    }
}
