//! What may be batched for longer, what may not, and what an output holds of the end of its job.

use legwork_agent::journal::TurnEntry;
use legwork_agent::message::AssistantMessage;
use legwork_common::id::JobId;
use legwork_common::id::RunToken;
use legwork_common::id::SessionId;
use serde_json::json;

use super::*;

/// Words that were added shortly after a write.
pub(super) fn words() -> Pending {
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
        flushed: Flushed::UpTo(0),
        remaining_bytes: 1000,
        flush_requested: false,
        is_followed: false,
        signed_turns: None,
        written_at: Some(Instant::now()),
        tail: OutputTail::default(),
        sole_reply: None,
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

/// A buffer to which this output and then the reply of a model were added, and the reply's usage.
fn replied(output: &[&str], change: impl FnOnce(&mut AssistantMessage)) -> (AttemptBuffer, Usage) {
    let usage = Usage { input_tokens: 9, output_tokens: 2, turns: 1, ..Usage::default() };
    let origin = json!({"wire": "openai_chat", "provider": "openai", "model": "gpt-5"});
    let mut message =
        AssistantMessage {
            text: "Grüße".into(), origin: Some(origin), usage, ..AssistantMessage::default()
        };
    change(&mut message);
    let mut pending = Pending { bytes: Vec::new(), ..words() };
    for text in output {
        pending.bytes.extend_from_slice(text.as_bytes());
        pending.tail.push(text.as_bytes(), text.len());
    }
    pending.add_entry(TurnEntry::Reply { turn: 1, message }.encode().unwrap());
    (AttemptBuffer { pending: Mutex::new(pending), flushed: Notify::new() }, usage)
}

#[test]
fn an_output_holds_a_result_that_it_ends_with_and_the_turns_of_one_plain_reply() {
    let holds = |(buffer, usage): (AttemptBuffer, Usage)| buffer.holds("Grüße", usage);
    let both = InOutput::ResultAndTurns("openai_chat openai gpt-5".to_owned());
    assert_eq!(holds(replied(&["Gr", "üße"], |_| {})), both);
    assert_eq!(holds(replied(&["Grüße"], |message| message.reasoning = Some("hm".into()))), InOutput::Result);
    assert_eq!(holds(replied(&["Grüße"], |message| message.text.push('!'))), InOutput::Result);
    assert_eq!(holds(replied(&["\n\nGrüße"], |_| {})), InOutput::Result, "its text is not the whole output");
    assert_eq!(holds(replied(&["Grüße!"], |_| {})), InOutput::Nothing);
    let (buffer, usage) = replied(&["Grüße"], |_| {});
    assert_eq!(
        buffer.holds("Grüße", Usage { turns: 2, ..usage }),
        InOutput::Result,
        "another call was paid for"
    );
    buffer.pending().add_entry("{}".to_owned());
    assert_eq!(buffer.holds("Grüße", usage), InOutput::Result, "a second entry");
}
