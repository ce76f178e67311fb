//! Messages as no documentation has them, each with what is right.

use serde_json::Value;
use serde_json::json;

use super::streams::*;
use crate::anthropic::Anthropic;
use crate::testing::Case;
use crate::testing::hold;

#[test]
fn texts_in_other_forms() {
    let hello = r#""hello" 20/0/9 Finished"#;
    let typed = |kind: &str, more: Value| {
        let mut data = more;
        data["type"] = json!(kind);
        event(&data)
    };
    let no_index = [
        typed("content_block_start", json!({"content_block": {"type": "text", "text": ""}})),
        typed("content_block_delta", json!({"delta": {"type": "text_delta", "text": "hello"}})),
        typed("content_block_stop", json!({})),
    ];
    let nulls = [
        start(0, json!({"type": "text", "text": null})),
        delta(0, json!({"type": "text_delta", "text": null})),
        text_piece(0, "hello"),
    ];
    let cited = start(0, json!({"type": "text", "text": "hello", "citations": [{"type": "page_location"}]}));
    let never_stopped = [start(0, json!({"type": "text", "text": ""})), text_piece(0, "hello")];
    let stopped_twice = [text(0, "hello"), stop(0), stop(7)];
    let reasons = event(
        &json!({"type": "message_delta", "delta": {"stop_reason": null}, "usage": {"output_tokens": 3}}),
    );
    let table: &[Case<'_>] = &[
        ("no indices", stream(&no_index, "end_turn"), hello),
        ("null texts", stream(&nulls, "end_turn"), hello),
        ("with citations", stream(&[cited, stop(0)], "end_turn"), hello),
        ("never stopped", stream(&never_stopped, "end_turn"), hello),
        ("stopped twice", stream(&stopped_twice, "end_turn"), hello),
        (
            "indices going down",
            stream(&[text(9, "hel"), text(3, "lo")], "end_turn"),
            r#""hel" "lo" 20/0/9 Finished"#,
        ),
        ("two reports of the end", stream(&[text(0, "hello"), reasons], "end_turn"), hello),
        ("capital reason", stream(&[text(0, "hello")], "stop"), hello),
        (
            "a block that is null",
            stream(&[start(0, Value::Null), stop(0), text(1, "hello")], "end_turn"),
            hello,
        ),
        ("a delta that is null", stream(&[delta(0, Value::Null), text(1, "hello")], "end_turn"), hello),
        (
            "pings without an event name",
            stream(&["data: {\"type\": \"ping\"}\n\n".into(), text(0, "hello")], "end_turn"),
            hello,
        ),
        (
            "the mark of the other wire",
            stream(&[text(0, "hello")], "end_turn").replace("message_stop", "x") + "data: [DONE]\n\n",
            hello,
        ),
    ];
    hold::<Anthropic>(table);
}

#[test]
fn calls_in_other_forms() {
    let made = |blocks: &[String]| stream(blocks, "tool_use");
    let one = r#"note[a]({"a":"x"}) 20/0/9 WantsTools"#;
    let object = delta(0, json!({"type": "input_json_delta", "partial_json": {"a": "x"}}));
    let null = delta(0, json!({"type": "input_json_delta", "partial_json": null}));
    let whole = json!({"type": "tool_use", "id": "a", "name": "note", "input": {"a": "x"}, "caller": {"type": "direct"}});
    let table: &[Case<'_>] = &[
        ("a piece that is an object", made(&[call_start(0, "a", "note"), object, stop(0)]), one),
        (
            "a piece that is null",
            made(&[call_start(0, "a", "note"), null, input(0, "{\"a\":\"x\"}"), stop(0)]),
            one,
        ),
        (
            "an empty object before the pieces",
            made(&[
                call_start(0, "a", "note"),
                input(0, "{}"),
                input(0, "{\"a\":"),
                input(0, "\"x\"}"),
                stop(0),
            ]),
            one,
        ),
        (
            "an empty list",
            made(&[start(0, json!({"type": "tool_use", "id": "a", "name": "note", "input": []})), stop(0)]),
            "note[a]({}) 20/0/9 WantsTools",
        ),
        (
            "blank pieces",
            made(&[call_start(0, "a", "note"), input(0, " "), input(0, "\n"), stop(0)]),
            "note[a]({}) 20/0/9 WantsTools",
        ),
        ("fields that are not known", made(&[start(0, whole), stop(0)]), one),
        (
            "no id",
            made(&[
                start(0, json!({"type": "tool_use", "name": "note"})),
                input(0, "{\"a\":\"x\"}"),
                stop(0),
            ]),
            r#"note[made_1]({"a":"x"}) 20/0/9 WantsTools"#,
        ),
    ];
    hold::<Anthropic>(table);
}

