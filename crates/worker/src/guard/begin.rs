//! The beginning of a guarded command: our program writes its group into the guard's pipe and becomes the
//! command.
//!
//! The pipe is opened by its name below `/proc`, so that no other child of the program can come by it, and closes
//! by itself where the command begins. Whatever goes wrong before, the command does not run: a program that died
//! meanwhile has no such name, a guard that died does not read, and a number that was given to another file has
//! another inode.

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

use super::GUARDED;
use super::Line;
use super::THIS_PROGRAM;
use super::process_groups::Lifetime;
use super::process_groups::Record;

/// A command that is not there, as shells say it.
const NOT_FOUND: u8 = 127;
/// A command that was not run, as shells say it.
const NOT_RUN: u8 = 126;

/// The words that a guarded command line begins with.
pub(super) fn words(line: &Line, bound: Lifetime) -> Vec<OsString> {
    let bound = match bound {
        Lifetime::Lease => "lease",
        Lifetime::Process => "life",
    };
    let program = std::process::id();
    let numbers = [program.to_string(), line.descriptor.to_string(), line.inode.to_string()];
    let ours = [THIS_PROGRAM, GUARDED, bound].map(OsString::from);
    ours.into_iter().chain(numbers.map(OsString::from)).collect()
}

/// Tells the guard and becomes the command. Returns only if that failed.
pub(super) fn run(mut arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let mut next = || arguments.next().and_then(|word| word.into_string().ok()).unwrap_or_default();
    let (bound, program, descriptor, inode) = (next(), next(), next(), next());
    if let Err(error) = tell(&bound, &program, &descriptor, &inode) {
        complain("the command was not begun: its guard cannot be told", &error);
        return ExitCode::from(NOT_RUN);
    }
    let Some(command) = arguments.next() else { return ExitCode::from(NOT_RUN) };
    let error = Command::new(&command).args(arguments).exec();
    complain(&format!("{} cannot be started", command.display()), &error);
    ExitCode::from(if error.kind() == io::ErrorKind::NotFound { NOT_FOUND } else { NOT_RUN })
}

/// Writes our group into the pipe of `program`, if that is still our parent and the pipe still that pipe.
fn tell(bound: &str, program: &str, descriptor: &str, inode: &str) -> io::Result<()> {
    let wrong = |what: &str| io::Error::new(io::ErrorKind::InvalidInput, what.to_owned());
    let parent = rustix::process::getppid().map(|pid| Pid::as_raw(Some(pid)).to_string());
    if parent.as_deref() != Some(program) {
        return Err(wrong("the program that began it is gone"));
    }
    // Without waiting: where nobody reads any more, opening would wait for ever.
    let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let pipe: OwnedFd = rustix::fs::open(format!("/proc/{program}/fd/{descriptor}"), flags, Mode::empty())?;
    let found = rustix::fs::fstat(&pipe)?;
    if FileType::from_raw_mode(found.st_mode) != FileType::Fifo || found.st_ino.to_string() != inode {
        return Err(wrong("the guard's pipe is closed"));
    }
    let own = rustix::process::getpid();
    if rustix::process::getpgrp() != own {
        return Err(wrong("it does not lead a process group"));
    }
    let group = u32::try_from(own.as_raw_nonzero().get()).unwrap_or_default();
    let record = Record::parse(&format!("{bound} {group}")).ok_or_else(|| wrong("no such bound"))?;
    rustix::io::ioctl_fionbio(&pipe, false)?;
    std::fs::File::from(pipe).write_all(record.line().as_bytes())
}

/// One line where the command's own errors go.
fn complain(what: &str, error: &dyn Display) {
    // Nobody is left to be told where this fails.
    writeln!(io::stderr(), "{what}: {error}").ok();
}
