//! Responses as no documentation has them, each with what is right.

use serde_json::Value;
use serde_json::json;

use super::events::*;
use crate::openai_responses::OpenaiResponses;
use crate::testing::Case;
use crate::testing::hold;

const ONE: &str = r#"note[a]({"a":"x"}) 20/5/9 WantsTools"#;

#[test]
fn texts_in_other_forms() {
    let hello = r#""hello" 20/5/9 Finished"#;
    let spoken_words = |kind: &str| event(kind, 0.into(), json!({"delta": "hello"}));
    let annotated = event(
        "output_text.annotation.added",
        0.into(),
        json!({"annotation_index": 0, "annotation": {"type": "url_citation"}}),
    );
    let null_part = event("content_part.added", 0.into(), json!({"part": null}));
    let without_item = json!({"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "hello"}]});
    let two_refusals = [
        event("refusal.done", 0.into(), json!({"content_index": 0, "refusal": "I will not."})),
        item_done(
            0,
            json!({"type": "message", "id": "msg_1", "content": [{"type": "refusal", "refusal": "I will not."}]}),
        ),
    ];
    let no_output = event(
        "completed",
        "none".into(),
        json!({"response": {"id": "r", "status": "completed", "usage": {"input_tokens": 20, "input_tokens_details": {"cached_tokens": 5}, "output_tokens": 9}}}),
    );
    let table: &[Case<'_>] = &[
        ("a voice", spoken_words("output_audio_transcript.delta") + &completed(), hello),
        ("annotations", text(0, "hello") + &annotated + &completed(), hello),
        ("a null part", null_part + &text(0, "hello") + &completed(), hello),
        (
            "an item without ids in the end alone",
            begin() + &end("completed", response("completed", json!([without_item]))),
            hello,
        ),
        ("a refusal once", two_refusals.concat() + &completed(), r#"20/5/9 Refused("I will not.")"#),
        ("no output at the end", text(0, "hello") + &no_output, hello),
        ("output null", text(0, "hello") + &end("completed", response("completed", Value::Null)), hello),
        ("places as texts", text("0", "hello") + &completed(), hello),
        ("huge places", text(u64::MAX, "hel") + &text(u64::MAX, "lo") + &completed(), hello),
        (
            "a sequence that goes back",
            text(0, "hello").replace("\"type\"", "\"sequence_number\":0,\"type\"") + &completed(),
            hello,
        ),
        ("the end of another kind", text(0, "hello") + &end("done", response("completed", json!([]))), hello),
        ("the mark after the end", text(0, "hello") + &completed() + "data: [DONE]\n\n", hello),
        (
            "tokens as texts",
            text(0, "hello")
                + &end(
                    "completed",
                    json!({"status": "completed", "usage": {"input_tokens": "20", "output_tokens": 9.0, "input_tokens_details": {"cached_tokens": "5"}}}),
                ),
            hello,
        ),
    ];
    hold::<OpenaiResponses>(table);
}

#[test]
fn calls_in_other_forms() {
    let done = event("function_call_arguments.done", 0.into(), json!({"item_id": "fc_a", "arguments": NOTE}));
    let generic = json!([{"id": "msg_9", "type": "message", "role": "assistant", "content": [{"type": "text", "text": ""}]}]);
    let object = json!({"type": "function_call", "id": "fc_a", "call_id": "a", "name": "note", "arguments": {"a": "x"}});
    let without_id = json!([{"type": "function_call", "call_id": "a", "name": "note", "arguments": NOTE}]);
    let empty_piece = arguments(0, "a", "");
    let in_progress = json!({"type": "function_call", "id": "fc_a", "call_id": "a", "name": "note", "arguments": NOTE, "status": "in_progress"});
    let custom = json!({"type": "custom_tool_call", "id": "ct", "call_id": "c", "name": "x", "input": "y"});
    let null_arguments =
        json!({"type": "function_call", "id": "fc_a", "call_id": "a", "name": "note", "arguments": null});
    let table: &[Case<'_>] = &[
        (
            "never marked as done, another output at the end",
            added(0, call("a", "note", ""))
                + &arguments(0, "a", NOTE)
                + &done
                + &end("completed", response("completed", generic)),
            ONE,
        ),
        ("arguments as an object", item_done(0, object.clone()) + &completed(), ONE),
        ("arguments as an object from the beginning", added(0, object) + &completed(), ONE),
        ("arguments null", item_done(0, null_arguments) + &completed(), "note[a]({}) 20/5/9 WantsTools"),
        (
            "without an id of the item at the end",
            added(0, call("a", "note", ""))
                + &arguments(0, "a", "{\"a\":")
                + &end("completed", response("completed", without_id)),
            ONE,
        ),
        (
            "an empty piece first",
            added(0, call("a", "note", "")) + &empty_piece + &arguments(0, "a", NOTE) + &completed(),
            ONE,
        ),
        ("a status that is late", item_done(0, in_progress) + &completed(), ONE),
        (
            "a call of a kind that was not offered",
            item_done(0, custom) + &completed(),
            "20/5/9 Empty { reasoned: false }",
        ),
        (
            "two with one call id",
            called(0, "a", "note", NOTE)
                + &item_done(
                    1,
                    json!({"type": "function_call", "id": "fc_b", "call_id": "a", "name": "other", "arguments": OTHER}),
                )
                + &completed(),
            r#"note[a]({"a":"x"}) 20/5/9 WantsTools"#,
        ),
        (
            "filtered with a call",
            called(0, "a", "note", NOTE) + &incomplete(json!("content_filter")),
            r#""hello" dropped note[a]({"a":"x"}) 20/5/9 Filtered("hello")"#,
        ),
    ];
    hold::<OpenaiResponses>(table);
}

#[test]
fn ends_in_other_forms() {
    let hello = || text(0, "hello");
    let failed = |error: Value| {
        let mut failed = response("failed", json!([]));
        failed["error"] = error;
        hello() + &end("failed", failed)
    };
    let thought = |kind: &str, piece: Value| {
        event(kind, 0.into(), json!({"item_id": "rs", "delta": piece})) + &hello() + &completed()
    };
    let thinks = r#"(hm) "hello" 20/5/9 Finished"#;
    let cut = format!("\"hello\" {CUT}");
    let bare_failed = hello()
        + "data: {\"type\":\"response.failed\",\"error\":{\"code\":\"rate_limit_exceeded\",\"message\":\"slow\"}}\n\n";
    let table: &[Case<'_>] = &[
        ("window", hello() + &incomplete(json!("max_prompt_tokens")), r#""hello" 20/5/9 WindowFull"#),
        ("safety", hello() + &incomplete(json!("safety")), r#""hello" 20/5/9 Filtered("hello")"#),
        ("reason null", hello() + &incomplete(Value::Null), r#""hello" 20/5/9 CutAtOutputLimit"#),
        (
            "failed with a number",
            failed(json!({"code": 429, "message": "slow"})),
            r#""hello" RateLimited: 429: slow"#,
        ),
        (
            "failed with a type",
            failed(json!({"type": "insufficient_quota", "message": "m"})),
            r#""hello" QuotaUsedUp: insufficient_quota: m"#,
        ),
        ("failed with a text", failed(json!("gone")), r#""hello" Server: gone"#),
        ("failed, empty", failed(json!({})), r#""hello" Server: no reason was given"#),
        ("failed without a response", bare_failed, r#""hello" RateLimited: rate_limit_exceeded: slow"#),
        (
            "failed in the provider's words",
            failed(
                json!({"code": "server_error", "message": "Your input exceeds the context window of this model."}),
            ),
            r#""hello" ContextLength: server_error: Your input exceeds the context window of this model."#,
        ),
        (
            "an event with a null code",
            hello()
                + &event(
                    "error",
                    "none".into(),
                    json!({"type": "error", "code": null, "message": "gone", "param": null}),
                ),
            r#""hello" Server: gone"#,
        ),
        ("summaries of an older kind", thought("reasoning_summary.delta", json!({"text": "hm"})), thinks),
        ("reasoning of an older kind", thought("reasoning.delta", json!("hm")), thinks),
        ("no end at the break", hello() + &item_done(0, message("hello")), &cut),
    ];
    hold::<OpenaiResponses>(table);
}
