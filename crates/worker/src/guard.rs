//! The guard: a small process that kills the commands of a program which can no longer do it.
//!
//! It is the same program, started with an argument of its own, in a process session of its own, at the other end of a
//! pair of sockets. Every command is started through the same program too: that announces itself at the guard's socket,
//! waits until the guard has noted its process group, and then becomes the command by `exec`, so that no command ever
//! runs whose group the guard does not know. When the program's end is closed, it has died or finished. Past its last
//! deadline it is stopped, or too slow to be relied on.
//!
//! ```text
//! program ── deadlines, ended groups ──► guard ── SIGTERM, SIGKILL ──► process groups
//! command, before its exec ── itself ──►
//! ```
//!
//! - `process_groups`: what the guard knows and which groups it kills when; pure.
//! - `link`: the program's end, and the guard's socket.
//! - `begin`: how a command starts, from our program to its `exec`.
//! - `sandbox`: the confinement that it enters before.
//! - `user`: the other user that it becomes before.
//! - `control_groups`: the limits on the commands of one run together, a group of the system that it enters before.
//! - `job_groups`: the groups of jobs as the program knows them.
//! - `announcements`: who may announce what, as the guard hears it.
//! - `watch`: the guard's own process.

mod announcements;
mod begin;
mod control_groups;
mod job_groups;
mod link;
mod process_groups;
mod sandbox;
mod user;
mod watch;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::process::ExitCode;
use std::process::ExitStatus;
use std::process::Stdio;
use std::sync::Arc;

use legwork_agent::environment::CommandUser;
use legwork_agent::environment::MetLimit;
use legwork_agent::environment::NoGuard;
use legwork_agent::environment::ProcessGuard;
use legwork_common::id::JobId;
use legwork_process::tasks::TaskKind;
use legwork_process::tasks::Tasks;
use process_wrap::tokio::ChildWrapper;
use process_wrap::tokio::CommandWrap;
use process_wrap::tokio::ProcessSession;
use thiserror::Error;
use tokio_util::sync::CancellationToken;

use self::begin::GUARDED;
use self::begin::THIS_PROGRAM;
pub use self::control_groups::CommandLimits;
pub use self::control_groups::ControlGroupError;
pub use self::control_groups::ControlGroups;
pub use self::control_groups::RefusedFolder;
pub use self::control_groups::RunGroup;
use self::job_groups::JobGroups;
use self::link::GuardEnds;
use self::link::GuardLink;
use self::process_groups::Lifetime;
use self::process_groups::Record;
pub use self::sandbox::Sandbox;

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

/// What a command enters before it begins. The default is nothing.
#[derive(Debug, Clone, Default)]
pub struct Restrictions {
    /// What it is confined to.
    pub sandbox: Option<Sandbox>,
    /// The user that it runs as; `None` for the program's own.
    pub user: Option<CommandUser>,
    /// The control group with the limits of its run; `None` for no limit.
    pub group: Option<Arc<RunGroup>>,
}

/// The connection to a program's guard. Cheap to clone; all clones are one. The default guards nothing.
#[derive(Debug, Clone, Default)]
pub struct Guard {
    link: Option<Arc<GuardLink>>,
    jobs: JobGroups,
}

impl Guard {
    /// Starts the guard of this program. It ends with the tasks; if it ends before, the program drains. If the program
    /// crashes, the guard kills the commands that are left and ends. `user_lock` is a file that the guard holds open for as
    /// long as it lives.
    ///
    /// # Errors
    ///
    /// The system's, where it cannot start a process or create a socket.
    pub fn start(tasks: &Tasks, user_lock: Option<File>) -> io::Result<Self> {
        let (link, GuardEnds { reader, listener }) = GuardLink::new()?;
        let mut command = tokio::process::Command::new(THIS_PROGRAM);
        command.arg(GUARD).env_clear().current_dir("/");
        command.stdin(Stdio::from(OwnedFd::from(reader))).stderr(Stdio::from(OwnedFd::from(listener)));
        command.stdout(user_lock.map_or_else(Stdio::null, Stdio::from));
        let mut command = CommandWrap::from(command);
        // A session of its own: Ctrl-C and the end of the terminal are not for the guard.
        command.wrap(ProcessSession);
        let child = command.spawn()?;
        // `command` holds the guard's ends. Without this drop commands would wait for a guard that has died.
        drop(command);
        let link = Arc::new(link);
        tasks.spawn(TaskKind::Guard, supervise(child, Arc::clone(&link), tasks.closing()));
        Ok(Self { link: Some(link), jobs: JobGroups::default() })
    }

