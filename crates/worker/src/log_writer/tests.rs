//! What may be batched for longer, and what may not.

use legwork_common::id::JobId;
use legwork_common::id::RunToken;
use legwork_common::id::SessionId;

use super::*;

/// Words that were added shortly after a write.
fn words() -> Pending {
    let lease = Lease { id: JobId::random_in(SessionId::random()), token: RunToken::random() };
    Pending {
        lease,
        offset: 0,
        bytes: b"words".to_vec(),
        entries: Vec::new(),
        next_entry: 1,
        finished_turns: None,
        waits_for: None,
        usage: None,
        revision: 1,
        remaining_bytes: 1000,
        flush_requested: false,
        is_followed: false,
        turn_signer: None,
        written_at: Some(Instant::now()),
    }
}

#[tokio::test(start_paused = true)]
async fn only_output_that_no_one_follows_or_waits_for_is_batched_for_longer() {
    assert!(words().can_wait());
    let due = [
        ("followed", Pending { is_followed: true, ..words() }),
        ("waited for", Pending { flush_requested: true, ..words() }),
        ("a turn entry", Pending { entries: vec![(1, "reply".into())], ..words() }),
        ("a reason to wait", Pending { waits_for: Some("a permit".into()), ..words() }),
        ("a full batch", Pending { bytes: vec![b'x'; BATCH_BYTES], ..words() }),
        ("the first output", Pending { written_at: None, ..words() }),
    ];
    for (what, pending) in due {
        assert!(!pending.can_wait(), "{what}");
    }
    let late = words();
    tokio::time::advance(UNFOLLOWED_BATCH_DELAY).await;
    assert!(!late.can_wait());
}

#[test]
fn a_follower_counts_until_output_reaches_none() {
    let buffer =
        AttemptBuffer { pending: Mutex::new(words()), flushed: watch::Sender::new(Flushed::UpTo(0)) };
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
