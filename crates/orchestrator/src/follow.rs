//! A job's output as it comes.

use legwork_common::id::JobId;
use legwork_common::job::Job;
use legwork_common::service::ServiceError;
use legwork_queue::LOOK_EVERY;
use legwork_queue::Observer;
use legwork_queue::port::Watch as _;
use legwork_worker::upkeep::while_reaping;
use serde_json::json;

use crate::failure::Failure;
use crate::output::Output;

/// Bytes of one read.
const PIECE: usize = 64 * 1024;

/// Shows a job's output from `offset` on until the job has ended; the job as it ended. The output is shown
/// without a gap and without a repeat, whatever crashes on the way.
///
/// # Errors
///
/// [`Failure`] when there is no such job, or the queue cannot be asked.
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
        // The job first: what it wrote before it ended is there when it has ended.
        let job = job(observer, id).await?;
        offset = show(observer, id, offset, output).await?;
        if job.status.is_terminal() && offset >= job.output_bytes {
            return Ok(job);
        }
        tokio::select! {
            _hint = listener.next() => {}
            _hint = ends.next() => {}
            // A lost hint costs no more than this.
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
    }
}

async fn job(observer: &Observer, id: JobId) -> Result<Job, Failure> {
    let job = observer.queue().jobs(&[id]).await?.pop().flatten();
    job.ok_or_else(|| ServiceError::NotFound(id.to_string()).into())
}

/// Shows all output that is there; the offset after it.
async fn show(observer: &Observer, id: JobId, mut offset: u64, output: &Output) -> Result<u64, Failure> {
    loop {
        let slice = observer.queue().output(id, offset, PIECE).await?;
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
