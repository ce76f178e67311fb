//! What is written with which call, and which buffers are followed.

use std::sync::Mutex;

use tokio::sync::watch;

use super::*;
use crate::log_writer::Pending;
use crate::log_writer::tests::words;

fn buffer(pending: Pending) -> Arc<AttemptBuffer> {
    let flushed = watch::Sender::new(Flushed::UpTo(0));
    Arc::new(AttemptBuffer { pending: Mutex::new(pending), flushed })
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
    last.flushed.send_replace(Flushed::Fenced);
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
