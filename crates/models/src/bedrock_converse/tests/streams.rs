//! Streams of frames as Bedrock sends them, each with what it comes to.

use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::Value;
use serde_json::json;

use crate::aws_event_stream::tests::framed;
use crate::aws_event_stream::tests::text as header;
use crate::bedrock_converse::BedrockConverse;
use crate::conversation::Usage;
use crate::reader::Close;
use crate::reply::Limits;
use crate::reply::ReplyEnd;
use crate::reply::ReplyEvent;
use crate::testing::hold_bytes;
use crate::testing::holds_for_any_cut;
use crate::testing::read;
use crate::testing::work_per_byte;

const NOTE: &str = r#"{"a":"x"}"#;
/// What a stream without an end comes to.
const CUT: &str = r#"BrokenOff("the stream ended in the middle of the reply")"#;

type Bytes = Vec<u8>;

pub(super) fn frame(kind: &str, name_of: &str, name: &str, payload: &str) -> Bytes {
    let headers =
        [header(name_of, name), header(":content-type", "application/json"), header(":message-type", kind)];
    framed(&headers.concat(), payload.as_bytes())
}

pub(super) fn event(name: &str, payload: Value) -> Bytes {
    let mut payload = payload;
    // Bedrock pads its events so.
    payload["p"] = json!("abcdefgh");
    frame("event", ":event-type", name, &payload.to_string())
}

pub(super) fn exception(name: &str, payload: &Value) -> Bytes {
    frame("exception", ":exception-type", name, &payload.to_string())
}

pub(super) fn begin() -> Bytes {
    event("messageStart", json!({"role": "assistant"}))
}

pub(super) fn delta(index: u32, delta: Value) -> Bytes {
    event("contentBlockDelta", json!({"contentBlockIndex": index, "delta": delta}))
}

pub(super) fn stop(index: u32) -> Bytes {
    event("contentBlockStop", json!({"contentBlockIndex": index}))
}

pub(super) fn text(index: u32, piece: &str) -> Bytes {
    delta(index, json!({"text": piece}))
}

pub(super) fn begin_call(index: u32, id: &str, name: &str) -> Bytes {
    let start = json!({"toolUse": {"toolUseId": id, "name": name}});
    event("contentBlockStart", json!({"contentBlockIndex": index, "start": start}))
}

pub(super) fn input(index: u32, piece: &str) -> Bytes {
    delta(index, json!({"toolUse": {"input": piece}}))
}

/// The end for a reason, and the tokens after it.
pub(super) fn end(reason: &str) -> Bytes {
    let usage = json!({"inputTokens": 15, "cacheReadInputTokens": 5, "outputTokens": 9, "totalTokens": 29});
    let metadata = event("metadata", json!({"usage": usage, "metrics": {"latencyMs": 1}}));
    [event("messageStop", json!({"stopReason": reason})), metadata].concat()
}

pub(super) fn hello() -> Bytes {
    [begin(), text(0, "he"), text(0, "llo"), stop(0)].concat()
}

pub(super) fn hold(cases: &[(&str, Vec<Bytes>, &str)]) {
    for (name, frames, expected) in cases {
        hold_bytes::<BedrockConverse>(name, &frames.concat(), expected);
    }
}

