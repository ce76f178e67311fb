//! Which envelopes a worker trusts: the trust file, and the decision, which is pure.
//!
//! ```yaml
//! keys:
//!   ci-2026:
//!     key: ed25519:…
//!     queues: [code]
//!     agents: [reviewer]
//!     toolsets: [filesystem]
//!     commands: []
//!   worker-1: {key: ed25519:…, worker: true}
//!   ops: {key: ed25519:…, person: true}
//! signed: [answers, messages, results]
//! ```

mod refusal;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::time::Duration;

use serde::Deserialize;
use thiserror::Error;

pub use self::refusal::Refusal;
use crate::envelope::Envelope;
use crate::envelope::Link;
use crate::envelope::PURPOSE;
use crate::envelope::SignedJob;
use crate::key::KeyId;
use crate::key::PublicKey;
use crate::key::SigningKey;
use crate::people::Words;

/// How far the clocks of a dispatcher and of a worker may be apart. Clocks that are kept in time differ by less than a
/// second; a machine that lost its time server for a month, by less than this.
const MAX_CLOCK_DIFFERENCE: Duration = Duration::from_secs(5 * 60);

/// What jobs of a key may use; `None` for everything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Grant {
    /// The queues that they may run in.
    pub queues: Option<BTreeSet<String>>,
    /// The agents that they may run, and hand over to.
    pub agents: Option<BTreeSet<String>>,
    /// The toolsets of these agents, by their `type`.
    pub toolsets: Option<BTreeSet<String>>,
    /// The programs that are agents or MCP servers, as the agent file spells them.
    pub commands: Option<BTreeSet<String>>,
}

/// A key as the trust file has it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct TrustedKey {
    key: PublicKey,
    /// Whether it is a worker's: it signs jobs of jobs, and a dispatcher's key those of a root.
    #[serde(default)]
    worker: bool,
    /// Whether it is a person's, whose answers and messages count.
    #[serde(default)]
    person: bool,
    queues: Option<BTreeSet<String>>,
    agents: Option<BTreeSet<String>>,
    toolsets: Option<BTreeSet<String>>,
    commands: Option<BTreeSet<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct TrustFile {
    keys: BTreeMap<KeyId, TrustedKey>,
    /// What must be signed apart from jobs and their turns.
    #[serde(default)]
    signed: BTreeSet<Words>,
}

/// Why a trust file cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TrustError {
    /// It is not a trust file.
    #[error("{0}")]
    Invalid(String),
    /// It names no key, so that no job would ever run.
    #[error("it names no key")]
    Empty,
}

/// The keys that are trusted.
#[derive(Debug, Clone, Default)]
pub struct Trust {
    keys: BTreeMap<KeyId, TrustedKey>,
    signed: BTreeSet<Words>,
}

/// An envelope that was accepted.
#[derive(Debug, Clone)]
pub struct Accepted {
    /// The envelope, below which jobs of the job are signed.
    pub envelope: Envelope,
    /// What each key of the chain may use, with its name. The job may use what all of them may.
    pub grants: Vec<(KeyId, Grant)>,
    /// When no attempt may begin any more, in milliseconds since 1970: what a worker remembers of the job until then.
    pub expires_ms: u64,
}

impl Trust {
    /// Reads a trust file, as YAML or JSON.
    ///
    /// # Errors
    ///
    /// [`TrustError`].
    pub fn parse(text: &str) -> Result<Self, TrustError> {
        let file: TrustFile = serde_saphyr::from_str(text).map_err(|error| {
            TrustError::Invalid(error.to_string().lines().next().unwrap_or_default().to_owned())
        })?;
        if file.keys.is_empty() {
            return Err(TrustError::Empty);
        }
        Ok(Self { keys: file.keys, signed: file.signed })
    }

    /// The same, which trusts a dispatcher's own key too, unless the file says something about it.
    #[must_use]
    pub fn with_own(mut self, key: &SigningKey) -> Self {
        let own = TrustedKey {
            key: key.public(),
            worker: false,
            person: false,
            queues: None,
            agents: None,
            toolsets: None,
            commands: None,
        };
        self.keys.entry(key.id().clone()).or_insert(own);
        self
    }

    /// Whether a worker's key has this name and is this one.
    pub fn has_worker(&self, key: &SigningKey) -> bool {
        self.keys.get(key.id()).is_some_and(|trusted| trusted.worker && trusted.key == key.public())
    }

    /// Whether these must be signed.
    pub(crate) fn asks_for(&self, words: Words) -> bool {
        self.signed.contains(&words)
    }

