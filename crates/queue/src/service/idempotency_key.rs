//! Hashes that make a repeat of a request find the first one's job or message.

use legwork_common::id::RequestId;
use legwork_common::job::JobOptions;
use legwork_common::service::CallIndex;
use legwork_common::service::RunRequest;
use legwork_common::webhook::WebhookUrl;
use sha2::Digest as _;
use sha2::Sha256;

use crate::port::DispatchedBy;
use crate::port::IdempotencyKey;
use crate::service::Caller;

/// The idempotency key of a request: the key that it names, or its place in its dispatcher's turns. `None` for one that
/// has neither, of which each repeat is another job.
pub(super) fn key_of(
    caller: &Caller,
    request: &RunRequest,
    job_options: &JobOptions,
) -> Option<IdempotencyKey> {
    let (key, in_namespace) = match (&request.key, recorded_place(caller, request.call)) {
        (Some(key), _) if caller.keys_in_namespace => (digest(&["namespace", key]), true),
        (Some(key), _) => (digest(&["session", &caller.session.to_string(), key]), false),
        (None, Some(call)) => (call_digest(caller, call), false),
        (None, None) => return None,
    };
    Some(IdempotencyKey { key, request: request_digest(caller, request, job_options), in_namespace })
}

/// The key of a message: its place in its sender's turns, or a random one that only repeats of the same call share.
pub(super) fn message_key(caller: &Caller, call: Option<CallIndex>) -> String {
    match recorded_place(caller, call) {
        Some(call) => call_digest(caller, call),
        None => digest(&["send", &RequestId::random().to_string()]),
    }
}

/// The place of a call in its caller's recorded turns, by which the next attempt's repeat of it is recognized. `None`
/// for a root: it is not resumed after a crash, and its calls are counted from the first again with every prompt, so
/// the second prompt's first call would be taken for the first prompt's.
pub(super) fn recorded_place(caller: &Caller, call: Option<CallIndex>) -> Option<CallIndex> {
    match caller.by {
        DispatchedBy::Root => None,
        DispatchedBy::Job { .. } => call,
    }
}

/// The hash of a call's place in its dispatcher's turns.
fn call_digest(caller: &Caller, call: CallIndex) -> String {
    let scope = caller.dispatcher().uuid().to_string();
    digest(&["call", &scope, &call.turn.to_string(), &call.index.to_string()])
}

/// The hash of all that two requests under one key must have in common: all but the retry delay, which does not change
/// what the job does.
fn request_digest(caller: &Caller, request: &RunRequest, job_options: &JobOptions) -> String {
    let JobOptions { queue, priority, delay, timeout, retries, retry_delay: _, budget, notify } = job_options;
    let budget = budget.map(|limit| limit.to_string());
    let (delay, retries) = (delay.as_millis().to_string(), retries.to_string());
    let timeout = timeout.map(|timeout| timeout.as_millis().to_string()).unwrap_or_default();
    let mut parts: Vec<&str> = vec![
        &request.agent,
        &request.task,
        // So that no expected output differs from an empty one.
        request.expected_output.as_deref().unwrap_or("\0"),
        &caller.team.0,
        queue,
        priority.as_str(),
        &delay,
        &timeout,
        &retries,
    ];
    parts.extend(budget.as_deref());
    parts.extend(notify.as_ref().map(WebhookUrl::as_str));
    digest(&parts)
}

/// SHA-256 over parts, each after its length, in hexadecimal.
fn digest(parts: &[&str]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part.as_bytes());
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_tell_parts_apart() {
        assert_ne!(digest(&["ab", "c"]), digest(&["a", "bc"]));
        assert_eq!(digest(&["a"]).len(), 64);
    }
}
