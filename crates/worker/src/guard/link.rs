//! The program's end of the connection to its guard, and the address at which commands announce themselves.
//!
//! Both are sockets, because a pipe can be opened again through `/proc/PID/fd` by any process that may look there, and
//! a socket cannot: what only the program may say comes over a pair of sockets that have no name. What a command says about
//! itself comes over a socket that has one, and the system tells the guard who speaks.

use std::io;
use std::io::Write as _;
#[cfg(target_os = "linux")]
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::SocketAddr;
use std::os::unix::net::UnixListener;
use std::os::unix::net::UnixStream;
use std::sync::Mutex;
use std::sync::PoisonError;

use super::process_groups::Record;

/// The program's end, and the name of the guard's socket.
#[derive(Debug)]
pub(super) struct GuardLink {
    // A std mutex: held for one write that never blocks. Empty once the guard is to end.
    writer: Mutex<Option<UnixStream>>,
    /// The abstract name of the socket at which commands announce themselves. Not a secret.
    pub(super) name: String,
}

/// What a guard is given when it starts.
#[derive(Debug)]
pub(super) struct GuardEnds {
    /// The other end of the program's connection.
    pub(super) reader: UnixStream,
    /// Where commands announce themselves.
    pub(super) listener: UnixListener,
}

impl GuardLink {
    /// # Errors
    ///
    /// The system's.
    pub(super) fn new() -> io::Result<(Self, GuardEnds)> {
        let (writer, reader) = UnixStream::pair()?;
        // A guard that is stopped must not block the program.
        writer.set_nonblocking(true)?;
        let name = format!("legwork-guard-{:032x}", rand::random::<u128>());
        let listener = UnixListener::bind_addr(&address(&name)?)?;
        Ok((Self { writer: Mutex::new(Some(writer)), name }, GuardEnds { reader, listener }))
    }

    /// Writes the record, or not: a lost deadline is followed by that of the next renewal, and the guard recognizes a
    /// group whose end was lost by its leader. A record is one short write, which a socket takes whole or not at all.
    pub(super) fn write(&self, record: &Record) {
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(mut writer) = writer.as_ref()
            && let Err(error) = writer.write_all(record.line().as_bytes())
        {
            tracing::debug!(%error, "could not write to the guard");
        }
    }

    /// Closes the connection, which ends the guard.
    pub(super) fn close(&self) {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

/// Connects to the guard that listens under this name.
///
/// # Errors
///
/// The system's, where no guard does.
pub(super) fn connect(name: &str) -> io::Result<UnixStream> {
    UnixStream::connect_addr(&address(name)?)
}

/// An address that is in no file system.
fn address(name: &str) -> io::Result<SocketAddr> {
    #[cfg(target_os = "linux")]
    return SocketAddr::from_abstract_name(name);
    #[cfg(not(target_os = "linux"))]
    SocketAddr::from_pathname(std::path::Path::new("/tmp").join(name))
}
