//! What is stored, by this release and by those before it, is read back as it was.

use std::borrow::Cow;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use serde_json::json;

use super::*;

fn call(id: &str) -> ToolCall {
    ToolCall { id: id.into(), name: "note".into(), arguments: "{}".into(), thought_signature: None }
}

fn part() -> impl Strategy<Value = Part> {
    let text = "[a-z\u{e9}\n ]{0,9}";
    let signature = || option::of("[a-z]{1,4}".prop_map(String::from));
    prop_oneof![
        text.prop_map(Part::Text),
        (text, signature()).prop_map(|(text, signature)| Part::Thinking { text, signature }),
        "[a-z]{1,4}".prop_map(|data| Part::RedactedThinking { data }),
        ("[a-z]{1,4}", signature())
            .prop_map(|(id, signed)| Part::ToolCall(ToolCall { thought_signature: signed, ..call(&id) })),
        "[a-z]{1,4}".prop_map(|word| Part::Opaque { data: json!({"word": word}) }),
    ]
}

proptest! {
    #[test]
    fn a_reply_is_read_back_as_it_was(parts in vec(part(), 0..8), tokens in 0_u64..9) {
        let origin = Some(Origin { wire: "w".into(), provider: "p".into(), model: "m".into() });
        let usage = Usage { output_tokens: tokens, ..Usage::default() };
        let message = AssistantMessage { parts, origin, usage };
        let stored = serde_json::to_value(&message).unwrap();
        prop_assert_eq!(stored["text"].as_str().unwrap(), message.text());
        prop_assert_eq!(serde_json::from_value::<AssistantMessage>(stored).unwrap(), message);
    }

    #[test]
    fn a_layout_that_does_not_fit_loses_nothing(cuts in vec(0_usize..20, 0..4)) {
        let layout: Vec<Value> = cuts.iter().map(|bytes| json!({"part": "text", "bytes": bytes})).collect();
        let stored = json!({"text": "h\u{e9}llo", "tool_calls": [call("a")], "layout": layout});
        let message: AssistantMessage = serde_json::from_value(stored).unwrap();
        prop_assert_eq!(message.text(), "h\u{e9}llo");
        prop_assert_eq!(message.tool_calls().count(), 1);
    }
}

#[test]
fn what_older_releases_stored_is_read() {
    let stored = json!({
        "text": "hello", "reasoning": "hm",
        "tool_calls": [{"id": "a", "name": "note", "arguments": "{}"}],
        "usage": {"input_tokens": 1, "output_tokens": 2, "turns": 1},
    });
    let message: AssistantMessage = serde_json::from_value(stored).unwrap();
    let thinking = Part::Thinking { text: "hm".into(), signature: None };
    assert_eq!(message.parts, [thinking, Part::Text("hello".into()), Part::ToolCall(call("a"))]);
    assert_eq!((message.usage.input_tokens, message.usage.output_tokens), (1, 2));
    let user: Message = serde_json::from_value(json!({"role": "user", "text": "hi"})).unwrap();
    assert_eq!(user, Message::user("hi"));
    assert_eq!(serde_json::to_value(&user).unwrap(), json!({"role": "user", "text": "hi"}));
}

#[test]
fn signatures_that_older_releases_kept_are_read() {
    let block = json!({"type": "thinking", "thinking": "hm", "signature": "sig"});
    let hidden = json!({"type": "redacted_thinking", "data": "xyz"});
    let stored = json!({
        "reasoning": "hm",
        "tool_calls": [call("a")],
        "continuation": {
            "provider": "anthropic",
            "parts": [{"Custom": {"model_iden": null, "data": block}}, {"Custom": {"data": hidden}}],
            "signatures": {},
        },
    });
    let message: AssistantMessage = serde_json::from_value(stored).unwrap();
    let thinking = Part::Thinking { text: "hm".into(), signature: Some("sig".into()) };
    let redacted = Part::RedactedThinking { data: "xyz".into() };
    assert_eq!(message.parts, [thinking, redacted, Part::ToolCall(call("a"))]);
    assert!(message.origin.unwrap().is("anthropic", "anthropic"));

    let stored = json!({
        "tool_calls": [call("a")],
        "continuation": {"provider": "google", "parts": [], "signatures": {"a": ["sig"]}},
    });
    let message: AssistantMessage = serde_json::from_value(stored).unwrap();
    assert_eq!(message.tool_calls().next().unwrap().thought_signature.as_deref(), Some("sig"));
    assert!(message.origin.unwrap().is("gemini", "google"));
}

