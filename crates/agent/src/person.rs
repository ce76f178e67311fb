//! The port of a person who answers a run's questions: whether a call may be made, and what an agent wants to know.

use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;
use legwork_common::question::Answer;
use legwork_common::question::Question;
use legwork_common::secrets::Secrets;
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

/// A person who is asked without secrets: a question is stored, and shown on other machines.
#[derive(Debug)]
pub(crate) struct RedactingPerson {
    pub(crate) inner: Arc<dyn Person>,
    pub(crate) secrets: Arc<Secrets>,
}

#[async_trait]
impl Person for RedactingPerson {
    fn is_durable(&self) -> bool {
        self.inner.is_durable()
    }

    async fn ask(&self, call: CallIndex, question: &Question) -> Result<Answer, ServiceError> {
        self.inner.ask(call, &without_secrets(question, &self.secrets)).await
    }
}

fn without_secrets(question: &Question, secrets: &Secrets) -> Question {
    let clean = |text: &str| secrets.redacted(text).into_owned();
    match question {
        Question::Approval { tool, arguments, why } => {
            Question::Approval { tool: clean(tool), arguments: clean(arguments), why: clean(why) }
        }
        Question::Prompt { message, title, schema } => {
            let mut schema = schema.clone();
            if let Some(schema) = &mut schema {
                secrets.redact_json(schema);
            }
            Question::Prompt { message: clean(message), title: title.as_deref().map(clean), schema }
        }
    }
}
