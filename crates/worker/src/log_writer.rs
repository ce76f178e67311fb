//! The one writer of output, turn entries and ends of jobs: the pieces of all attempts share one pipeline.
//!
//! ```text
//! attempt ── output, record ──► AttemptBuffer ─┐
//! attempt ── output, record ──► AttemptBuffer ─┼─► LogWriter::run ── append, finish ──► queue
//! attempt ── finish ───────────────────────────┘
//! ```
//!
//! An attempt puts what it writes into its own bounded buffer. The first bytes are written at once; while a stream
//! continues, pieces are batched for 50 ms, where no one follows them for 300 ms, or until there are 4 KiB. A turn entry
//! waits for no batch, and [`LogWriter::record`] returns once it is stored. While Redis cannot be reached the buffer fills
//! up and the attempt waits: nothing is dropped.

mod tail;
mod writing;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

use legwork_common::job::Usage;
use legwork_common::stored::SoleReply;
use legwork_common::waits_for::WaitsFor;
use legwork_queue::port::Finish;
use legwork_queue::port::Finished;
use legwork_queue::port::InOutput;
use legwork_queue::port::Lease;
use legwork_queue::port::Work;
use tokio::sync::Notify;
use tokio::sync::oneshot;
use tokio::time::Instant;

use self::tail::OutputTail;
use crate::admission::SignedTurns;
use crate::lease_clock::LeaseClock;

/// Output that one attempt may buffer before it has to wait for the writer. It bounds the memory of an outage (6.4 MB
/// for 100 attempts) and is large enough that a model's stream does not stall while one write is repeated.
const MAX_BUFFERED_BYTES: usize = 64 * 1024;
/// Output that is written without waiting for the batch. A crash loses at most this much unwritten text, or what
/// came within the delay; larger batches would save few commands.
const BATCH_BYTES: usize = 4 * 1024;
/// How long output that no one follows is batched after a write. Each append costs Redis the same however short it is, and
/// most jobs of a fleet have no follower; a new one sees the first piece this much later. Halfway between the fifth and the sixth
/// round of writes, 50 ms apart: at 250 ms some jobs would be due in the fifth.
const UNFOLLOWED_BATCH_DELAY: Duration = Duration::from_millis(275);

/// How far an attempt's buffer was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flushed {
    /// All changes up to this revision are stored.
    UpTo(u64),
    /// The fence is another attempt's: nothing more will be stored.
    Fenced,
}

/// What a turn entry changes apart from the journal itself; `None` for what it leaves.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Turns that are finished, over all attempts.
    pub finished_turns: Option<u32>,
    /// What the models used, over all attempts.
    pub usage: Option<Usage>,
}

/// What one attempt has written and the queue has not confirmed.
#[derive(Debug)]
struct Pending {
    lease: Lease,
    /// The offset of `bytes` in the job's output.
    offset: u64,
    bytes: Vec<u8>,
    /// Turn entries with their sequence numbers, ascending.
    entries: Vec<(u64, String)>,
    next_entry: u64,
    finished_turns: Option<u32>,
    /// What the models used so far, if it changed.
    usage: Option<Usage>,
    /// The reason that the attempt waits for, if it changed; empty where it no longer waits.
    waits_for: Option<String>,
    /// Counts every change, so that a caller can wait for its own.
    revision: u64,
    /// Up to which of them all is stored.
    flushed: Flushed,
    /// Bytes that may still be added below the output cap.
    remaining_bytes: u64,
    /// Whether a caller waits until everything is stored.
    flush_requested: bool,
    /// Whether the last write reached a follower.
    is_followed: bool,
    /// Signs each entry; `None` stores them as they are.
    signed_turns: Option<Box<SignedTurns>>,
    /// When the last write began.
    written_at: Option<Instant>,
    /// The output since the last turn entry.
    tail: OutputTail,
    /// The only turn entry of the job, where it is a reply whose text is the whole output: its usage and origin.
    sole_reply: Option<Box<(Usage, String)>>,
}

