//! Streams as the Gemini API, Vertex and gateways send them, each with its outcome.

use proptest::prelude::*;
use serde_json::Value;
use serde_json::json;

use crate::gemini::Gemini;
use crate::reader::Close;
use crate::reply::Limits;
use crate::reply::ReplyEnd;
use crate::testing::Case;
use crate::testing::hold;
use crate::testing::holds_for_any_cut;
use crate::testing::hostile;
use crate::testing::read;
use crate::testing::work_per_byte;

pub(super) fn event(data: &Value) -> String {
    format!("data: {data}\r\n\r\n")
}

pub(super) fn candidate(parts: Value) -> Value {
    json!({"candidates": [{"content": {"role": "model", "parts": parts}, "index": 0}], "modelVersion": "m"})
}

pub(super) fn parts(parts: Value) -> String {
    event(&candidate(parts))
}

pub(super) fn text(text: &str) -> String {
    parts(json!([{"text": text}]))
}

pub(super) fn usage() -> Value {
    json!({"promptTokenCount": 20, "candidatesTokenCount": 6, "thoughtsTokenCount": 3, "totalTokenCount": 29})
}

pub(super) fn end(reason: &str) -> String {
    event(&json!({"candidates": [{"finishReason": reason}], "usageMetadata": usage()}))
}

pub(super) fn stream(chunks: &[String], reason: &str) -> String {
    chunks.concat() + &end(reason)
}

pub(super) fn call(id: Value, name: &str) -> Value {
    json!({"functionCall": {"id": id, "name": name, "args": {"a": "x"}}})
}

