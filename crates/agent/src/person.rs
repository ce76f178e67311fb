//! The port of a person who answers a run's questions: whether a call may be made, and what an agent wants to know.

use std::fmt::Debug;

use async_trait::async_trait;
use legwork_common::question::Answer;
use legwork_common::question::Question;
use legwork_common::service::CallIndex;
use legwork_common::service::ServiceError;

/// A person, at this terminal or anywhere later.
#[async_trait]
pub trait Person: Debug + Send + Sync {
    /// Whether an answer may come after this process is gone. A run then records that it asked, and what was decided, so
    /// that the next attempt neither repeats an approved call nor takes one that was never made for interrupted.
    fn is_durable(&self) -> bool;

    /// Asks, and waits for the answer. `call` names the question: asking it again, in another attempt too, finds the same
    /// question and its answer.
    ///
    /// A future that is dropped decides nothing.
    ///
    /// # Errors
    ///
    /// [`ServiceError`] when the run's attempt is over or being stopped, or the question cannot be stored.
    async fn ask(&self, call: CallIndex, question: &Question) -> Result<Answer, ServiceError>;
}

/// The sentence for a question that no one can answer here.
pub(crate) const NO_ONE: &str = "No one can answer here.";
