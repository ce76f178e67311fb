//! Why the embedded server does not serve.

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

/// Why the embedded server does not serve.
#[derive(Debug, Error)]
pub enum EmbeddedError {
    /// No server of version 7.0 or newer is on this machine.
    #[error("no Redis or Valkey server, version 7.0 or newer, was found{}", List(.rejected))]
    NoServer {
        /// What was found and cannot serve.
        rejected: Vec<Rejected>,
        /// The one command that installs a server here.
        install: String,
    },
    /// A file or folder could not be used.
    #[error("cannot {action} {}: {source}", .path.display())]
    Folder {
        /// What was tried.
        action: &'static str,
        /// Where.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A folder belongs to somebody else, who could read and change every job in it.
    #[error("folder {} belongs to another user", .path.display())]
    NotOurs {
        /// The folder.
        path: PathBuf,
    },
    /// The folder was written by a release that keeps it in another way, or its record is damaged.
    #[error("{} cannot be read: {detail}", .path.display())]
    Format {
        /// The record.
        path: PathBuf,
        /// What is wrong with it.
        detail: String,
    },
    /// Neither folder has a path short enough for a socket.
    #[error("socket path {} is longer than {limit} bytes", .path.display())]
    SocketPath {
        /// The shorter of both paths.
        path: PathBuf,
        /// What the system takes.
        limit: usize,
    },
    /// The server ended while it started.
    #[error("server {} ended while it started ({status}); its log {} ends with: {last}", .server.display(), .log.display())]
    Ended {
        /// The server's program.
        server: PathBuf,
        /// How it ended.
        status: ProcessStatus,
        /// Its log.
        log: PathBuf,
        /// The last line of the log.
        last: String,
    },
    /// A server holds the folder and does not answer.
    #[error("the server of {} did not answer within {} s; its log is {}", .folder.display(), .waited.as_secs(), .log.display())]
    Silent {
        /// The state folder.
        folder: PathBuf,
        /// For how long nothing was heard.
        waited: Duration,
        /// Its log.
        log: PathBuf,
    },
    /// The server does not end.
    #[error("the server of {} did not end within {} s; its log is {}", .folder.display(), .waited.as_secs(), .log.display())]
    Stuck {
        /// The state folder.
        folder: PathBuf,
        /// For how long was waited.
        waited: Duration,
        /// Its log.
        log: PathBuf,
    },
    /// Another command starts or ends in the same folder and does not come to an end.
    #[error("another command of yours keeps {} locked", .path.display())]
    Busy {
        /// The lock.
        path: PathBuf,
    },
    /// Other commands use the server.
    #[error("other commands use the server of {}", .folder.display())]
    InUse {
        /// The state folder.
        folder: PathBuf,
    },
    /// The server's address cannot be used.
    #[error("the server's address cannot be used: {0}")]
    Address(#[source] QueueError),
}

impl EmbeddedError {
    /// For `map_err` after an operation on a file.
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
                return Some(format!("`{install}`, or name a Redis of yours with --redis URL"));
            }
            Self::Folder { .. } | Self::NotOurs { .. } => {
                "the state folder must be a local folder of your own"
            }
            Self::Format { .. } => {
                "a newer release may have written it: use that one, or `legwork local reset` to begin anew"
            }
            Self::SocketPath { .. } => "use a state folder with a shorter path",
            Self::Ended { .. } => "the log says why; the data are kept",
            Self::Silent { .. } | Self::Stuck { .. } => {
                "the log says why; `legwork local status` names the server's process"
            }
            Self::Busy { .. } => "try again, or end the command that hangs",
            Self::InUse { .. } => "end them first, or use --force",
            Self::Address(_) => return None,
        };
        Some(hint.to_owned())
    }
}

/// What was found and refused, as the end of a sentence.
struct List<'a>(&'a [Rejected]);

impl fmt::Display for List<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, rejected) in self.0.iter().enumerate() {
            write!(f, "{}{rejected}", if index == 0 { ": " } else { ", " })?;
        }
        Ok(())
    }
}
