//! Decisions, as tables and for generated sequences of entries.

use proptest::prelude::*;

use super::*;
use crate::image::Image;

fn call(name: &str) -> ToolCall {
    ToolCall {
        id: format!("id-{name}"),
        name: name.to_owned(),
        arguments: "{}".to_owned(),
        thought_signature: None,
    }
}

fn reply(turn: u32, text: &str, calls: &[&str]) -> TurnEntry {
    let message = AssistantMessage {
        text: text.to_owned(),
        tool_calls: calls.iter().map(|name| call(name)).collect(),
        usage: Usage { turns: 1, ..Usage::default() },
        ..AssistantMessage::default()
    };
    TurnEntry::Reply { turn, message }
}

fn result(turn: u32, index: u32) -> TurnEntry {
    TurnEntry::Result {
        turn,
        index,
        call_id: format!("{turn}.{index}"),
        text: format!("result {turn}.{index}"),
        images: Vec::new(),
        is_error: false,
        ended: Vec::new(),
    }
}

fn delivered(turn: u32, id: &str) -> TurnEntry {
    TurnEntry::Delivered { turn, mail: vec![MailId(id.to_owned())], text: format!("mail {id}") }
}

fn work(turn: u32, open: &[(u32, &str)]) -> Step {
    let open = open.iter().map(|&(index, name)| (CallIndex { turn, index }, call(name)));
    Step::Work { open: open.collect() }
}

#[test]
fn decides_the_next_step() {
    let table = [
        (vec![], Step::Ask { turn: 1 }),
        (vec![delivered(1, "a")], Step::Ask { turn: 1 }),
        (vec![reply(1, "end", &[])], Step::Finish { result: "end".into() }),
        (vec![reply(1, "end", &[]), delivered(2, "a")], Step::Ask { turn: 2 }),
        (vec![reply(1, "", &["x", "y"])], work(1, &[(0, "x"), (1, "y")])),
        (vec![reply(1, "", &["x", "y"]), result(1, 1)], work(1, &[(0, "x")])),
        (vec![reply(1, "", &["x", "y"]), result(1, 1), result(1, 0)], Step::Ask { turn: 2 }),
        (
            vec![reply(1, "", &["x"]), result(1, 0), reply(2, "", &["y"]), result(1, 0), result(2, 7)],
            work(2, &[(0, "y")]),
        ),
        (
            vec![reply(1, "", &["x"]), result(1, 0), reply(2, "", &["x"]), result(2, 0)],
            Step::Exhausted { turns: 2 },
        ),
        (
            vec![reply(1, "", &["x"]), result(1, 0), reply(2, "two", &[])],
            Step::Finish { result: "two".into() },
        ),
        (vec![reply(2, "two", &[]), delivered(3, "late")], Step::Exhausted { turns: 2 }),
    ];
    for (entries, expected) in table {
        let transcript = Transcript::new(vec![Message::user("go")], &entries);
        assert_eq!(transcript.next(Some(2)), expected, "{entries:?}");
    }
}

#[test]
fn turns_of_a_retried_job_count_towards_neither_limits_nor_usage() {
    let of = JobId::random_in(legwork_common::id::SessionId::random());
    let old = [
        reply(1, "", &["x"]),
        result(1, 0),
        delivered(2, "a"),
        reply(2, "", &["y"]),
        TurnEntry::Retried { of },
    ];
    let mut transcript = Transcript::new(vec![Message::user("go")], &old);
    let team = crate::testing::team(&[("a", &[], serde_json::json!({"max_iterations": 1}))]);
    let mut active = crate::active_agent::ActiveAgent::new(team, "a", &old);
    let mut next_after = |transcript: &mut Transcript, entry: &TurnEntry| {
        transcript.apply(entry);
        active.apply(entry);
        transcript.next(active.turn_limit())
    };
    assert_eq!(transcript.next(Some(3)), work(2, &[(0, "y")]));
    assert_eq!(next_after(&mut transcript, &result(2, 0)), Step::Ask { turn: 3 });
    assert_eq!(transcript.usage(), Usage::default());
    next_after(&mut transcript, &reply(3, "", &["z"]));
    assert_eq!(next_after(&mut transcript, &result(3, 0)), Step::Exhausted { turns: 3 });
    assert_eq!(transcript.usage().turns, 1);
    // A new prompt has the whole limit again, and its answer begins without a separator.
    let prompt = TurnEntry::Delivered { turn: 4, mail: Vec::new(), text: "and now?".into() };
    assert_eq!(next_after(&mut transcript, &prompt), Step::Ask { turn: 4 });
    assert!(!transcript.has_output());
}

