//! Errors, replies that do not stream, connections that break, limits, and bytes of any kind.

use proptest::prelude::*;
use serde_json::Value;
use serde_json::json;

use super::events::*;
use crate::conversation::Usage;
use crate::openai_responses::OpenaiResponses;
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

#[test]
fn responses_that_failed() {
    let failed = |error: Value| {
        let mut failed = response("failed", json!([]));
        failed["error"] = error;
        begin() + &end("failed", failed)
    };
    let table: &[Case<'_>] = &[
        (
            "failed: rate",
            failed(json!({"code": "rate_limit_exceeded", "message": "Please try again in 1.2s"})),
            "RateLimited: rate_limit_exceeded: Please try again in 1.2s",
        ),
        (
            "failed: quota",
            failed(json!({"code": "insufficient_quota", "message": "m"})),
            "QuotaUsedUp: insufficient_quota: m",
        ),
        (
            "failed: window",
            failed(json!({"code": "context_length_exceeded", "message": "m"})),
            "ContextLength: context_length_exceeded: m",
        ),
        (
            "failed: server",
            failed(json!({"code": "server_error", "message": "m"})),
            "Server: server_error: m",
        ),
        (
            "failed: prompt",
            failed(json!({"code": "invalid_prompt", "message": "m"})),
            "InvalidRequest: invalid_prompt: m",
        ),
        (
            "failed: image",
            failed(json!({"code": "invalid_base64_image", "message": "m"})),
            "InvalidRequest: invalid_base64_image: m",
        ),
        (
            "failed: why is not given",
            failed(Value::Null),
            "Server: server_error: the response failed, for no given reason",
        ),
        (
            "after text",
            text(0, "hello") + &failed(json!({"code": "server_error", "message": "m"})),
            r#""hello" Server: server_error: m"#,
        ),
    ];
    hold::<OpenaiResponses>(table);
}

#[test]
fn error_events() {
    let error = |error: Value| begin() + &format!("event: error\ndata: {error}\n\n");
    let table: &[Case<'_>] = &[
        (
            "event: window",
            error(
                json!({"type": "error", "code": "context_length_exceeded", "message": "too long", "param": "input"}),
            ),
            "ContextLength: context_length_exceeded: too long",
        ),
        (
            "event: rate",
            error(json!({"type": "error", "code": "rate_limit_exceeded", "message": "slow"})),
            "RateLimited: rate_limit_exceeded: slow",
        ),
        (
            "event: nested",
            error(
                json!({"type": "error", "error": {"type": "invalid_request_error", "code": "invalid_api_key", "message": "bad"}}),
            ),
            "Authentication: invalid_api_key: bad",
        ),
        ("event: words", error(json!("gone")), "Server: gone"),
        (
            "without a name",
            format!(
                "data: {}\n\n",
                json!({"error": {"message": "bad", "type": "invalid_request_error", "code": "invalid_api_key"}})
            ),
            "Authentication: invalid_api_key: bad",
        ),
        (
            "of the response",
            event("error", "none".into(), json!({"code": "server_error", "message": "m"})),
            "Server: server_error: m",
        ),
        (
            "a page",
            "<html><title>Log in</title></html>".into(),
            "NotAReply: a page came in place of a reply: Log in",
        ),
    ];
    hold::<OpenaiResponses>(table);
}

