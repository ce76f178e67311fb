//! A job and a worker for tests of this module.

use std::time::Duration;

use jiff::Timestamp;
use legwork_common::id::JobId;
use legwork_common::id::SessionId;
use legwork_common::id::WorkerId;
use legwork_common::job::Job;

use crate::port::WorkerRecord;
use crate::port::WorkerReport;

/// A queued job of a new session.
pub(super) fn job() -> Job {
    let session = SessionId::random();
    Job {
        agent: "worker".to_owned(),
        task: "go".to_owned(),
        ..Job::queued(JobId::random_in(session), session)
    }
}

/// A worker of this id that serves no lane.
pub(super) fn worker(id: &str) -> WorkerRecord {
    WorkerRecord {
        id: WorkerId::from_stored(id.to_owned()),
        host: "host".to_owned(),
        process: None,
        lanes: Vec::new(),
        slots: 1,
        used: 0,
        jobs: 0,
        unreadable: None,
        seen: Timestamp::UNIX_EPOCH,
        draining: false,
        began: None,
        age: Duration::ZERO,
        report: WorkerReport::default(),
    }
}
