//! Views of jobs, on Redis: their records with a slice of their output each.

use std::ops::Range;

use legwork_common::contract::MAX_ANNOUNCED_BYTES;
use legwork_common::contract::MAX_WAIT_BYTES;
use legwork_common::id::JobId;
use legwork_common::lifecycle::State;
use legwork_common::service::CutText;
use legwork_common::service::JobView;
use legwork_common::service::MAX_VIEW_BYTES;
use legwork_common::service::OutputSlice;
use legwork_common::service::WaitDetail;
use redis::Pipeline;

use crate::answer::Items;
use crate::error::QueueError;
use crate::queue::Queue;
use crate::queue::record::ASKED;
use crate::queue::record::Depth;
use crate::queue::record::Record;
use crate::queue::record::is_of;
use crate::queue::record::push_state;
use crate::queue::slice::SLICE_MARGIN;
use crate::queue::slice::whole_characters;
use crate::queue::slice::without_cut_beginning;
use crate::queue::watch::BATCH_SIZE;

/// What a model is shown of a result, and room for white space before it, which is not shown.
pub(crate) const EXCERPT_BYTES: usize =
    if MAX_WAIT_BYTES > MAX_ANNOUNCED_BYTES { MAX_WAIT_BYTES } else { MAX_ANNOUNCED_BYTES } + 64;

/// What one line about a failed job shows of its error, and more.
const REASON_BYTES: usize = 2048;

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

    /// Views of jobs, as far as `depth` says: two round trips for the records, for each 200 jobs; then one for outputs and
    /// results; and with waits four more at most, three of them where a job is queued.
    pub(crate) async fn views(
        &self,
        ids: &[JobId],
        depth: ViewDepth,
    ) -> Result<Vec<Option<JobView>>, QueueError> {
        let mut views = Vec::with_capacity(ids.len());
        for batch in ids.chunks(BATCH_SIZE) {
            self.add_views(batch, depth, &mut views).await?;
        }
        Ok(views)
    }

    async fn add_views(
        &self,
        ids: &[JobId],
        depth: ViewDepth,
        views: &mut Vec<Option<JobView>>,
    ) -> Result<(), QueueError> {
        let records = if depth.result_bytes.is_some() { Depth::Outline } else { Depth::Whole };
        let mut records = self.read_records(ids, records).await?;
        if depth.waits {
            self.add_waits(&mut records).await?;
        }
        let tail = |record: &Record| {
            let offset = record.job.output_bytes.saturating_sub(depth.output_bytes as u64);
            Slice { offset, most: depth.output_bytes, since: None }
        };
        let mut pipeline = redis::pipe();
        for record in records.iter().flatten() {
            if depth.output_bytes > 0 {
                self.push_view(&mut pipeline, record, &tail(record));
            }
            if let Some(most) = depth.result_bytes.filter(|_| depth.reads_result_of(record)) {
                self.push_result(&mut pipeline, record, most);
            }
        }
        let mut answers = self.link.ask_all(ASKED, &pipeline).await?;
        for record in records {
            let Some(record) = record else {
                views.push(None);
                continue;
            };
            let (slice, reads_result) = (tail(&record), depth.reads_result_of(&record));
            let held = record.result_in_output();
            let mut view = if depth.output_bytes > 0 {
                self.read_view(record, &slice, &mut answers)?
            } else {
                self.view_without_output(record)
            };
            if let Some(most) = depth.result_bytes.filter(|_| reads_result) {
                read_result(&mut view, most, held, &mut answers)?;
            }
            views.push(Some(view));
        }
        Ok(())
    }

    /// Adds the reads of the beginning and the end of a result or an error.
    fn push_result(&self, pipeline: &mut Pipeline, record: &Record, most: usize) {
        let (head, tail) = (most as u64 + SLICE_MARGIN, most as u64);
        if let Some(Range { start, end }) = record.result_in_output() {
            let key = self.keys.output(record.job.id);
            let last = end.saturating_sub(1);
            pipeline.cmd("STRLEN").arg(&key);
            pipeline.cmd("GETRANGE").arg(&key).arg(start).arg(last.min(start + head - 1));
            pipeline.cmd("GETRANGE").arg(&key).arg(start.max(end.saturating_sub(tail))).arg(last);
        } else {
            let key = self.keys.result(record.job.id);
            pipeline.cmd("STRLEN").arg(&key);
            pipeline.cmd("GETRANGE").arg(&key).arg(0).arg(head - 1);
            pipeline.cmd("GETRANGE").arg(&key).arg(-i64::try_from(tail).unwrap_or(i64::MAX)).arg(-1);
        }
        push_state(pipeline, self, record.job.id);
    }

    fn view_without_output(&self, record: Record) -> JobView {
        let truncated = record.job.output_bytes >= self.settings().output_cap;
        JobView {
            seal: record.seal,
            job: record.job,
            output: OutputSlice::default(),
            truncated,
            since: None,
            cut: None,
        }
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
        Ok(JobView { seal: record.seal, job: record.job, output, truncated, since: slice.since, cut: None })
    }
}

