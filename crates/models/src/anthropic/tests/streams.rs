//! Streams as Anthropic, gateways and other servers send them, each with its outcome.

use proptest::prelude::*;
use serde_json::Value;
use serde_json::json;

use crate::anthropic::Anthropic;
use crate::reader::Close;
use crate::reply::Limits;
use crate::reply::ReplyEnd;
use crate::reply::ReplyEvent;
use crate::testing::Case;
use crate::testing::hold;
use crate::testing::holds_for_any_cut;
use crate::testing::hostile;
use crate::testing::read;
use crate::testing::work_per_byte;

pub(super) fn event(data: &Value) -> String {
    format!("event: {}\ndata: {data}\n\n", data["type"].as_str().unwrap())
}

pub(super) fn begin() -> String {
    let usage = json!({"input_tokens": 20, "output_tokens": 1});
    event(&json!({"type": "message_start", "message": {"type": "message", "content": [], "usage": usage}}))
}

pub(super) fn start(index: impl Into<Value>, block: Value) -> String {
    event(&json!({"type": "content_block_start", "index": index.into(), "content_block": block}))
}

pub(super) fn delta(index: impl Into<Value>, delta: Value) -> String {
    event(&json!({"type": "content_block_delta", "index": index.into(), "delta": delta}))
}

pub(super) fn stop(index: impl Into<Value>) -> String {
    event(&json!({"type": "content_block_stop", "index": index.into()}))
}

pub(super) fn end(reason: &str) -> String {
    let delta = json!({"stop_reason": reason, "stop_sequence": null});
    let delta = event(&json!({"type": "message_delta", "delta": delta, "usage": {"output_tokens": 9}}));
    delta + &event(&json!({"type": "message_stop"}))
}

/// A whole stream of these blocks.
pub(super) fn stream(blocks: &[String], reason: &str) -> String {
    [begin(), blocks.concat(), end(reason)].concat()
}

pub(super) fn text_piece(index: u32, text: &str) -> String {
    delta(index, json!({"type": "text_delta", "text": text}))
}

pub(super) fn text(index: u32, text: &str) -> String {
    [start(index, json!({"type": "text", "text": ""})), text_piece(index, text), stop(index)].concat()
}

pub(super) fn call_start(index: impl Into<Value>, id: &str, name: &str) -> String {
    start(index, json!({"type": "tool_use", "id": id, "name": name, "input": {}}))
}

pub(super) fn input(index: impl Into<Value>, piece: &str) -> String {
    delta(index, json!({"type": "input_json_delta", "partial_json": piece}))
}

/// A call of `note` in two pieces.
pub(super) fn call(index: u32, id: &str) -> String {
    [
        call_start(index, id, "note"),
        input(index, ""),
        input(index, "{\"a\":"),
        input(index, "\"x\"}"),
        stop(index),
    ]
    .concat()
}

pub(super) fn thinking(index: u32, words: &str, signature: &str) -> String {
    [
        start(index, json!({"type": "thinking", "thinking": "", "signature": ""})),
        delta(index, json!({"type": "thinking_delta", "thinking": words})),
        delta(index, json!({"type": "signature_delta", "signature": signature})),
        stop(index),
    ]
    .concat()
}

