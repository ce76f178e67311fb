//! A job as it was asked for, to ask the same again.

use std::time::Duration;

use legwork_common::id::JobId;
use legwork_common::job::DEFAULT_RETRY_DELAY;
use legwork_common::job::JobOptions;
use legwork_common::job::JobSpec;
use legwork_common::job::Priority;
use legwork_common::lifecycle::State;

use crate::answer::Answer;
use crate::answer::next;
use crate::error::QueueError;
use crate::port::Original;
use crate::port::Work as _;
use crate::queue::Queue;

const STEP: &str = "read what was asked";

impl Queue {
    /// Reads what was asked, where it ran, and its team.
    pub(super) async fn read_original(&self, id: JobId) -> Result<Option<Original>, QueueError> {
        let mut pipeline = redis::pipe();
        pipeline.cmd("HMGET").arg(self.keys.job(id)).arg(&[
            "state",
            "session",
            "queue",
            "priority",
            "timeout",
            "retries",
            "failures",
            "retry_delay",
        ]);
        pipeline.cmd("GET").arg(self.keys.spec(id));
        let mut answers = self.read(&pipeline).await?.into_iter();
        let mut fields = next(STEP, &mut answers)?.list()?.into_iter();
        let spec = next(STEP, &mut answers)?.bytes()?;
        let mut field = || next(STEP, &mut fields);
        let status: Option<State> = field()?.parse_optional()?;
        let (Some(status), Some(spec)) = (status, spec) else { return Ok(None) };
        let session = field()?.parse()?;
        let queue = field()?.text()?;
        let priority = priority(field()?)?;
        let timeout: Option<u64> = field()?.parse_optional()?;
        let left: Option<u32> = field()?.parse_optional()?;
        let failures: Option<u32> = field()?.parse_optional()?;
        let retry_delay: Option<u64> = field()?.parse_optional()?;
        let spec: JobSpec = serde_json::from_slice(&spec)
            .map_err(|error| QueueError::Unexpected { step: STEP, detail: error.to_string() })?;
        let team_json = self.team(session, &spec.team).await?;
        let job_options = JobOptions {
            queue,
            priority,
            delay: Duration::ZERO,
            timeout: timeout.map(Duration::from_millis),
            // What was used up is granted again.
            retries: left.unwrap_or(0).saturating_add(failures.unwrap_or(0)),
            retry_delay: retry_delay.map_or(DEFAULT_RETRY_DELAY, Duration::from_millis),
            budget: spec.budget,
        };
        Ok(Some(Original { status, session, spec, job_options, team_json }))
    }
}

/// The priority from its number in a record, the place in [`Priority::ALL`].
fn priority(answer: Answer) -> Result<Priority, QueueError> {
    let number: usize = answer.parse()?;
    Priority::ALL
        .get(number)
        .copied()
        .ok_or_else(|| QueueError::Unexpected { step: STEP, detail: format!("priority {number}") })
}
