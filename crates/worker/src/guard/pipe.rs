//! The program's end of the pipe to its guard.

use std::io;
use std::io::PipeWriter;
use std::io::Write as _;
use std::os::fd::AsRawFd as _;
use std::sync::Mutex;
use std::sync::PoisonError;

use super::process_groups::Record;

/// The writing end, and what identifies it to a command that opens it by name.
#[derive(Debug)]
pub(super) struct GuardPipe {
    // A std mutex: held for one write that never blocks. Empty once the guard is to end.
    writer: Mutex<Option<PipeWriter>>,
    /// The number of the descriptor in this process.
    pub(super) descriptor: i32,
    /// The inode of the pipe: tells it from another file that was given the same descriptor later.
    pub(super) inode: u64,
}

impl GuardPipe {
    /// # Errors
    ///
    /// The system's.
    pub(super) fn new(writer: PipeWriter) -> io::Result<Self> {
        // A guard that is stopped must not block the program. Commands open the pipe anew, and block.
        rustix::io::ioctl_fionbio(&writer, true)?;
        let inode = rustix::fs::fstat(&writer)?.st_ino;
        Ok(Self { descriptor: writer.as_raw_fd(), inode, writer: Mutex::new(Some(writer)) })
    }

    /// Writes the record, or not: a lost deadline is followed by that of the next renewal, and the guard recognizes a
    /// group whose end was lost by its leader.
    pub(super) fn write(&self, record: &Record) {
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(mut writer) = writer.as_ref()
            && let Err(error) = writer.write_all(record.line().as_bytes())
        {
            tracing::debug!(%error, "could not write to the guard");
        }
    }

    /// Closes the pipe, which ends the guard.
    pub(super) fn close(&self) {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}
