//! The rounds of the writer: what is due in all buffers, then the ends.

use std::sync::Arc;
use std::time::Duration;

use legwork_queue::QueueError;
use legwork_queue::port::Append;
use legwork_queue::port::Appended;
use legwork_queue::port::Finish;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::log_writer::AttemptBuffer;
use crate::log_writer::Flushed;
use crate::log_writer::LogWriter;
use crate::log_writer::lock;

/// How long output is batched, from the beginning of one round of writes to that of the next. A reader does not notice it,
/// and however fast models stream, a job's output costs Redis twenty writes a second, apart from turn entries and full batches.
const BATCH_DELAY: Duration = Duration::from_millis(50);
/// Appends of one call. The output of a job is read just before its call, so that with a thousand jobs followers of the last
/// ones see words that came while the first ones were written. As many take Redis two to three milliseconds.
const MAX_APPENDS: usize = 128;
/// Delay before a failed write is repeated. Short, because attempts wait for it; Redis' own timeout (2 s) is what keeps
/// an outage from becoming a busy loop.
const RETRY_DELAY: Duration = Duration::from_millis(200);

impl LogWriter {
    /// Writes until `over` is cancelled and nothing is left to write. Dropped in the middle, a write is stored or not.
    pub async fn run(&self, over: CancellationToken) {
        loop {
            tokio::select! {
                () = self.inner.has_work.notified() => {}
                () = over.cancelled() => {
                    if !self.write_with_retry(&over).await {
                        return;
                    }
                }
            }
            loop {
                let next = Instant::now() + BATCH_DELAY;
                if !self.write_with_retry(&over).await {
                    break;
                }
                // What comes next may be batched, unless a caller waits for it.
                let flush_now = self.inner.flush_now.notified();
                let _flush_now = tokio::time::timeout_at(next, flush_now).await;
            }
        }
    }

    /// Writes what is buffered; false if there was nothing, or if the worker ends and it cannot be written. A failed
    /// write is repeated by the next call.
    async fn write_with_retry(&self, over: &CancellationToken) -> bool {
        if !self.inner.clock.may_act() {
            // A worker that slept may wake long after its jobs were reclaimed, or even pruned. What it has buffered is
            // kept until a renewal finds out whose the jobs are.
            tokio::time::sleep(RETRY_DELAY).await;
            return !over.is_cancelled();
        }
        match self.write().await {
            Ok(wrote) => wrote,
            Err(error) => {
                tracing::warn!(%error, "could not write output and turns, trying again");
                tokio::time::sleep(RETRY_DELAY).await;
                // A worker that ends does not wait for Redis to come back: its leases expire, and the next attempts
                // resume from what is stored.
                !over.is_cancelled()
            }
        }
    }

    /// Appends before it finishes: a finish states the length of the whole output.
    async fn write(&self) -> Result<bool, QueueError> {
        let appended = self.append().await?;
        if !self.inner.clock.may_act() {
            return Ok(true);
        }
        let finishes = std::mem::take(&mut *lock(&self.inner.finishes));
        if finishes.is_empty() {
            return Ok(appended);
        }
        let requests: Vec<Finish> = finishes.iter().map(|(finish, _)| finish.clone()).collect();
        match self.inner.work.finish(&requests).await {
            Ok(finished) => {
                for ((_, answer), finished) in finishes.into_iter().zip(finished) {
                    // The attempt may have been dropped while it waited; its job has ended all the same.
                    let _dropped = answer.send(finished);
                }
                Ok(true)
            }
            Err(error) if error.is_transient() => {
                lock(&self.inner.finishes).extend(finishes);
                self.inner.has_work.notify_one();
                Err(error)
            }
            // Repeating it would hold up all other attempts. Dropping the senders reports the failure to these
            // attempts; their leases expire.
            Err(error) => Err(error),
        }
    }

    /// Appends what is due in all buffers; false if nothing is pending. Ends where the leases come in doubt on the way: a
    /// round may take long. A call that fails keeps none from being made: the jobs of the others may be on another server.
    ///
    /// # Errors
    ///
    /// That of the first call that failed, when all were made.
    async fn append(&self) -> Result<bool, QueueError> {
        let buffers: Vec<Arc<AttemptBuffer>> = lock(&self.inner.buffers).values().cloned().collect();
        let mut buffers = buffers.into_iter();
        let mut is_pending = false;
        let mut failed = None;
        while self.inner.clock.may_act() {
            let batch = Batch::of(&mut buffers);
            is_pending |= batch.is_batching || !batch.appends.is_empty();
            if batch.appends.is_empty() {
                return failed.map_or(Ok(is_pending), Err);
            }
            if let Err(error) = self.append_batch(batch).await {
                failed.get_or_insert(error);
            }
        }
        // What is left is written once a renewal has found out whose the jobs are.
        failed.map_or(Ok(true), Err)
    }

