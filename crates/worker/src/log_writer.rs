//! The one writer of output, turns and endings: all attempts' pieces in one pipeline.
//!
//! An attempt puts what it has to say into its own bounded buffer. The first bytes go out at once; while a
//! stream goes on, pieces are gathered for 50 ms or until 4 KB are there. A turn entry waits for nothing
//! and is confirmed to who wrote it. If Redis cannot be reached the buffer fills and the attempt waits
//! with it: nothing is dropped.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

use legwork_common::id::JobId;
use legwork_queue::QueueError;
use legwork_queue::port::Append;
use legwork_queue::port::Appended;
use legwork_queue::port::Finish;
use legwork_queue::port::Finished;
use legwork_queue::port::Lease;
use legwork_queue::port::Work;
use tokio::sync::Notify;
use tokio::sync::oneshot;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::lease_clock::LeaseClock;

/// Output that may wait in one attempt's buffer before the attempt waits too.
const BUFFER_BYTES: usize = 64 * 1024;
/// Output that goes out without waiting for more.
const GATHERED_BYTES: usize = 4 * 1024;
/// How long output is gathered.
const GATHER_FOR: Duration = Duration::from_millis(50);
/// The pause after a round that failed.
const PAUSE: Duration = Duration::from_millis(200);

/// What became of what an attempt wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// All of it up to this revision is stored.
    UpTo(u64),
    /// The fence is another's: nothing more is stored.
    Fenced,
}

/// What waits in one attempt's buffer.
#[derive(Debug)]
struct Buffer {
    lease: Lease,
    /// Where `bytes` begin in the output.
    offset: u64,
    bytes: Vec<u8>,
    entries: Vec<(u64, String)>,
    next_entry: u64,
    finished_turns: Option<u32>,
    /// What the attempt waits for, where that changed; empty for nothing.
    waits_for: Option<String>,
    /// Counts every change, so that a writer can wait for its own.
    revision: u64,
    /// Bytes that may still be written before the output cap.
    room: u64,
}

/// The buffer of one attempt and the state of what was written from it.
#[derive(Debug)]
pub struct AttemptBuffer {
    buffer: Mutex<Buffer>,
    written: watch::Sender<Written>,
}

impl AttemptBuffer {
    fn buffer(&self) -> MutexGuard<'_, Buffer> {
        self.buffer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The offset just after all that was ever put in: how long the output is once it is written.
    pub fn end(&self) -> u64 {
        let buffer = self.buffer();
        buffer.offset + buffer.bytes.len() as u64
    }
}

/// Where an attempt's pages begin.
#[derive(Debug, Clone, Copy)]
pub struct AttemptBufferStart {
    /// The proof of holding the job.
    pub lease: Lease,
    /// Bytes of output that are stored already.
    pub output_bytes: u64,
    /// The sequence of the last stored turn entry.
    pub last_entry: u64,
    /// The output cap of a job.
    pub output_cap: u64,
}

/// The attempt is over: its fence is another's, or the writer has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gone;