#[test]
fn the_stored_form_is_what_older_releases_read() {
    let message = AssistantMessage {
        parts: vec![Part::ToolCall(call("a")), Part::Text("hello".into())],
        ..AssistantMessage::default()
    };
    let stored = serde_json::to_value(&message).unwrap();
    assert_eq!(stored["text"], "hello");
    assert_eq!(stored["tool_calls"][0]["id"], "a");
    assert_eq!(stored["usage"]["turns"], 1);
    assert_eq!(stored["layout"], json!([{"part": "tool_call"}, {"part": "text", "bytes": 5}]));
}

fn result(call_id: &str, text: &str) -> Message {
    let (call_id, name) = (call_id.into(), "note".into());
    Message::ToolResult(ToolResult { call_id, name, content: text.into(), is_error: false })
}

#[test]
fn each_call_has_its_one_result() {
    let parts = vec![Part::ToolCall(call("a")), Part::ToolCall(call("b"))];
    let reply = Message::Assistant(AssistantMessage { parts, ..AssistantMessage::default() });
    let messages = [
        result("a", "before its call"),
        Message::user("go"),
        reply.clone(),
        result("b", "one"),
        result("b", "two"),
        result("c", "of no call"),
        Message::Assistant(AssistantMessage::text_only(" \n")),
        Message::user("continue"),
    ];
    let paired: Vec<Message> = paired(&messages).into_iter().map(Cow::into_owned).collect();
    let Message::ToolResult(missing) = &paired[2] else { panic!("{paired:?}") };
    assert!(missing.is_error && missing.call_id == "a");
    assert_eq!(paired[3], result("b", "one"));
    assert_eq!((&paired[0], &paired[1], paired.len()), (&messages[1], &reply, 5));
}

#[test]
fn an_id_stands_in_one_reply_of_a_conversation() {
    let reply = |ids: &[&str]| {
        let parts = ids.iter().map(|id| Part::ToolCall(call(id))).collect();
        Message::Assistant(AssistantMessage { parts, ..AssistantMessage::default() })
    };
    let messages = [
        reply(&["call_0", "call_1"]),
        result("call_0", "one"),
        result("call_1", "two"),
        reply(&["call_0"]),
        result("call_0", "three"),
        reply(&["call_0_2", "call_0"]),
        result("call_0", "five"),
        result("call_0_2", "four"),
    ];
    let expected = [
        reply(&["call_0", "call_1"]),
        result("call_0", "one"),
        result("call_1", "two"),
        reply(&["call_0_2"]),
        result("call_0_2", "three"),
        reply(&["call_0_2_2", "call_0_3"]),
        result("call_0_2_2", "four"),
        result("call_0_3", "five"),
    ];
    let paired: Vec<Message> = paired(&messages).into_iter().map(Cow::into_owned).collect();
    assert_eq!(paired, expected);
}

#[test]
fn content_keeps_the_order_of_words_and_images() {
    let image = Image { media_type: "image/png".into(), data: "AAAA".into() };
    let content = Content::new(vec![
        ContentPart::Text { text: "before".into() },
        ContentPart::Image(image.clone()),
        ContentPart::Text { text: "after".into() },
    ]);
    let stored = serde_json::to_value(&content).unwrap();
    assert_eq!(serde_json::from_value::<Content>(stored).unwrap(), content);
    assert_eq!(content.text(), "before\nafter");
    assert_eq!(content.in_words(), format!("before\n{}\nafter", image.in_words()));
    assert_eq!(content.images().count(), 1);
}
