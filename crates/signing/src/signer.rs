//! Signing: the envelope of a job that is about to be stored.

use std::sync::Arc;
use std::time::Duration;

use crate::envelope::Envelope;
use crate::envelope::JobTerms;
use crate::envelope::Link;
use crate::envelope::PURPOSE;
use crate::envelope::Statement;
use crate::key::SigningKey;

/// How long after its delay a job may begin an attempt: a week in a queue is a queue that no one serves, and workers
/// remember each job for as long.
pub const LIFETIME: Duration = Duration::from_secs(7 * 24 * 3600);

/// Signs the jobs of one dispatcher. Cheap to clone.
#[derive(Debug, Clone)]
pub struct JobSigner {
    key: Arc<SigningKey>,
    above: Option<Arc<Envelope>>,
}

impl JobSigner {
    /// The signer of a session's root.
    pub fn of_root(key: Arc<SigningKey>) -> Self {
        Self { key, above: None }
    }

    /// The signer of a job, on the worker that runs it and has accepted its envelope.
    pub fn below(key: Arc<SigningKey>, above: Arc<Envelope>) -> Self {
        Self { key, above: Some(above) }
    }

    /// The key that it signs with.
    pub fn key(&self) -> &SigningKey {
        &self.key
    }

    /// The depth of the jobs that it signs.
    pub fn depth(&self) -> u8 {
        self.above.as_ref().map_or(0, |above| u8::try_from(above.links().len()).unwrap_or(u8::MAX))
    }

    /// The envelope of a job, as it is stored. `now_ms` is the signer's time since 1970.
    ///
    /// # Errors
    ///
    /// [`serde_json::Error`] where the terms have no JSON.
    pub fn sign(&self, job: JobTerms, delay: Duration, now_ms: u64) -> Result<String, serde_json::Error> {
        let delay_ms = millis(delay);
        let statement = Statement {
            key: self.key.id().clone(),
            above: self.above.as_ref().and_then(|above| above.own()).map(Link::digest),
            job,
            delay_ms,
            created_ms: now_ms,
            expires_ms: now_ms.saturating_add(delay_ms).saturating_add(millis(LIFETIME)),
        };
        let signed = serde_json::to_vec(&statement)?;
        let signature = self.key.sign(PURPOSE, &signed);
        Ok(Envelope::below(self.above.as_deref(), Link::new(statement, signed, signature)).text())
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
