//! Errors of the embedded server.

use std::fmt;
use std::io;
use std::path::Path;
use std::path::PathBuf;
use std::process::ExitStatus as ProcessStatus;
use std::time::Duration;

use legwork_common::error::Coded;
use legwork_common::error::ExitStatus;
use thiserror::Error;

use crate::embedded::find::Rejected;
use crate::error::QueueError;

/// Why the embedded server cannot be used.
#[derive(Debug, Error)]
pub enum EmbeddedError {
    /// No server of version 7.0 or newer is on this machine.
    #[error("no Redis or Valkey server, version 7.0 or newer, was found{}", List(.rejected))]
    NoServer {
        /// What was found and cannot serve.
        rejected: Vec<Rejected>,
        /// The command that installs a server on this system.
        install: String,
    },
    /// A file or folder could not be used.
    #[error("cannot {action} {}: {source}", .path.display())]
    Folder {
        /// What was tried, as a verb.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The error that the system reported.
        source: io::Error,
    },
    /// A folder belongs to another user, who could read and change every job in it.
    #[error("folder {} belongs to another user", .path.display())]
    NotOurs {
        /// The folder that belongs to another user.
        path: PathBuf,
    },
    /// Other users may write to a folder: what is in it may be theirs, such as the program that is started, or links.
    #[error("folder {} can be written by other users", .path.display())]
    Writable {
        /// The folder.
        path: PathBuf,
    },
    /// The folder has the format of another release, or its record is damaged.
    #[error("{} cannot be read: {detail}", .path.display())]
    Format {
        /// The folder's record, `server.json`.
        path: PathBuf,
        /// What is wrong with it.
        detail: String,
    },
    /// Neither folder has a path that is short enough for a socket.
    #[error("socket path {} is longer than {limit} bytes", .path.display())]
    SocketPath {
        /// The shorter of the two paths.
        path: PathBuf,
        /// The longest path that the system allows, in bytes.
        limit: usize,
    },
    /// The server ended while it started.
    #[error("server {} ended while it started ({status}); its log {} ends with: {last}", .server.display(), .log.display())]
    Ended {
        /// The program that was started.
        server: PathBuf,
        /// How its process ended.
        status: ProcessStatus,
        /// The server's log, which has the reason.
        log: PathBuf,
        /// The last line of the log.
        last: String,
    },
    /// A server runs and does not answer.
    #[error("the server of {} did not answer within {} s; its log is {}", .folder.display(), .waited.as_secs(), .log.display())]
    Silent {
        /// The state folder that the server serves.
        folder: PathBuf,
        /// For how long it gave no answer.
        waited: Duration,
        /// The server's log, which has the reason.
        log: PathBuf,
    },
    /// The server was told to end and still runs.
    #[error("the server of {} did not end within {} s; its log is {}", .folder.display(), .waited.as_secs(), .log.display())]
    Stuck {
        /// The state folder that the server serves.
        folder: PathBuf,
        /// For how long it was waited for.
        waited: Duration,
        /// The server's log, which has the reason.
        log: PathBuf,
    },
    /// Another command joins or leaves the server of the same folder, and does not complete.
    #[error("another command of yours keeps {} locked", .path.display())]
    Busy {
        /// The lock that the other command holds.
        path: PathBuf,
    },
    /// The server has other users.
    #[error("other commands use the server of {}", .folder.display())]
    InUse {
        /// The state folder that the server serves.
        folder: PathBuf,
    },
    /// The server's address cannot be used.
    #[error("the server's address cannot be used: {0}")]
    Address(#[source] QueueError),
}

impl EmbeddedError {
    /// The error of an operation on a file or folder, for `map_err`.
    pub(super) fn folder(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Folder { action, path, source }
    }
}

impl Coded for EmbeddedError {
    fn code(&self) -> &'static str {
        match self {
            Self::NoServer { .. } => "embedded_no_server",
            Self::Folder { .. } => "embedded_folder",
            Self::NotOurs { .. } => "embedded_not_ours",
            Self::Writable { .. } => "embedded_writable",
            Self::Format { .. } => "embedded_format",
            Self::SocketPath { .. } => "embedded_socket_path",
            Self::Ended { .. } => "embedded_ended",
            Self::Silent { .. } => "embedded_silent",
            Self::Stuck { .. } => "embedded_stuck",
            Self::Busy { .. } => "embedded_busy",
            Self::InUse { .. } => "embedded_in_use",
            Self::Address(_) => "embedded_address",
        }
    }

    fn exit(&self) -> ExitStatus {
        ExitStatus::Redis
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::NoServer { install, .. } => {
                return Some(format!("run `{install}`, or name your own Redis with --redis URL"));
            }
            Self::Folder { .. } | Self::NotOurs { .. } => {
                "the state folder must be a local folder of your own; --state-dir names another"
            }
            Self::Writable { .. } => {
                "if all that is in it is yours, close it with `chmod go-w`; else use another --state-dir"
            }
            Self::Format { .. } => {
                "a newer release may have written it: use that one, or start over with `legwork local reset`"
            }
            Self::SocketPath { .. } => "use a state folder with a shorter path; --state-dir names it",
            Self::Ended { .. } => "see the log for the reason; the data are kept",
            Self::Silent { .. } | Self::Stuck { .. } => {
                "see the log for the reason; `legwork local status` names the server's process"
            }
            Self::Busy { .. } => "try again, or end the command that hangs",
            Self::InUse { .. } => "end them first, or use --force",
            Self::Address(_) => return None,
        };
        Some(hint.to_owned())
    }
}

/// The programs that were rejected, as the end of a sentence.
struct List<'a>(&'a [Rejected]);

impl fmt::Display for List<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, rejected) in self.0.iter().enumerate() {
            write!(f, "{}{rejected}", if index == 0 { ": " } else { ", " })?;
        }
        Ok(())
    }
}
