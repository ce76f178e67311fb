//! The signatures of turns: each entry that a worker records is signed together with all entries before it.
//!
//! ```text
//! digest of an entry = SHA-256(digest of the entry before it, entry)      the first one's: SHA-256(job)
//! entry as stored    = {…,"seal":"<key>~<signature of the digest>"}
//! ```
//!
//! An entry that was altered, moved, left out or taken from another job gives another digest, and so do all behind it.
//! Entries that are missing at the end are not noticed by that: their calls may be made again. A worker notes how many there were.

use std::sync::Arc;

use legwork_common::id::JobId;
use sha2::Digest as _;
use sha2::Sha256;

use crate::field;
use crate::key::SigningKey;
use crate::seal;
use crate::trust::Refusal;
use crate::trust::Trust;

/// What signatures of entries are for.
const PURPOSE: &str = "legwork turn 1";
const FIELD: &str = "seal";

/// The digest of the entries of one job so far.
#[derive(Debug, Clone)]
struct Chain([u8; 32]);

impl Chain {
    fn of(job: JobId) -> Self {
        Self(Sha256::digest(job.to_string()).into())
    }

    fn add(&mut self, entry: &str) {
        let mut hash = Sha256::new();
        hash.update(self.0);
        hash.update(entry);
        self.0 = hash.finalize().into();
    }
}

/// Signs the entries of one job, in their order.
#[derive(Debug, Clone)]
pub struct TurnSigner {
    key: Arc<SigningKey>,
    chain: Chain,
}

impl TurnSigner {
    /// An entry as it is stored, with its signature.
    pub fn sign(&mut self, entry: &str) -> String {
        self.chain.add(entry);
        field::append(entry, FIELD, &self.key.seal(PURPOSE, &self.chain.0))
    }
}

/// Verifies the stored entries of one job, from the first on.
#[derive(Debug, Clone)]
pub struct TurnVerifier {
    trust: Arc<Trust>,
    chain: Chain,
    verified: u64,
}

impl TurnVerifier {
    /// Of the entries of this job, by the workers' keys of a trust file.
    pub fn new(trust: Arc<Trust>, job: JobId) -> Self {
        Self { trust, chain: Chain::of(job), verified: 0 }
    }

    /// The next entry without its signature.
    ///
    /// # Errors
    ///
    /// [`Refusal::Turn`] or [`Refusal::UnknownKey`] for one that no trusted worker recorded in this place.
    pub fn open(&mut self, stored: &str) -> Result<String, Refusal> {
        self.verified += 1;
        let forged = || Refusal::Turn { number: self.verified };
        let (entry, seal) = field::split(stored, FIELD).ok_or_else(forged)?;
        let (key, signature) = seal::parse(seal).ok_or_else(forged)?;
        self.chain.add(&entry);
        if self.trust.worker(&key)?.verifies(PURPOSE, &self.chain.0, &signature) {
            Ok(entry)
        } else {
            Err(Refusal::Turn { number: self.verified })
        }
    }

    /// How many entries it has opened, or tried to.
    pub fn verified(&self) -> u64 {
        self.verified
    }

    /// Signs the entries after those that were verified.
    pub fn into_signer(self, key: Arc<SigningKey>) -> TurnSigner {
        TurnSigner { key, chain: self.chain }
    }
}

#[cfg(test)]
mod tests {
    use legwork_common::id::SessionId;

    use super::*;

    fn key(id: &str) -> Arc<SigningKey> {
        Arc::new(SigningKey::generate(Some(id.parse().unwrap())).unwrap())
    }

    /// What the verifier of a job makes of stored entries: how many it opens, and the error after them.
    fn opened(trust: &Arc<Trust>, job: JobId, stored: &[&String]) -> (usize, Option<Refusal>) {
        let mut verifier = TurnVerifier::new(Arc::clone(trust), job);
        let mut count = 0;
        for entry in stored {
            match verifier.open(entry) {
                Ok(_) => count += 1,
                Err(refusal) => return (count, Some(refusal)),
            }
        }
        (count, None)
    }

    #[test]
    fn entries_are_accepted_in_their_order_and_place_only() {
        let (first, second, ci) = (key("worker-1"), key("worker-2"), key("ci"));
        let file = format!(
            "keys:\n  worker-1: {{key: '{}', worker: true}}\n  worker-2: {{key: '{}', worker: true}}\n  ci: {{key: '{}'}}\n",
            first.public(),
            second.public(),
            ci.public()
        );
        let trust = Arc::new(Trust::parse(&file).unwrap());
        let session = SessionId::random();
        let (job, other) = (JobId::random_in(session), JobId::random_in(session));
        let signer = |key: &Arc<SigningKey>, job| {
            TurnVerifier::new(Arc::clone(&trust), job).into_signer(Arc::clone(key))
        };
        let entries =
            [r#"{"entry":"reply","turn":1}"#, r#"{"entry":"result","turn":1}"#, r#"{"v":2,"entry":"asked"}"#];
        let mut signing = signer(&first, job);
        let [a, b] = [0, 1].map(|at| signing.sign(entries[at]));
        // Another worker continues after what it verified.
        let mut verifier = TurnVerifier::new(Arc::clone(&trust), job);
        assert_eq!(
            (verifier.open(&a).as_deref(), verifier.open(&b).as_deref()),
            (Ok(entries[0]), Ok(entries[1]))
        );
        let c = verifier.into_signer(Arc::clone(&second)).sign(entries[2]);
        assert_eq!(opened(&trust, job, &[&a, &b, &c]), (3, None));
        assert_eq!(opened(&trust, job, &[&a, &b]), (2, None), "what is missing at the end is not noticed");

        let turn = |number| Some(Refusal::Turn { number });
        let altered = b.replace("result", "reply");
        let bare = entries[1].to_owned();
        let of_other = signer(&first, other).sign(entries[0]);
        let of_ci = signer(&ci, job).sign(entries[0]);
        let renamed = a.replace("worker-1~", "worker-2~");
        let stranger = signer(&key("old"), job).sign(entries[0]);
        for (stored, expected) in [
            (vec![&a, &altered, &c], (1, turn(2))),
            (vec![&a, &bare, &c], (1, turn(2))),
            (vec![&a, &c], (1, turn(2))),
            (vec![&b], (0, turn(1))),
            (vec![&a, &a], (1, turn(2))),
            (vec![&of_other], (0, turn(1))),
            (vec![&renamed], (0, turn(1))),
            (vec![&of_ci], (0, Some(Refusal::WrongKind { key: "ci".parse().unwrap(), is_worker: false }))),
            (vec![&stranger], (0, Some(Refusal::UnknownKey { key: "old".parse().unwrap() }))),
        ] {
            assert_eq!(opened(&trust, job, &stored), expected, "{stored:?}");
        }
    }
}
