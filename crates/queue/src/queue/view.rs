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
use crate::queue::slice::SLICE_MARGIN;
use crate::queue::slice::whole_characters;

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
        self.view_with(record, output, since).await
    }

    /// Views of jobs with the tails of their outputs, at most `most` bytes each: records and tails are read in one round
    /// trip each, whatever the number of jobs.
    pub(crate) async fn views(&self, ids: &[JobId], most: usize) -> Result<Vec<Option<JobView>>, QueueError> {
        let records = self.records(ids).await?;
        let tail = |record: &Record| record.job.output_bytes.saturating_sub(most as u64);
        let mut pipeline = redis::pipe();
        for record in records.iter().flatten() {
            let from = tail(record).saturating_sub(SLICE_MARGIN);
            let to = record.job.output_bytes.saturating_sub(1);
            pipeline.cmd("GETRANGE").arg(self.keys.output(record.job.id)).arg(from).arg(to);
        }
        let mut outputs =
            if pipeline.is_empty() { None } else { Some(self.link.ask_all(ASKED, &pipeline).await?) };
        let mut views = Vec::with_capacity(ids.len());
        for record in records {
            let (Some(record), Some(outputs)) = (record, &mut outputs) else {
                views.push(None);
                continue;
            };
            let bytes = outputs.item()?.bytes()?.unwrap_or_default();
            let (total, offset) = (record.job.output_bytes, tail(&record));
            let output = if total == 0 {
                OutputSlice::default()
            } else {
                whole_characters(&bytes, offset.saturating_sub(SLICE_MARGIN), offset, most, total)
            };
            views.push(Some(self.view_with(record, output, None).await?));
        }
        Ok(views)
    }

    /// A view of a record with a slice of its output, and what the job waits for in its state.
    async fn view_with(
        &self,
        record: Record,
        output: OutputSlice,
        since: Option<u64>,
    ) -> Result<JobView, QueueError> {
        let id = record.job.id;
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
        let truncated = record.job.output_bytes >= self.settings().output_cap;
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
