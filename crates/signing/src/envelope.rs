//! The envelope of a job: what its dispatcher signed, and the envelopes of the jobs above it.
//!
//! ```text
//! 1~<link of the root's job>~…~<link of the job>      a link: <statement as JSON, base64url>.<signature, base64url>
//! ```
//!
//! Each link has the digest of the link above it, so that a chain cannot be put together from pieces of others. The
//! characters need no escaping in JSON, and none of them is a quotation mark: the queue finds the end of a request by that.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use legwork_common::id::JobId;
use legwork_common::id::SessionId;
use legwork_common::job::MAX_DEPTH;
use legwork_common::job::TeamDigest;
use serde::Deserialize;
use serde::Serialize;
use sha2::Digest as _;
use sha2::Sha256;
use thiserror::Error;

use crate::key::KeyId;

/// The form of the text, before its links.
const VERSION: &str = "1";
const SEPARATOR: char = '~';
/// What signatures of links are for.
pub(crate) const PURPOSE: &str = "legwork job 1";
/// Bytes of the longest envelope that is read: ten links with the longest names have 15 KiB.
const MAX_BYTES: usize = 32 * 1024;

/// What is signed of a job and stored with it: who verifies it compares the two.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JobTerms {
    /// The namespace that it was dispatched in.
    pub namespace: String,
    /// The session that it belongs to.
    pub session: SessionId,
    /// The job.
    pub job: JobId,
    /// The job that dispatched it; `None` for one of the root.
    pub parent: Option<JobId>,
    /// 0 for a job of the root, one more for each level below it.
    pub depth: u8,
    /// The digest of the request as it is stored, byte for byte: agent, task and all else; see [`digest`].
    pub request: String,
    /// The team that its agent belongs to.
    pub team: TeamDigest,
    /// The queue whose workers may run it.
    pub queue: String,
    /// Its priority, as a level.
    pub priority: u8,
    /// The longest that all its attempts may run, in milliseconds; `None` without a limit.
    pub timeout_ms: Option<u64>,
    /// How often a failure is retried.
    pub retries: u32,
}

impl JobTerms {
    /// The first term that differs, as users read it.
    pub fn difference(&self, other: &Self) -> Option<&'static str> {
        let differences = [
            (self.namespace != other.namespace, "namespace"),
            (self.session != other.session, "session"),
            (self.job != other.job, "id"),
            (self.parent != other.parent, "parent"),
            (self.depth != other.depth, "depth"),
            (self.request != other.request, "request"),
            (self.team != other.team, "team"),
            (self.queue != other.queue, "queue"),
            (self.priority != other.priority, "priority"),
            (self.timeout_ms != other.timeout_ms, "timeout"),
            (self.retries != other.retries, "retries"),
        ];
        differences.into_iter().find_map(|(differs, name)| differs.then_some(name))
    }
}

/// What a link states.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Statement {
    /// The key that signed it.
    pub key: KeyId,
    /// The digest of the link above; `None` for a job of the root.
    pub above: Option<String>,
    /// The job.
    pub job: JobTerms,
    /// How long after `created_ms` the job is to begin, in milliseconds.
    pub delay_ms: u64,
    /// When it was signed, by the signer's clock, in milliseconds since 1970.
    pub created_ms: u64,
    /// When no attempt of it may begin any more.
    pub expires_ms: u64,
}

/// A statement, and its signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    text: String,
    /// What is signed.
    pub statement: Statement,
    pub(crate) signed: Vec<u8>,
    pub(crate) signature: Vec<u8>,
}

impl Link {
    /// A link of what was signed and its signature.
    pub(crate) fn new(statement: Statement, signed: Vec<u8>, signature: Vec<u8>) -> Self {
        let text = format!("{}.{}", URL_SAFE_NO_PAD.encode(&signed), URL_SAFE_NO_PAD.encode(&signature));
        Self { text, statement, signed, signature }
    }

    fn parse(text: &str) -> Result<Self, EnvelopeError> {
        let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| EnvelopeError::Damaged("a link"));
        let (statement, signature) = text.split_once('.').ok_or(EnvelopeError::Damaged("a link"))?;
        let (signed, signature) = (decode(statement)?, decode(signature)?);
        let statement = serde_json::from_slice(&signed).map_err(|_| EnvelopeError::Damaged("a statement"))?;
        Ok(Self { text: text.to_owned(), statement, signed, signature })
    }

    /// What the link below has of this one.
    pub fn digest(&self) -> String {
        digest(&self.text)
    }
}

/// Why a text is not an envelope that this release reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum EnvelopeError {
    /// A later release wrote it.
    #[error("the envelope has a form that this release does not read")]
    Later,
    /// It has more links than jobs may be deep, or too many bytes.
    #[error("the envelope is too long")]
    TooLong,
    /// A part cannot be read.
    #[error("{0} of the envelope cannot be read")]
    Damaged(&'static str),
}

/// The links of a job, that of the root's job first: never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    links: Vec<Link>,
}

impl Envelope {
    /// An envelope below another one, or of a job of the root.
    pub(crate) fn below(above: Option<&Self>, link: Link) -> Self {
        let above = above.map(|above| above.links.as_slice()).unwrap_or_default();
        Self { links: [above, &[link]].concat() }
    }

    /// Reads a stored envelope. What it states is not checked here.
    ///
    /// # Errors
    ///
    /// [`EnvelopeError`].
    pub fn parse(text: &str) -> Result<Self, EnvelopeError> {
        if text.len() > MAX_BYTES {
            return Err(EnvelopeError::TooLong);
        }
        let mut parts = text.split(SEPARATOR);
        if parts.next() != Some(VERSION) {
            return Err(EnvelopeError::Later);
        }
        let links = parts.map(Link::parse).collect::<Result<Vec<_>, _>>()?;
        match links.len() {
            0 => Err(EnvelopeError::Damaged("the first link")),
            count if count > usize::from(MAX_DEPTH) => Err(EnvelopeError::TooLong),
            _ => Ok(Self { links }),
        }
    }

    /// The envelope as it is stored.
    pub fn text(&self) -> String {
        self.links.iter().fold(VERSION.to_owned(), |text, link| text + &SEPARATOR.to_string() + &link.text)
    }

    /// The links, that of the root's job first.
    pub fn links(&self) -> &[Link] {
        &self.links
    }

    /// The job's own link.
    pub fn own(&self) -> Option<&Link> {
        self.links.last()
    }
}

/// A stored job as it is verified: its envelope, and its terms as they were read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedJob {
    /// The text of the envelope.
    pub envelope: String,
    /// What is stored of the job.
    pub terms: JobTerms,
}

/// SHA-256 in hexadecimal.
pub fn digest(text: &str) -> String {
    Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
}