#[test]
fn texts_and_ends() {
    let cut_in_frame = [hello(), end("end_turn")[..20].to_vec()].concat();
    hold(&[
        ("plain", vec![hello(), end("end_turn")], r#""hello" 20/5/9 Finished"#),
        ("another reason", vec![hello(), end("stop_sequence")], r#""hello" 20/5/9 Finished"#),
        (
            "no tokens",
            vec![hello(), event("messageStop", json!({"stopReason": "end_turn"}))],
            r#""hello" Finished"#,
        ),
        ("no end", vec![hello()], &format!("\"hello\" {CUT}")),
        ("cut in a frame", vec![cut_in_frame], &format!("\"hello\" {CUT}")),
        ("nothing", vec![begin()], CUT),
        ("empty", vec![begin(), end("end_turn")], "20/5/9 Empty { reasoned: false }"),
        ("cut", vec![hello(), end("max_tokens")], r#""hello" 20/5/9 CutAtOutputLimit"#),
        ("window", vec![hello(), end("model_context_window_exceeded")], r#""hello" 20/5/9 WindowFull"#),
        ("filtered", vec![hello(), end("content_filtered")], r#""hello" 20/5/9 Filtered("hello")"#),
        (
            "filtered by a gateway",
            vec![hello(), end("content_filter")],
            r#""hello" 20/5/9 Filtered("hello")"#,
        ),
        ("guardrail", vec![hello(), end("guardrail_intervened")], r#""hello" 20/5/9 Filtered("hello")"#),
        ("refused", vec![begin(), end("refusal")], r#"20/5/9 Refused("")"#),
        (
            "broken calls",
            vec![begin(), end("malformed_tool_use")],
            r#"20/5/9 BrokenOff("the provider ended it with `malformed_tool_use`")"#,
        ),
        (
            "no calls",
            vec![begin(), end("tool_use")],
            r#"20/5/9 BrokenOff("it announces tool calls and has none")"#,
        ),
        (
            "no indices",
            vec![event("contentBlockDelta", json!({"delta": {"text": "hello"}})), end("end_turn")],
            r#""hello" 20/5/9 Finished"#,
        ),
        (
            "oddities",
            vec![
                event("moonRise", json!({"phase": 3})),
                frame("event", ":event-type", "initial-response", ""),
                delta(0, json!({"citation": {}})),
                hello(),
                end("end_turn"),
            ],
            r#""hello" 20/5/9 Finished"#,
        ),
    ]);
}

#[test]
fn calls() {
    let note = |index: u32, id: &str| {
        [begin_call(index, id, "note"), input(index, r#"{"a":"#), input(index, r#""x"}"#), stop(index)]
            .concat()
    };
    let one = r#"note[a]({"a":"x"}) 20/5/9 WantsTools"#;
    let two = r#"note[a]({"a":"x"}) note[b]({"a":"x"}) 20/5/9 WantsTools"#;
    hold(&[
        ("one", vec![begin(), note(0, "a"), end("tool_use")], one),
        (
            "after a text",
            vec![hello(), note(1, "a"), end("tool_use")],
            r#""hello" note[a]({"a":"x"}) 20/5/9 WantsTools"#,
        ),
        ("two", vec![note(0, "a"), note(1, "b"), end("tool_use")], two),
        ("two of one index", vec![note(0, "a"), note(0, "b"), end("tool_use")], two),
        (
            "in turns",
            vec![
                begin_call(0, "a", "note"),
                begin_call(1, "b", "note"),
                input(0, NOTE),
                input(1, NOTE),
                end("tool_use"),
            ],
            two,
        ),
    ]);
}

#[test]
fn calls_with_something_missing() {
    let note = |index: u32, id: &str| {
        [begin_call(index, id, "note"), input(index, r#"{"a":"#), input(index, r#""x"}"#), stop(index)]
            .concat()
    };
    let given = json!({"toolUse": {"toolUseId": "a", "name": "note", "input": {"a": "x"}}});
    let one = r#"note[a]({"a":"x"}) 20/5/9 WantsTools"#;
    hold(&[
        ("ends as a text does", vec![note(0, "a"), end("end_turn")], one),
        (
            "one id",
            vec![note(0, "a"), note(1, "a"), end("tool_use")],
            r#"note[a]({"a":"x"}) note[made_1]({"a":"x"}) 20/5/9 WantsTools"#,
        ),
        ("no id", vec![note(0, ""), end("tool_use")], r#"note[made_1]({"a":"x"}) 20/5/9 WantsTools"#),
        (
            "no input",
            vec![begin_call(0, "a", "note"), stop(0), end("tool_use")],
            "note[a]({}) 20/5/9 WantsTools",
        ),
        (
            "an empty input",
            vec![begin_call(0, "a", "note"), input(0, ""), end("tool_use")],
            "note[a]({}) 20/5/9 WantsTools",
        ),
        (
            "in the beginning",
            vec![
                event("contentBlockStart", json!({"contentBlockIndex": 0, "start": given})),
                end("tool_use"),
            ],
            one,
        ),
        (
            "cut",
            vec![begin_call(0, "a", "note"), input(0, "{\"a"), end("max_tokens")],
            "dropped note[a]({\"a) 20/5/9 CutAtOutputLimit",
        ),
        ("no end", vec![note(0, "a")], &format!("dropped note[a]({NOTE}) {CUT}")),
    ]);
}

#[test]
fn reasoning() {
    let shown = |index, piece: &str| delta(index, json!({"reasoningContent": {"text": piece}}));
    let signed = |index| delta(index, json!({"reasoningContent": {"signature": "sig"}}));
    let hidden = delta(1, json!({"reasoningContent": {"redactedContent": "xyz"}}));
    hold(&[
        (
            "signed",
            vec![shown(0, "h"), shown(0, "m"), signed(0), stop(0), text(1, "hello"), end("end_turn")],
            r#"(hm#sig) "hello" 20/5/9 Finished"#,
        ),
        (
            "only signed",
            vec![signed(0), stop(0), text(1, "hello"), end("end_turn")],
            r#"(#sig) "hello" 20/5/9 Finished"#,
        ),
        (
            "hidden",
            vec![shown(0, "hm"), signed(0), hidden, stop(1), text(2, "hello"), end("end_turn")],
            r#"(hm#sig) (##xyz) "hello" 20/5/9 Finished"#,
        ),
        (
            "two blocks",
            vec![shown(0, "a"), signed(0), shown(1, "b"), signed(1), text(2, "hello"), end("end_turn")],
            r#"(a#sig) (b#sig) "hello" 20/5/9 Finished"#,
        ),
        ("nothing else", vec![shown(0, "hm"), end("end_turn")], "(hm) 20/5/9 Empty { reasoned: true }"),
    ]);
}

#[test]
fn exceptions() {
    let message = |words: &str| json!({"message": words});
    let unmodelled = framed(
        &[
            header(":message-type", "error"),
            header(":error-code", "InternalFailure"),
            header(":error-message", "gone"),
        ]
        .concat(),
        b"",
    );
    let too_long = "Input is too long for requested model.";
    let as_event = frame("exception", ":event-type", "throttlingException", "{\"message\":\"slow\"}");
    hold(&[
        (
            "throttled",
            vec![exception("throttlingException", &message("slow"))],
            "RateLimited: throttlingException: slow",
        ),
        (
            "after text",
            vec![hello(), exception("modelStreamErrorException", &message("gone"))],
            r#""hello" Server: modelStreamErrorException: gone"#,
        ),
        (
            "refused",
            vec![exception("validationException", &message("no"))],
            "InvalidRequest: validationException: no",
        ),
        (
            "window",
            vec![exception("validationException", &message(too_long))],
            &format!("ContextLength: validationException: {too_long}"),
        ),
        (
            "overloaded",
            vec![exception("serviceUnavailableException", &message("busy"))],
            "Overloaded: serviceUnavailableException: busy",
        ),
        ("named as an event", vec![as_event], "RateLimited: throttlingException: slow"),
        ("not modelled", vec![unmodelled], "Server: InternalFailure: gone"),
        (
            "no words",
            vec![exception("internalServerException", &json!({}))],
            "Server: internalServerException",
        ),
    ]);
}

#[test]
fn bytes_that_are_no_reply() {
    let mut changed = end("end_turn");
    *changed.last_mut().unwrap() ^= 1;
    hold(&[
        (
            "a wrong checksum",
            vec![hello(), changed],
            r#""hello" Unreadable: a frame of the stream has a wrong checksum"#,
        ),
        (
            "broken JSON",
            vec![frame("event", ":event-type", "messageStop", "{\"stop")],
            "Unreadable: an event of the stream is broken JSON",
        ),
        (
            "JSON",
            vec![b"{\"message\": \"The security token is expired\"}".to_vec()],
            "Server: The security token is expired",
        ),
        (
            "a page",
            vec![b"<html><title>Log in</title></html>".to_vec()],
            "NotAReply: a page came in place of a reply: Log in",
        ),
    ]);
}

#[test]
fn whole_replies_in_place_of_a_stream() {
    let content = json!([
        {"reasoningContent": {"reasoningText": {"text": "hm", "signature": "sig"}}},
        {"reasoningContent": {"redactedContent": "xyz"}},
        {"text": "hello"},
        {"toolUse": {"toolUseId": "a", "name": "note", "input": {"a": "x"}}},
        {"moon": {}},
    ]);
    let usage =
        json!({"inputTokens": 15, "cacheReadInputTokens": 3, "cacheWriteInputTokens": 2, "outputTokens": 9});
    let whole = json!({"output": {"message": {"role": "assistant", "content": content}}, "stopReason": "tool_use", "usage": usage}).to_string();
    let came = r#"(hm#sig) (##xyz) "hello" note[a]({"a":"x"}) 20/3/9 WantsTools"#;
    hold(&[
        ("alone", vec![whole.clone().into()], came),
        ("in an event", vec![format!("data: {whole}\n\n").into()], came),
        ("something else", vec![b"{\"hello\": 1}".to_vec()], r#"NotAReply: no reply came, but: {"hello":1}"#),
    ]);
    let wrapped = "data: {\"contentBlockDelta\": {\"delta\": {\"text\": \"hello\"}}}\n\ndata: {\"messageStop\": {\"stopReason\": \"end_turn\"}}\n\n";
    hold(&[("events of a gateway", vec![wrapped.into()], r#""hello" Finished"#)]);
}

#[test]
fn tokens_with_and_without_the_cached_ones() {
    let counted = |usage: Value| {
        let body = [hello(), event("metadata", json!({"usage": usage}))].concat();
        read::<BedrockConverse>(&[&body], Close::Clean, Limits::default()).1.unwrap().message.usage
    };
    let expected = Usage {
        input_tokens: 20,
        cached_tokens: 5,
        cache_write_tokens: 3,
        output_tokens: 9,
        ..Usage::default()
    };
    for usage in [
        json!({"inputTokens": 12, "cacheReadInputTokens": 5, "cacheWriteInputTokens": 3, "outputTokens": 9, "totalTokens": 29}),
        json!({"inputTokens": 12, "cacheReadInputTokens": 5, "cacheWriteInputTokens": 3, "outputTokens": 9}),
        json!({"inputTokens": 20, "cacheReadInputTokens": 5, "cacheWriteInputTokens": 3, "outputTokens": 9, "totalTokens": 29}),
    ] {
        assert_eq!(counted(usage.clone()), expected, "{usage}");
    }
}

#[test]
fn events_connections_and_limits() {
    let body = [hello(), begin_call(1, "a", "note"), input(1, NOTE), end("tool_use")].concat();
    let (events, _) = read::<BedrockConverse>(&[&body], Close::Broken("reset"), Limits::default());
    let counted = Usage { input_tokens: 20, cached_tokens: 5, output_tokens: 9, ..Usage::default() };
    assert_eq!(
        events,
        [
            ReplyEvent::KeepAlive,
            ReplyEvent::Text("he".into()),
            ReplyEvent::Text("llo".into()),
            ReplyEvent::CallBegun { position: 0, name: "note".into() },
            ReplyEvent::CallGrew { position: 0, bytes: NOTE.len() },
            ReplyEvent::Usage(counted),
        ]
    );
    let came = |body: Bytes| {
        read::<BedrockConverse>(&[&body], Close::Broken("reset"), Limits::default()).1.unwrap().end
    };
    assert_eq!(came(hello()), ReplyEnd::BrokenOff("reset".into()));
    assert_eq!(came([hello(), end("end_turn")].concat()), ReplyEnd::Finished);
    let limits = Limits { line_bytes: 400, reply_bytes: 1000, calls: 2 };
    let refused =
        |body: Bytes| read::<BedrockConverse>(&[&body], Close::Clean, limits).1.unwrap_err().to_string();
    assert_eq!(refused(text(0, &"a".repeat(400))), "one event of the stream is longer than 400 bytes");
    assert_eq!(refused(text(0, &"a".repeat(100)).repeat(20)), "the reply is longer than 1000 bytes");
    assert_eq!(refused(begin_call(0, "", "n").repeat(3)), "the reply has more than 2 tool calls");
}

#[test]
fn reading_is_linear() {
    let deltas = [
        begin_call(0, "a", "note"),
        input(0, r#"{"a":""#),
        input(0, "xxxx").repeat(20_000),
        input(0, r#""}"#),
        end("tool_use"),
    ];
    assert!(work_per_byte::<BedrockConverse>(&deltas.concat(), 1400) <= 5);
    let long = [text(0, &"a".repeat(10 << 20)), end("end_turn")];
    assert!(work_per_byte::<BedrockConverse>(&long.concat(), 1400) <= 6);
}

proptest! {
    #[test]
    fn any_bytes_in_any_pieces_come_to_the_same(
        frames in vec(
            prop_oneof![
                8 => prop::sample::select(vec![
                    begin(), text(0, "h\u{e9}"), stop(0), begin_call(1, "a", "n"), begin_call(1, "", "n"), input(1, "{"), input(0, "}"),
                    delta(0, json!({"reasoningContent": {"text": "r", "signature": "s"}})),
                    delta(2, json!({"reasoningContent": {"redactedContent": "x"}})),
                    end("end_turn"), end("tool_use"), exception("throttlingException", &json!({})),
                ]),
                1 => vec(any::<u8>(), 0..20),
                1 => vec(any::<u8>(), 0..20).prop_map(|payload| framed(&header(":event-type", "contentBlockDelta"), &payload)),
                1 => prop::sample::select(vec!["{\"output\":{\"message\":{\"content\":[{\"text\":\"x\"}]}}}", "data: ", "\n\n", "\0"])
                    .prop_map(|piece| piece.as_bytes().to_vec()),
            ],
            0..10,
        ),
        size in 1_usize..90,
        broken in any::<bool>(),
    ) {
        holds_for_any_cut::<BedrockConverse>(&frames.concat(), size, broken);
    }
}
