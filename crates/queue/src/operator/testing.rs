//! A job for tests of this module.

use jiff::Timestamp;
use legwork_common::id::JobId;
use legwork_common::id::SessionId;
use legwork_common::job::Job;
use legwork_common::job::Usage;
use legwork_common::lifecycle::State;

/// A queued job of a new session.
pub(super) fn job() -> Job {
    let session = SessionId::random();
    Job {
        id: JobId::random_in(session),
        session,
        parent: None,
        depth: 0,
        queue: "default".to_owned(),
        agent: "worker".to_owned(),
        task: "go".to_owned(),
        status: State::Queued,
        cause: None,
        error: None,
        attempt: 0,
        worker: None,
        key: None,
        retry_of: None,
        created_at: Timestamp::UNIX_EPOCH,
        started_at: None,
        finished_at: None,
        runtime_ms: 0,
        output_bytes: 0,
        result: None,
        usage: Usage::default(),
    }
}