/// The log_writer of a worker. Cheap to clone.
#[derive(Debug, Clone)]
pub struct LogWriter {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    work: Arc<dyn Work>,
    clock: LeaseClock,
    pages: Mutex<BTreeMap<JobId, Arc<AttemptBuffer>>>,
    endings: Mutex<Vec<(Finish, oneshot::Sender<Finished>)>>,
    // Something is there that need not wait for more.
    urgent: Notify,
    // Something is there.
    some: Notify,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl LogWriter {
    /// A log_writer that writes to `work` once [`LogWriter::write`] runs.
    /// While `clock` does not vouch for the leases nothing is written.
    pub fn new(work: Arc<dyn Work>, clock: LeaseClock) -> Self {
        Self {
            shared: Arc::new(Shared {
                work,
                clock,
                pages: Mutex::default(),
                endings: Mutex::default(),
                urgent: Notify::new(),
                some: Notify::new(),
            }),
        }
    }

    /// Opens the page of an attempt.
    pub fn open(&self, start: AttemptBufferStart) -> Arc<AttemptBuffer> {
        let buffer = Buffer {
            waits_for: None,
            lease: start.lease,
            offset: start.output_bytes,
            bytes: Vec::new(),
            entries: Vec::new(),
            next_entry: start.last_entry + 1,
            finished_turns: None,
            revision: 0,
            room: start.output_cap.saturating_sub(start.output_bytes),
        };
        let page = Arc::new(AttemptBuffer {
            buffer: Mutex::new(buffer),
            written: watch::Sender::new(Written::UpTo(0)),
        });
        lock(&self.shared.pages).insert(start.lease.id, Arc::clone(&page));
        page
    }

    /// Closes the page; what is not written by then is dropped with it.
    pub fn close(&self, lease: Lease) {
        let mut pages = lock(&self.shared.pages);
        if pages.get(&lease.id).is_some_and(|page| page.buffer().lease == lease) {
            pages.remove(&lease.id);
        }
    }

    /// Adds output; waits while the buffer is full. Beyond the output cap the head is kept and the rest
    /// dropped. Dropping the future leaves the text added or not.
    ///
    /// # Errors
    ///
    /// [`Gone`] once the attempt is fenced.
    pub async fn output(&self, page: &AttemptBuffer, text: &str) -> Result<(), Gone> {
        let mut written = page.written.subscribe();
        loop {
            if *written.borrow_and_update() == Written::Fenced {
                return Err(Gone);
            }
            {
                let mut buffer = page.buffer();
                if buffer.bytes.len() < BUFFER_BYTES {
                    let kept = text.len().min(usize::try_from(buffer.room).unwrap_or(usize::MAX));
                    buffer.bytes.extend_from_slice(&text.as_bytes()[..kept]);
                    buffer.room -= kept as u64;
                    buffer.revision += 1;
                    if buffer.bytes.len() >= GATHERED_BYTES {
                        self.shared.urgent.notify_one();
                    }
                    self.shared.some.notify_one();
                    return Ok(());
                }
            }
            written.changed().await.map_err(|_| Gone)?;
        }
    }

    /// Adds a turn entry and waits until it, and all output before it, is stored.
    ///
    /// # Errors
    ///
    /// [`Gone`] once the attempt is fenced.
    pub async fn record(
        &self,
        page: &AttemptBuffer,
        entry: String,
        finished_turns: Option<u32>,
    ) -> Result<(), Gone> {
        {
            let mut buffer = page.buffer();
            let sequence = buffer.next_entry;
            buffer.next_entry += 1;
            buffer.entries.push((sequence, entry));
            buffer.finished_turns = finished_turns.or(buffer.finished_turns);
            buffer.revision += 1;
        }
        self.flushed(page).await
    }

    /// Notes what the attempt waits for, for people to see; `None` once it goes on.
    pub fn wait_for(&self, page: &AttemptBuffer, what: Option<String>) {
        {
            let mut buffer = page.buffer();
            buffer.waits_for = Some(what.unwrap_or_default());
            buffer.revision += 1;
        }
        self.shared.some.notify_one();
    }

    /// Waits until all that was added is stored.
    ///
    /// # Errors
    ///
    /// [`Gone`] once the attempt is fenced.
    pub async fn flushed(&self, page: &AttemptBuffer) -> Result<(), Gone> {
        let wanted = page.buffer().revision;
        let mut written = page.written.subscribe();
        self.shared.some.notify_one();
        self.shared.urgent.notify_one();
        let is_done = |written: &Written| match written {
            Written::UpTo(revision) => *revision >= wanted,
            Written::Fenced => true,
        };
        match written.wait_for(is_done).await.as_deref() {
            Ok(Written::UpTo(_)) => Ok(()),
            Ok(Written::Fenced) | Err(_) => Err(Gone),
        }
    }

    /// Ends an attempt whose page is flushed; answered with what the job is now.
    ///
    /// # Errors
    ///
    /// [`Gone`] if the writer has ended.
    pub async fn finish(&self, finish: Finish) -> Result<Finished, Gone> {
        let (answer, answered) = oneshot::channel();
        lock(&self.shared.endings).push((finish, answer));
        self.shared.some.notify_one();
        self.shared.urgent.notify_one();
        answered.await.map_err(|_| Gone)
    }

    /// Writes until `over` is cancelled and nothing is left to write.
    pub async fn write(&self, over: CancellationToken) {
        loop {
            tokio::select! {
                () = self.shared.some.notified() => {}
                () = over.cancelled() => {
                    if !self.round_with_retry(&over).await {
                        return;
                    }
                }
            }
            while self.round_with_retry(&over).await {
                // What comes next may gather, unless it is urgent.
                let urgent = self.shared.urgent.notified();
                let _urgent = tokio::time::timeout(GATHER_FOR, urgent).await;
            }
        }
    }

    /// One round; false if there was nothing to write. A round that fails is repeated by the next.
    async fn round_with_retry(&self, over: &CancellationToken) -> bool {
        if !self.shared.clock.may_act() {
            // A worker that slept may wake long after its jobs were taken back, even forgotten. What it has
            // to say is kept until a renewal says whose they are.
            tokio::time::sleep(PAUSE).await;
            return !over.is_cancelled();
        }
        match self.round().await {
            Ok(wrote) => wrote,
            Err(error) => {
                tracing::warn!(%error, "could not write output and turns, trying again");
                tokio::time::sleep(PAUSE).await;
                // At the end of the worker its leases run out and the next attempts go on from what is
                // stored; waiting for ever would help nobody.
                !over.is_cancelled()
            }
        }
    }

    async fn round(&self) -> Result<bool, QueueError> {
        let appended = self.append().await?;
        let endings = std::mem::take(&mut *lock(&self.shared.endings));
        if endings.is_empty() {
            return Ok(appended);
        }
        let finishes: Vec<Finish> = endings.iter().map(|(finish, _)| finish.clone()).collect();
        match self.shared.work.finish(&finishes).await {
            Ok(finished) => {
                for ((_, answer), finished) in endings.into_iter().zip(finished) {
                    // The attempt may have been dropped meanwhile; its job has ended all the same.
                    let _gone = answer.send(finished);
                }
                Ok(true)
            }
            Err(error) if error.is_transient() => {
                lock(&self.shared.endings).extend(endings);
                self.shared.some.notify_one();
                Err(error)
            }
            // Repeating helps nobody and would hold up everybody: these attempts hear that they are on their
            // own, and their leases run out.
            Err(error) => Err(error),
        }
    }

    /// Appends what waits in all pages; false if nothing did.
    async fn append(&self) -> Result<bool, QueueError> {
        let pages: Vec<Arc<AttemptBuffer>> = lock(&self.shared.pages).values().cloned().collect();
        let mut taken = Vec::new();
        let mut appends = Vec::new();
        for page in pages {
            if let Some((append, revision)) = peek(&page) {
                taken.push((page, revision));
                appends.push(append);
            }
        }
        if appends.is_empty() {
            return Ok(false);
        }
        let answers = match self.shared.work.append(&appends).await {
            Ok(answers) => answers,
            Err(error) => {
                self.shared.some.notify_one();
                return Err(error);
            }
        };
        for (((page, revision), append), answer) in taken.into_iter().zip(&appends).zip(answers) {
            match answer {
                Appended::Stored(_) => settle(&page, append, revision),
                Appended::Fenced => {
                    page.written.send_replace(Written::Fenced);
                    self.close(append.lease);
                }
            }
        }
        Ok(true)
    }
}

/// A copy of what waits in a page, or nothing. The buffer keeps it until it is stored.
fn peek(page: &AttemptBuffer) -> Option<(Append, u64)> {
    let buffer = page.buffer();
    if buffer.bytes.is_empty() && buffer.entries.is_empty() && buffer.waits_for.is_none() {
        // Output beyond the cap changes the revision and leaves nothing to write.
        let revision = buffer.revision;
        drop(buffer);
        page.written.send_if_modified(|written| {
            let behind = matches!(written, Written::UpTo(done) if *done < revision);
            if behind {
                *written = Written::UpTo(revision);
            }
            behind
        });
        return None;
    }
    let append = Append {
        lease: buffer.lease,
        offset: buffer.offset,
        bytes: buffer.bytes.clone(),
        entries: buffer.entries.clone(),
        finished_turns: buffer.finished_turns,
        waits_for: buffer.waits_for.clone(),
    };
    Some((append, buffer.revision))
}

/// Drops what is stored from the buffer and tells who waits.
fn settle(page: &AttemptBuffer, append: &Append, revision: u64) {
    {
        let mut buffer = page.buffer();
        buffer.bytes.drain(..append.bytes.len());
        buffer.entries.drain(..append.entries.len());
        buffer.offset += append.bytes.len() as u64;
        if buffer.waits_for == append.waits_for {
            buffer.waits_for = None;
        }
    }
    page.written.send_replace(Written::UpTo(revision));
}
