//! What is written with which call, and which buffers are followed.

use std::sync::Mutex;

use legwork_common::id::JobId;
use legwork_common::id::RunToken;
use legwork_common::id::SessionId;
use legwork_queue::port::Lease;
use tokio::sync::Notify;

use super::*;
use crate::fake_queue::AppendAnswer;
use crate::fake_queue::FakeQueue;
use crate::lease_clock::LeaseClock;
use crate::log_writer::AttemptBufferStart;
use crate::log_writer::OpenBuffer;
use crate::log_writer::Pending;
use crate::log_writer::tests::words;

fn buffer(pending: Pending) -> Arc<AttemptBuffer> {
    Arc::new(AttemptBuffer { pending: Mutex::new(pending), flushed: Notify::new() })
}

#[test]
fn a_follower_counts_until_output_reaches_none() {
    let buffer = buffer(words());
    let write = |is_followed| {
        buffer.pending().flush_requested = true;
        let Snapshot::Due(append, revision) = snapshot(&buffer) else { panic!("it is due") };
        remove_stored(&buffer, &append, revision, is_followed);
        assert!(!buffer.pending().flush_requested);
        buffer.pending().bytes = b"more".to_vec();
        buffer.pending().is_followed
    };
    assert_eq!([write(true), write(true), write(false)], [true, true, false]);
}

#[test]
fn a_round_reads_each_buffer_just_before_its_call() {
    let due = || buffer(Pending { written_at: None, ..words() });
    let buffers: Vec<Arc<AttemptBuffer>> = (0..MAX_APPENDS + 2).map(|_| due()).collect();
    let mut round = buffers.iter().cloned();
    assert_eq!(Batch::of(&mut round).appends.len(), MAX_APPENDS);
    // While the first call is made, a word is added and an attempt ends.
    let [next, last] = &buffers[MAX_APPENDS..] else { panic!("two are left") };
    next.pending().bytes.extend_from_slice(b" more");
    last.set_flushed(Flushed::Fenced);
    let batch = Batch::of(&mut round);
    let bytes: Vec<&[u8]> = batch.appends.iter().map(|append| append.bytes.as_slice()).collect();
    assert_eq!(bytes, [b"words more"]);
    assert!(Batch::of(&mut round).appends.is_empty() && !batch.is_batching);
}

#[test]
fn output_that_is_batched_for_longer_keeps_the_writer_busy() {
    let buffers = [buffer(words()), buffer(Pending { bytes: Vec::new(), ..words() })];
    let batch = Batch::of(&mut buffers.into_iter());
    assert!(batch.appends.is_empty() && batch.is_batching);
}

/// A writer whose first append is answered so, with one output more than fits in one call.
async fn writer_with_output(first: AppendAnswer) -> (Arc<FakeQueue>, LogWriter, Vec<OpenBuffer>) {
    let clock = LeaseClock::new(Duration::from_secs(3600));
    let queue = Arc::new(FakeQueue::new(clock.clone()));
    queue.append_answers.lock().unwrap().push_back(first);
    let writer = LogWriter::new(Arc::clone(&queue) as _, clock);
    let mut open = Vec::new();
    for _ in 0..=MAX_APPENDS {
        let lease = Lease { id: JobId::random_in(SessionId::random()), token: RunToken::random() };
        let start = AttemptBufferStart { lease, output_bytes: 0, last_entry: 0, output_cap: 1000 };
        let buffer = writer.open(start);
        writer.output(buffer.buffer(), "words").await.unwrap();
        open.push(buffer);
    }
    (queue, writer, open)
}

#[tokio::test]
async fn a_call_that_fails_keeps_no_other_from_being_made() {
    let (queue, writer, _open) = writer_with_output(AppendAnswer::Fails).await;
    assert!(writer.append().await.is_err());
    assert_eq!(*queue.appends.lock().unwrap(), [MAX_APPENDS, 1]);
}

#[tokio::test]
async fn a_round_ends_where_the_leases_come_in_doubt() {
    let (queue, writer, _open) = writer_with_output(AppendAnswer::Slow).await;
    assert!(writer.write().await.unwrap(), "there is more");
    assert_eq!(*queue.appends.lock().unwrap(), [MAX_APPENDS]);
}
