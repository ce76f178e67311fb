//! Streams as providers, gateways and local servers send them, each with what it comes to.

use proptest::prelude::*;
use serde_json::Value;
use serde_json::json;

use crate::openai_chat::OpenaiChat;
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

pub(super) const DONE: &str = "data: [DONE]\n\n";

pub(super) fn event(data: &Value) -> String {
    format!("data: {data}\n\n")
}

/// A chunk with this delta.
pub(super) fn delta(delta: Value) -> String {
    event(&json!({"id": "c", "choices": [{"index": 0, "delta": delta, "finish_reason": null}]}))
}

/// The chunk that says why it ends.
pub(super) fn finish(reason: &str) -> String {
    event(&json!({"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]}))
}

pub(super) fn usage(output: u32) -> String {
    event(&json!({"choices": [], "usage": {"prompt_tokens": 20, "completion_tokens": output}}))
}

pub(super) fn text(text: &str) -> String {
    delta(json!({"role": "assistant", "content": text}))
}

/// A whole stream: what it says, why it ends, usage, the mark.
pub(super) fn stream(says: &[String], reason: &str) -> String {
    [says.concat(), finish(reason), usage(9), DONE.to_owned()].concat()
}

pub(super) fn call(index: Value, id: &str, name: &str, arguments: impl Into<Value>) -> String {
    let mut call = json!({"id": id, "function": {"name": name, "arguments": arguments.into()}});
    if index != "none" {
        call["index"] = index;
    }
    delta(json!({"tool_calls": [call]}))
}

pub(super) const NOTE: &str = r#"{"a":"x"}"#;

#[test]
fn texts_and_ends() {
    let hello = || text("hello");
    let said = |reason| stream(&[hello()], reason);
    let refusal = [delta(json!({"refusal": "I will"})), delta(json!({"refusal": " not."}))];
    let table: &[Case<'_>] = &[
        ("plain", said("stop"), r#""hello" 20/0/9 Finished"#),
        ("a reason of its own", said("eos"), r#""hello" 20/0/9 Finished"#),
        ("no mark", [hello(), finish("stop")].concat(), r#""hello" Finished"#),
        ("no reason", [hello(), DONE.to_owned()].concat(), r#""hello" Finished"#),
        ("neither", hello(), r#""hello" BrokenOff("the stream ended in the middle of the reply")"#),
        ("nothing", String::new(), r#"BrokenOff("the stream ended in the middle of the reply")"#),
        ("only the mark", DONE.to_owned(), "Empty { reasoned: false }"),
        ("blank", stream(&[text(" \n")], "stop"), r#"" \n" 20/0/9 Empty { reasoned: false }"#),
        (
            "reasoning alone",
            stream(&[delta(json!({"reasoning": "hm"}))], "stop"),
            "(hm) 20/0/9 Empty { reasoned: true }",
        ),
        ("cut", said("length"), r#""hello" 20/0/9 CutAtOutputLimit"#),
        ("window", said("model_length"), r#""hello" 20/0/9 WindowFull"#),
        ("filter", stream(&[], "content_filter"), r#"20/0/9 Filtered("")"#),
        ("filter after words", said("content_filter"), r#""hello" 20/0/9 Filtered("hello")"#),
        ("refusal", stream(&refusal, "stop"), r#"20/0/9 Refused("I will not.")"#),
        ("error reason", said("error"), r#""hello" 20/0/9 BrokenOff("the provider ended it with `error`")"#),
        (
            "no calls",
            stream(&[], "tool_calls"),
            r#"20/0/9 BrokenOff("it announces tool calls and has none")"#,
        ),
        (
            "last event unfinished",
            format!("{}data: {}", hello(), finish("stop")[6..].trim()),
            r#""hello" Finished"#,
        ),
        (
            "last event cut",
            format!("{}data: {{\"choices", hello()),
            r#""hello" BrokenOff("the stream ended in the middle of the reply")"#,
        ),
    ];
    hold::<OpenaiChat>(table);
}

#[test]
fn bytes_as_servers_write_them() {
    let plain = stream(&[text("h\u{e9}llo")], "stop");
    let came = "\"h\u{e9}llo\" 20/0/9 Finished";
    let table: &[Case<'_>] = &[
        ("CRLF", plain.replace('\n', "\r\n"), came),
        ("CR", plain.replace('\n', "\r"), came),
        ("mark before it", format!("\u{feff}{plain}"), came),
        ("no space", plain.replace("data: ", "data:"), came),
        ("blank lines before it", format!("\n\n{plain}"), came),
        ("no blank lines", plain.replace("\n\n", "\n"), came),
        ("comments", format!(": hi\n\n{}", plain.replace("\n\n", "\n\n: ping\n\n")), came),
        ("words in data", format!("data: ping\n\n{plain}"), came),
        ("event names", plain.replace("data: ", "event: chunk\ndata: "), came),
        ("oddities", format!("data: 7\n\ndata: []\n\n{}{plain}", event(&json!({"choices": null}))), came),
    ];
    hold::<OpenaiChat>(table);
}

#[test]
fn calls() {
    let made = |calls: &[String]| stream(calls, "tool_calls");
    let whole = |index: Value| made(&[call(index, "a", "note", NOTE)]);
    let one = r#"note[a]({"a":"x"}) 20/0/9 WantsTools"#;
    let both = r#"note[a]({"a":"x"}) other[b]({"b":"y"}) 20/0/9 WantsTools"#;
    let other = || call(json!(0), "b", "other", r#"{"b":"y"}"#);
    let legacy = delta(json!({"function_call": {"name": "note", "arguments": NOTE}}));
    let signed = json!({"id": "a", "extra_content": {"google": {"thought_signature": "sig"}}, "function": {"name": "note"}});
    let table: &[Case<'_>] = &[
        ("index 50", whole(json!(50)), one),
        ("huge index", whole(json!(4_294_967_295_u64)), one),
        ("no index", whole(json!("none")), one),
        ("null index", whole(Value::Null), one),
        ("text index", whole(json!("0")), one),
        ("one index", made(&[call(json!(0), "a", "note", NOTE), other()]), both),
        ("ends with stop", stream(&[call(json!(0), "a", "note", NOTE)], "stop"), one),
        ("no mark", [call(json!(0), "a", "note", NOTE), finish("tool_calls"), usage(9)].concat(), one),
        ("object", made(&[call(json!(0), "a", "note", json!({"a": "x"}))]), one),
        ("null", made(&[call(json!(0), "a", "note", Value::Null)]), "note[a]({}) 20/0/9 WantsTools"),
        ("name in two", made(&[call(json!(0), "a", "no", ""), call(json!(0), "", "te", NOTE)]), one),
        (
            "empty ids",
            made(&[call(json!(0), "", "note", NOTE), call(json!(1), "", "other", "{}")]),
            r#"note[made_1]({"a":"x"}) other[made_2]({}) 20/0/9 WantsTools"#,
        ),
        (
            "after text",
            made(&[text("see"), call(json!(1), "a", "note", NOTE)]),
            r#""see" note[a]({"a":"x"}) 20/0/9 WantsTools"#,
        ),
        (
            "cut",
            stream(&[call(json!(0), "a", "note", "{\"a")], "length"),
            "dropped note[a]({\"a) 20/0/9 CutAtOutputLimit",
        ),
        (
            "broken off",
            call(json!(0), "a", "note", NOTE),
            r#"dropped note[a]({"a":"x"}) BrokenOff("the stream ended in the middle of the reply")"#,
        ),
        ("older form", stream(&[legacy], "function_call"), r#"note[made_1]({"a":"x"}) 20/0/9 WantsTools"#),
        (
            "signed",
            made(&[delta(json!({"tool_calls": [signed, null, 3]}))]),
            "note[a]({})#sig 20/0/9 WantsTools",
        ),
    ];
    hold::<OpenaiChat>(table);
}

#[test]
fn reasoning() {
    let said = |field: &str| {
        stream(
            &[delta(json!({field: "h", "content": null})), delta(json!({field: "m"})), text("hello")],
            "stop",
        )
    };
    let came = r#"(hm) "hello" 20/0/9 Finished"#;
    let twice = delta(json!({"reasoning": "hm", "reasoning_content": "hm"}));
    let mistral = json!([{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}, {"type": "text", "text": "hello"}, {"type": "reference"}]);
    let detail = |text: &str| json!({"type": "reasoning.text", "text": text, "index": 0});
    let details = [
        delta(json!({"reasoning": "h", "reasoning_details": [detail("h")]})),
        delta(json!({"reasoning_details": [detail("m")]})),
        delta(json!({"reasoning_details": [{"type": "reasoning.text", "index": 0, "signature": "sig"}]})),
        delta(json!({"reasoning_details": [{"type": "reasoning.encrypted", "data": "xyz"}]})),
        text("hello"),
    ];
    let table: &[Case<'_>] = &[
        ("reasoning", said("reasoning"), came),
        ("reasoning_content", said("reasoning_content"), came),
        ("both", stream(&[twice, text("hello")], "stop"), came),
        ("in the content", stream(&[delta(json!({"content": mistral}))], "stop"), came),
        (
            "details",
            stream(&details, "stop"),
            r#"{"reasoning_details":[{"index":0,"signature":"sig","text":"hm","type":"reasoning.text"},{"data":"xyz","type":"reasoning.encrypted"}]} (hm) "hello" 20/0/9 Finished"#,
        ),
    ];
    hold::<OpenaiChat>(table);
}

#[test]
fn counts() {
    let counted = |usage: Value| event(&json!({"choices": [], "usage": usage}));
    let with_choice = event(
        &json!({"choices": [{"delta": {}, "finish_reason": null}], "usage": {"prompt_tokens": 20, "completion_tokens": 9}}),
    );
    let deepseek =
        counted(json!({"prompt_tokens": 20, "completion_tokens": 9, "prompt_cache_hit_tokens": 5}));
    let cached = counted(
        json!({"prompt_tokens": 20, "completion_tokens": 9, "prompt_tokens_details": {"cached_tokens": 5}}),
    );
    let in_choice = event(
        &json!({"choices": [{"delta": {}, "finish_reason": "stop", "usage": {"prompt_tokens": 20, "completion_tokens": 9}}]}),
    );
    let end = || text("hello") + &finish("stop");
    let table: &[Case<'_>] = &[
        ("growing", [usage(1), end(), usage(2), usage(9)].concat(), r#""hello" 20/0/9 Finished"#),
        ("beside a choice", end() + &with_choice, r#""hello" 20/0/9 Finished"#),
        ("inside of a choice", text("hello") + &in_choice, r#""hello" 20/0/9 Finished"#),
        ("cached", end() + &cached, r#""hello" 20/5/9 Finished"#),
        ("cached elsewhere", end() + &deepseek, r#""hello" 20/5/9 Finished"#),
        (
            "odd",
            end() + &counted(json!({"prompt_tokens": "x", "completion_tokens": -1})),
            r#""hello" Finished"#,
        ),
    ];
    hold::<OpenaiChat>(table);
}

#[test]
fn errors() {
    let error = |error: Value| event(&json!({"error": error}));
    let html = "<html><body>Please log in</body></html>";
    let vllm = json!({"object": "error", "message": "prompt too long", "type": "BadRequestError", "param": null, "code": 400});
    let in_choice =
        json!({"choices": [{"error": {"code": 502, "message": "gone"}, "finish_reason": "error"}]});
    let table: &[Case<'_>] = &[
        (
            "a number",
            error(json!({"code": 429, "message": "Rate limited upstream"})) + DONE,
            "RateLimited: 429: Rate limited upstream",
        ),
        (
            "another",
            error(json!({"code": 401, "message": "User not found."})),
            "Authentication: 401: User not found.",
        ),
        (
            "after text",
            text("hello") + &error(json!({"code": 502, "message": "gone"})),
            r#""hello" Server: 502: gone"#,
        ),
        ("in a choice", event(&in_choice), "Server: 502: gone"),
        ("vLLM", event(&vllm) + DONE, "ContextLength: 400: prompt too long"),
        ("named event", "event: error\ndata: upstream is gone\n\n".into(), "Server: upstream is gone"),
        ("without data", text("hello") + "{\"error\": \"gone\"}\n\n", r#""hello" Server: gone"#),
        (
            "null is none",
            delta(json!({"content": "hello"})).replace("}\n", ",\"error\":null}\n") + &finish("stop"),
            r#""hello" Finished"#,
        ),
        ("a page", html.into(), "NotAReply: a page came in place of a reply: Please log in"),
        ("words", "upstream connect error\n".into(), "NotAReply: no reply came, but: upstream connect error"),
        (
            "JSON",
            json!({"error": {"message": "Insufficient credits", "type": "billing", "code": 402}}).to_string(),
            "QuotaUsedUp: 402: Insufficient credits",
        ),
        ("other JSON", json!({"hello": 1}).to_string(), r#"NotAReply: no reply came, but: {"hello":1}"#),
        (
            "broken JSON",
            format!("data: {{\"choices\n\n{}", text("hello")),
            "Unreadable: an event of the stream is broken JSON",
        ),
    ];
    hold::<OpenaiChat>(table);
}

#[test]
fn whole_replies_in_place_of_a_stream() {
    let whole = |message: Value, reason: &str| {
        json!({"choices": [{"message": message, "finish_reason": reason}], "usage": {"prompt_tokens": 20, "completion_tokens": 9}}).to_string()
    };
    let called = json!({"content": null, "tool_calls": [{"id": "a", "type": "function", "function": {"name": "note", "arguments": NOTE}}]});
    let table: &[Case<'_>] = &[
        ("text", whole(json!({"content": "hello"}), "stop"), r#""hello" 20/0/9 Finished"#),
        ("calls", whole(called, "tool_calls"), r#"note[a]({"a":"x"}) 20/0/9 WantsTools"#),
        ("cut", whole(json!({"content": "hello"}), "length"), r#""hello" 20/0/9 CutAtOutputLimit"#),
        (
            "lines",
            format!("{}\n{}", whole(json!({"content": "hello"}), "stop"), DONE),
            r#""hello" 20/0/9 Finished"#,
        ),
        (
            "in a stream",
            event(&json!({"choices": [{"message": {"content": "hello"}, "finish_reason": "stop"}]})),
            r#""hello" Finished"#,
        ),
    ];
    hold::<OpenaiChat>(table);
}

#[test]
fn a_connection_that_breaks() {
    let came = |body: &str| {
        read::<OpenaiChat>(&[body.as_bytes()], Close::Broken("reset"), Limits::default()).1.unwrap()
    };
    assert_eq!(came(&text("hello")).end, ReplyEnd::BrokenOff("reset".into()));
    assert_eq!(came("{\"choices\": [").end, ReplyEnd::BrokenOff("reset".into()));
    assert_eq!(came("").end, ReplyEnd::BrokenOff("reset".into()));
    assert_eq!(came(&(text("hello") + &finish("stop"))).end, ReplyEnd::Finished);
}

#[test]
fn events_as_they_arrive() {
    let body = [
        ": ping\n\n".to_owned(),
        delta(json!({"reasoning": "hm"})),
        text("hello"),
        call(json!(0), "a", "note", "{"),
        call(json!(0), "", "", "}"),
        usage(9),
    ];
    let (events, _) = read::<OpenaiChat>(&[body.concat().as_bytes()], Close::Clean, Limits::default());
    let counted = crate::conversation::Usage { input_tokens: 20, output_tokens: 9, ..Default::default() };
    assert_eq!(
        events,
        [
            ReplyEvent::KeepAlive,
            ReplyEvent::Reasoning("hm".into()),
            ReplyEvent::Text("hello".into()),
            ReplyEvent::CallBegun { position: 0, name: "note".into() },
            ReplyEvent::CallGrew { position: 0, bytes: 1 },
            ReplyEvent::CallGrew { position: 0, bytes: 1 },
            ReplyEvent::Usage(counted),
        ]
    );
}

#[test]
fn limits_are_named() {
    let limits = Limits { line_bytes: 300, reply_bytes: 100, calls: 2 };
    let came =
        |body: &str| read::<OpenaiChat>(&[body.as_bytes()], Close::Clean, limits).1.unwrap_err().to_string();
    assert_eq!(came(&text(&"a".repeat(400))), "one event of the stream is longer than 300 bytes");
    assert_eq!(came(&text(&"a".repeat(60)).repeat(2)), "the reply is longer than 100 bytes");
    assert_eq!(came(&format!("{{{}", " ".repeat(400))), "the body is longer than 300 bytes");
    let many: String = ["a", "b", "c"].map(|id| call(json!(0), id, "", "")).concat();
    let few = Limits { calls: 2, ..Limits::default() };
    let error = read::<OpenaiChat>(&[many.as_bytes()], Close::Clean, few).1.unwrap_err();
    assert_eq!(error.to_string(), "the reply has more than 2 tool calls");
}

#[test]
fn reading_is_linear() {
    let deltas = |count: usize| {
        let first = call(json!(0), "a", "note", r#"{"a":""#);
        first + &call(json!(0), "a", "note", "xxxx").repeat(count) + &finish("tool_calls")
    };
    for count in [1000, 20_000] {
        assert!(work_per_byte::<OpenaiChat>(deltas(count).as_bytes(), 1400) <= 5, "{count} deltas");
    }
    for size in [1 << 20, 10 << 20] {
        let line = text(&"a".repeat(size)) + &finish("stop");
        assert!(work_per_byte::<OpenaiChat>(line.as_bytes(), 1400) <= 5, "a line of {size}");
    }
}

proptest! {
    #[test]
    fn any_bytes_in_any_pieces_come_to_the_same(
        bytes in hostile(vec![
            "data: {\"choices\":[{\"delta\":{\"content\":\"h\u{e9}\"}}]}\n\n",
            "data: {\"choices\":[{\"delta\":{\"tool_calls\":[{\"index\":0,\"id\":\"a\",\"function\":{\"name\":\"n\",\"arguments\":\"{\"}}]}}]}\n\n",
            "data: {\"choices\":[{\"delta\":{\"tool_calls\":[{\"index\":1,\"function\":{\"arguments\":\"}\"}}]}}]}\n\n",
            "data: {\"choices\":[{\"delta\":{\"tool_calls\":[{\"id\":\"b\",\"function\":{\"name\":\"n\"}}]}}]}\n\n",
            "data: {\"choices\":[{\"delta\":{\"reasoning\":\"r\",\"reasoning_details\":[{\"text\":\"r\"}]}}]}\n\n",
            "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n",
            "data: {\"choices\":[],\"usage\":{\"completion_tokens\":3}}\n\n",
            "data: {\"error\":{\"code\":429}}\n\n",
            "{\"choices\":[{\"message\":{\"content\":\"x\"}}]}",
            "data: [DONE]\n\n",
        ]),
        size in 1_usize..20,
        broken in any::<bool>(),
    ) {
        holds_for_any_cut::<OpenaiChat>(&bytes, size, broken);
    }
}