/// Reads the answers to [`Queue::push_result`] into a view: what is whole as it is, what is longer with its end. `held` is
/// where the output holds the result.
fn read_result(
    view: &mut JobView,
    most: usize,
    held: Option<Range<u64>>,
    answers: &mut Items,
) -> Result<(), QueueError> {
    let length: u64 = answers.item()?.parse()?;
    let bytes = match held {
        Some(range) if length >= range.end => range.end - range.start,
        // Forgotten in between, or lost.
        Some(_) => 0,
        None => length,
    };
    let beginning = answers.item()?.bytes()?.unwrap_or_default();
    let end = answers.item()?.bytes()?.unwrap_or_default();
    let job = &mut view.job;
    let has_ended_well = job.status == State::Completed;
    let is_of = is_of(job.status.is_terminal(), answers.item()?)?;
    // A job that completed with nothing has no result.
    if bytes == 0 || !is_of {
        return Ok(());
    }
    let beginning = whole_characters(&beginning, 0, 0, most, bytes).bytes;
    if (beginning.len() as u64) < bytes {
        let tail = String::from_utf8_lossy(without_cut_beginning(&end)).into_owned();
        view.cut = Some(CutText { bytes, tail });
    }
    let text = Some(String::from_utf8_lossy(&beginning).into_owned());
    // Of a job that has not ended, the key of the result has the error of its last attempt.
    *(if has_ended_well { &mut job.result } else { &mut job.error }) = text;
    Ok(())
}

/// How much of each of several jobs is read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ViewDepth {
    /// Bytes of the end of the output.
    output_bytes: usize,
    /// Bytes of the beginning and of the end of a result or an error, of which the middle is not read, and neither is a
    /// long task; `None` for all of them.
    result_bytes: Option<usize>,
    /// Whether only the error of a failed job is read, and no result.
    only_errors: bool,
    /// Whether what the jobs wait for is read.
    waits: bool,
}

impl ViewDepth {
    /// What the answer of a wait needs.
    pub(crate) fn of(detail: WaitDetail) -> Self {
        match detail {
            WaitDetail::Status => {
                Self { output_bytes: 0, result_bytes: Some(REASON_BYTES), only_errors: true, waits: false }
            }
            WaitDetail::Excerpt => Self { output_bytes: MAX_WAIT_BYTES, ..Self::ANNOUNCED },
            WaitDetail::Whole => {
                Self { output_bytes: MAX_VIEW_BYTES, result_bytes: None, only_errors: false, waits: true }
            }
        }
    }

    /// What the announcement of an end needs.
    pub(crate) const ANNOUNCED: Self = Self {
        output_bytes: MAX_VIEW_BYTES,
        result_bytes: Some(EXCERPT_BYTES),
        only_errors: false,
        waits: false,
    };

    fn reads_result_of(self, record: &Record) -> bool {
        match record.job.status {
            State::Stopped => false,
            State::Failed => self.result_bytes.is_some(),
            _ => self.result_bytes.is_some() && !self.only_errors,
        }
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
