//! The signatures of what is said to a job that runs: answers of people to its questions, and messages.
//!
//! ```text
//! answer  = {"verdict":…,"seal":"<key>~<signature of job, place of the call, question and answer>"}
//! message = its text, and next to it <key>~<signature of job and text>
//! ```
//!
//! An approval is for one call with its arguments: with another question, job or place it is not accepted. Who signs is trusted
//! with people's words by `person: true` in the trust file; agents' messages are signed by their workers.

use legwork_common::id::JobId;
use serde::Deserialize;
use serde_json::json;

use crate::key::SigningKey;
use crate::seal;
use crate::trust::Refusal;
use crate::trust::Trust;

/// What signatures of answers are for.
const ANSWER: &str = "legwork answer 1";
/// What signatures of messages are for.
const MESSAGE: &str = "legwork message 1";

/// What a trust file asks to be signed apart from jobs and their turns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Words {
    /// Answers of people.
    Answers,
    /// Messages to jobs.
    Messages,
    /// What models read of other jobs: results and errors.
    Results,
}

/// An answer and what it is for, each as text that both sides make in the same way.
#[derive(Debug, Clone, Copy)]
pub struct AnswerTerms<'a> {
    /// The job that asks.
    pub job: JobId,
    /// The place of the call in its turns.
    pub place: &'a str,
    /// What is asked.
    pub question: &'a str,
    /// The answer.
    pub answer: &'a str,
}

impl AnswerTerms<'_> {
    fn signed(&self) -> String {
        json!([self.job.to_string(), self.place, self.question, self.answer]).to_string()
    }
}

impl SigningKey {
    /// The seal of an answer.
    pub fn seal_answer(&self, terms: &AnswerTerms<'_>) -> String {
        self.seal(ANSWER, terms.signed().as_bytes())
    }

    /// The seal of a message to a job.
    pub fn seal_message(&self, job: JobId, text: &str) -> String {
        self.seal(MESSAGE, message(job, text).as_bytes())
    }
}

impl Trust {
    /// Checks the seal of an answer, where the trust file asks for it.
    ///
    /// # Errors
    ///
    /// [`Refusal::Unsealed`].
    pub fn check_answer(&self, terms: &AnswerTerms<'_>, seal: Option<&str>) -> Result<(), Refusal> {
        let is_sealed = || self.is_sealed(ANSWER, &terms.signed(), seal, false);
        if !self.asks_for(Words::Answers) || is_sealed() {
            return Ok(());
        }
        Err(Refusal::Unsealed { what: "answer" })
    }

    /// Checks the seal of a message to a job, where the trust file asks for it.
    ///
    /// # Errors
    ///
    /// [`Refusal::Unsealed`].
    pub fn check_message(&self, job: JobId, text: &str, seal: Option<&str>) -> Result<(), Refusal> {
        let is_sealed = || self.is_sealed(MESSAGE, &message(job, text), seal, true);
        if !self.asks_for(Words::Messages) || is_sealed() {
            return Ok(());
        }
        Err(Refusal::Unsealed { what: "message" })
    }

    /// Whether a seal is that of a person's key, or of a worker's where those count too.
    fn is_sealed(&self, purpose: &str, signed: &str, seal: Option<&str>, by_workers: bool) -> bool {
        let Some((key, signature)) = seal.and_then(seal::parse) else { return false };
        let key = self.speaker(&key, by_workers);
        key.is_some_and(|key| key.verifies(purpose, signed.as_bytes(), &signature))
    }
}

fn message(job: JobId, text: &str) -> String {
    json!([job.to_string(), text]).to_string()
}

#[cfg(test)]
mod tests {
    use legwork_common::id::SessionId;

    use super::*;

    #[test]
    fn answers_and_messages_are_those_of_people_to_one_job() {
        let [ops, ci, worker, stranger] = ["ops", "ci", "worker-1", "ops"]
            .map(|id| SigningKey::generate(Some(id.parse().unwrap())).unwrap());
        let keys = format!(
            "keys:\n  ops: {{key: '{}', person: true}}\n  ci: {{key: '{}'}}\n  worker-1: {{key: '{}', worker: true}}\n",
            ops.public(),
            ci.public(),
            worker.public()
        );
        let lax = Trust::parse(&keys).unwrap();
        let trust = Trust::parse(&format!("signed: [answers, messages]\n{keys}")).unwrap();
        let session = SessionId::random();
        let (job, other) = (JobId::random_in(session), JobId::random_in(session));
        let terms = AnswerTerms { job, place: "2.0", question: "rm x", answer: "approved" };
        let seal = ops.seal_answer(&terms);
        assert_eq!(trust.check_answer(&terms, Some(&seal)), Ok(()));
        let refused = |terms: &AnswerTerms<'_>, seal: Option<&str>| {
            assert_eq!(
                trust.check_answer(terms, seal),
                Err(Refusal::Unsealed { what: "answer" }),
                "{terms:?}"
            );
            assert_eq!(lax.check_answer(terms, seal), Ok(()), "a file that does not ask for it");
        };
        for altered in [
            AnswerTerms { job: other, ..terms },
            AnswerTerms { place: "3.0", ..terms },
            AnswerTerms { question: "rm y", ..terms },
            AnswerTerms { answer: "denied", ..terms },
        ] {
            refused(&altered, Some(&seal));
        }
        refused(&terms, None);
        for odd in ["", "ops", "ops~", "ops~AAAA"] {
            refused(&terms, Some(odd));
        }
        for wrong in [&ci, &worker, &stranger] {
            refused(&terms, Some(&wrong.seal_answer(&terms)));
        }
        // A message is not an answer, and agents send messages too.
        refused(&terms, Some(&ops.seal_message(job, "approved")));
        for sender in [&ops, &worker] {
            let seal = sender.seal_message(job, "stop");
            assert_eq!(trust.check_message(job, "stop", Some(&seal)), Ok(()));
            let unsealed = Err(Refusal::Unsealed { what: "message" });
            assert_eq!(trust.check_message(other, "stop", Some(&seal)), unsealed);
            assert_eq!(trust.check_message(job, "go", Some(&seal)), unsealed);
        }
        assert!(trust.check_message(job, "stop", Some(&ci.seal_message(job, "stop"))).is_err());
        assert!(trust.check_message(job, "stop", None).is_err());
        assert_eq!(lax.check_message(job, "stop", None), Ok(()));
    }
}
