//! Messages into running jobs.

use legwork_common::id::JobId;
use legwork_common::id::RequestId;
use legwork_common::service::ServiceError;

use crate::operator::Operator;

impl Operator {
    /// Puts a message before a job's next model call, the first one included. It is durable when this answers, and survives
    /// crashes of the job. If the answer is lost, a repeat may deliver the message twice: nothing tells two equal messages
    /// of a person apart.
    ///
    /// # Errors
    ///
    /// [`ServiceError`] when the job takes no messages, or when Redis cannot be reached.
    pub async fn send(&self, id: JobId, message: &str) -> Result<(), ServiceError> {
        let seal = self.signing_key().map(|key| key.seal_message(id, message));
        self.observer().send(id, message, &RequestId::random().to_string(), seal.as_deref()).await
    }
}
