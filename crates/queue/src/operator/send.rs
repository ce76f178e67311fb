//! Messages into running jobs.

use legwork_common::error::Coded;
use legwork_common::error::ExitStatus;
use legwork_common::id::JobId;
use legwork_common::id::RequestId;
use legwork_common::service::ServiceError;
use thiserror::Error;

use crate::error::QueueError;
use crate::operator::Operator;
use crate::port::Dispatch as _;
use crate::port::SendOutcome;

/// Why a message was not delivered.
#[derive(Debug, Error)]
pub enum SendError {
    /// The job is not stored, or has ended or is being stopped.
    #[error(transparent)]
    Refused(ServiceError),
    /// Redis could not be asked. The message may be stored.
    #[error(transparent)]
    Queue(#[from] QueueError),
}

impl Coded for SendError {
    fn code(&self) -> &'static str {
        match self {
            Self::Refused(error) => error.code(),
            Self::Queue(error) => error.code(),
        }
    }

    fn exit(&self) -> ExitStatus {
        match self {
            Self::Refused(error) => error.exit(),
            Self::Queue(error) => error.exit(),
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Refused(error) => error.hint(),
            Self::Queue(error) => error.hint(),
        }
    }
}

impl Operator {
    /// Puts a message before a job's next model call, the first one included. It is durable when this answers, and survives crashes of
    /// the job. If the answer is lost, a repeat may deliver the message twice: nothing tells two equal messages of a
    /// person apart.
    ///
    /// # Errors
    ///
    /// [`SendError`] when the job takes no messages, or when Redis cannot be reached.
    pub async fn send(&self, id: JobId, message: &str) -> Result<(), SendError> {
        let request = RequestId::random().to_string();
        let keep = self.queue().settings().retention;
        match self.queue().send(id, message, &request, keep).await? {
            SendOutcome::Sent => Ok(()),
            SendOutcome::NotRunning(status) => {
                Err(SendError::Refused(ServiceError::NotRunning { id, status }))
            }
            SendOutcome::NotFound => Err(SendError::Refused(ServiceError::NotFound(id.to_string()))),
        }
    }
}