impl Pending {
    /// Whether there is nothing to write.
    fn is_empty(&self) -> bool {
        self.bytes.is_empty() && self.entries.is_empty() && self.waits_for.is_none()
    }

    /// Adds output, of which what is beyond the output cap is dropped; returns whether there is enough for a write, or that
    /// nothing more can be written. `None` where there is no room.
    fn add_output(&mut self, text: &str) -> Option<Result<bool, BufferClosed>> {
        if self.flushed == Flushed::Fenced {
            return Some(Err(BufferClosed));
        }
        if self.bytes.len() >= MAX_BUFFERED_BYTES {
            return None;
        }
        let remaining = usize::try_from(self.remaining_bytes).unwrap_or(usize::MAX);
        let kept = text.len().min(remaining);
        self.bytes.extend_from_slice(&text.as_bytes()[..kept]);
        self.tail.push(text.as_bytes(), kept);
        self.remaining_bytes -= kept as u64;
        self.revision += 1;
        Some(Ok(self.bytes.len() >= BATCH_BYTES))
    }

    /// Adds a turn entry, which follows all output that was added; returns its sequence number.
    fn add_entry(&mut self, entry: String) -> u64 {
        let sequence = self.next_entry;
        self.next_entry += 1;
        // Under the lock, because a signature is over the entries before it too.
        let entry = match &mut self.signed_turns {
            Some(turns) => turns.signer.sign(&entry),
            None => entry,
        };
        // A signed entry would not come back with its signature, so it stays.
        let output_bytes = self.offset + self.bytes.len() as u64;
        let is_whole_output =
            |reply: &SoleReply| reply.text.len() as u64 == output_bytes && self.tail.is(&reply.text);
        let first = if sequence == 1 { SoleReply::of(&entry) } else { None };
        self.sole_reply =
            first.filter(is_whole_output).map(|reply| Box::new((reply.usage, reply.origin().to_owned())));
        self.tail.close();
        self.entries.push((sequence, entry));
        sequence
    }

    /// Whether what is there may be batched for longer.
    fn can_wait(&self) -> bool {
        let is_output_alone = self.entries.is_empty() && self.waits_for.is_none();
        let is_batch = self.bytes.len() >= BATCH_BYTES;
        let is_recent = self.written_at.is_some_and(|at| at.elapsed() < UNFOLLOWED_BATCH_DELAY);
        is_output_alone && !is_batch && !self.flush_requested && !self.is_followed && is_recent
    }
}

/// The buffer of one attempt: written by the attempt, emptied by the [`LogWriter`].
#[derive(Debug)]
pub struct AttemptBuffer {
    // A std mutex: held for a copy or a change, never over an await.
    pending: Mutex<Pending>,
    /// Signalled after each change of [`Pending::flushed`].
    flushed: Notify,
}

