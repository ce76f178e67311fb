//! The signatures of what came out of a job: its result or its error, which models of other jobs read.
//!
//! ```text
//! seal of an end = <key>~<signature of job, session, state, cause and the digest of the text>
//! ```
//!
//! The worker that ends a job seals its end, and only workers' keys count. What no worker wrote has no seal: a stop, and the end
//! of a job whose worker was lost.

use legwork_common::id::JobId;
use legwork_common::id::SessionId;
use legwork_common::job::Cause;
use legwork_common::lifecycle::State;
use serde_json::json;

use crate::envelope::digest;
use crate::key::SigningKey;
use crate::people::Words;
use crate::seal;
use crate::trust::Refusal;
use crate::trust::Trust;

/// What signatures of ends are for.
const PURPOSE: &str = "legwork result 1";

/// The end of a job.
#[derive(Debug, Clone, Copy)]
pub struct ResultTerms<'a> {
    /// The job.
    pub job: JobId,
    /// Its session: a reader in another one does not accept it.
    pub session: SessionId,
    /// `completed` or `failed`.
    pub state: State,
    /// Why it failed.
    pub cause: Option<Cause>,
    /// The result or the error, as it is stored; empty where there is none.
    pub text: &'a str,
}

impl ResultTerms<'_> {
    fn signed(&self) -> String {
        let cause = self.cause.map(Cause::as_str);
        let text = digest(self.text);
        json!([self.job.to_string(), self.session.to_string(), self.state.as_str(), cause, text]).to_string()
    }
}

impl SigningKey {
    /// The seal of a job's end.
    pub fn seal_result(&self, terms: &ResultTerms<'_>) -> String {
        self.seal(PURPOSE, terms.signed().as_bytes())
    }
}

impl Trust {
    /// Whether models of this worker's jobs read only what trusted workers sealed of other jobs.
    pub fn asks_for_results(&self) -> bool {
        self.asks_for(Words::Results)
    }

    /// Checks the seal of a job's end, whatever the trust file asks for.
    ///
    /// # Errors
    ///
    /// [`Refusal::Result`], [`Refusal::UnknownKey`] or [`Refusal::WrongKind`].
    pub fn check_result(&self, terms: &ResultTerms<'_>, seal: Option<&str>) -> Result<(), Refusal> {
        let (key, signature) = seal.and_then(seal::parse).ok_or(Refusal::Result)?;
        if self.worker(&key)?.verifies(PURPOSE, terms.signed().as_bytes(), &signature) {
            Ok(())
        } else {
            Err(Refusal::Result)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(id: &str) -> SigningKey {
        SigningKey::generate(Some(id.parse().unwrap())).unwrap()
    }

    /// The keys of a worker, a dispatcher and a person, and the lines of a trust file that has them.
    fn keys() -> ([SigningKey; 3], String) {
        let [worker, ci, ops] = ["worker-1", "ci", "ops"].map(key);
        let lines = format!(
            "keys:\n  worker-1: {{key: '{}', worker: true}}\n  ci: {{key: '{}'}}\n  ops: {{key: '{}', person: true}}\n",
            worker.public(),
            ci.public(),
            ops.public()
        );
        ([worker, ci, ops], lines)
    }

    /// The failed end of a job.
    fn failed() -> ResultTerms<'static> {
        let session = SessionId::random();
        ResultTerms {
            job: JobId::random_in(session),
            session,
            state: State::Failed,
            cause: Some(Cause::ProviderError),
            text: "no answer",
        }
    }

    #[test]
    fn results_are_asked_for_by_their_word() {
        let (_, lines) = keys();
        for (words, asks) in [("", false), ("signed: [messages]\n", false), ("signed: [results]\n", true)] {
            assert_eq!(Trust::parse(&format!("{words}{lines}")).unwrap().asks_for_results(), asks, "{words}");
        }
    }

    #[test]
    fn an_end_is_that_of_one_job_as_it_was_signed() {
        let ([worker, ..], lines) = keys();
        let (trust, failed) = (Trust::parse(&lines).unwrap(), failed());
        let completed = ResultTerms { state: State::Completed, cause: None, text: "42", ..failed };
        let empty = ResultTerms { text: "", ..completed };
        for terms in [failed, completed, empty] {
            assert_eq!(trust.check_result(&terms, Some(&worker.seal_result(&terms))), Ok(()), "{terms:?}");
        }
        let seal = worker.seal_result(&failed);
        for altered in [
            ResultTerms { text: "no answer ", ..failed },
            ResultTerms { text: "", ..failed },
            ResultTerms { state: State::Completed, ..failed },
            ResultTerms { state: State::Completed, cause: None, ..failed },
            ResultTerms { cause: Some(Cause::AgentError), ..failed },
            ResultTerms { cause: None, ..failed },
            ResultTerms { job: JobId::random_in(failed.session), ..failed },
            ResultTerms { session: SessionId::random(), ..failed },
        ] {
            assert_eq!(trust.check_result(&altered, Some(&seal)), Err(Refusal::Result), "{altered:?}");
        }
    }

    #[test]
    fn an_end_is_signed_by_a_worker() {
        let ([worker, ci, ops], lines) = keys();
        let (trust, failed) = (Trust::parse(&lines).unwrap(), failed());
        let (stranger, old) = (key("worker-1"), key("worker-0"));
        let seal = worker.seal_result(&failed);
        let renamed = seal.replace("worker-1~", "ci~");
        let of_wrong_kind = |id: &str| Err(Refusal::WrongKind { key: id.parse().unwrap(), is_worker: false });
        for (seal, expected) in [
            (None, Err(Refusal::Result)),
            (Some(String::new()), Err(Refusal::Result)),
            (Some("worker-1".to_owned()), Err(Refusal::Result)),
            (Some("worker-1~".to_owned()), Err(Refusal::Result)),
            (Some("worker-1~AAAA".to_owned()), Err(Refusal::Result)),
            (Some("worker-1~no base64!".to_owned()), Err(Refusal::Result)),
            (Some(format!("{seal}A")), Err(Refusal::Result)),
            (Some(renamed), of_wrong_kind("ci")),
            (Some(ci.seal_result(&failed)), of_wrong_kind("ci")),
            (Some(ops.seal_result(&failed)), of_wrong_kind("ops")),
            (Some(stranger.seal_result(&failed)), Err(Refusal::Result)),
            (Some(old.seal_result(&failed)), Err(Refusal::UnknownKey { key: "worker-0".parse().unwrap() })),
            // What a worker signed of a message proves no result.
            (Some(worker.seal_message(failed.job, "no answer")), Err(Refusal::Result)),
        ] {
            assert_eq!(trust.check_result(&failed, seal.as_deref()), expected, "{seal:?}");
        }
    }
}
