//! A job for tests of this module.

use legwork_common::id::JobId;
use legwork_common::id::SessionId;
use legwork_common::job::Job;

/// A queued job of a new session.
pub(super) fn job() -> Job {
    let session = SessionId::random();
    Job {
        agent: "worker".to_owned(),
        task: "go".to_owned(),
        ..Job::queued(JobId::random_in(session), session)
    }
}
