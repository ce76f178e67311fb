//! A view of one job, on Redis: its record with a slice of its output, and why it waits.

use std::collections::BTreeSet;

use jiff::Timestamp;
use legwork_common::id::JobId;
use legwork_common::lifecycle::State;
use legwork_common::service::JobView;
use legwork_common::service::OutputSlice;
use legwork_common::service::QueuedReason;
use redis::Pipeline;

use crate::answer::Items;
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
        let total = record.job.output_bytes;
        let offset = since.unwrap_or_else(|| total.saturating_sub(most as u64)).min(total);
        let slice = Slice { offset, most, since };
        let mut pipeline = redis::pipe();
        self.push_view(&mut pipeline, &record, &slice);
        let mut answers = self.link.ask_all(ASKED, &pipeline).await?;
        self.read_view(record, &slice, &mut answers, &mut None).await
    }

    /// Views of jobs with the tails of their outputs, at most `most` bytes each: two round trips for the records, one for
    /// all else, and one for the fleet where a job is queued, whatever the number of jobs.
    pub(crate) async fn views(&self, ids: &[JobId], most: usize) -> Result<Vec<Option<JobView>>, QueueError> {
        let records = self.records(ids).await?;
        let tail = |record: &Record| {
            let offset = record.job.output_bytes.saturating_sub(most as u64);
            Slice { offset, most, since: None }
        };
        let mut pipeline = redis::pipe();
        for record in records.iter().flatten() {
            self.push_view(&mut pipeline, record, &tail(record));
        }
        let mut answers = self.link.ask_all(ASKED, &pipeline).await?;
        let mut lanes = None;
        let mut views = Vec::with_capacity(ids.len());
        for record in records {
            views.push(match record {
                Some(record) => {
                    let slice = tail(&record);
                    Some(self.read_view(record, &slice, &mut answers, &mut lanes).await?)
                }
                None => None,
            });
        }
        Ok(views)
    }

    /// Adds the reads of a view besides its record: the slice, and what the job waits for in its state.
    fn push_view(&self, pipeline: &mut Pipeline, record: &Record, slice: &Slice) {
        let job = &record.job;
        let from = slice.offset.saturating_sub(SLICE_MARGIN);
        let end = slice.offset.saturating_add(slice.most as u64 + SLICE_MARGIN).min(job.output_bytes);
        pipeline.cmd("GETRANGE").arg(self.keys.output(job.id)).arg(from).arg(end.saturating_sub(1));
        match job.status {
            State::Queued => {
                let backlog = self.keys.backlog(job.session, &job.queue);
                pipeline.cmd("ZRANK").arg(backlog).arg(job.id.uuid().to_string());
                pipeline.cmd("HGET").arg(self.keys.session(job.session)).arg("cap");
            }
            State::Scheduled => {
                let key = self.keys.scheduled(job.id.shard(self.keys.shards()));
                pipeline.cmd("ZSCORE").arg(key).arg(job.id.uuid().to_string());
            }
            State::Running | State::Waiting => {
                pipeline.cmd("HGET").arg(self.keys.fence(job.id)).arg("waits_for");
            }
            _ => {}
        }
    }

    /// Reads the answers to [`Self::push_view`]. `lanes` are those that workers serve, read once for all views that need
    /// them.
    async fn read_view(
        &self,
        record: Record,
        slice: &Slice,
        answers: &mut Items,
        lanes: &mut Option<BTreeSet<String>>,
    ) -> Result<JobView, QueueError> {
        let total = record.job.output_bytes;
        let bytes = answers.item()?.bytes()?.unwrap_or_default();
        let from = slice.offset.saturating_sub(SLICE_MARGIN);
        // The total is that of the record: output that was appended since then belongs to the next view.
        let output = if total == 0 {
            OutputSlice::default()
        } else {
            OutputSlice { total, ..whole_characters(&bytes, from, slice.offset, slice.most, total) }
        };
        let (mut queued, mut starts_at, mut waits_for) = (None, None, None);
        match record.job.status {
            State::Queued => {
                let rank: Option<u64> = answers.item()?.parse_optional()?;
                let cap: Option<u64> = answers.item()?.parse_optional()?;
                queued = Some(self.queued_reason(&record, rank, cap, lanes).await?);
            }
            State::Scheduled => {
                // A score of milliseconds is whole and far below what a double holds exactly.
                let due = answers.item()?.parse_optional::<f64>()?;
                starts_at = due.and_then(|due| Timestamp::from_millisecond(due as i64).ok());
            }
            State::Running | State::Waiting => {
                waits_for = answers.item()?.optional_text()?.filter(|text| !text.is_empty());
            }
            _ => {}
        }
        let truncated = total >= self.settings().output_cap;
        Ok(JobView { job: record.job, output, truncated, queued, starts_at, waits_for, since: slice.since })
    }

    /// Why a queued job has not started.
    async fn queued_reason(
        &self,
        record: &Record,
        rank: Option<u64>,
        cap: Option<u64>,
        lanes: &mut Option<BTreeSet<String>>,
    ) -> Result<QueuedReason, QueueError> {
        // A session has a backlog only while as many jobs as its cap are admitted.
        if let Some(rank) = rank {
            return Ok(QueuedReason::Behind(rank + cap.unwrap_or(0)));
        }
        if lanes.is_none() {
            let served = self.workers().await?.into_iter().flat_map(|worker| worker.lanes);
            *lanes = Some(served.collect());
        }
        let served = lanes.as_ref().is_some_and(|lanes| lanes.contains(&record.lane));
        Ok(if served || !record.admitted { QueuedReason::Next } else { QueuedReason::NoWorker })
    }
}

/// The part of an output that a view shows.
struct Slice {
    /// Where it begins.
    offset: u64,
    /// Its length in bytes, at most.
    most: usize,
    /// The offset that was asked for.
    since: Option<u64>,
}
