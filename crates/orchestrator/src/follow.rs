//! A job's output while it runs.

use legwork_common::id::JobId;
use legwork_common::job::Job;
use legwork_common::service::ServiceError;
use legwork_queue::Observer;
use legwork_queue::POLL_INTERVAL;
use legwork_queue::port::Watch as _;
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
pub async fn follow(observer: &Observer, id: JobId, offset: u64, output: &Output) -> Result<Job, Failure> {
    while_reaping(observer.queue(), until_ended(observer, id, offset, output)).await
}

async fn until_ended(
    observer: &Observer,
    id: JobId,
    mut offset: u64,
    output: &Output,
) -> Result<Job, Failure> {
    let queue = observer.queue();
    let mut listener = observer.hints().listen(queue.keys().job_channel(id)).await;
    let first = job(observer, id).await?;
    let mut ends = observer.hints().listen(queue.keys().session_channel(first.session)).await;
    loop {
        // The job is read before its output: if it has ended, all of its output is stored by now.
        let job = job(observer, id).await?;
        offset = show(observer, id, offset, output).await?;
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

/// The job as it is stored now.
async fn job(observer: &Observer, id: JobId) -> Result<Job, Failure> {
    let job = observer.queue().jobs(&[id]).await?.pop().flatten();
    job.ok_or_else(|| ServiceError::NotFound(id.to_string()).into())
}

/// Shows the output stored so far; returns the offset after it.
async fn show(observer: &Observer, id: JobId, mut offset: u64, output: &Output) -> Result<u64, Failure> {
    loop {
        let slice = observer.queue().output(id, offset, CHUNK_BYTES).await?;
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
