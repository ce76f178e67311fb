//! The key of a dispatcher: it signs what is dispatched through an operator's handle.

use std::sync::Arc;

use legwork_signing::Grant;
use legwork_signing::JobSigner;
use legwork_signing::Refusal;
use legwork_signing::SigningKey;
use legwork_signing::Trust;

use crate::operator::Operator;
use crate::port::Original;

/// A dispatcher's key, and whose jobs it may sign again.
#[derive(Debug, Clone)]
pub struct DispatcherKey {
    key: Arc<SigningKey>,
    trust: Arc<Trust>,
}

impl DispatcherKey {
    /// A key that signs its own jobs again, and those of the keys that `trust` has.
    pub fn new(key: SigningKey, trust: Trust) -> Self {
        let trust = Arc::new(trust.with_own(&key));
        Self { key: Arc::new(key), trust }
    }
}

impl Operator {
    /// The same handle, whose jobs are signed with this key.
    #[must_use]
    pub fn with_key(self, key: Option<DispatcherKey>) -> Self {
        Self { key, ..self }
    }

    /// The same handle without a key: for jobs whose request was read from Redis, where others may have written it.
    pub(super) fn unsigned(&self) -> Self {
        self.clone().with_key(None)
    }

    /// The key of the person or program that uses this handle.
    pub(super) fn signing_key(&self) -> Option<&SigningKey> {
        self.key.as_ref().map(|own| &*own.key)
    }

    pub(super) fn signer(&self) -> Option<JobSigner> {
        self.key.as_ref().map(|own| JobSigner::of_root(Arc::clone(&own.key)))
    }

    /// Whether a stored job may be dispatched again with the signature of this handle: its request comes from Redis, and
    /// signed again it would be trusted whatever was made of it there. The grants of the keys that signed it do not go with the
    /// new signature, so a job of a key that may not run everything is not dispatched again.
    pub(super) fn check_original(&self, original: &Original) -> Result<(), Refusal> {
        let Some(own) = &self.key else { return Ok(()) };
        let accepted = own.trust.recognize(original.signed.as_ref())?;
        let limited =
            |grant: &Grant| grant.agents.is_some() || grant.toolsets.is_some() || grant.commands.is_some();
        match accepted.grants.into_iter().find(|(_, grant)| limited(grant)) {
            Some((key, _)) => Err(Refusal::Limited { key }),
            None => Ok(()),
        }
    }
}