impl AttemptBuffer {
    fn pending(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes how far the buffer was written, and wakes all that wait for it. A buffer that was closed stays so.
    fn set_flushed(&self, flushed: Flushed) {
        {
            let mut pending = self.pending();
            if pending.flushed == Flushed::Fenced {
                return;
            }
            pending.flushed = flushed;
        }
        self.flushed.notify_waiters();
    }

    /// Waits until `check` of what is pending returns something. It is called again after each write.
    async fn until<T>(&self, mut check: impl FnMut(&mut Pending) -> Option<T>) -> T {
        loop {
            // Before the check: a write in between is noticed.
            let flushed = self.flushed.notified();
            if let Some(found) = check(&mut self.pending()) {
                return found;
            }
            flushed.await;
        }
    }

    /// What of the end of a job that completes with this result, and has used so much, its output holds once everything in
    /// the buffer is stored.
    pub fn holds(&self, result: &str, usage: Usage) -> InOutput {
        let pending = self.pending();
        if !pending.tail.ends_with(result) {
            return InOutput::Nothing;
        }
        match pending.sole_reply.as_deref() {
            Some((used, origin)) if *used == usage && pending.tail.is(result) => {
                InOutput::ResultAndTurns(origin.clone())
            }
            _ => InOutput::Result,
        }
    }

    /// Signs the entries from now on. Whatever was added before is stored: the signer continues after it.
    pub(crate) fn sign_turns(&self, turns: Option<SignedTurns>) {
        self.pending().signed_turns = turns.map(Box::new);
    }

    /// The length of the job's output in bytes, once everything in the buffer is stored.
    pub fn end(&self) -> u64 {
        let pending = self.pending();
        pending.offset + pending.bytes.len() as u64
    }
}

/// The buffer of an attempt among those that the [`LogWriter`] empties, kept by the attempt. Dropping it removes the
/// buffer, also where the attempt panicked; what is not written by then is dropped.
#[derive(Debug)]
pub struct OpenBuffer {
    log_writer: LogWriter,
    lease: Lease,
    buffer: Arc<AttemptBuffer>,
}

impl OpenBuffer {
    /// The buffer. A clone that outlives this value can no longer be written.
    pub fn buffer(&self) -> &Arc<AttemptBuffer> {
        &self.buffer
    }
}

impl Drop for OpenBuffer {
    fn drop(&mut self) {
        self.log_writer.close(self.lease);
    }
}

/// Where an attempt's writes begin.
#[derive(Debug, Clone, Copy)]
pub struct AttemptBufferStart {
    /// The proof of holding the job.
    pub lease: Lease,
    /// Bytes of output that earlier attempts stored.
    pub output_bytes: u64,
    /// The sequence of the last turn entry that earlier attempts stored; 0 for none.
    pub last_entry: u64,
    /// Bytes of output that the job may have in all.
    pub output_cap: u64,
}

/// Nothing more can be written: another attempt has set the fence, or the queue refused the write permanently.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BufferClosed;

/// The writer of a worker. Cheap to clone; all clones are one.
#[derive(Debug, Clone)]
pub struct LogWriter {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    work: Arc<dyn Work>,
    clock: LeaseClock,
    /// By lease, which is one attempt: a worker may write for two attempts of one job, if it has lost one of them and
    /// does not know yet.
    buffers: Mutex<HashMap<Lease, Arc<AttemptBuffer>>>,
    /// Attempts that ended, each with the attempt that waits for the answer.
    finishes: Mutex<Vec<(Finish, oneshot::Sender<Finished>)>>,
    /// Something is to be written. Wakes the writer where it is idle.
    has_work: Notify,
    /// Something must be written without waiting for the batch delay.
    flush_now: Notify,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl LogWriter {
    /// A writer to `work`, which writes while [`LogWriter::run`] runs and while `clock` vouches for the leases.
    pub fn new(work: Arc<dyn Work>, clock: LeaseClock) -> Self {
        Self {
            inner: Arc::new(Inner {
                work,
                clock,
                buffers: Mutex::default(),
                finishes: Mutex::default(),
                has_work: Notify::new(),
                flush_now: Notify::new(),
            }),
        }
    }

    /// Opens the buffer of an attempt.
    pub fn open(&self, start: AttemptBufferStart) -> OpenBuffer {
        let pending = Pending {
            usage: None,
            waits_for: None,
            lease: start.lease,
            offset: start.output_bytes,
            bytes: Vec::new(),
            entries: Vec::new(),
            next_entry: start.last_entry + 1,
            finished_turns: None,
            revision: 0,
            flushed: Flushed::UpTo(0),
            remaining_bytes: start.output_cap.saturating_sub(start.output_bytes),
            flush_requested: false,
            is_followed: false,
            signed_turns: None,
            written_at: None,
            tail: OutputTail::default(),
            sole_reply: None,
        };
        let buffer = Arc::new(AttemptBuffer { pending: Mutex::new(pending), flushed: Notify::new() });
        lock(&self.inner.buffers).insert(start.lease, Arc::clone(&buffer));
        OpenBuffer { log_writer: self.clone(), lease: start.lease, buffer }
    }

    /// Removes the buffer of the attempt under this lease. Whatever still waits for it is answered: nothing more is
    /// stored.
    fn close(&self, lease: Lease) {
        if let Some(buffer) = lock(&self.inner.buffers).remove(&lease) {
            buffer.set_flushed(Flushed::Fenced);
        }
    }

    /// Adds output; waits while the buffer is full, for as long as Redis is away. Beyond the output cap the head is
    /// kept and the rest dropped. Dropping the future leaves the text added or not.
    ///
    /// # Errors
    ///
    /// [`BufferClosed`] once the attempt is fenced.
    pub async fn output(&self, buffer: &AttemptBuffer, text: &str) -> Result<(), BufferClosed> {
        let is_batch = buffer.until(|pending| pending.add_output(text)).await?;
        if is_batch {
            self.inner.flush_now.notify_one();
        }
        self.inner.has_work.notify_one();
        Ok(())
    }

    /// Adds a turn entry and waits until it, and all output before it, is stored, and noted where turns are signed.
    ///
    /// # Errors
    ///
    /// [`BufferClosed`] once the attempt is fenced.
    pub async fn record(
        &self,
        buffer: &AttemptBuffer,
        entry: String,
        progress: Progress,
    ) -> Result<(), BufferClosed> {
        let (sequence, noted) = {
            let mut pending = buffer.pending();
            let sequence = pending.add_entry(entry);
            pending.finished_turns = progress.finished_turns.or(pending.finished_turns);
            pending.usage = progress.usage.or(pending.usage);
            pending.revision += 1;
            (sequence, pending.signed_turns.as_ref().map(|turns| turns.noted.clone()))
        };
        self.flush(buffer).await?;
        if let Some(noted) = noted {
            noted.note(sequence).await;
        }
        Ok(())
    }

    /// Notes what the attempt waits for, to be shown to users; `None` once it continues. Written with the next batch.
    pub fn set_waits_for(&self, buffer: &AttemptBuffer, reason: Option<&WaitsFor>) {
        {
            let mut pending = buffer.pending();
            pending.waits_for = Some(WaitsFor::stored(reason));
            pending.revision += 1;
        }
        self.inner.has_work.notify_one();
    }

    /// Waits until everything that was added before the call is stored, for as long as Redis is away. While the worker
    /// serves, the lease is the bound: once Redis answers, it is renewed or lost. In a drain the attempt is dropped.
    ///
    /// # Errors
    ///
    /// [`BufferClosed`] once the attempt is fenced or its buffer is closed.
    pub async fn flush(&self, buffer: &AttemptBuffer) -> Result<(), BufferClosed> {
        let wanted = {
            let mut pending = buffer.pending();
            pending.flush_requested = true;
            pending.revision
        };
        self.inner.has_work.notify_one();
        self.inner.flush_now.notify_one();
        let stored = |pending: &mut Pending| match pending.flushed {
            Flushed::UpTo(revision) => (revision >= wanted).then_some(Ok(())),
            Flushed::Fenced => Some(Err(BufferClosed)),
        };
        buffer.until(stored).await
    }

    /// Ends an attempt whose buffer is flushed; returns the state of the job after it. Waits for as long as Redis is
    /// away, as [`Self::flush`] does. Dropped while it waits, the end may be stored or not; if it is not, the lease
    /// expires.
    ///
    /// # Errors
    ///
    /// [`BufferClosed`] where the queue refused the write permanently.
    pub async fn finish(&self, finish: Finish) -> Result<Finished, BufferClosed> {
        let (answer, answered) = oneshot::channel();
        lock(&self.inner.finishes).push((finish, answer));
        self.inner.has_work.notify_one();
        self.inner.flush_now.notify_one();
        answered.await.map_err(|_| BufferClosed)
    }
}

#[cfg(test)]
mod tests;
