//! Gemini's chunks as no documentation has them, each with what is right.

use serde_json::Value;
use serde_json::json;

use super::streams::*;
use crate::gemini::Gemini;
use crate::testing::Case;
use crate::testing::hold;

#[test]
fn calls_in_other_forms() {
    let made = |calls: Value| stream(&[parts(calls)], "STOP");
    let function = |args: Value| json!([{"functionCall": {"id": "a", "name": "note", "args": args}}]);
    let one = r#"note[a]({"a":"x"}) 20/0/9 WantsTools"#;
    let bare = "note[a]({}) 20/0/9 WantsTools";
    let with_text = json!([{"text": "see", "functionCall": {"id": "a", "name": "note", "args": {"a": "x"}}}]);
    let thought = json!([{"text": "", "thought": true, "functionCall": {"id": "a", "name": "note", "args": {"a": "x"}}}]);
    let early = end("STOP") + &parts(function(json!({"a": "x"})));
    let table: &[Case<'_>] = &[
        ("arguments as a JSON text", made(function(json!("{\"a\":\"x\"}"))), one),
        ("arguments null", made(function(Value::Null)), bare),
        ("arguments an empty list", made(function(json!([]))), bare),
        ("a text in the same part", made(with_text), r#""see" note[a]({"a":"x"}) 20/0/9 WantsTools"#),
        ("a thought in the same part", made(thought), one),
        (
            "no name",
            made(json!([{"functionCall": {"name": "", "args": {}}}, {"text": "hi"}])),
            r#""hi" 20/0/9 Finished"#,
        ),
        ("after the reason", early, one),
        (
            "cut with a call",
            stream(&[parts(function(json!({"a": "x"})))], "MAX_TOKENS"),
            r#"dropped note[a]({"a":"x"}) 20/0/9 CutAtOutputLimit"#,
        ),
        (
            "filtered with a call",
            stream(&[parts(function(json!({"a": "x"})))], "SAFETY"),
            r#"dropped note[a]({"a":"x"}) 20/0/9 Filtered("SAFETY")"#,
        ),
        (
            "one call twice in two chunks",
            stream(&[parts(function(json!({"a": "x"}))), parts(function(json!({"a": "y"})))], "STOP"),
            r#"note[a]({"a":"x"}) note[made_1]({"a":"y"}) 20/0/9 WantsTools"#,
        ),
        (
            "a signature alone with a broken call",
            parts(json!([{"thoughtSignature": "s"}])) + &end("MALFORMED_FUNCTION_CALL"),
            r#"{"thoughtSignature":"s"} 20/0/9 BrokenOff("the provider ended it with `MALFORMED_FUNCTION_CALL`")"#,
        ),
    ];
    hold::<Gemini>(table);
}

#[test]
fn chunks_in_other_forms() {
    let hello = r#""hello" 20/0/9 Finished"#;
    let odd = |chunk: Value| event(&chunk) + &stream(&[text("hello")], "STOP");
    let blocked = |feedback: Value| event(&json!({"candidates": [], "promptFeedback": feedback}));
    let table: &[Case<'_>] = &[
        ("no candidates", odd(json!({"candidates": []})), hello),
        ("candidates null", odd(json!({"candidates": null, "usageMetadata": null})), hello),
        ("no content", odd(json!({"candidates": [{"index": 0}]})), hello),
        ("content without parts", odd(json!({"candidates": [{"content": {"role": "model"}}]})), hello),
        ("parts null", odd(json!({"candidates": [{"content": {"parts": null}}]})), hello),
        ("texts null", odd(json!({"candidates": [{"content": {"parts": [{"text": null}, {}]}}]})), hello),
        (
            "ratings alone",
            odd(
                json!({"candidates": [{"safetyRatings": [{"category": "X", "probability": "LOW"}]}], "promptFeedback": {"safetyRatings": []}}),
            ),
            hello,
        ),
        ("not blocked", odd(json!({"promptFeedback": {"blockReason": "BLOCK_REASON_UNSPECIFIED"}})), hello),
        (
            "a picture",
            odd(
                json!({"candidates": [{"content": {"parts": [{"inlineData": {"mimeType": "image/png", "data": "AA"}}]}}]}),
            ),
            hello,
        ),
        ("nothing, cut", end("MAX_TOKENS"), "20/0/9 CutAtOutputLimit"),
        (
            "thoughts alone, cut",
            stream(&[parts(json!([{"text": "hm", "thought": true}]))], "MAX_TOKENS"),
            "(hm) 20/0/9 CutAtOutputLimit",
        ),
        ("blocked", blocked(json!({"blockReason": "SAFETY", "safetyRatings": []})), r#"Filtered("SAFETY")"#),
        (
            "blocked by a list of words",
            blocked(json!({"blockReason": "BLOCKLIST"})),
            r#"Filtered("BLOCKLIST")"#,
        ),
        (
            "recitation after text",
            stream(&[text("hello")], "RECITATION"),
            r#""hello" 20/0/9 Filtered("RECITATION")"#,
        ),
        (
            "too many calls",
            stream(&[text("hello")], "TOO_MANY_TOOL_CALLS"),
            r#""hello" 20/0/9 BrokenOff("the provider ended it with `TOO_MANY_TOOL_CALLS`")"#,
        ),
        (
            "tokens as texts",
            text("hello")
                + &event(
                    &json!({"candidates": [{"finishReason": "STOP"}], "usageMetadata": {"promptTokenCount": "20", "candidatesTokenCount": "9"}}),
                ),
            hello,
        ),
    ];
    hold::<Gemini>(table);
}

#[test]
fn errors_in_other_forms() {
    let in_list =
        event(&json!([{"error": {"code": 429, "status": "RESOURCE_EXHAUSTED", "message": "slow"}}]));
    let nested = json!({"error": {"message": "{\n  \"error\": {\n    \"code\": 503,\n    \"message\": \"The model is overloaded.\",\n    \"status\": \"UNAVAILABLE\"\n  }\n}\n", "code": 500, "status": "Internal Server Error"}});
    let table: &[Case<'_>] = &[
        ("in a list", text("hello") + &in_list, r#""hello" RateLimited: 429: slow"#),
        ("a body in the words", event(&nested), "Overloaded: 500: The model is overloaded."),
        (
            "a status in words alone",
            event(&json!({"error": {"status": "UNAUTHENTICATED"}})),
            "Authentication: UNAUTHENTICATED",
        ),
        (
            "permission",
            event(&json!({"error": {"code": 403, "status": "PERMISSION_DENIED", "message": "no"}})),
            "Authentication: 403: no",
        ),
        (
            "not found",
            event(&json!({"error": {"code": 404, "status": "NOT_FOUND", "message": "no such model"}})),
            "NotFound: 404: no such model",
        ),
        (
            "precondition",
            event(&json!({"error": {"code": 400, "status": "FAILED_PRECONDITION", "message": "billing"}})),
            "InvalidRequest: 400: billing",
        ),
    ];
    hold::<Gemini>(table);
}