#[test]
fn calls_and_ends() {
    let made = |blocks: &[String]| stream(blocks, "tool_use");
    let one = r#"note[a]({"a":"x"}) 20/0/9 WantsTools"#;
    let table: &[Case<'_>] = &[
        ("the end in the other wire's words", stream(&[call(0, "a")], "tool_calls"), one),
        (
            "no reason",
            [begin(), call(0, "a"), event(&json!({"type": "message_stop"}))].concat(),
            r#"note[a]({"a":"x"}) 20/0/1 WantsTools"#,
        ),
        ("paused", stream(&[call(0, "a")], "pause_turn"), r#"dropped note[a]({"a":"x"}) 20/0/9 Paused"#),
        (
            "window",
            stream(&[call(0, "a")], "model_context_window_exceeded"),
            r#"dropped note[a]({"a":"x"}) 20/0/9 WindowFull"#,
        ),
        (
            "a call, then its text",
            made(&[call(0, "a"), text(1, "so")]),
            r#"note[a]({"a":"x"}) "so" 20/0/9 WantsTools"#,
        ),
        (
            "thinking in pieces of a signature",
            made(&[
                start(0, json!({"type": "thinking", "thinking": ""})),
                delta(0, json!({"type": "signature_delta", "signature": "s"})),
                delta(0, json!({"type": "signature_delta", "signature": "1"})),
                stop(0),
                call(1, "a"),
            ]),
            r#"(#s1) note[a]({"a":"x"}) 20/0/9 WantsTools"#,
        ),
        (
            "hidden after shown thinking, then hidden again",
            made(&[
                start(0, json!({"type": "redacted_thinking", "data": "A"})),
                stop(0),
                thinking(1, "hm", "s"),
                start(2, json!({"type": "redacted_thinking", "data": "B"})),
                stop(2),
                call(3, "a"),
            ]),
            r#"(##A) (hm#s) (##B) note[a]({"a":"x"}) 20/0/9 WantsTools"#,
        ),
        (
            "hidden without data",
            made(&[start(0, json!({"type": "redacted_thinking", "data": ""})), stop(0), call(1, "a")]),
            one,
        ),
    ];
    hold::<Anthropic>(table);
}

#[test]
fn errors_in_other_forms() {
    let error = |kind: &str, words: &str| {
        event(
            &json!({"type": "error", "error": {"type": kind, "message": words, "details": null}, "request_id": "req"}),
        )
    };
    let open = || begin() + &text(0, "hello");
    let after = |kind: &str, words: &str| open() + &error(kind, words);
    let nested = json!({"type": "error", "error": {"type": "api_error", "message": "{\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"Overloaded\"}}"}});
    let table: &[Case<'_>] = &[
        ("overloaded", after("overloaded_error", "Overloaded"), r#""hello" Overloaded: overloaded_error: Overloaded"#),
        ("first of all", error("overloaded_error", "Overloaded"), "Overloaded: overloaded_error: Overloaded"),
        ("rate", after("rate_limit_error", "slow"), r#""hello" RateLimited: rate_limit_error: slow"#),
        ("server", after("api_error", "Internal server error"), r#""hello" Server: api_error: Internal server error"#),
        ("a timeout", after("timeout_error", "late"), r#""hello" Server: timeout_error: late"#),
        ("billing", after("billing_error", "no"), r#""hello" QuotaUsedUp: billing_error: no"#),
        ("limits of the account", after("invalid_request_error", "You have reached your specified API usage limits."), r#""hello" QuotaUsedUp: invalid_request_error: You have reached your specified API usage limits."#),
        ("too long", after("invalid_request_error", "prompt is too long: 10 tokens > 9 maximum"), r#""hello" ContextLength: invalid_request_error: prompt is too long: 10 tokens > 9 maximum"#),
        ("reply and prompt too long", after("invalid_request_error", "input length and `max_tokens` exceed context limit: 8 + 2 > 9"), r#""hello" ContextLength: invalid_request_error: input length and `max_tokens` exceed context limit: 8 + 2 > 9"#),
        ("too large", after("request_too_large", "big"), r#""hello" ContextLength: request_too_large: big"#),
        ("the other wire's form", open() + "data: {\"error\":{\"message\":\"slow\",\"code\":429}}\n\n", r#""hello" RateLimited: 429: slow"#),
        ("words", open() + "event: error\ndata: upstream is gone\n\n", r#""hello" Server: upstream is gone"#),
        ("an error in an error", open() + &event(&nested), r#""hello" Overloaded: api_error: Overloaded"#),
        ("without the outer type", open() + "event: error\ndata: {\"type\":\"overloaded_error\",\"message\":\"Overloaded\"}\n\n", r#""hello" Overloaded: overloaded_error: Overloaded"#),
        ("in place of a stream", json!({"type": "error", "error": {"type": "authentication_error", "message": "invalid x-api-key"}}).to_string(), "Authentication: authentication_error: invalid x-api-key"),
    ];
    hold::<Anthropic>(table);
}
