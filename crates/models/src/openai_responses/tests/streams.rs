//! Streams as OpenAI, gateways and local servers send them, each with what it comes to.

use serde_json::Value;
use serde_json::json;

use super::events::*;
use crate::openai_responses::OpenaiResponses;
use crate::testing::Case;
use crate::testing::hold;

#[test]
fn texts_and_ends() {
    let hello = || begin() + &spoken(0, "hello");
    let open = || begin() + &text(0, "hello");
    let comment = json!({"type": "message", "id": "m", "phase": "commentary", "content": [{"type": "output_text", "text": "hello"}]});
    let hidden = json!({"type": "reasoning", "summary": [], "encrypted_content": "xyz"});
    let table: &[Case<'_>] = &[
        ("plain", hello() + &completed(), r#""hello" 20/5/9 Finished"#),
        ("no item events", open() + &completed(), r#""hello" 20/5/9 Finished"#),
        (
            "without event names",
            (hello() + &completed()).replace("event: ", ": "),
            r#""hello" 20/5/9 Finished"#,
        ),
        // Without the provider's own end, more calls may have been on their way.
        ("no end after a whole message", hello(), &format!("\"hello\" {CUT}")),
        (
            "no end after a whole call",
            begin() + &called(0, "a", "note", NOTE),
            &format!("dropped note[a]({NOTE}) {CUT}"),
        ),
        ("no end in a message", open(), &format!("\"hello\" {CUT}")),
        (
            "no end after a comment",
            begin() + &item_done(0, comment),
            &format!(r#"{{"phase":"commentary","type":"message"}} "hello" {CUT}"#),
        ),
        (
            "no end after reasoning",
            begin() + &item_done(0, hidden),
            &format!(r#"{{"encrypted_content":"xyz","summary":[],"type":"reasoning"}} {CUT}"#),
        ),
        (
            "no end in a second item",
            hello() + &added(1, call("a", "note", "")),
            &format!("\"hello\" dropped note[a]({{}}) {CUT}"),
        ),
        ("the mark in place of an end", open() + "data: [DONE]\n\n", r#""hello" Finished"#),
        ("nothing", begin(), CUT),
        ("empty", begin() + &completed(), "20/5/9 Empty { reasoned: false }"),
    ];
    hold::<OpenaiResponses>(table);
}

#[test]
fn ends_that_are_no_success() {
    let hello = || begin() + &spoken(0, "hello");
    let open = || begin() + &text(0, "hello");
    let refused = event("refusal.delta", 0.into(), json!({"content_index": 0, "delta": "I will"}))
        + &event("refusal.delta", 0.into(), json!({"content_index": 0, "delta": " not."}))
        + &event("refusal.done", 0.into(), json!({"content_index": 0, "refusal": "I will not."}));
    let refusal_item = json!({"type": "message", "content": [{"type": "refusal", "refusal": "I will not."}]});
    let cancelled = end("cancelled", response("cancelled", json!([])));
    let table: &[Case<'_>] = &[
        ("cut", hello() + &incomplete(json!("max_output_tokens")), r#""hello" 20/5/9 CutAtOutputLimit"#),
        ("cut without a reason", hello() + &incomplete(Value::Null), r#""hello" 20/5/9 CutAtOutputLimit"#),
        (
            "cut in a completed response",
            hello() + &incomplete(json!("max_output_tokens")).replace(".incomplete", ".completed"),
            r#""hello" 20/5/9 CutAtOutputLimit"#,
        ),
        ("filtered", hello() + &incomplete(json!("content_filter")), r#""hello" 20/5/9 Filtered("hello")"#),
        (
            "another reason",
            hello() + &incomplete(json!("moon")),
            r#""hello" 20/5/9 BrokenOff("the provider ended it with `moon`")"#,
        ),
        ("cancelled", open() + &cancelled, r#""hello" 20/5/9 BrokenOff("the provider cancelled it")"#),
        ("refused", begin() + &refused + &completed(), r#"20/5/9 Refused("I will not.")"#),
        (
            "refused in an item",
            begin() + &item_done(0, refusal_item.clone()) + &completed(),
            r#"20/5/9 Refused("I will not.")"#,
        ),
        (
            "refused at the end",
            begin() + &end("completed", response("completed", json!([refusal_item]))),
            r#"20/5/9 Refused("I will not.")"#,
        ),
    ];
    hold::<OpenaiResponses>(table);
}

#[test]
fn a_text_is_taken_once_wherever_it_stands() {
    let all = || end("completed", response("completed", json!([message("hello")])));
    let done = event("output_text.done", 0.into(), json!({"text": "hello"}));
    let two = json!({"type": "message", "id": "msg_1", "content": [{"type": "output_text", "text": "hello"}, {"type": "output_text", "text": " world"}]});
    let hello = r#""hello" 20/5/9 Finished"#;
    let table: &[Case<'_>] = &[
        ("everywhere", spoken(0, "hello") + &all(), hello),
        ("when its part ends", done.clone() + &all(), hello),
        ("when its item ends", item_done(0, message("hello")) + &all(), hello),
        ("at the end alone", begin() + &all(), hello),
        ("without places", text("none", "hello") + &all(), hello),
        ("in another place", text(3, "hello") + &all(), hello),
        (
            "without a section",
            event("output_text.delta", 0.into(), json!({"delta": "hello"}))
                + &done
                + &item_done(0, message("hello"))
                + &completed(),
            hello,
        ),
        (
            "two parts, one in pieces",
            text(0, "hello") + &item_done(0, two) + &completed(),
            r#""hello world" 20/5/9 Finished"#,
        ),
        ("empty pieces", text(0, "") + &done + &completed(), hello),
    ];
    hold::<OpenaiResponses>(table);
}

/// The end of a response with two calls, which it has in its output.
fn completed_with_two_calls() -> String {
    let output = json!([call("a", "note", NOTE), call("b", "other", OTHER)]);
    end("completed", response("completed", output))
}

#[test]
fn calls() {
    let one = r#"note[a]({"a":"x"}) 20/5/9 WantsTools"#;
    let both = r#"note[a]({"a":"x"}) other[b]({"b":"y"}) 20/5/9 WantsTools"#;
    let in_turns = [
        added(0, call("a", "note", "")),
        added(1, call("b", "other", "")),
        arguments(0, "a", r#"{"a":"#),
        arguments(1, "b", r#"{"b":"#),
        arguments(0, "a", r#""x"}"#),
        arguments(1, "b", r#""y"}"#),
        item_done(1, call("b", "other", OTHER)),
        item_done(0, call("a", "note", NOTE)),
        completed(),
    ];
    let around_text = [
        text(0, "he"),
        added(1, call("a", "note", "")),
        text(0, "llo"),
        arguments(1, "a", NOTE),
        completed(),
    ];
    let table: &[Case<'_>] = &[
        ("one", begin() + &called(0, "a", "note", NOTE) + &completed(), one),
        (
            "two",
            called(0, "a", "note", NOTE) + &called(1, "b", "other", OTHER) + &completed_with_two_calls(),
            both,
        ),
        ("in turns", in_turns.concat(), both),
        ("around a text", around_text.concat(), r#""hello" note[a]({"a":"x"}) 20/5/9 WantsTools"#),
        (
            "cut",
            added(0, call("a", "note", ""))
                + &arguments(0, "a", "{\"a")
                + &incomplete(json!("max_output_tokens")),
            r#""hello" dropped note[a]({"a) 20/5/9 CutAtOutputLimit"#,
        ),
        (
            "the connection ends",
            added(0, call("a", "note", "")) + &arguments(0, "a", "{\"a"),
            &format!("dropped note[a]({{\"a) {CUT}"),
        ),
    ];
    hold::<OpenaiResponses>(table);
}

#[test]
fn calls_of_which_events_are_missing() {
    let one = r#"note[a]({"a":"x"}) 20/5/9 WantsTools"#;
    let both = r#"note[a]({"a":"x"}) other[b]({"b":"y"}) 20/5/9 WantsTools"#;
    let done = |id: &str, name: &str, whole: &str| item_done(0, call(id, name, whole));
    let in_done = event("function_call_arguments.done", 0.into(), json!({"name": "note", "arguments": NOTE}));
    let no_ids = json!({"type": "function_call", "name": "note", "arguments": NOTE});
    let no_item_id = json!({"type": "function_call", "call_id": "a", "name": "note", "arguments": ""});
    let table: &[Case<'_>] = &[
        ("only done", done("a", "note", NOTE) + &completed(), one),
        (
            "two only done, in one place",
            done("a", "note", NOTE) + &done("b", "other", OTHER) + &completed(),
            both,
        ),
        ("only in the beginning", added(0, call("a", "note", NOTE)) + &completed(), one),
        (
            "beginning and pieces",
            added(0, call("a", "note", "{}")) + &arguments(0, "a", NOTE) + &completed(),
            one,
        ),
        ("only at the end", begin() + &completed_with_two_calls(), both),
        ("the arguments only when they end", added(0, call("a", "note", "")) + &in_done + &completed(), one),
        (
            "no beginning",
            arguments(0, "a", NOTE) + &in_done + &completed(),
            r#"note[made_1]({"a":"x"}) 20/5/9 WantsTools"#,
        ),
        (
            "pieces are lost",
            added(0, call("a", "note", ""))
                + &arguments(0, "a", r#"{"a"#)
                + &done("a", "note", NOTE)
                + &completed(),
            one,
        ),
        ("no id of the item", added(0, no_item_id) + &arguments(0, "q", NOTE) + &completed(), one),
        ("no ids", item_done(0, no_ids) + &completed(), r#"note[made_1]({"a":"x"}) 20/5/9 WantsTools"#),
        (
            "nothing in them",
            item_done(0, call("a", "note", "")) + &completed(),
            "note[a]({}) 20/5/9 WantsTools",
        ),
    ];
    hold::<OpenaiResponses>(table);
}

#[test]
fn a_call_is_never_made_twice() {
    let other_names =
        json!([{"type": "function_call", "id": "item_9", "call_id": "z", "name": "note", "arguments": NOTE}]);
    let twice = called(0, "a", "note", NOTE);
    let in_a_higher_place =
        called(7, "a", "note", NOTE) + &end("completed", response("completed", other_names));
    let fresh_ids = [
        added(1, call("a", "note", "")),
        arguments(1, "r1", r#"{"a":"#),
        arguments(1, "r2", r#""x"}"#),
        item_done(
            1,
            json!({"type": "function_call", "id": "r3", "call_id": "a", "name": "note", "arguments": NOTE}),
        ),
        completed(),
    ];
    let same_place = [
        added(0, json!({"type": "message", "id": "m"})),
        added(0, call("a", "note", "")),
        added(0, call("b", "other", "")),
        arguments(0, "a", NOTE),
        arguments(0, "b", OTHER),
        completed(),
    ];
    let table: &[Case<'_>] = &[
        (
            "events again",
            [begin(), twice.clone(), twice, completed()].concat(),
            r#"note[a]({"a":"x"}) 20/5/9 WantsTools"#,
        ),
        ("other names at the end", in_a_higher_place, r#"note[a]({"a":"x"}) 20/5/9 WantsTools"#),
        ("a new id for each event", fresh_ids.concat(), r#"note[a]({"a":"x"}) 20/5/9 WantsTools"#),
        (
            "all in one place",
            same_place.concat(),
            r#"note[a]({"a":"x"}) other[b]({"b":"y"}) 20/5/9 WantsTools"#,
        ),
    ];
    hold::<OpenaiResponses>(table);
}

#[test]
fn reasoning() {
    let summary = |section: u32, piece: &str| {
        event(
            "reasoning_summary_text.delta",
            0.into(),
            json!({"item_id": "rs_1", "summary_index": section, "delta": piece}),
        )
    };
    let texts = json!([{"type": "summary_text", "text": "hm"}, {"type": "summary_text", "text": "so"}]);
    let item = |encrypted: Value| json!({"type": "reasoning", "id": "rs_1", "summary": texts, "encrypted_content": encrypted});
    let begun =
        added(0, json!({"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "early"}));
    let kept = r#"{"encrypted_content":"xyz","summary":[{"text":"hm","type":"summary_text"},{"text":"so","type":"summary_text"}],"type":"reasoning"}"#;
    let pieces =
        [begun, summary(0, "h"), summary(0, "m"), summary(1, "so"), item_done(0, item(json!("xyz")))]
            .concat();
    let open = json!({"type": "reasoning", "id": "rs_1", "summary": [], "content": [{"type": "reasoning_text", "text": "hm"}], "encrypted_content": ""});
    let shown = event("reasoning_text.delta", 0.into(), json!({"content_index": 0, "delta": "hm"}));
    let table: &[Case<'_>] = &[
        (
            "summaries",
            pieces.clone() + &spoken(1, "hello") + &completed(),
            &format!("(hm\n\nso) {kept} \"hello\" 20/5/9 Finished"),
        ),
        (
            "only when the item ends",
            item_done(0, item(json!("xyz"))) + &called(1, "a", "note", NOTE) + &completed(),
            &format!("(hm\n\nso) {kept} note[a]({NOTE}) 20/5/9 WantsTools"),
        ),
        (
            "not encrypted",
            summary(0, "hm") + &item_done(0, item(Value::Null)) + &spoken(1, "hello") + &completed(),
            "(hm\n\nso) \"hello\" 20/5/9 Finished",
        ),
        (
            "in the open",
            shown + &item_done(0, open) + &spoken(1, "hello") + &completed(),
            r#"(hm) {"content":[{"text":"hm","type":"reasoning_text"}],"summary":[],"type":"reasoning"} "hello" 20/5/9 Finished"#,
        ),
        (
            "nothing but reasoning",
            pieces + &completed(),
            &format!("(hm\n\nso) {kept} 20/5/9 Empty {{ reasoned: true }}"),
        ),
        (
            "cut in it",
            begin()
                + &added(0, json!({"type": "reasoning", "id": "rs_1", "summary": []}))
                + &end("incomplete", response("incomplete", json!([]))),
            "20/5/9 CutAtOutputLimit",
        ),
    ];
    hold::<OpenaiResponses>(table);
}

#[test]
fn what_is_not_known_is_passed_over() {
    let search =
        json!({"type": "web_search_call", "id": "ws_1", "status": "completed", "action": {"type": "search"}});
    let answer = json!({"type": "message", "id": "msg_1", "phase": "final_answer", "content": []});
    let oddities = [
        event("output_text.annotation.added", 0.into(), json!({"annotation": {}})),
        event("moon.rises", 0.into(), json!({"phase": 3})),
        event("output_item.added", 0.into(), json!({"item": null})),
        event("output_item.done", 0.into(), json!({})),
        "data: {\"type\":\"keepalive\"}\n\ndata: 7\n\ndata: []\n\n".to_owned(),
        event("completed", 0.into(), json!({"response": "none"})),
        event("output_text.delta", 0.into(), json!({"delta": {"text": "no"}})),
    ];
    let table: &[Case<'_>] = &[
        (
            "oddities",
            [begin(), oddities.concat(), spoken(1, "hello"), completed()].concat(),
            r#""hello" 20/5/9 Finished"#,
        ),
        (
            "a tool of the provider",
            item_done(0, search) + &spoken(1, "hello") + &completed(),
            r#"{"action":{"type":"search"},"status":"completed","type":"web_search_call"} "hello" 20/5/9 Finished"#,
        ),
        (
            "what the message is for",
            added(0, answer) + &text(0, "hello") + &completed(),
            r#"{"phase":"final_answer","type":"message"} "hello" 20/5/9 Finished"#,
        ),
    ];
    hold::<OpenaiResponses>(table);
}
