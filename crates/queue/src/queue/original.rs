//! A job as it was dispatched, for dispatching the same again.

use std::time::Duration;

use legwork_common::id::JobId;
use legwork_common::job::JobOptions;
use legwork_common::job::JobSpec;
use legwork_common::job::Priority;
use legwork_common::lifecycle::State;

use crate::error::QueueError;
use crate::port::Original;
use crate::port::Work as _;
use crate::queue::Queue;
use crate::queue::signing::signed_job;
use crate::stored::facts;
use crate::stored::facts::Facts;
use crate::stored::request;

/// What these reads are called in messages.
const ASKED: &str = "read the original";
impl Queue {
    /// Reads a job's spec, its job_options and its team.
    pub(super) async fn read_original(&self, id: JobId) -> Result<Option<Original>, QueueError> {
        let mut pipeline = redis::pipe();
        pipeline.cmd("HGET").arg(self.keys.job(id)).arg("state");
        pipeline.cmd("GET").arg(self.keys.spec(id));
        let mut answers = self.link.ask_all(ASKED, &pipeline).await?;
        let state: Option<State> = answers.item()?.parse_optional()?;
        let text = answers.item()?.text()?;
        if text.is_empty() {
            return Ok(None);
        }
        let (facts, request) = facts::split(&text)?;
        let spec = request::decode(request, &facts.team)?;
        let signed = signed_job(id, &facts, request, self.keys.namespace());
        let (status, session) = (state.unwrap_or(facts.first_state), facts.session);
        let job_options = job_options(&facts, &spec)?;
        let team_json = self.team(session, &spec.team).await?;
        Ok(Some(Original { status, session, spec, job_options, team_json, signed }))
    }
}

fn job_options(facts: &Facts, spec: &JobSpec) -> Result<JobOptions, QueueError> {
    Ok(JobOptions {
        queue: facts.queue.clone(),
        priority: read_priority(facts.priority)?,
        delay: Duration::ZERO,
        timeout: facts.timeout,
        retries: facts.retries,
        retry_delay: facts.retry_delay,
        budget: spec.budget,
        notify: spec.notify.clone(),
    })
}

/// The priority of a level.
fn read_priority(level: u8) -> Result<Priority, QueueError> {
    let unknown = || QueueError::Unexpected { step: ASKED, detail: format!("`{level}` as priority") };
    Priority::at_level(level).ok_or_else(unknown)
}