#[test]
fn texts_and_ends() {
    let ended = |reason| stream(&[text(0, "hello")], reason);
    let refusal = json!({"stop_reason": "refusal", "stop_details": {"type": "refusal", "category": "bio", "explanation": "Not this."}});
    let refused = event(&json!({"type": "message_delta", "delta": refusal, "usage": {"output_tokens": 9}}));
    let middle = r#"BrokenOff("the stream ended in the middle of the reply")"#;
    let table: &[Case<'_>] = &[
        ("plain", ended("end_turn"), r#""hello" 20/0/9 Finished"#),
        ("stop sequence", ended("stop_sequence"), r#""hello" 20/0/9 Finished"#),
        ("a reason of its own", ended("eos"), r#""hello" 20/0/9 Finished"#),
        ("cut", ended("max_tokens"), r#""hello" 20/0/9 CutAtOutputLimit"#),
        ("window", ended("model_context_window_exceeded"), r#""hello" 20/0/9 WindowFull"#),
        ("pause", ended("pause_turn"), r#""hello" 20/0/9 Paused"#),
        ("refusal", stream(&[], "refusal"), r#"20/0/9 Refused("")"#),
        ("refusal after words", ended("refusal"), r#""hello" 20/0/9 Refused("hello")"#),
        (
            "refusal with a reason",
            [begin(), text(0, "he"), refused].concat(),
            r#""he" 20/0/9 Refused("Not this.")"#,
        ),
        ("filter", ended("content_filter"), r#""hello" 20/0/9 Filtered("hello")"#),
        ("failure", ended("error"), r#""hello" 20/0/9 BrokenOff("the provider ended it with `error`")"#),
        ("empty", stream(&[], "end_turn"), "20/0/9 Empty { reasoned: false }"),
        ("blank", stream(&[text(0, "\n\n")], "end_turn"), r#""\n\n" 20/0/9 Empty { reasoned: false }"#),
        (
            "thinking alone",
            stream(&[thinking(0, "hm", "s")], "end_turn"),
            "(hm#s) 20/0/9 Empty { reasoned: true }",
        ),
        (
            "no calls",
            ended("tool_use"),
            r#""hello" 20/0/9 BrokenOff("it announces tool calls and has none")"#,
        ),
        (
            "no mark",
            ended("end_turn").replace(&event(&json!({"type": "message_stop"})), ""),
            r#""hello" 20/0/9 Finished"#,
        ),
        (
            "no reason",
            [begin(), text(0, "hello"), event(&json!({"type": "message_stop"}))].concat(),
            r#""hello" 20/0/1 Finished"#,
        ),
        ("neither", begin() + &text(0, "hello"), &format!(r#""hello" 20/0/1 {middle}"#)),
        ("nothing", String::new(), middle),
    ];
    hold::<Anthropic>(table);
}

#[test]
fn events_as_servers_write_them() {
    let plain = stream(&[text(0, "h\u{e9}llo"), call(1, "a")], "tool_use");
    let came = "\"h\u{e9}llo\" note[a]({\"a\":\"x\"}) 20/0/9 WantsTools";
    let ping = event(&json!({"type": "ping"}));
    let unnamed: String = plain
        .lines()
        .filter(|line| !line.starts_with("event"))
        .fold(String::new(), |all, line| all + line + "\n");
    let untyped = [
        "message_start",
        "content_block_start",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    .iter()
    .fold(plain.clone(), |all, kind| all.replace(&format!("\"type\":\"{kind}\""), "\"x\":1"));
    let table: &[Case<'_>] = &[
        ("CRLF", plain.replace('\n', "\r\n"), came),
        ("CR", plain.replace('\n', "\r"), came),
        ("mark before it", format!("\u{feff}{plain}"), came),
        ("no space", plain.replace(": {", ":{"), came),
        ("pings", plain.replace("\n\n", &format!("\n\n{ping}: comment\n\n")), came),
        ("no names", unnamed, came),
        ("no types", untyped, came),
        ("no last line end", plain.trim_end().to_owned(), came),
        ("done", format!("{plain}data: [DONE]\n\n"), came),
        ("oddities", format!("{ping}data: 7\n\nevent: content_block_start\ndata: []\n\n{plain}"), came),
    ];
    hold::<Anthropic>(table);
}

#[test]
fn blocks_that_are_not_known_are_passed_over() {
    let hello = || text(1, "hello");
    let came = r#""hello" 20/0/9 Finished"#;
    let citation = delta(1, json!({"type": "citations_delta", "citation": {"type": "char_location"}}));
    let cited = hello().replace(&stop(1), &(citation + &stop(1)));
    let unknown =
        [start(0, json!({"type": "hologram", "text": "x"})), input(0, "{\"q\":1}"), stop(0)].concat();
    let search = json!({"type": "server_tool_use", "id": "srv", "name": "web_search", "input": {}});
    let searched = [start(0, search), input(0, "{\"query\":"), input(0, "\"x\"}"), stop(0)].concat();
    let found = json!({"type": "web_search_tool_result", "tool_use_id": "srv", "content": []});
    let table: &[Case<'_>] = &[
        ("block", stream(&[unknown.clone(), hello()], "end_turn"), came),
        (
            "block after a call",
            stream(&[call(0, "a"), unknown], "tool_use"),
            r#"note[a]({"a":"x"}) 20/0/9 WantsTools"#,
        ),
        ("citation", stream(&[cited], "end_turn"), came),
        ("event", stream(&[event(&json!({"type": "weather"})), hello()], "end_turn"), came),
        ("delta of no block", stream(&[input(7, "{"), hello()], "end_turn"), came),
        (
            "tool of the provider",
            stream(&[searched, start(1, found), stop(1), text(2, "hello")], "end_turn"),
            r#"{"id":"srv","input":"{\"query\":\"x\"}","name":"web_search","type":"server_tool_use"} {"content":[],"tool_use_id":"srv","type":"web_search_tool_result"} "hello" 20/0/9 Finished"#,
        ),
        (
            "text in the start",
            stream(&[start(0, json!({"type": "text", "text": "hello"})), stop(0)], "end_turn"),
            came,
        ),
        ("two texts", stream(&[text(0, "hel"), text(1, "lo")], "end_turn"), r#""hel" "lo" 20/0/9 Finished"#),
        ("text without a block", stream(&[text_piece(0, "hello")], "end_turn"), came),
    ];
    hold::<Anthropic>(table);
}

/// One call, and two, as they come out.
const ONE: &str = r#"note[a]({"a":"x"}) 20/0/9 WantsTools"#;
const BOTH: &str = r#"note[a]({"a":"x"}) note[b]({"a":"x"}) 20/0/9 WantsTools"#;

/// A stream that ends because the model wants these calls to be made.
fn made(calls: &[String]) -> String {
    stream(calls, "tool_use")
}

#[test]
fn calls_whatever_the_indices() {
    let null = |body: String| body.replace("\"index\":0,", "\"index\":null,");
    let interleaved = [
        call_start(0, "a", "note"),
        call_start(1, "b", "note"),
        input(0, "{\"a\":"),
        input(1, "{\"a\":"),
        input(0, "\"x\"}"),
        input(1, "\"x\"}"),
    ];
    let nameless = [call_start(0, "", "note"), call_start(0, "", "note"), input(0, "{\"a\":1}")];
    let table: &[Case<'_>] = &[
        ("one", made(&[call(0, "a")]), ONE),
        ("two", made(&[call(0, "a"), call(1, "b")]), BOTH),
        ("huge index", made(&[call(u32::MAX, "a")]), ONE),
        ("one index", made(&[call(0, "a"), call(0, "b")]), BOTH),
        ("null index", null(made(&[call(0, "a"), call(0, "b")])), BOTH),
        ("another index", made(&[call_start(1, "a", "note"), input(2, "{\"a\":\"x\"}")]), ONE),
        ("interleaved", made(&interleaved), BOTH),
        ("no ids", made(&nameless), r#"note[made_1]({}) note[made_2]({"a":1}) 20/0/9 WantsTools"#),
        (
            "one id",
            made(&[call(0, "a"), call(1, "a")]),
            r#"note[a]({"a":"x"}) note[made_1]({"a":"x"}) 20/0/9 WantsTools"#,
        ),
    ];
    hold::<Anthropic>(table);
}

#[test]
fn calls_in_any_form() {
    let whole =
        |input: Value| start(0, json!({"type": "tool_use", "id": "a", "name": "note", "input": input}));
    let table: &[Case<'_>] = &[
        ("no input", made(&[call_start(0, "a", "note"), stop(0)]), "note[a]({}) 20/0/9 WantsTools"),
        ("input in the start", made(&[whole(json!({"a": "x"})), stop(0)]), ONE),
        ("input in the start, never stopped", made(&[whole(json!({"a": "x"})), call(1, "b")]), BOTH),
        ("input as text", made(&[whole(json!("{\"a\":\"x\"}")), stop(0)]), ONE),
        ("input null", made(&[whole(Value::Null), stop(0)]), "note[a]({}) 20/0/9 WantsTools"),
        (
            "input twice",
            made(&[whole(json!({"a": "x"})), input(0, "{\"a\": "), input(0, "\"x\"}"), stop(0)]),
            r#"note[a]({"a": "x"}) 20/0/9 WantsTools"#,
        ),
        ("after blanks", made(&[text(0, "\n\n"), call(1, "a")]), &format!(r#""\n\n" {ONE}"#)),
        ("ends with end_turn", stream(&[call(0, "a")], "end_turn"), ONE),
        (
            "broken",
            made(&[call_start(0, "a", "note"), input(0, "{\"a\": x")]),
            r#"note[a]({"a": x) 20/0/9 WantsTools"#,
        ),
        (
            "cut",
            stream(&[call_start(0, "a", "note"), input(0, "{\"a")], "max_tokens"),
            r#"dropped note[a]({"a) 20/0/9 CutAtOutputLimit"#,
        ),
        ("refused", stream(&[call(0, "a")], "refusal"), r#"dropped note[a]({"a":"x"}) 20/0/9 Refused("")"#),
        (
            "broken off",
            begin() + &call(0, "a"),
            r#"dropped note[a]({"a":"x"}) 20/0/1 BrokenOff("the stream ended in the middle of the reply")"#,
        ),
        (
            "text on an open call",
            made(&[call_start(0, "a", "note"), text_piece(0, "hm"), input(0, "{\"a\":\"x\"}"), stop(0)]),
            r#"note[a]({"a":"x"}) "hm" 20/0/9 WantsTools"#,
        ),
    ];
    hold::<Anthropic>(table);
}

#[test]
fn thinking_keeps_its_order_and_its_signatures() {
    let hidden =
        |index: u32| start(index, json!({"type": "redacted_thinking", "data": "ENC"})) + &stop(index);
    let shown = json!({"type": "thinking", "thinking": "one", "signature": "s1"});
    let omitted = [
        start(0, json!({"type": "thinking", "thinking": "", "signature": ""})),
        delta(0, json!({"type": "signature_delta", "signature": "s1"})),
        stop(0),
    ];
    let table: &[Case<'_>] = &[
        (
            "signed, hidden, call",
            stream(&[thinking(0, "one", "s1"), hidden(1), call(2, "a")], "tool_use"),
            r#"(one#s1) (##ENC) note[a]({"a":"x"}) 20/0/9 WantsTools"#,
        ),
        (
            "between calls",
            stream(&[hidden(0), call(1, "a"), thinking(2, "two", "s2"), call(3, "b")], "tool_use"),
            r#"(##ENC) note[a]({"a":"x"}) (two#s2) note[b]({"a":"x"}) 20/0/9 WantsTools"#,
        ),
        (
            "two",
            stream(&[thinking(0, "one", "s1"), thinking(1, "two", "s2"), text(2, "hi")], "end_turn"),
            r#"(one#s1) (two#s2) "hi" 20/0/9 Finished"#,
        ),
        (
            "text omitted",
            stream(&[omitted.concat(), thinking(1, "", "s2"), text(2, "hi")], "end_turn"),
            r#"(#s1) (#s2) "hi" 20/0/9 Finished"#,
        ),
        (
            "in the start",
            stream(&[start(0, shown), text(1, "hi")], "end_turn"),
            r#"(one#s1) "hi" 20/0/9 Finished"#,
        ),
        (
            "unsigned",
            stream(&[thinking(0, "one", ""), text(1, "hi")], "end_turn"),
            r#"(one) "hi" 20/0/9 Finished"#,
        ),
        ("empty", stream(&[thinking(0, "", ""), text(1, "hi")], "end_turn"), r#""hi" 20/0/9 Finished"#),
    ];
    hold::<Anthropic>(table);
}

#[test]
fn counts() {
    let begun = |usage: Value| event(&json!({"type": "message_start", "message": {"usage": usage}}));
    let ended = |usage: Value| {
        event(&json!({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": usage}))
    };
    let stream = |first: Value, last: Value| [begun(first), text(0, "hi"), ended(last)].concat();
    let cached = json!({"input_tokens": 20, "cache_read_input_tokens": 100, "cache_creation_input_tokens": 50, "output_tokens": 1});
    let all = json!({"input_tokens": 20, "cache_read_input_tokens": 5, "output_tokens": 9});
    let none = json!({"input_tokens": 0, "output_tokens": 0});
    let table: &[Case<'_>] = &[
        ("cache", stream(cached, json!({"output_tokens": 9})), r#""hi" 170/100/9 Finished"#),
        ("at the end", stream(none.clone(), all.clone()), r#""hi" 25/5/9 Finished"#),
        ("empty at the end", stream(all, none), r#""hi" 25/5/9 Finished"#),
        ("null", stream(Value::Null, json!({"output_tokens": null})), r#""hi" Finished"#),
        (
            "odd",
            stream(json!({"input_tokens": "x"}), json!({"input_tokens": -1, "output_tokens": 9})),
            r#""hi" 0/0/9 Finished"#,
        ),
    ];
    hold::<Anthropic>(table);
}

#[test]
fn errors() {
    let error = |kind: &str| {
        event(&json!({"type": "error", "error": {"type": kind, "message": "m"}, "request_id": "r"}))
    };
    let begun = || begin() + &text(0, "hello");
    let table: &[Case<'_>] = &[
        ("overloaded", error("overloaded_error"), "Overloaded: overloaded_error: m"),
        ("after text", begun() + &error("overloaded_error"), r#""hello" Overloaded: overloaded_error: m"#),
        ("rate limit", begun() + &error("rate_limit_error"), r#""hello" RateLimited: rate_limit_error: m"#),
        ("server", begun() + &error("api_error"), r#""hello" Server: api_error: m"#),
        ("billing", error("billing_error"), "QuotaUsedUp: billing_error: m"),
        ("key", error("authentication_error"), "Authentication: authentication_error: m"),
        ("request", error("invalid_request_error"), "InvalidRequest: invalid_request_error: m"),
        ("a kind of its own", error("weather_error"), "Server: weather_error: m"),
        ("words", begun() + "event: error\ndata: upstream is gone\n\n", r#""hello" Server: upstream is gone"#),
        (
            "not a stream",
            json!({"type": "error", "error": {"type": "invalid_request_error", "message": "prompt is too long: 9 tokens > 8 maximum"}}).to_string(),
            "ContextLength: invalid_request_error: prompt is too long: 9 tokens > 8 maximum",
        ),
        ("a page", "<html><body>Please log in</body></html>".into(), "NotAReply: a page came in place of a reply: Please log in"),
        ("broken JSON", begin() + "data: {\"type\n\n" + &text(0, "hi"), "Unreadable: an event of the stream is broken JSON"),
    ];
    hold::<Anthropic>(table);
}

#[test]
fn whole_replies_in_place_of_a_stream() {
    let usage = json!({"input_tokens": 20, "output_tokens": 9});
    let whole = |content: Value, reason: Value| json!({"type": "message", "role": "assistant", "content": content, "stop_reason": reason, "usage": usage});
    let blocks = json!([
        {"type": "thinking", "thinking": "hm", "signature": "s"},
        {"type": "redacted_thinking", "data": "ENC"},
        {"type": "text", "text": "hi"},
        {"type": "hologram"},
        {"type": "tool_use", "id": "a", "name": "note", "input": {"a": "x"}},
    ]);
    let all = r#"(hm#s) (##ENC) "hi" note[a]({"a":"x"}) 20/0/9 WantsTools"#;
    let hello = json!([{"type": "text", "text": "hello"}]);
    let table: &[Case<'_>] = &[
        ("all", whole(blocks.clone(), json!("tool_use")).to_string(), all),
        ("in a stream", event(&whole(blocks, json!("tool_use"))), all),
        ("cut", whole(hello.clone(), json!("max_tokens")).to_string(), r#""hello" 20/0/9 CutAtOutputLimit"#),
        ("no reason", whole(hello, Value::Null).to_string(), r#""hello" 20/0/9 Finished"#),
        ("text", whole(json!("hello"), json!("end_turn")).to_string(), r#""hello" 20/0/9 Finished"#),
        ("refused", whole(Value::Null, json!("refusal")).to_string(), r#"20/0/9 Refused("")"#),
        ("other JSON", json!({"hello": 1}).to_string(), r#"NotAReply: no reply came, but: {"hello":1}"#),
        ("a list", "[1]".into(), "NotAReply: no reply came, but: [1]"),
    ];
    hold::<Anthropic>(table);
}

#[test]
fn a_connection_that_breaks() {
    let came = |body: &str| {
        read::<Anthropic>(&[body.as_bytes()], Close::Broken("reset"), Limits::default()).1.unwrap()
    };
    assert_eq!(came(&(begin() + &text(0, "hello"))).end, ReplyEnd::BrokenOff("reset".into()));
    assert_eq!(came(&stream(&[text(0, "hello")], "end_turn")).end, ReplyEnd::Finished);
    assert!(came(&(begin() + &call(0, "a"))).message.tool_calls().next().is_none());
}

#[test]
fn events_as_they_arrive() {
    let body = [
        begin(),
        event(&json!({"type": "ping"})),
        thinking(0, "hm", "s"),
        text(1, "hello"),
        call_start(2, "a", "note"),
        input(2, "{}"),
    ];
    let (events, _) = read::<Anthropic>(&[body.concat().as_bytes()], Close::Clean, Limits::default());
    let counted = crate::conversation::Usage { input_tokens: 20, output_tokens: 1, ..Default::default() };
    assert_eq!(
        events,
        [
            ReplyEvent::Usage(counted),
            ReplyEvent::KeepAlive,
            ReplyEvent::Reasoning("hm".into()),
            ReplyEvent::Text("hello".into()),
            ReplyEvent::CallBegun { position: 0, name: "note".into() },
            ReplyEvent::CallGrew { position: 0, bytes: 2 },
        ]
    );
}

#[test]
fn limits_are_named() {
    let limits = Limits { line_bytes: 400, reply_bytes: 200, calls: 2 };
    let came =
        |body: &str| read::<Anthropic>(&[body.as_bytes()], Close::Clean, limits).1.unwrap_err().to_string();
    let search = start(0, json!({"type": "server_tool_use", "id": "s", "input": {}}));
    assert_eq!(came(&(search + &input(0, &"x".repeat(50)).repeat(4))), "the reply is longer than 200 bytes");
    assert_eq!(came(&thinking(0, "", "s").repeat(9)), "the reply is longer than 200 bytes");
    let few = Limits { calls: 2, ..Limits::default() };
    let many = call(0, "").repeat(3);
    let error = read::<Anthropic>(&[many.as_bytes()], Close::Clean, few).1.unwrap_err();
    assert_eq!(error.to_string(), "the reply has more than 2 tool calls");
}

#[test]
fn reading_is_linear() {
    let pieces = |count: usize| {
        let pieces = input(0, "xxxx").repeat(count);
        stream(
            &[call_start(0, "a", "note"), input(0, "{\"a\":\""), pieces, input(0, "\"}"), stop(0)],
            "tool_use",
        )
    };
    for count in [1000, 20_000] {
        assert!(work_per_byte::<Anthropic>(pieces(count).as_bytes(), 1400) <= 5, "{count} pieces");
    }
    let search = start(0, json!({"type": "server_tool_use", "id": "s", "input": {}}));
    let searched = stream(&[search, input(0, "xxxx").repeat(20_000), text(1, "hi")], "end_turn");
    assert!(work_per_byte::<Anthropic>(searched.as_bytes(), 1400) <= 5);
    let line = stream(&[text(0, &"a".repeat(10 << 20))], "end_turn");
    assert!(work_per_byte::<Anthropic>(line.as_bytes(), 1400) <= 5);
}

proptest! {
    #[test]
    fn any_bytes_in_any_pieces_come_to_the_same(
        bytes in hostile(vec![
            "event: message_start\ndata: {\"message\":{\"usage\":{\"input_tokens\":2}}}\n\n",
            "data: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"h\u{e9}\"}}\n\n",
            "data: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"tool_use\",\"id\":\"a\",\"name\":\"n\",\"input\":{\"a\":1}}}\n\n",
            "data: {\"type\":\"content_block_start\",\"content_block\":{\"type\":\"thinking\",\"signature\":\"s\"}}\n\n",
            "data: {\"type\":\"content_block_start\",\"index\":1,\"content_block\":{\"type\":\"mcp_tool_use\"}}\n\n",
            "data: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"input_json_delta\",\"partial_json\":\"{\"}}\n\n",
            "data: {\"type\":\"content_block_delta\",\"index\":1,\"delta\":{\"type\":\"input_json_delta\",\"partial_json\":{}}}\n\n",
            "data: {\"type\":\"content_block_delta\",\"delta\":{\"type\":\"text_delta\",\"text\":\"t\"}}\n\n",
            "data: {\"type\":\"content_block_delta\",\"delta\":{\"type\":\"signature_delta\",\"signature\":\"t\"}}\n\n",
            "data: {\"type\":\"content_block_stop\"}\n\n",
            "data: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"refusal\",\"stop_details\":3},\"usage\":{\"output_tokens\":3}}\n\n",
            "data: {\"type\":\"message_stop\"}\n\n",
            "data: {\"type\":\"message\",\"content\":\"x\"}\n\n",
            "event: content_block_start\ndata: [\"content_block\"]\n\n",
            "{\"type\":\"message\",\"content\":[3,{\"type\":\"tool_use\"}]}",
        ]),
        size in 1_usize..20,
        broken in any::<bool>(),
    ) {
        holds_for_any_cut::<Anthropic>(&bytes, size, broken);
    }
}
