//! Names that fit are left alone, all others come back as they were.

use proptest::collection::btree_set;
use proptest::prelude::*;
use serde_json::Value;
use serde_json::json;

use super::*;
use crate::anthropic::Anthropic;
use crate::conversation::AssistantMessage;
use crate::conversation::ToolCall;
use crate::gemini::Gemini;
use crate::openai_chat::OpenaiChat;
use crate::reader::Close;
use crate::reader::ReadReply as _;
use crate::reader::Reader;
use crate::reply::Limits;
use crate::wire::Wire;
use crate::wire::build_request;

fn tool(name: &str) -> ToolSpec {
    ToolSpec { name: name.to_owned(), description: "d".to_owned(), parameters: Value::Null }
}

fn names<'a>(all: impl IntoIterator<Item = &'a str>) -> Names {
    let tools: Vec<ToolSpec> = all.into_iter().map(tool).collect();
    Names::of(&Ask { messages: &[], tools: &tools })
}

#[test]
fn a_name_that_fits_is_sent_as_it_is() {
    let longest = "a".repeat(64);
    let all = names(["think", "_x", "run-it", "Add2", longest.as_str()]);
    assert!(all.is_empty());
    assert_eq!((all.sent("think"), all.own("think")), ("think", "think"));
}

#[test]
fn another_name_is_replaced_by_one_that_resembles_it() {
    let long = "server__".repeat(10);
    let table = [
        ("github.search", "github_search"),
        ("a/b:c d", "a_b_c_d"),
        ("2fa", "_2fa"),
        ("-x", "_-x"),
        ("caf\u{e9}", "caf_"),
        ("", "_"),
    ];
    for (own, sent) in table {
        assert_eq!(names([own]).sent(own), sent);
    }
    let all = names([long.as_str()]);
    assert!(all.sent(&long).starts_with("server__server__") && all.sent(&long).len() == 64);
}

#[test]
fn names_that_would_become_one_stay_apart() {
    let all = names(["a.b", "a_b", "a/b"]);
    let sent = [all.sent("a.b"), all.sent("a_b"), all.sent("a/b")];
    assert_eq!(sent[1], "a_b");
    assert!(sent[0] != sent[2] && sent[0] != "a_b" && sent[2] != "a_b", "{sent:?}");
    let again = names(["a/b", "a_b", "a.b"]);
    assert_eq!(all, again);
}

proptest! {
    #[test]
    fn every_name_comes_back(all in btree_set("[a-c._/2\u{e9}-]{0,70}", 0..12)) {
        let map = names(all.iter().map(String::as_str));
        let sent: BTreeSet<&str> = all.iter().map(|own| map.sent(own)).collect();
        prop_assert_eq!(sent.len(), all.len());
        for own in &all {
            prop_assert!(fits(map.sent(own)), "{}", map.sent(own));
            prop_assert_eq!(map.own(map.sent(own)), own);
            prop_assert!(!fits(own) || map.sent(own) == own);
        }
    }
}

/// A turn in which the tool `a.b` was called before, may be called, and is called again by `reply`.
fn turn<W: Wire + 'static>(reply: &Value) {
    let call = |id: &str| ToolCall {
        id: id.to_owned(),
        name: "a.b".to_owned(),
        arguments: "{}".to_owned(),
        thought_signature: None,
    };
    let before = AssistantMessage { parts: vec![Part::ToolCall(call("c1"))], ..AssistantMessage::default() };
    let messages = [Message::user("go"), Message::Assistant(before)];
    let mut settings = Settings::new("provider", "model");
    settings.tool_choice = ToolChoice::Tool("a.b".to_owned());
    let ask = Ask { messages: &messages, tools: &[tool("a.b")] };
    let (request, names) = build_request::<W>(&settings, &ask).unwrap();
    let body = request.body.to_string();
    assert!(body.matches("a_b").count() >= 3 && !body.contains("a.b"), "{body}");

    let mut reader = Box::new(Reader::<W>::new(&settings, Limits::default(), "").with_names(names));
    let mut events = Vec::new();
    reader.feed(reply.to_string().as_bytes(), &mut events).unwrap();
    let reply = reader.finish(Close::Clean, &mut events).unwrap();
    assert_eq!(reply.message.tool_calls().next().unwrap().name, "a.b");
    assert!(events.contains(&ReplyEvent::CallBegun { position: 0, name: "a.b".to_owned() }), "{events:?}");
}

#[test]
fn names_are_replaced_and_restored_on_every_wire() {
    let function = json!({"name": "a_b", "arguments": "{}"});
    turn::<OpenaiChat>(
        &json!({"choices": [{"message": {"tool_calls": [{"id": "c", "function": function}]}, "finish_reason": "stop"}]}),
    );
    let block = json!({"type": "tool_use", "id": "c", "name": "a_b", "input": {}});
    turn::<Anthropic>(&json!({"type": "message", "content": [block], "stop_reason": "tool_use"}));
    let part = json!({"functionCall": {"name": "a_b", "args": {}}});
    turn::<Gemini>(&json!({"candidates": [{"content": {"parts": [part]}, "finishReason": "STOP"}]}));
}
