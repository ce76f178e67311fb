//! Views of jobs, on Redis: their records with a slice of their output each.

use legwork_common::id::JobId;
use legwork_common::service::JobView;
use legwork_common::service::OutputSlice;

use crate::error::QueueError;
use crate::port::Watch as _;
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
        Ok(self.view_with(record, output, since))
    }

    /// Views of jobs with the tails of their outputs, at most `most` bytes each: records and tails are read in one round
    /// trip each, whatever the number of jobs.
    pub(crate) async fn views(&self, ids: &[JobId], most: usize) -> Result<Vec<Option<JobView>>, QueueError> {
        let mut records = self.records(ids).await?;
        self.add_waits(&mut records).await?;
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
            views.push(Some(self.view_with(record, output, None)));
        }
        Ok(views)
    }

    /// A view of a record with a slice of its output.
    fn view_with(&self, record: Record, output: OutputSlice, since: Option<u64>) -> JobView {
        let truncated = record.job.output_bytes >= self.settings().output_cap;
        JobView { job: record.job, output, truncated, since }
    }
}
