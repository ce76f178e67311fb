//! The attempts of a job that ended before the job did, in the field `past` of its record: one JSON object a line.

use jiff::Timestamp;
use legwork_common::id::WorkerId;
use legwork_common::job::AttemptEnd;
use legwork_common::job::PastAttempt;
use serde::Deserialize;

/// An attempt as `attempts.lua` writes it: numbers of milliseconds are texts.
#[derive(Debug, Deserialize)]
struct StoredAttempt {
    attempt: u32,
    worker: String,
    started: String,
    ran: String,
    end: AttemptEnd,
    detail: String,
}

/// Reads the attempts of a record. One that this release cannot read is left out: the others still tell the story.
pub(crate) fn decode(lines: &str) -> Vec<PastAttempt> {
    let read = |line| -> Option<PastAttempt> {
        let stored: StoredAttempt = serde_json::from_str(line).ok()?;
        let started = stored.started.parse().ok().and_then(|ms| Timestamp::from_millisecond(ms).ok());
        Some(PastAttempt {
            attempt: stored.attempt,
            worker: Some(stored.worker).filter(|name| !name.is_empty()).map(WorkerId::from_stored),
            started_at: started,
            runtime_ms: stored.ran.parse().unwrap_or(0),
            end: stored.end,
            detail: Some(stored.detail).filter(|detail| !detail.is_empty()),
        })
    };
    lines.lines().filter_map(read).collect()
}
