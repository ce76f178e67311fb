//! Converse as no documentation has it, each form with what is right.

use serde_json::Value;
use serde_json::json;

use super::streams::*;

/// The beginning of a call at this index.
fn begun(index: Value) -> Vec<u8> {
    let start = json!({"toolUse": {"toolUseId": "a", "name": "note"}});
    event("contentBlockStart", json!({"contentBlockIndex": index, "start": start}))
}

#[test]
fn events_in_other_forms() {
    let hello_came = r#""hello" 20/5/9 Finished"#;
    let no_stop = [begin(), text(0, "hello"), end("end_turn")].concat();
    let late = [begin(), end("end_turn"), text(0, "hello")].concat();
    hold(&[
        ("never stopped", vec![no_stop], hello_came),
        ("text after the end", vec![late], hello_came),
        (
            "indices going down",
            vec![begin(), text(7, "hel"), stop(7), text(3, "lo"), end("end_turn")],
            r#""hel" "lo" 20/5/9 Finished"#,
        ),
        (
            "a start of a text",
            vec![
                begin(),
                event("contentBlockStart", json!({"contentBlockIndex": 0, "start": {}})),
                hello(),
                end("end_turn"),
            ],
            hello_came,
        ),
        (
            "null deltas",
            vec![begin(), delta(0, json!(null)), delta(0, json!({"text": null})), hello(), end("end_turn")],
            hello_came,
        ),
        ("a reason in capitals is an end", vec![hello(), end("END_TURN")], hello_came),
    ]);
}

#[test]
fn calls_in_other_forms() {
    let one = r#"note[a]({"a":"x"}) 20/5/9 WantsTools"#;
    let object = delta(0, json!({"toolUse": {"input": {"a": "x"}}}));
    hold(&[
        ("an input that is an object", vec![begin(), begun(json!(0)), object, stop(0), end("tool_use")], one),
        (
            "an empty object before the pieces",
            vec![
                begin(),
                begun(json!(0)),
                input(0, "{}"),
                input(0, "{\"a\":"),
                input(0, "\"x\"}"),
                end("tool_use"),
            ],
            one,
        ),
        (
            "a null index",
            vec![
                begin(),
                begun(json!(null)),
                event("contentBlockDelta", json!({"delta": {"toolUse": {"input": "{\"a\":\"x\"}"}}})),
                end("tool_use"),
            ],
            one,
        ),
        (
            "a huge index",
            vec![
                begin(),
                begun(json!(u64::MAX)),
                event(
                    "contentBlockDelta",
                    json!({"contentBlockIndex": u64::MAX, "delta": {"toolUse": {"input": "{\"a\":\"x\"}"}}}),
                ),
                end("tool_use"),
            ],
            one,
        ),
        (
            "an index as text",
            vec![begin(), begun(json!("0")), input(0, "{\"a\":\"x\"}"), end("tool_use")],
            one,
        ),
    ]);
}

#[test]
fn ends_in_other_forms() {
    let hello_came = r#""hello" 20/5/9 Finished"#;
    hold(&[
        (
            "blank input",
            vec![begin(), begun(json!(0)), input(0, " "), stop(0), end("tool_use")],
            "note[a]({}) 20/5/9 WantsTools",
        ),
        (
            "filtered with a call",
            vec![begin(), begun(json!(0)), input(0, "{\"a\":\"x\"}"), end("guardrail_intervened")],
            r#"dropped note[a]({"a":"x"}) 20/5/9 Filtered("")"#,
        ),
        (
            "a trace of a guardrail",
            vec![
                hello(),
                event("messageStop", json!({"stopReason": "end_turn"})),
                event(
                    "metadata",
                    json!({"usage": {"inputTokens": "15", "cacheReadInputTokens": 5.0, "outputTokens": 9, "totalTokens": 29}, "trace": {"guardrail": {}}}),
                ),
            ],
            hello_came,
        ),
    ]);
}

#[test]
fn exceptions_in_other_forms() {
    let words = |words: &str| json!({"message": words});
    hold(&[
        (
            "a model's timeout",
            vec![hello(), exception("modelTimeoutException", &words("late"))],
            r#""hello" Server: modelTimeoutException: late"#,
        ),
        (
            "a quota",
            vec![exception("serviceQuotaExceededException", &words("no"))],
            "RateLimited: serviceQuotaExceededException: no",
        ),
        (
            "a daily quota of tokens",
            vec![exception(
                "throttlingException",
                &words("Too many tokens per day, please wait before trying again."),
            )],
            "RateLimited: throttlingException: Too many tokens per day, please wait before trying again.",
        ),
        (
            "no access",
            vec![exception("accessDeniedException", &words("You don't have access to the model."))],
            "Authentication: accessDeniedException: You don't have access to the model.",
        ),
        (
            "the original status",
            vec![exception(
                "modelStreamErrorException",
                &json!({"message": "gone", "originalStatusCode": 424, "originalMessage": "x"}),
            )],
            "Server: modelStreamErrorException: gone",
        ),
        ("an unknown name", vec![exception("moonException", &words("dark"))], "Server: moonException: dark"),
        (
            "capital letters",
            vec![exception("ThrottlingException", &words("slow"))],
            "RateLimited: ThrottlingException: slow",
        ),
    ]);
}
