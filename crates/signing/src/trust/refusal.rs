//! Why a worker does not run a job, in the words that its dispatcher reads.

use legwork_common::id::JobId;
use thiserror::Error;

use crate::envelope::EnvelopeError;
use crate::key::KeyId;

/// Why a job is not trusted.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Refusal {
    /// It has no envelope.
    #[error("the job is not signed, and this worker runs signed jobs only (--trust)")]
    Unsigned,
    /// Its envelope cannot be read.
    #[error(transparent)]
    Unreadable(#[from] EnvelopeError),
    /// A key of its chain is not in the trust file.
    #[error("the job is signed with the key `{key}`, which is not trusted here")]
    UnknownKey {
        /// The id that the envelope names.
        key: KeyId,
    },
    /// A signature is not that of its key.
    #[error("the signature of the job is not that of the key `{key}`")]
    Forged {
        /// The id that the envelope names.
        key: KeyId,
    },
    /// A worker's key signed a job of a root, or a dispatcher's key a job of a job.
    #[error("the key `{key}` is {}", wrong_kind(*.is_worker))]
    WrongKind {
        /// The key.
        key: KeyId,
        /// Whether it is a worker's.
        is_worker: bool,
    },
    /// A link does not belong below the one above it.
    #[error("the job was not signed below the job that it names as its parent")]
    Chain,
    /// A stored term is not the signed one.
    #[error("the job was altered after it was signed: its {term} differs")]
    Altered {
        /// Which one.
        term: &'static str,
    },
    /// Its time is over.
    #[error("the signature of the job expired {} ago", seconds(*.by_ms))]
    Expired {
        /// For how long, in milliseconds.
        by_ms: u64,
    },
    /// It begins before its delay is over.
    #[error("the job was signed to begin in {}", seconds(*.by_ms))]
    TooEarly {
        /// How much too early, in milliseconds.
        by_ms: u64,
    },
    /// A key of its chain may not use its queue.
    #[error("the key `{key}` may not sign jobs of the queue {queue}")]
    Queue {
        /// The key.
        key: KeyId,
        /// The job's queue.
        queue: String,
    },
    /// It was put on the lane of another queue than its own.
    #[error("the job was signed for the queue {queue}, which this worker does not serve")]
    NotServed {
        /// The job's queue.
        queue: String,
    },
    /// A key of its chain may not use what its agent has.
    #[error("the key `{key}` may not sign jobs with {what}")]
    NotGranted {
        /// The key.
        key: KeyId,
        /// What: `the toolset shell`.
        what: String,
    },
    /// A key of its chain may not use everything, and the signature of a retry would not say so.
    #[error("a retry would sign the job without the limits of the key `{key}`: dispatch it again")]
    Limited {
        /// The key.
        key: KeyId,
    },
    /// An entry of its turns is not as a trusted worker recorded it: it was altered, moved or added.
    #[error("entry {number} of the recorded turns is not as a trusted worker recorded it")]
    Turn {
        /// Which entry, from 1.
        number: u64,
    },
    /// Its turns are fewer than they were: the last ones were removed, or Redis lost them.
    #[error(
        "its turns end with entry {found}, and {noted} were recorded on this machine: the last ones were removed, or Redis lost \
         them; `legwork retry --fresh` begins it anew"
    )]
    CutOff {
        /// How many entries there are.
        found: u64,
        /// How many there were.
        noted: u64,
    },
    /// An answer or a message is not signed as the trust file asks for.
    #[error("the {what} is not signed by a key that this worker trusts with people's words (--trust)")]
    Unsealed {
        /// `answer` or `message`.
        what: &'static str,
    },
    /// The end of a job is not as a trusted worker wrote it: its text, state or cause was altered, or it has no seal.
    #[error("the end of the job is not as a trusted worker signed it (--trust)")]
    Result,
    /// This attempt, or a later one, was begun here before, or the job ended here.
    #[error("the job {job} is a replay: {detail}")]
    Replayed {
        /// The job.
        job: JobId,
        /// What is known of it.
        detail: String,
    },
}

fn wrong_kind(is_worker: bool) -> &'static str {
    if is_worker {
        "a worker's: it signs jobs of jobs only"
    } else {
        "a dispatcher's: only a worker's key signs jobs of jobs"
    }
}

fn seconds(ms: u64) -> String {
    format!("{} s", ms.div_ceil(1000))
}
