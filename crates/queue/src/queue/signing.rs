//! What of a job is signed when it is stored, and what of a stored job is compared with that.

use jiff::Timestamp;
use legwork_common::id::JobId;
use legwork_signing::JobTerms;
use legwork_signing::SignedJob;
use legwork_signing::envelope::digest;

use crate::error::QueueError;
use crate::port::DispatchedBy;
use crate::port::Enqueue;
use crate::port::NewJob;
use crate::stored::facts::Facts;
use crate::stored::request;

/// A job's request as it is stored: with an envelope where its dispatcher signs. Signed here, because only now the job has
/// its final id: an idempotency key may name another than its dispatcher chose.
pub(super) fn stored_request(
    enqueue: &Enqueue,
    job: &NewJob,
    id: JobId,
    namespace: &str,
) -> Result<String, QueueError> {
    let unexpected =
        |error: serde_json::Error| QueueError::Unexpected { step: "enqueue", detail: error.to_string() };
    let request = request::encode(&job.spec).map_err(unexpected)?;
    let Some(signer) = &enqueue.signer else { return Ok(request) };
    let options = &job.job_options;
    let terms = JobTerms {
        namespace: namespace.to_owned(),
        session: enqueue.session,
        job: id,
        parent: match enqueue.by {
            DispatchedBy::Root => None,
            DispatchedBy::Job { id, .. } => Some(id),
        },
        depth: signer.depth(),
        request: digest(&request),
        team: enqueue.team.clone(),
        queue: options.queue.clone(),
        priority: options.priority.level(),
        timeout_ms: timeout_ms(options.timeout),
        retries: options.retries,
    };
    let now = u64::try_from(Timestamp::now().as_millisecond()).unwrap_or(0);
    let envelope = signer.sign(terms, options.delay, now).map_err(unexpected)?;
    Ok(request::with_envelope(&request, &envelope))
}

/// A timeout as it is stored and signed: one below a millisecond counts as one.
pub(super) fn timeout_ms(timeout: Option<std::time::Duration>) -> Option<u64> {
    timeout.map(|timeout| u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX).max(1))
}

/// What of a stored job is verified; `None` where it has no envelope.
pub(super) fn signed_job(id: JobId, facts: &Facts, request: &str, namespace: &str) -> Option<SignedJob> {
    let (request, envelope) = request::split_envelope(request)?;
    let terms = JobTerms {
        namespace: namespace.to_owned(),
        session: facts.session,
        job: id,
        parent: facts.parent,
        depth: u8::try_from(facts.ancestors.len()).unwrap_or(u8::MAX),
        request: digest(&request),
        team: facts.team.clone(),
        queue: facts.queue.clone(),
        priority: facts.priority,
        timeout_ms: timeout_ms(facts.timeout),
        retries: facts.retries,
    };
    Some(SignedJob { envelope: envelope.to_owned(), terms })
}