    /// The guard for commands of jobs, which may run only while the program's leases are valid.
    /// They enter the restrictions first.
    pub fn of_job(&self, job: JobId, restrictions: Restrictions) -> Arc<dyn ProcessGuard> {
        self.with(Lifetime::Lease, Some(job), restrictions)
    }

    /// What the commands of each job hold in memory, in bytes. Jobs without a command are missing.
    pub fn usage_of_jobs(&self) -> BTreeMap<JobId, u64> {
        self.jobs.usage()
    }

    /// Kills the commands of a job at once.
    pub fn kill_job(&self, job: JobId) {
        self.jobs.kill(job);
    }

    /// The guard for commands that may run for as long as the program lives.
    pub fn of_program(&self) -> Arc<dyn ProcessGuard> {
        self.with(Lifetime::Process, None, Restrictions::default())
    }

    fn with(
        &self,
        lifetime: Lifetime,
        job: Option<JobId>,
        restrictions: Restrictions,
    ) -> Arc<dyn ProcessGuard> {
        match &self.link {
            Some(link) => {
                let (link, jobs) = (Arc::clone(link), self.jobs.clone());
                Arc::new(GuardedCommands { link, lifetime, job, jobs, restrictions })
            }
            None => Arc::new(NoGuard),
        }
    }

    /// Sets the moment, in milliseconds since the machine started, from which the guard kills every command of a job.
    /// Each renewal of the leases moves it.
    pub fn set_deadline(&self, moment: u64) {
        if let Some(link) = &self.link {
            link.write(&Record::Deadline(moment));
        }
    }
}

/// Waits for the guard's end, and causes it when the program closes: the end of the connection is the guard's signal.
async fn supervise(
    mut child: Box<dyn ChildWrapper>,
    link: Arc<GuardLink>,
    closing: CancellationToken,
) -> Result<(), GuardError> {
    // The inner child is enough: no other process is in the guard's session.
    let early = closing.run_until_cancelled(child.inner_mut().wait()).await;
    link.close();
    match early {
        Some(status) => Err(status.map_or_else(GuardError::Unknown, GuardError::Ended)),
        // As long as the guard's own grace period; the program's bounds it.
        None => child.inner_mut().wait().await.map(drop).map_err(GuardError::Unknown),
    }
}

/// The guard as a run sees it.
#[derive(Debug)]
struct GuardedCommands {
    link: Arc<GuardLink>,
    lifetime: Lifetime,
    /// `None` for commands of the program itself.
    job: Option<JobId>,
    jobs: JobGroups,
    restrictions: Restrictions,
}

impl ProcessGuard for GuardedCommands {
    fn command_prefix(&self) -> Vec<OsString> {
        begin::arguments(&self.link, self.lifetime, &self.restrictions)
    }

    /// The guard need not be told: the command announces itself.
    fn started(&self, group: u32) {
        if let Some(job) = self.job {
            self.jobs.insert(job, group);
        }
    }

    fn ended(&self, group: u32) {
        self.jobs.remove(group);
        self.link.write(&Record::Ended(group));
    }

    fn met_limits(&self) -> Vec<MetLimit> {
        self.restrictions.group.as_ref().map(|group| group.met_limits()).unwrap_or_default()
    }
}
