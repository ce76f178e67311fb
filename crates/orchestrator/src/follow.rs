//! A job's output while it runs.

use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use legwork_common::id::JobId;
use legwork_common::job::Job;
use legwork_queue::Operator;
use legwork_queue::POLL_INTERVAL;
use legwork_queue::output_after;
use serde_json::json;
use tokio::time::Instant;

use crate::failure::Failure;
use crate::outage::Outage;
use crate::outage::with_continuation;
use crate::output::Output;

/// The most bytes of one read. Large enough to catch up with a long output in few round trips, small enough not to
/// delay other clients of Redis.
const CHUNK_BYTES: usize = 64 * 1024;

/// How following a job ended.
#[derive(Debug)]
pub enum Followed {
    /// The job has ended, and all its output is shown.
    Ended(Box<Job>),
    /// Ctrl-C. The job continues, and the command that shows the rest was printed.
    Interrupted,
}

/// How far the output is shown.
struct Shown<'a> {
    output: &'a Output,
    /// The offset after the last byte that is shown.
    offset: AtomicU64,
    /// Whether the last byte is in an incomplete line.
    is_line_open: AtomicBool,
}

/// Shows a job's output from `offset` on until the job has ended, or until Ctrl-C. Every byte is shown exactly once,
/// even if workers crash and the job is resumed, and over outages of Redis.
///
/// # Errors
///
/// [`Failure`] when the job is unknown, or Redis was away for too long: then its hint continues with the next byte.
pub async fn follow(
    operator: &Operator,
    id: JobId,
    offset: u64,
    output: &Output,
    outage: &Outage<'_>,
) -> Result<Followed, Failure> {
    let shown = Shown { output, offset: AtomicU64::new(offset), is_line_open: AtomicBool::new(false) };
    // The program exits after Ctrl-C, so a read that is dropped in the middle leaves no connection behind.
    let ended = tokio::select! {
        ended = outage.while_serving(operator, Box::pin(until_ended(operator, id, &shown, outage))) => ended,
        _interrupt = tokio::signal::ctrl_c() => {
            shown.end_line();
            output.note(&format!("the job continues; to see the rest: {}", outage.command(&shown.continuation(id))));
            return Ok(Followed::Interrupted);
        }
    };
    shown.end_line();
    match ended {
        Ok(job) => Ok(Followed::Ended(Box::new(job))),
        Err(failure) => Err(with_continuation(failure, &outage.command(&shown.continuation(id)))),
    }
}

async fn until_ended(
    operator: &Operator,
    id: JobId,
    shown: &Shown<'_>,
    outage: &Outage<'_>,
) -> Result<Job, Failure> {
    let mut listener = operator.listen_to_job(id).await;
    let first = outage.ask(|| operator.job(id)).await?;
    let mut ends = operator.listen_to_session(first.session).await;
    loop {
        // The job is read before its output: if it has ended, all of its output is stored by now.
        let job = outage.ask(|| operator.job(id)).await?;
        shown.catch_up(operator, id, outage).await?;
        if job.status.is_terminal() && shown.offset.load(Ordering::Relaxed) >= job.output_bytes {
            return Ok(job);
        }
        // Hints may be lost; this bounds the delay.
        let poll_at = Instant::now() + POLL_INTERVAL;
        loop {
            let hint = tokio::select! {
                hint = listener.next() => hint,
                _hint = ends.next() => None,
                () = tokio::time::sleep_until(poll_at) => None,
            };
            if !shown.show_hint(id, hint.as_deref())? {
                break;
            }
        }
    }
}

impl Shown<'_> {
    /// Shows the output stored so far.
    async fn catch_up(&self, operator: &Operator, id: JobId, outage: &Outage<'_>) -> Result<(), Failure> {
        loop {
            let offset = self.offset.load(Ordering::Relaxed);
            let slice = outage.ask(|| operator.output(id, offset, CHUNK_BYTES)).await?;
            if slice.bytes.is_empty() {
                return Ok(());
            }
            self.show(id, slice.offset, &slice.bytes)?;
        }
    }

    /// Shows what a hint carries, if it follows what is shown; false where the output must be read.
    fn show_hint(&self, id: JobId, hint: Option<&[u8]>) -> Result<bool, Failure> {
        let offset = self.offset.load(Ordering::Relaxed);
        let Some(text) = hint.and_then(|hint| output_after(offset, hint)) else { return Ok(false) };
        self.show(id, offset, text.as_bytes())?;
        Ok(true)
    }

    fn show(&self, id: JobId, offset: u64, bytes: &[u8]) -> Result<(), Failure> {
        self.is_line_open.store(bytes.last().is_some_and(|last| *last != b'\n'), Ordering::Relaxed);
        if self.output.json {
            let text = String::from_utf8_lossy(bytes);
            self.output.object(&json!({"event": "output", "id": id, "offset": offset, "text": text}))?;
        } else {
            self.output.bytes(bytes)?;
        }
        self.offset.store(offset + bytes.len() as u64, Ordering::Relaxed);
        Ok(())
    }

    /// Ends an incomplete line of output, so that what follows on standard error has a line of its own.
    fn end_line(&self) {
        if self.is_line_open.swap(false, Ordering::Relaxed) {
            self.output.end_line();
        }
    }

    /// The words of the command that shows the output from here on.
    fn continuation(&self, id: JobId) -> String {
        format!("view --follow --since {} {id}", self.offset.load(Ordering::Relaxed))
    }
}
