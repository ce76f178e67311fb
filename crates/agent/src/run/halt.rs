//! Why a run ends before its agent is done.

use legwork_common::error::chain;
use legwork_common::job::Cause;
use legwork_common::service::ServiceError;

use crate::journal::JournalError;

/// The end of a run other than completion. Steps pass it up with `?`, so nothing is recorded after it.
#[derive(Debug)]
pub(super) enum Halt {
    /// The run was cancelled.
    Stopped,
    /// The lease is lost: another attempt may be running, so not even a failure may be recorded.
    Lost,
    /// The run cannot continue.
    Failed { cause: Cause, message: String },
}

impl From<JournalError> for Halt {
    fn from(error: JournalError) -> Self {
        match error {
            JournalError::Lost => Self::Lost,
            JournalError::Refused(_) => Self::Failed { cause: Cause::AgentError, message: chain(&error) },
        }
    }
}

/// Ends the run where the answer is that the lease is lost; all other errors are for the caller to handle.
pub(super) fn halt_if_lease_lost<T>(
    answer: Result<T, ServiceError>,
) -> Result<Result<T, ServiceError>, Halt> {
    match answer {
        Err(ServiceError::LeaseLost) => Err(Halt::Lost),
        other => Ok(other),
    }
}
