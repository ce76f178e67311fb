//! The start of a guarded command: our program writes its process group into the guard's pipe and becomes the command.
//!
//! The pipe is opened by its name below `/proc`, so that no other child of the program inherits it, and is closed by the
//! `exec`. Whatever goes wrong before that, the command does not run: a program that has died has no such name, a guard
//! that has died does not read, and a descriptor that was given to another file has another inode.

use std::ffi::OsString;
use std::fmt::Display;
use std::io;
use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::process::ExitCode;

use rustix::fs::FileType;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::process::Pid;

use super::pipe::GuardPipe;
use super::process_groups::Lifetime;
use super::process_groups::Record;

/// The first argument of a program that is the start of a guarded command.
pub(super) const GUARDED: &str = "__guarded";
/// This program, even if its file was replaced or deleted since it started.
pub(super) const THIS_PROGRAM: &str = "/proc/self/exe";

/// The exit status of a command that does not exist, as in shells.
const NOT_FOUND: u8 = 127;
/// The exit status of a command that could not be run, as in shells.
const NOT_RUN: u8 = 126;

/// What comes before a guarded command on its command line.
pub(super) fn arguments(pipe: &GuardPipe, lifetime: Lifetime) -> Vec<OsString> {
    let program = std::process::id();
    let numbers = [program.to_string(), pipe.descriptor.to_string(), pipe.inode.to_string()];
    let ours = [THIS_PROGRAM, GUARDED, lifetime.word()].map(OsString::from);
    ours.into_iter().chain(numbers.map(OsString::from)).collect()
}

/// Announces our process group to the guard and becomes the command. Returns only if that failed.
pub(super) fn run(mut arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let mut next = || arguments.next().and_then(|word| word.into_string().ok()).unwrap_or_default();
    let (lifetime, program, descriptor, inode) = (next(), next(), next(), next());
    if let Err(error) = announce(&lifetime, &program, &descriptor, &inode) {
        report("the command was not started: its guard cannot be reached", &error);
        return ExitCode::from(NOT_RUN);
    }
    let Some(command) = arguments.next() else { return ExitCode::from(NOT_RUN) };
    let error = Command::new(&command).args(arguments).exec();
    report(&format!("{} cannot be started", command.display()), &error);
    ExitCode::from(if error.kind() == io::ErrorKind::NotFound { NOT_FOUND } else { NOT_RUN })
}

/// Writes our group into the pipe of `program`, if that is still our parent and the pipe is still that pipe.
fn announce(lifetime: &str, program: &str, descriptor: &str, inode: &str) -> io::Result<()> {
    let invalid = |what: &str| io::Error::new(io::ErrorKind::InvalidInput, what.to_owned());
    let parent = rustix::process::getppid().map(|pid| Pid::as_raw(Some(pid)).to_string());
    if parent.as_deref() != Some(program) {
        return Err(invalid("the program that started it is gone"));
    }
    // Non-blocking: without a reader, opening would block forever.
    let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let pipe: OwnedFd = rustix::fs::open(format!("/proc/{program}/fd/{descriptor}"), flags, Mode::empty())?;
    let found = rustix::fs::fstat(&pipe)?;
    if FileType::from_raw_mode(found.st_mode) != FileType::Fifo || found.st_ino.to_string() != inode {
        return Err(invalid("the guard's pipe is closed"));
    }
    let own = rustix::process::getpid();
    if rustix::process::getpgrp() != own {
        return Err(invalid("it does not lead a process group"));
    }
    let group = u32::try_from(own.as_raw_nonzero().get()).unwrap_or_default();
    let record = Record::parse(&format!("{lifetime} {group}")).ok_or_else(|| invalid("unknown lifetime"))?;
    // Blocking from here on: a full pipe delays the command until the guard has read it, and is not an error.
    rustix::io::ioctl_fionbio(&pipe, false)?;
    std::fs::File::from(pipe).write_all(record.line().as_bytes())
}

/// Writes one line to standard error, where the command's own errors appear.
fn report(what: &str, error: &dyn Display) {
    // Where this fails, the report has no receiver.
    writeln!(io::stderr(), "{what}: {error}").ok();
}
