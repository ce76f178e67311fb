//! The start of a guarded command: our program announces its process group to the guard and becomes the command.
//!
//! It connects to the guard's socket, says how long it may live, and waits until the guard has noted it; the connection
//! is closed by the `exec`. It says no number: the guard asks the system who is at the other end, so that no process can
//! announce another. Whatever goes wrong before that, the command does not run: a guard that has died, or that is ending,
//! answers no one.

use std::ffi::OsString;
use std::fmt::Display;
use std::io;
use std::io::Read as _;
use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;
use std::process::ExitCode;
use std::time::Duration;

use rustix::process::Pid;

use super::Restrictions;
use super::control_groups;
use super::link;
use super::link::GuardLink;
use super::process_groups::Lifetime;
use super::sandbox;
use super::sandbox::Sandbox;
use super::user;

/// The first argument of a program that is the start of a guarded command.
pub(super) const GUARDED: &str = "__guarded";
/// This program, even if its file was replaced or deleted since it started.
pub(super) const THIS_PROGRAM: &str = "/proc/self/exe";
/// What the guard answers when it has noted a command.
pub(super) const NOTED: u8 = b'+';

/// How long the guard may take. It answers within a millisecond; a loaded machine delays it, a stopped guard forever.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// The exit status of a command that does not exist, as in shells.
const NOT_FOUND: u8 = 127;
/// The exit status of a command that could not be run, as in shells.
const NOT_RUN: u8 = 126;

/// What comes before a guarded command on its command line.
pub(super) fn arguments(guard: &GuardLink, lifetime: Lifetime, restrictions: &Restrictions) -> Vec<OsString> {
    let program = std::process::id().to_string();
    let user = user::argument(restrictions.user.as_ref());
    let groups = restrictions.group.as_ref().map(|group| group.folders()).unwrap_or_default();
    let count = groups.len().to_string();
    let ours =
        [THIS_PROGRAM, GUARDED, lifetime.word(), &program, &guard.name, &user, &count].map(OsString::from);
    let groups = groups.into_iter().map(PathBuf::into_os_string);
    let sandbox = restrictions.sandbox.iter().flat_map(Sandbox::arguments);
    ours.into_iter().chain(groups).chain(sandbox).chain([sandbox::end()]).collect()
}

/// Announces our process group to the guard and becomes the command. Returns only if that failed.
pub(super) fn run(mut arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let mut next = || arguments.next().and_then(|word| word.into_string().ok()).unwrap_or_default();
    let (lifetime, program, guard, user) = (next(), next(), next(), next());
    // What cannot be read would mean no limits.
    let Ok(count) = next().parse::<usize>() else {
        report("the command was not started", &"the number of its control groups is missing");
        return ExitCode::from(NOT_RUN);
    };
    let groups: Vec<PathBuf> = (0..count).map(|_| PathBuf::from(next())).collect();
    // As our own user: the guard hears no other.
    let announced = announce(&lifetime, &program, &guard);
    let sandbox = match announced.and_then(|()| Sandbox::from_arguments(&mut arguments)) {
        Ok(sandbox) => sandbox,
        Err(error) => {
            report("the command was not started: its guard cannot be reached", &error);
            return ExitCode::from(NOT_RUN);
        }
    };
    // Before the sandbox and the user, who reach no control group.
    if let Err(error) = control_groups::join(&groups) {
        report("the command was not started", &error);
        return ExitCode::from(NOT_RUN);
    }
    if let Some(Err(error)) = sandbox.map(|sandbox| sandbox.enter()) {
        report("the command was not started: it cannot be confined", &error);
        return ExitCode::from(NOT_RUN);
    }
    // After the sandbox, whose folders our own user can open.
    if let Err(error) = user::parse(&user).and_then(|user| user.as_ref().map_or(Ok(()), user::become_user)) {
        report("the command was not started: it cannot run as another user", &error);
        return ExitCode::from(NOT_RUN);
    }
    let Some(command) = arguments.next() else { return ExitCode::from(NOT_RUN) };
    let error = Command::new(&command).args(arguments).exec();
    report(&format!("{} cannot be started", command.display()), &error);
    ExitCode::from(if error.kind() == io::ErrorKind::NotFound { NOT_FOUND } else { NOT_RUN })
}

/// Returns once the guard has noted our group, if `program` is still our parent.
fn announce(lifetime: &str, program: &str, guard: &str) -> io::Result<()> {
    let invalid = |what: &str| io::Error::new(io::ErrorKind::InvalidInput, what.to_owned());
    let parent = rustix::process::getppid().map(|pid| Pid::as_raw(Some(pid)).to_string());
    if parent.as_deref() != Some(program) {
        return Err(invalid("the program that started it is gone"));
    }
    if rustix::process::getpgrp() != rustix::process::getpid() {
        return Err(invalid("it does not lead a process group"));
    }
    let lifetime = Lifetime::parse(lifetime).ok_or_else(|| invalid("unknown lifetime"))?;
    let mut guard = link::connect(guard)?;
    guard.set_read_timeout(Some(ANSWER_TIMEOUT))?;
    guard.write_all(format!("{}\n", lifetime.word()).as_bytes())?;
    let mut answer = [0];
    guard.read_exact(&mut answer)?;
    if answer == [NOTED] { Ok(()) } else { Err(invalid("the guard refuses it")) }
}

/// Writes one line to standard error, where the command's own errors appear.
fn report(what: &str, error: &dyn Display) {
    // Where this fails, the report has no receiver.
    writeln!(io::stderr(), "{what}: {error}").ok();
}
