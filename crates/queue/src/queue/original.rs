//! A job as it was dispatched, for dispatching the same again.

use std::time::Duration;

use legwork_common::id::JobId;
use legwork_common::job::DEFAULT_RETRY_DELAY;
use legwork_common::job::JobOptions;
use legwork_common::job::JobSpec;
use legwork_common::job::Priority;
use legwork_common::lifecycle::State;
use legwork_common::stored;

use crate::answer::Answer;
use crate::error::QueueError;
use crate::port::Original;
use crate::port::Work as _;
use crate::queue::Queue;

/// What these reads are called in messages.
const ASKED: &str = "read the original";
/// The fields of a record that are read, in this order.
const FIELDS: [&str; 8] =
    ["state", "session", "queue", "priority", "timeout", "retries", "failures", "retry_delay"];

impl Queue {
    /// Reads a job's spec, its job_options and its team.
    pub(super) async fn read_original(&self, id: JobId) -> Result<Option<Original>, QueueError> {
        let mut pipeline = redis::pipe();
        pipeline.cmd("HMGET").arg(self.keys.job(id)).arg(&FIELDS);
        pipeline.cmd("GET").arg(self.keys.spec(id));
        let mut answers = self.link.ask_all(ASKED, &pipeline).await?;
        let mut fields = answers.item()?.items()?;
        let status: Option<State> = fields.item()?.parse_optional()?;
        let spec = answers.item()?.optional_text()?;
        let spec: Option<JobSpec> = spec.map(|text| stored::REQUEST.from_json(&text)).transpose()?;
        // The job may be forgotten between the two reads.
        let (Some(status), Some(spec)) = (status, spec) else { return Ok(None) };
        let session = fields.item()?.parse()?;
        let queue = fields.item()?.text()?;
        let priority = read_priority(fields.item()?)?;
        let timeout: Option<u64> = fields.item()?.parse_optional()?;
        let left: Option<u32> = fields.item()?.parse_optional()?;
        let failures: Option<u32> = fields.item()?.parse_optional()?;
        let retry_delay: Option<u64> = fields.item()?.parse_optional()?;
        let team_json = self.team(session, &spec.team).await?;
        let job_options = JobOptions {
            queue,
            priority,
            delay: Duration::ZERO,
            timeout: timeout.map(Duration::from_millis),
            // The retries that were dispatched: those left and those used.
            retries: left.unwrap_or(0).saturating_add(failures.unwrap_or(0)),
            retry_delay: retry_delay.map_or(DEFAULT_RETRY_DELAY, Duration::from_millis),
            budget: spec.budget,
        };
        Ok(Some(Original { status, session, spec, job_options, team_json }))
    }
}

/// The priority of a level in a record.
fn read_priority(answer: Answer) -> Result<Priority, QueueError> {
    let word = answer.word()?;
    Priority::at_level(word.parse()?).ok_or_else(|| word.unknown())
}