#[test]
fn results_have_the_order_of_their_calls() {
    let entries = [reply(1, "", &["x", "y"]), result(1, 1), result(1, 0), result(1, 0)];
    let transcript = Transcript::new(Vec::new(), &entries);
    let texts: Vec<&str> = transcript
        .messages()
        .iter()
        .filter_map(|message| match &**message {
            Message::ToolResult(result) => Some(result.text.as_str()),
            _ => None,
        })
        .collect();
    assert_eq!(texts, ["result 1.0", "result 1.1"]);
}

#[test]
fn entries_survive_serialization_and_unknown_fields() {
    let mut ended = result(3, 1);
    if let TurnEntry::Result { ended, .. } = &mut ended {
        ended.push("agent_task_11111111-1111-4111-8111-11111111abcd".parse().unwrap());
    }
    for entry in [reply(1, "text", &["x"]), result(1, 0), ended, delivered(2, "a")] {
        let text = serde_json::to_string(&entry).unwrap();
        assert_eq!(serde_json::from_str::<TurnEntry>(&text).unwrap(), entry, "{text}");
    }
    let later = r#"{"entry":"delivered","turn":1,"mail":["a"],"text":"t","of_a_later_version":1}"#;
    assert!(serde_json::from_str::<TurnEntry>(later).is_ok());
}

/// The entries of a run whose replies have these numbers of calls, with results in the given order.
fn recorded(calls: &[usize], order: &[u32]) -> Vec<TurnEntry> {
    let mut entries = Vec::new();
    for (turn, &count) in (1..).zip(calls) {
        let names: Vec<String> = (0..count).map(|n| format!("t{n}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        entries.push(reply(turn, "said", &names));
        let mut indexes: Vec<u32> = (0..).take(count).collect();
        indexes.sort_by_key(|&index| order.get(index as usize).copied());
        entries.extend(indexes.into_iter().map(|index| result(turn, index)));
    }
    entries
}

proptest! {
    #[test]
    fn a_run_resumed_after_any_entry_comes_to_the_same_messages(
        calls in proptest::collection::vec(1usize..4, 0..5),
        order in proptest::collection::vec(0u32..9, 4),
        cut in 0usize..32,
    ) {
        let mut calls = calls;
        calls.push(0);
        let entries = recorded(&calls, &order);
        let whole = Transcript::new(vec![Message::user("go")], &entries);
        let mut resumed = Transcript::new(vec![Message::user("go")], &entries[..cut.min(entries.len())]);
        for _ in 0..100 {
            match resumed.next(None) {
                Step::Ask { turn } => {
                    let next = entries.iter().find(|entry| matches!(entry, TurnEntry::Reply { turn: t, .. } if *t == turn));
                    resumed.apply(next.unwrap());
                }
                Step::Work { open } => {
                    let (CallIndex { turn, index }, _) = open[0].clone();
                    resumed.apply(&result(turn, index));
                }
                Step::Finish { .. } | Step::Exhausted { .. } => break,
            }
        }
        prop_assert_eq!(resumed.messages(), whole.messages());
        prop_assert_eq!(resumed.next(None), Step::Finish { result: "said".into() });
        prop_assert_eq!(resumed.usage().turns, calls.len() as u64);
    }
}

#[test]
fn images_of_a_result_reach_the_model_with_it() {
    let image = Image { media_type: "image/png".into(), data: "AAAA".into() };
    let mut with_image = result(1, 0);
    if let TurnEntry::Result { images, .. } = &mut with_image {
        images.push(image.clone());
    }
    let transcript = Transcript::new(vec![Message::user("go")], &[reply(1, "", &["x"]), with_image]);
    let Some(Message::ToolResult(last)) = transcript.messages().last().map(|last| &**last) else {
        panic!("{transcript:?}")
    };
    assert_eq!((last.name.as_str(), &last.images[..]), ("x", &[image][..]));
}
