//! Signed jobs: the keys, the envelope that a dispatcher signs, and the decision of a worker whether it trusts one.
//!
//! Nothing here reads a file, a clock or Redis. `docs/adr/0012-signed-jobs.md` says why it is as it is.

pub mod envelope;
pub mod field;
pub mod key;
pub mod people;
pub mod results;
mod seal;
pub mod signer;
pub mod trust;
pub mod turns;

pub use envelope::Envelope;
pub use envelope::EnvelopeError;
pub use envelope::JobTerms;
pub use envelope::SignedJob;
pub use key::KeyError;
pub use key::KeyId;
pub use key::PublicKey;
pub use key::SigningKey;
pub use people::AnswerTerms;
pub use results::ResultTerms;
pub use signer::JobSigner;
pub use trust::Accepted;
pub use trust::Grant;
pub use trust::Refusal;
pub use trust::Trust;
pub use trust::TrustError;
pub use turns::TurnSigner;
pub use turns::TurnVerifier;
