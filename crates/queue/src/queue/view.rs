//! Views of jobs, on Redis: their records with a slice of their output each.

use legwork_common::id::JobId;
use legwork_common::service::JobView;
use legwork_common::service::OutputSlice;
use redis::Pipeline;

use crate::answer::Items;
use crate::error::QueueError;
use crate::queue::Queue;
use crate::queue::record::ASKED;
use crate::queue::record::Record;
use crate::queue::slice::SLICE_MARGIN;
use crate::queue::slice::whole_characters;

impl Queue {
    /// Reads what a view of a job needs besides its record: output from `since`, or else the tail, at most `most`
    /// bytes.
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
        self.read_view(record, &slice, &mut answers)
    }

    /// Views of jobs with the tails of their outputs, at most `most` bytes each: two round trips for the records, one for
    /// what they wait for, three more where a job is queued, and one for the outputs, whatever the number of jobs.
    pub(crate) async fn views(&self, ids: &[JobId], most: usize) -> Result<Vec<Option<JobView>>, QueueError> {
        let mut records = self.records(ids).await?;
        self.add_waits(&mut records).await?;
        let tail = |record: &Record| {
            let offset = record.job.output_bytes.saturating_sub(most as u64);
            Slice { offset, most, since: None }
        };
        let mut pipeline = redis::pipe();
        for record in records.iter().flatten() {
            self.push_view(&mut pipeline, record, &tail(record));
        }
        let mut answers = self.link.ask_all(ASKED, &pipeline).await?;
        let mut views = Vec::with_capacity(ids.len());
        for record in records {
            views.push(match record {
                Some(record) => {
                    let slice = tail(&record);
                    Some(self.read_view(record, &slice, &mut answers)?)
                }
                None => None,
            });
        }
        Ok(views)
    }

    /// Adds the read of a view's slice.
    fn push_view(&self, pipeline: &mut Pipeline, record: &Record, slice: &Slice) {
        let job = &record.job;
        let from = slice.offset.saturating_sub(SLICE_MARGIN);
        let end = slice.offset.saturating_add(slice.most as u64 + SLICE_MARGIN).min(job.output_bytes);
        pipeline.cmd("GETRANGE").arg(self.keys.output(job.id)).arg(from).arg(end.saturating_sub(1));
    }

    /// Reads the answer to [`Self::push_view`].
    fn read_view(&self, record: Record, slice: &Slice, answers: &mut Items) -> Result<JobView, QueueError> {
        let total = record.job.output_bytes;
        let bytes = answers.item()?.bytes()?.unwrap_or_default();
        let from = slice.offset.saturating_sub(SLICE_MARGIN);
        // The total is that of the record: output that was appended since then belongs to the next view.
        let output = if total == 0 {
            OutputSlice::default()
        } else {
            OutputSlice { total, ..whole_characters(&bytes, from, slice.offset, slice.most, total) }
        };
        let truncated = total >= self.settings().output_cap;
        Ok(JobView { job: record.job, output, truncated, since: slice.since })
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