#[test]
fn texts_and_ends() {
    let ended = |reason| stream(&[text("hel"), text("lo")], reason);
    let broken =
        |reason: &str| format!(r#""hello" 20/0/9 BrokenOff("the provider ended it with `{reason}`")"#);
    let middle = r#"BrokenOff("the stream ended in the middle of the reply")"#;
    let explained =
        json!({"candidates": [{"finishReason": "MALFORMED_FUNCTION_CALL", "finishMessage": "print(x)"}]});
    let safety =
        json!({"candidates": [{"finishReason": "SAFETY", "finishMessage": "no"}], "usageMetadata": usage()});
    let prompt = json!({"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}, "usageMetadata": {"promptTokenCount": 20}});
    let armor = json!({"promptFeedback": {"blockReason": "MODEL_ARMOR", "blockReasonMessage": "no"}});
    let each = json!({"candidates": [{"content": {"parts": [{"text": "hel"}]}, "finishReason": "STOP"}]});
    let unspecified = json!({"candidates": [{"finishReason": "FINISH_REASON_UNSPECIFIED", "content": {"parts": [{"text": "hel"}]}}]});
    let table: &[Case<'_>] = &[
        ("plain", ended("STOP"), r#""hello" 20/0/9 Finished"#),
        ("small letters", ended("stop"), r#""hello" 20/0/9 Finished"#),
        ("cut", ended("MAX_TOKENS"), r#""hello" 20/0/9 CutAtOutputLimit"#),
        ("filter", ended("RECITATION"), r#""hello" 20/0/9 Filtered("RECITATION")"#),
        ("filter without words", stream(&[], "SPII"), r#"20/0/9 Filtered("SPII")"#),
        ("filter, repeated", event(&safety).repeat(2), r#"20/0/9 Filtered("SAFETY: no")"#),
        ("blocked", event(&prompt), r#"Filtered("PROHIBITED_CONTENT")"#),
        ("blocked with words", event(&armor), r#"Filtered("MODEL_ARMOR: no")"#),
        (
            "broken call",
            text("hello") + &event(&explained),
            r#""hello" BrokenOff("the provider ended it with `MALFORMED_FUNCTION_CALL`: print(x)")"#,
        ),
        ("unexpected call", ended("UNEXPECTED_TOOL_CALL"), &broken("UNEXPECTED_TOOL_CALL")),
        ("other", ended("OTHER"), &broken("OTHER")),
        ("a reason of its own", ended("BOREDOM"), &broken("BOREDOM")),
        ("early", event(&each) + &text("lo") + &end("STOP"), r#""hello" 20/0/9 Finished"#),
        (
            "early and empty",
            end("STOP") + &text("hello") + &end("MAX_TOKENS"),
            r#""hello" 20/0/9 CutAtOutputLimit"#,
        ),
        ("unspecified", event(&unspecified), &format!(r#""hel" {middle}"#)),
        ("empty", stream(&[], "STOP"), "20/0/9 Empty { reasoned: false }"),
        ("blank", stream(&[text("\n")], "STOP"), r#""\n" 20/0/9 Empty { reasoned: false }"#),
        ("no reason", text("hello"), &format!(r#""hello" {middle}"#)),
        ("no candidates", event(&json!({"usageMetadata": {"promptTokenCount": 20}})), middle),
        ("nothing", String::new(), middle),
    ];
    hold::<Gemini>(table);
}

#[test]
fn bodies_as_servers_write_them() {
    let chunks = || [candidate(json!([{"text": "h\u{e9}l"}])), candidate(json!([{"text": "lo"}]))];
    let last = json!({"candidates": [{"finishReason": "STOP"}], "usageMetadata": usage()});
    let [first, second] = chunks();
    let all = [first, second, last];
    let stream: String = all.iter().map(event).collect();
    let came = "\"h\u{e9}llo\" 20/0/9 Finished";
    let wrapped: String = all.iter().map(|one| event(&json!({"response": one, "traceId": "t"}))).collect();
    let whole = json!({"candidates": [{"content": {"parts": [{"text": "h\u{e9}llo"}]}, "finishReason": "STOP"}], "usageMetadata": usage()});
    let lines: Vec<String> = all.iter().map(|one| format!("{one:#}")).collect();
    let table: &[Case<'_>] = &[
        ("events", stream.clone(), came),
        ("LF", stream.replace("\r\n", "\n"), came),
        ("no space", stream.replace("data: ", "data:"), came),
        ("comments", stream.replace("\r\n\r\n", "\r\n\r\n: ping\r\n\r\n"), came),
        ("done", stream.clone() + "data: [DONE]\n\n", came),
        ("an array", json!(all).to_string(), came),
        ("an array over lines", format!("[{}\n]\n", lines.join("\n,\r\n")), came),
        ("an array in an event", event(&json!(all)), came),
        ("wrapped", wrapped, came),
        ("whole", whole.to_string(), came),
        ("whole in an event", event(&whole), came),
        ("oddities", format!("data: 7\n\ndata: [3]\n\ndata: {{\"candidates\":3}}\n\n{stream}"), came),
        ("other JSON", json!({"hello": 1}).to_string(), r#"NotAReply: no reply came, but: {"hello":1}"#),
        ("an empty array", "[]".into(), "NotAReply: no reply came, but: []"),
        (
            "a page",
            "<html><title>502</title></html>".into(),
            "NotAReply: a page came in place of a reply: 502",
        ),
    ];
    hold::<Gemini>(table);
}

#[test]
fn signed_calls() {
    let made = |calls: Value| stream(&[parts(calls)], "STOP");
    let signed = |mut part: Value| {
        part["thoughtSignature"] = json!("s");
        part
    };
    let inside = json!({"functionCall": {"name": "note", "args": {}, "thoughtSignature": "s"}});
    let table: &[Case<'_>] = &[
        (
            "the first is signed",
            made(json!([signed(call(json!("a"), "note")), call(json!("b"), "other")])),
            r#"note[a]({"a":"x"})#s other[b]({"a":"x"}) 20/0/9 WantsTools"#,
        ),
        ("signed inside", made(json!([inside])), "note[made_1]({})#s 20/0/9 WantsTools"),
    ];
    hold::<Gemini>(table);
}

#[test]
fn calls() {
    let made = |calls: Value| stream(&[parts(calls)], "STOP");
    let table: &[Case<'_>] = &[
        ("one", made(json!([call(json!("a"), "note")])), r#"note[a]({"a":"x"}) 20/0/9 WantsTools"#),
        ("no id", made(json!([call(Value::Null, "note")])), r#"note[made_1]({"a":"x"}) 20/0/9 WantsTools"#),
        (
            "two of one name without ids",
            made(json!([call(Value::Null, "note"), call(json!(""), "note")])),
            r#"note[made_1]({"a":"x"}) note[made_2]({"a":"x"}) 20/0/9 WantsTools"#,
        ),
        (
            "two in two chunks",
            stream(
                &[parts(json!([call(json!("a"), "note")])), parts(json!([call(json!("b"), "note")]))],
                "STOP",
            ),
            r#"note[a]({"a":"x"}) note[b]({"a":"x"}) 20/0/9 WantsTools"#,
        ),
        (
            "one id twice",
            made(json!([call(json!("a"), "note"), call(json!("a"), "note")])),
            r#"note[a]({"a":"x"}) note[made_1]({"a":"x"}) 20/0/9 WantsTools"#,
        ),
        (
            "no arguments",
            made(json!([{"functionCall": {"name": "note"}}])),
            "note[made_1]({}) 20/0/9 WantsTools",
        ),
        (
            "after text",
            made(json!([{"text": "see"}, call(json!("a"), "note"), {"text": "so"}])),
            r#""see" note[a]({"a":"x"}) "so" 20/0/9 WantsTools"#,
        ),
        (
            "cut",
            stream(&[parts(json!([call(json!("a"), "note")]))], "MAX_TOKENS"),
            r#"dropped note[a]({"a":"x"}) 20/0/9 CutAtOutputLimit"#,
        ),
        (
            "broken",
            stream(&[parts(json!([call(json!("a"), "note")]))], "MALFORMED_FUNCTION_CALL"),
            r#"dropped note[a]({"a":"x"}) 20/0/9 BrokenOff("the provider ended it with `MALFORMED_FUNCTION_CALL`")"#,
        ),
        (
            "none announced",
            made(json!([{"functionCall": null}, {"functionCall": 3}])),
            "20/0/9 Empty { reasoned: false }",
        ),
    ];
    hold::<Gemini>(table);
}

#[test]
fn thinking_and_signatures() {
    let thought = |text: &str| json!({"text": text, "thought": true});
    let signature = || json!({"text": "", "thoughtSignature": "s"});
    let signed = json!({"text": "hello", "thoughtSignature": "s"});
    let signed_thought = json!({"text": "hm", "thought": true, "thoughtSignature": "s"});
    let code = json!({"executableCode": {"code": "1"}, "thoughtSignature": "s"});
    let table: &[Case<'_>] = &[
        (
            "thinking",
            stream(&[parts(json!([thought("h")])), parts(json!([thought("m")])), text("hello")], "STOP"),
            r#"(hm) "hello" 20/0/9 Finished"#,
        ),
        (
            "signed thinking",
            stream(&[parts(json!([signed_thought, thought("x")])), text("hi")], "STOP"),
            r#"(hm#s) (x) "hi" 20/0/9 Finished"#,
        ),
        (
            "signed text",
            stream(&[text("a"), parts(json!([signed])), text("b")], "STOP"),
            r#""a" (#s) "hello" "b" 20/0/9 Finished"#,
        ),
        (
            "signature at the end",
            stream(&[text("hello"), parts(json!([signature()]))], "STOP"),
            r#""hello" {"text":"","thoughtSignature":"s"} 20/0/9 Finished"#,
        ),
        (
            "signature without a text",
            stream(&[text("hello"), parts(json!([{"thoughtSignature": "s"}]))], "STOP"),
            r#""hello" {"thoughtSignature":"s"} 20/0/9 Finished"#,
        ),
        (
            "two signatures",
            stream(&[parts(json!([signature(), signature()])), text("hi")], "STOP"),
            r#"{"text":"","thoughtSignature":"s"} {"text":"","thoughtSignature":"s"} "hi" 20/0/9 Finished"#,
        ),
        (
            "thinking alone",
            stream(&[parts(json!([thought("hm")]))], "STOP"),
            "(hm) 20/0/9 Empty { reasoned: true }",
        ),
        (
            "tool of the provider",
            stream(&[parts(json!([code, {"codeExecutionResult": {"output": "1"}}])), text("hi")], "STOP"),
            r#"{"executableCode":{"code":"1"},"thoughtSignature":"s"} {"codeExecutionResult":{"output":"1"}} "hi" 20/0/9 Finished"#,
        ),
        (
            "parts that are not known",
            stream(&[parts(json!([{"inlineData": {}}, {"hologram": 1}, null, 3])), text("hi")], "STOP"),
            r#""hi" 20/0/9 Finished"#,
        ),
    ];
    hold::<Gemini>(table);
}

#[test]
fn counts() {
    let counted = |usage: Value| event(&json!({"usageMetadata": usage}));
    let all = json!({"promptTokenCount": 20, "toolUsePromptTokenCount": 4, "cachedContentTokenCount": 12, "candidatesTokenCount": 6, "thoughtsTokenCount": 3});
    let growing = |output: u32| counted(json!({"promptTokenCount": 20, "candidatesTokenCount": output}));
    let stopped = || text("hi") + &event(&json!({"candidates": [{"finishReason": "STOP"}]}));
    let table: &[Case<'_>] = &[
        ("all", stopped() + &counted(all), r#""hi" 24/12/9 Finished"#),
        ("repeated", growing(1) + &growing(5) + &stopped() + &growing(9), r#""hi" 20/0/9 Finished"#),
        ("empty at the end", growing(9) + &stopped() + &counted(json!({})), r#""hi" 20/0/9 Finished"#),
        (
            "odd",
            stopped() + &counted(json!({"promptTokenCount": "x", "candidatesTokenCount": -1})),
            r#""hi" Finished"#,
        ),
    ];
    hold::<Gemini>(table);
}

#[test]
fn errors() {
    let error = |code: u16, status: &str, message: &str| json!({"error": {"code": code, "status": status, "message": message}});
    let overloaded = || error(503, "UNAVAILABLE", "The model is overloaded.");
    let limited = json!({"error": {"code": 429, "status": "RESOURCE_EXHAUSTED", "message": "slow", "details": [
        {"violations": [{"quotaId": "GenerateRequestsPerMinute"}]}, {"retryDelay": "34.5s"},
    ]}});
    let used_up = json!({"error": {"code": 429, "status": "RESOURCE_EXHAUSTED", "message": "slow", "details": [
        {"violations": [{"quotaId": "PerMinute"}, {"quotaId": "GenerateRequestsPerDayPerProject"}]},
    ]}});
    let key = error(400, "INVALID_ARGUMENT", "API key not valid. Please pass a valid API key.");
    let long = error(
        400,
        "INVALID_ARGUMENT",
        "The input token count (9) exceeds the maximum number of tokens allowed (8).",
    );
    let table: &[Case<'_>] = &[
        ("overloaded", event(&overloaded()), "Overloaded: 503: The model is overloaded."),
        (
            "after text",
            text("hello") + &event(&overloaded()),
            r#""hello" Overloaded: 503: The model is overloaded."#,
        ),
        (
            "in an array",
            json!([candidate(json!([{"text": "hi"}])), overloaded()]).to_string(),
            r#""hi" Overloaded: 503: The model is overloaded."#,
        ),
        ("an array of it", json!([overloaded()]).to_string(), "Overloaded: 503: The model is overloaded."),
        ("whole", limited.to_string(), "RateLimited: 429: slow"),
        ("used up", event(&used_up), "QuotaUsedUp: 429: slow"),
        ("key", event(&key), "Authentication: 400: API key not valid. Please pass a valid API key."),
        (
            "too long",
            event(&long),
            "ContextLength: 400: The input token count (9) exceeds the maximum number of tokens allowed (8).",
        ),
        ("internal", event(&error(500, "INTERNAL", "oops")), "Server: 500: oops"),
        ("deadline", event(&error(504, "DEADLINE_EXCEEDED", "late")), "Server: 504: late"),
        ("cancelled", event(&error(499, "CANCELLED", "gone")), "Server: 499: gone"),
        ("argument", event(&error(400, "INVALID_ARGUMENT", "no")), "InvalidRequest: 400: no"),
        (
            "null is none",
            text("hi").replace("\"modelVersion\"", "\"error\":null,\"x\"") + &end("STOP"),
            r#""hi" 20/0/9 Finished"#,
        ),
    ];
    hold::<Gemini>(table);
    let (_, reply) = read::<Gemini>(&[event(&limited).as_bytes()], Close::Clean, Limits::default());
    assert_eq!(reply.unwrap_err().retry_after.map(|wait| wait.as_millis()), Some(34_500));
}

#[test]
fn a_connection_that_breaks() {
    let came =
        |body: &str| read::<Gemini>(&[body.as_bytes()], Close::Broken("reset"), Limits::default()).1.unwrap();
    assert_eq!(came(&text("hello")).end, ReplyEnd::BrokenOff("reset".into()));
    assert_eq!(came("[{\"candidates\": [").end, ReplyEnd::BrokenOff("reset".into()));
    assert_eq!(came(&stream(&[text("hello")], "STOP")).end, ReplyEnd::Finished);
}

#[test]
fn reading_is_linear() {
    let pieces = stream(&[text("xxxx").repeat(20_000)], "STOP");
    assert!(work_per_byte::<Gemini>(pieces.as_bytes(), 1400) <= 5);
    let line = stream(&[text(&"a".repeat(10 << 20))], "STOP");
    assert!(work_per_byte::<Gemini>(line.as_bytes(), 1400) <= 5);
    let array = format!(
        "[{}{}]",
        format!("{},", candidate(json!([{"text": "xxxx"}]))).repeat(5000),
        r#"{"candidates":[{"finishReason":"STOP"}]}"#
    );
    assert!(work_per_byte::<Gemini>(array.as_bytes(), 1400) <= 5);
}

proptest! {
    #[test]
    fn any_bytes_in_any_pieces_come_to_the_same(
        bytes in hostile(vec![
            "data: {\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"h\u{e9}\"}]}}]}\r\n\r\n",
            "data: {\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"t\",\"thought\":true,\"thoughtSignature\":\"s\"}]}}]}\n\n",
            "data: {\"candidates\":[{\"content\":{\"parts\":[{\"thoughtSignature\":\"s\"},{\"text\":\"x\",\"thoughtSignature\":\"s\"}]}}]}\n\n",
            "data: {\"candidates\":[{\"content\":{\"parts\":[{\"functionCall\":{\"name\":\"n\",\"args\":{\"a\":1}}}]}}]}\n\n",
            "data: {\"candidates\":[{\"content\":{\"parts\":[{\"functionCall\":{\"id\":\"a\"}},{\"toolCall\":{}}]}}]}\n\n",
            "data: {\"candidates\":[{\"finishReason\":\"STOP\",\"content\":3}]}\n\n",
            "data: {\"candidates\":[{\"finishReason\":\"SAFETY\",\"finishMessage\":3}]}\n\n",
            "data: {\"promptFeedback\":{\"blockReason\":\"OTHER\"},\"usageMetadata\":{\"candidatesTokenCount\":3}}\n\n",
            "data: [{\"candidates\":{}},{\"error\":{\"code\":429}}]\n\n",
            "[{\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"x\"}]}}]},\n",
            "{\"candidates\":[{\"finishReason\":\"STOP\"}]}]",
        ]),
        size in 1_usize..20,
        broken in any::<bool>(),
    ) {
        holds_for_any_cut::<Gemini>(&bytes, size, broken);
    }
}
