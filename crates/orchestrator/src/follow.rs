//! A job's output while it runs.

use legwork_common::id::JobId;
use legwork_common::job::Job;
use legwork_queue::Operator;
use legwork_queue::POLL_INTERVAL;
use legwork_worker::upkeep::while_reaping;
use serde_json::json;

use crate::failure::Failure;
use crate::output::Output;

/// The most bytes of one read. Large enough to catch up with a long output in few round trips, small enough not to
/// delay other clients of Redis.
const CHUNK_BYTES: usize = 64 * 1024;

/// Shows a job's output from `offset` on until the job has ended, and returns the ended job. Every byte is shown
/// exactly once, even if workers crash and the job is resumed.
///
/// # Errors
///
/// [`Failure`] when the job is unknown, or Redis cannot be asked.
pub async fn follow(operator: &Operator, id: JobId, offset: u64, output: &Output) -> Result<Job, Failure> {
    while_reaping(operator.queue(), until_ended(operator, id, offset, output)).await
}

async fn until_ended(
    operator: &Operator,
    id: JobId,
    mut offset: u64,
    output: &Output,
) -> Result<Job, Failure> {
    let mut listener = operator.listen_to_job(id).await;
    let first = operator.job(id).await?;
    let mut ends = operator.listen_to_session(first.session).await;
    loop {
        // The job is read before its output: if it has ended, all of its output is stored by now.
        let job = operator.job(id).await?;
        offset = show(operator, id, offset, output).await?;
        if job.status.is_terminal() && offset >= job.output_bytes {
            return Ok(job);
        }
        tokio::select! {
            _hint = listener.next() => {}
            _hint = ends.next() => {}
            // Hints may be lost; this bounds the delay.
            () = tokio::time::sleep(POLL_INTERVAL) => {}
        }
    }
}

/// Shows the output stored so far; returns the offset after it.
async fn show(operator: &Operator, id: JobId, mut offset: u64, output: &Output) -> Result<u64, Failure> {
    loop {
        let slice = operator.output(id, offset, CHUNK_BYTES).await?;
        if slice.bytes.is_empty() {
            return Ok(offset);
        }
        if output.json {
            let text = String::from_utf8_lossy(&slice.bytes);
            output.object(&json!({"event": "output", "id": id, "offset": slice.offset, "text": text}))?;
        } else {
            output.bytes(&slice.bytes)?;
        }
        offset = slice.next_offset();
    }
}