    async fn append_batch(&self, batch: Batch) -> Result<(), QueueError> {
        let Batch { written, appends, is_batching: _ } = batch;
        let answers = match self.inner.work.append(&appends).await {
            Ok(answers) => answers,
            Err(error) => {
                self.inner.has_work.notify_one();
                return Err(error);
            }
        };
        for (((buffer, revision), append), answer) in written.into_iter().zip(&appends).zip(answers) {
            match answer {
                Appended::Stored(_) => remove_stored(&buffer, append, revision, false),
                Appended::Followed(_) => remove_stored(&buffer, append, revision, true),
                Appended::Fenced => self.close(append.lease),
            }
        }
        Ok(())
    }
}

/// What is appended by one call.
#[derive(Default)]
struct Batch {
    /// The buffers, each with the revision up to which it is written.
    written: Vec<(Arc<AttemptBuffer>, u64)>,
    appends: Vec<Append>,
    /// Whether what is pending in some of the buffers is batched for longer.
    is_batching: bool,
}

impl Batch {
    /// Of the next buffers, until there is enough for one call. Without appends none of the buffers has anything that is due.
    fn of(buffers: &mut impl Iterator<Item = Arc<AttemptBuffer>>) -> Self {
        let mut batch = Self::default();
        for buffer in buffers {
            match snapshot(&buffer) {
                Snapshot::Empty => {}
                Snapshot::Batching => batch.is_batching = true,
                Snapshot::Due(append, revision) => {
                    batch.written.push((buffer, revision));
                    batch.appends.push(append);
                    if batch.appends.len() == MAX_APPENDS {
                        break;
                    }
                }
            }
        }
        batch
    }
}

/// What of a buffer is to be written now.
enum Snapshot {
    /// Nothing is pending.
    Empty,
    /// What is pending is batched for longer.
    Batching,
    /// A copy of what is pending, with its revision.
    Due(Append, u64),
}

/// What is pending. The buffer keeps it until it is stored, so that a lost answer is repeated with the same bytes.
fn snapshot(buffer: &AttemptBuffer) -> Snapshot {
    let mut pending = buffer.pending();
    let Flushed::UpTo(flushed) = pending.flushed else {
        // Closed since the round began.
        return Snapshot::Empty;
    };
    if pending.is_empty() {
        // Output beyond the cap changes the revision and leaves nothing to write. A caller may wait for it.
        let revision = pending.revision;
        drop(pending);
        if flushed < revision {
            buffer.set_flushed(Flushed::UpTo(revision));
        }
        return Snapshot::Empty;
    }
    if pending.can_wait() {
        return Snapshot::Batching;
    }
    pending.written_at = Some(Instant::now());
    let append = Append {
        lease: pending.lease,
        offset: pending.offset,
        bytes: pending.bytes.clone(),
        entries: pending.entries.clone(),
        finished_turns: pending.finished_turns,
        waits_for: pending.waits_for.clone(),
        usage: pending.usage,
    };
    Snapshot::Due(append, pending.revision)
}

/// Removes what was stored from the buffer, which may have grown since, and wakes the callers that wait for it.
fn remove_stored(buffer: &AttemptBuffer, append: &Append, revision: u64, is_followed: bool) {
    {
        let mut pending = buffer.pending();
        // Only new output reaches followers.
        pending.is_followed = is_followed || (pending.is_followed && append.bytes.is_empty());
        pending.flush_requested &= pending.revision != revision;
        pending.bytes.drain(..append.bytes.len());
        pending.entries.drain(..append.entries.len());
        pending.offset += append.bytes.len() as u64;
        if pending.waits_for == append.waits_for {
            pending.waits_for = None;
        }
        if pending.usage == append.usage {
            pending.usage = None;
        }
    }
    // After the buffer has room: a writer that wakes checks it.
    buffer.set_flushed(Flushed::UpTo(revision));
}

#[cfg(test)]
mod tests;
