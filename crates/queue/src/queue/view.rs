//! A view of one job, on Redis: its record with a slice of its output, and why it waits.

use jiff::Timestamp;
use legwork_common::id::JobId;
use legwork_common::lifecycle::State;
use legwork_common::service::JobView;
use legwork_common::service::OutputSlice;
use legwork_common::service::QueuedReason;

use crate::error::QueueError;
use crate::port::Watch as _;
use crate::queue::Queue;
use crate::queue::record::ASKED;
use crate::queue::record::Record;

impl Queue {
    /// Reads what a view of a job needs besides its record: output from `since`, or else the tail, at most `most`
    /// bytes; and what it waits for in its state.
    pub(super) async fn view_record(
        &self,
        record: Record,
        since: Option<u64>,
        most: usize,
    ) -> Result<JobView, QueueError> {
        let id = record.job.id;
        let total = record.job.output_bytes;
        let offset = since.unwrap_or_else(|| total.saturating_sub(most as u64)).min(total);
        let mut output = if total == 0 {
            OutputSlice::default()
        } else {
            let room = usize::try_from(total - offset).unwrap_or(most).min(most);
            self.output(id, offset, room).await?
        };
        // That of the record: output that was appended since then belongs to the next view.
        output.total = total;
        let queued = match record.job.status {
            State::Queued => Some(self.queued_reason(&record).await?),
            _ => None,
        };
        let starts_at = match record.job.status {
            State::Scheduled => self.starts_at(id).await?,
            _ => None,
        };
        let waits_for = match record.job.status {
            State::Running | State::Waiting => self.waits_for(id).await?,
            _ => None,
        };
        let truncated = total >= self.settings().output_cap;
        Ok(JobView { job: record.job, output, truncated, queued, starts_at, waits_for, since })
    }

    /// Why a queued job has not started.
    async fn queued_reason(&self, record: &Record) -> Result<QueuedReason, QueueError> {
        let job = &record.job;
        let mut pipeline = redis::pipe();
        pipeline.cmd("ZRANK").arg(self.keys.backlog(job.session, &job.queue)).arg(job.id.uuid().to_string());
        pipeline.cmd("HGET").arg(self.keys.session(job.session)).arg("cap");
        let mut answers = self.link.ask_all(ASKED, &pipeline).await?;
        let rank: Option<u64> = answers.item()?.parse_optional()?;
        let cap: Option<u64> = answers.item()?.parse_optional()?;
        // A session has a backlog only while as many jobs as its cap are admitted.
        if let Some(rank) = rank {
            return Ok(QueuedReason::Behind(rank + cap.unwrap_or(0)));
        }
        let served = self.workers().await?.iter().any(|worker| worker.lanes.contains(&record.lane));
        Ok(if served || !record.admitted { QueuedReason::Next } else { QueuedReason::NoWorker })
    }

    /// What a running job's attempt waits for, as users read it.
    async fn waits_for(&self, id: JobId) -> Result<Option<String>, QueueError> {
        let answer =
            self.link.ask(ASKED, redis::cmd("HGET").arg(self.keys.fence(id)).arg("waits_for")).await?;
        Ok(answer.optional_text()?.filter(|text| !text.is_empty()))
    }

    /// When a scheduled job is due.
    async fn starts_at(&self, id: JobId) -> Result<Option<Timestamp>, QueueError> {
        let key = self.keys.scheduled(id.shard(self.keys.shards()));
        let due = self.link.ask(ASKED, redis::cmd("ZSCORE").arg(key).arg(id.uuid().to_string())).await?;
        // A score of milliseconds is whole and far below what a double holds exactly.
        Ok(due.parse_optional::<f64>()?.and_then(|due| Timestamp::from_millisecond(due as i64).ok()))
    }
}