#[test]
fn whole_replies_in_place_of_a_stream() {
    let reasoning = json!({"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "xyz"});
    let output = json!([reasoning, message("hello"), call("a", "note", NOTE)]);
    let kept = r#"{"encrypted_content":"xyz","summary":[],"type":"reasoning"}"#;
    let came = format!("{kept} \"hello\" note[a]({NOTE}) 20/5/9 WantsTools");
    let mut failed = response("failed", json!([]));
    failed["error"] = json!({"code": "insufficient_quota", "message": "m"});
    let mut cut = response("incomplete", json!([message("hello")]));
    cut["incomplete_details"] = json!({"reason": "content_filter"});
    let table: &[Case<'_>] = &[
        ("all", response("completed", output.clone()).to_string(), &came),
        ("in a stream", format!("data: {}\n\n", response("completed", output)), &came),
        ("failed", failed.to_string(), "QuotaUsedUp: insufficient_quota: m"),
        ("cut", cut.to_string(), r#""hello" 20/5/9 Filtered("hello")"#),
        (
            "queued",
            response("queued", json!([])).to_string(),
            r#"20/5/9 BrokenOff("the provider has not finished it")"#,
        ),
        ("something else", json!({"hello": 1}).to_string(), r#"NotAReply: no reply came, but: {"hello":1}"#),
    ];
    hold::<OpenaiResponses>(table);
}

#[test]
fn events_and_tokens_as_they_arrive() {
    let body = [
        begin(),
        text(0, "hello"),
        added(1, call("a", "note", "")),
        arguments(1, "a", NOTE),
        item_done(1, call("a", "note", NOTE)),
        completed(),
    ];
    let (events, reply) =
        read::<OpenaiResponses>(&[body.concat().as_bytes()], Close::Clean, Limits::default());
    let counted = Usage {
        input_tokens: 20,
        cached_tokens: 5,
        output_tokens: 9,
        reasoning_tokens: 4,
        ..Usage::default()
    };
    assert_eq!(
        events,
        [
            ReplyEvent::KeepAlive,
            ReplyEvent::KeepAlive,
            ReplyEvent::Text("hello".into()),
            ReplyEvent::CallBegun { position: 0, name: "note".into() },
            ReplyEvent::CallGrew { position: 0, bytes: NOTE.len() },
            ReplyEvent::Usage(counted),
        ]
    );
    assert_eq!(reply.unwrap().message.usage, counted);
}

#[test]
fn a_connection_that_breaks() {
    let came = |body: &str| {
        read::<OpenaiResponses>(&[body.as_bytes()], Close::Broken("reset"), Limits::default()).1.unwrap().end
    };
    assert_eq!(
        came(&spoken(0, "hello")),
        ReplyEnd::BrokenOff("reset".into()),
        "only an end in order is trusted"
    );
    assert_eq!(came(&called(0, "a", "note", NOTE)), ReplyEnd::BrokenOff("reset".into()));
    assert_eq!(came(&(spoken(0, "hello") + &completed())), ReplyEnd::Finished);
}

#[test]
fn limits_are_held() {
    let limits = Limits { line_bytes: 400, reply_bytes: 2000, calls: 2 };
    let came = |body: String| {
        read::<OpenaiResponses>(&[body.as_bytes()], Close::Clean, limits).1.unwrap_err().to_string()
    };
    let many = |item: &dyn Fn(usize) -> String| (0..100).map(item).collect::<String>();
    let grows = "the reply is longer than 2000 bytes";
    assert_eq!(came(many(&|at| added(at, json!({"type": "moon", "id": format!("m{at}")})))), grows);
    assert_eq!(came(many(&|at| added("p".repeat(200) + &at.to_string(), json!({})))), grows);
    assert_eq!(
        came(many(&|at| event("output_text.delta", 0.into(), json!({"content_index": at, "delta": "a"})))),
        grows
    );
    assert_eq!(
        came(many(&|at| added(at, call(&format!("c{at}"), "n", "")))),
        "the reply has more than 2 tool calls"
    );
}

#[test]
fn reading_is_linear() {
    let deltas = |count: usize| {
        let whole = format!("{{\"a\":\"{}\"}}", "xxxx".repeat(count));
        let pieces = arguments(0, "a", r#"{"a":""#)
            + &arguments(0, "a", "xxxx").repeat(count)
            + &arguments(0, "a", r#""}"#);
        let done =
            event("function_call_arguments.done", 0.into(), json!({"item_id": "fc_a", "arguments": whole}));
        added(0, call("a", "note", ""))
            + &pieces
            + &done
            + &item_done(0, call("a", "note", &whole))
            + &completed()
    };
    for count in [1000, 20_000] {
        assert!(work_per_byte::<OpenaiResponses>(deltas(count).as_bytes(), 1400) <= 6, "{count} deltas");
    }
    for size in [1 << 20, 10 << 20] {
        let line = text(0, &"a".repeat(size)) + &completed();
        assert!(work_per_byte::<OpenaiResponses>(line.as_bytes(), 1400) <= 6, "a line of {size}");
    }
}

proptest! {
    #[test]
    fn any_bytes_in_any_pieces_come_to_the_same(
        bytes in hostile(vec![
            "data: {\"type\":\"response.output_text.delta\",\"output_index\":0,\"delta\":\"h\u{e9}\"}\n\n",
            "data: {\"type\":\"response.output_text.done\",\"output_index\":0,\"text\":\"h\u{e9}\"}\n\n",
            "data: {\"type\":\"response.output_item.added\",\"output_index\":1,\"item\":{\"type\":\"function_call\",\"id\":\"f\",\"call_id\":\"a\",\"name\":\"n\"}}\n\n",
            "data: {\"type\":\"response.function_call_arguments.delta\",\"item_id\":\"f\",\"delta\":\"{\"}\n\n",
            "data: {\"type\":\"response.function_call_arguments.done\",\"output_index\":1,\"arguments\":\"{}\"}\n\n",
            "data: {\"type\":\"response.output_item.done\",\"output_index\":0,\"item\":{\"type\":\"function_call\",\"call_id\":\"b\",\"name\":\"n\"}}\n\n",
            "data: {\"type\":\"response.output_item.done\",\"item\":{\"type\":\"reasoning\",\"encrypted_content\":\"x\"}}\n\n",
            "data: {\"type\":\"response.reasoning_text.delta\",\"delta\":\"r\"}\n\n",
            "data: {\"type\":\"response.refusal.delta\",\"delta\":\"no\"}\n\n",
            "data: {\"type\":\"response.completed\",\"response\":{\"output\":[{\"type\":\"message\",\"content\":[{\"text\":\"h\"}]}],\"usage\":{\"output_tokens\":3}}}\n\n",
            "data: {\"type\":\"response.incomplete\",\"response\":{}}\n\n",
            "data: {\"type\":\"response.failed\",\"response\":{\"error\":{\"code\":\"server_error\"}}}\n\n",
            "event: error\ndata: {\"type\":\"error\",\"code\":\"rate_limit_exceeded\"}\n\n",
            "{\"output\":[{\"type\":\"function_call\",\"call_id\":\"a\",\"name\":\"n\"}]}",
            "data: [DONE]\n\n",
        ]),
        size in 1_usize..20,
        broken in any::<bool>(),
    ) {
        holds_for_any_cut::<OpenaiResponses>(&bytes, size, broken);
    }
}