    /// The public key of a person, or of a worker where those count too.
    pub(crate) fn speaker(&self, key: &KeyId, or_worker: bool) -> Option<&PublicKey> {
        let trusted = self.keys.get(key)?;
        (trusted.person || (or_worker && trusted.worker)).then_some(&trusted.key)
    }

    /// The public key of a worker.
    ///
    /// # Errors
    ///
    /// [`Refusal`] for a key that is not trusted, or is a dispatcher's.
    pub(crate) fn worker(&self, key: &KeyId) -> Result<&PublicKey, Refusal> {
        match self.keys.get(key) {
            None => Err(Refusal::UnknownKey { key: key.clone() }),
            Some(TrustedKey { worker: false, .. }) => {
                Err(Refusal::WrongKind { key: key.clone(), is_worker: false })
            }
            Some(trusted) => Ok(&trusted.key),
        }
    }

    /// Decides about a job that is about to run. `now_ms` is this machine's time since 1970. What is left to the caller:
    /// whether the grants cover its agent, and whether it was run before.
    ///
    /// # Errors
    ///
    /// [`Refusal`] for the first reason against it.
    pub fn accept(&self, job: Option<&SignedJob>, now_ms: u64) -> Result<Accepted, Refusal> {
        let accepted = self.recognize(job)?;
        let own = accepted.envelope.own().ok_or(Refusal::Unsigned)?;
        let (statement, slack) =
            (&own.statement, u64::try_from(MAX_CLOCK_DIFFERENCE.as_millis()).unwrap_or(0));
        if statement.expires_ms <= now_ms {
            return Err(Refusal::Expired { by_ms: now_ms - statement.expires_ms });
        }
        let begins_ms = statement.created_ms.saturating_add(statement.delay_ms);
        if begins_ms > now_ms.saturating_add(slack) {
            return Err(Refusal::TooEarly { by_ms: begins_ms - now_ms });
        }
        Ok(accepted)
    }

    /// Decides the same about a job that is over, whatever the time: whether it was signed as it is stored.
    ///
    /// # Errors
    ///
    /// [`Refusal`] for the first reason against it.
    pub fn recognize(&self, job: Option<&SignedJob>) -> Result<Accepted, Refusal> {
        let job = job.ok_or(Refusal::Unsigned)?;
        let envelope = Envelope::parse(&job.envelope)?;
        let mut grants = Vec::with_capacity(envelope.links().len());
        let mut above = None;
        for link in envelope.links() {
            let trusted = self.verified(link)?;
            check_place(link, above, trusted.worker)?;
            grants.push((link.statement.key.clone(), trusted.grant()));
            above = Some(link);
        }
        let own = above.ok_or(Refusal::Unsigned)?;
        if let Some(term) = own.statement.job.difference(&job.terms) {
            return Err(Refusal::Altered { term });
        }
        for (key, grant) in &grants {
            if grant.queues.as_ref().is_some_and(|queues| !queues.contains(&job.terms.queue)) {
                return Err(Refusal::Queue { key: key.clone(), queue: job.terms.queue.clone() });
            }
        }
        let expires_ms = own.statement.expires_ms;
        Ok(Accepted { envelope, grants, expires_ms })
    }

    /// The key of a link, which signed it.
    fn verified(&self, link: &Link) -> Result<&TrustedKey, Refusal> {
        let key = &link.statement.key;
        let trusted = self.keys.get(key).ok_or_else(|| Refusal::UnknownKey { key: key.clone() })?;
        if trusted.key.verifies(PURPOSE, &link.signed, &link.signature) {
            Ok(trusted)
        } else {
            Err(Refusal::Forged { key: key.clone() })
        }
    }
}

impl TrustedKey {
    fn grant(&self) -> Grant {
        let Self { queues, agents, toolsets, commands, .. } = self.clone();
        Grant { queues, agents, toolsets, commands }
    }
}

/// Whether a link belongs below the one above it, or is a root's, and was signed by a key of the right kind.
fn check_place(link: &Link, above: Option<&Link>, is_worker: bool) -> Result<(), Refusal> {
    let (own, key) = (&link.statement.job, &link.statement.key);
    if is_worker != above.is_some() {
        return Err(Refusal::WrongKind { key: key.clone(), is_worker });
    }
    let fits = match above {
        None => link.statement.above.is_none() && own.parent.is_none() && own.depth == 0,
        Some(above) => {
            let upper = &above.statement.job;
            link.statement.above == Some(above.digest())
                && own.parent == Some(upper.job)
                && own.depth == upper.depth.saturating_add(1)
                && (&own.namespace, own.session, &own.team) == (&upper.namespace, upper.session, &upper.team)
        }
    };
    if fits { Ok(()) } else { Err(Refusal::Chain) }
}
