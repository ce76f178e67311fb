//! Chat completions as no documentation has them, each with what is right.

use serde_json::Value;
use serde_json::json;

use super::streams::*;
use crate::openai_chat::OpenaiChat;
use crate::testing::Case;
use crate::testing::hold;

/// A chunk with this call, in the form of the wire.
fn calls(calls: Value) -> String {
    delta(json!({"tool_calls": calls}))
}

fn made(pieces: &[String]) -> String {
    stream(pieces, "tool_calls")
}

/// A delta of these fields before the text.
fn with(more: Value) -> String {
    stream(&[delta(more), text("hello")], "stop")
}

/// An error after the text.
fn error(error: Value) -> String {
    text("hello") + &event(&json!({"error": error}))
}

#[test]
fn content_in_other_forms() {
    let hello = r#""hello" 20/0/9 Finished"#;
    let said = |content: Value| stream(&[delta(json!({"role": "assistant", "content": content}))], "stop");
    let table: &[Case<'_>] = &[
        ("texts in a list", said(json!(["hel", "lo"])), hello),
        (
            "parts in a list",
            said(json!([{"type": "text", "text": "hel"}, {"type": "output_text", "text": "lo"}])),
            hello,
        ),
        ("one part", said(json!({"type": "text", "text": "hello"})), hello),
        (
            "an unknown part",
            said(json!([{"type": "hologram", "hologram": 3}, {"type": "text", "text": "hello"}, 7, null])),
            hello,
        ),
        (
            "a refusal in a list",
            said(json!([{"type": "refusal", "refusal": "I will not."}])),
            r#"20/0/9 Refused("I will not.")"#,
        ),
        (
            "reasoning in a list",
            said(json!([{"type": "reasoning", "text": "hm"}, {"type": "text", "text": "hello"}])),
            r#"(hm) "hello" 20/0/9 Finished"#,
        ),
        ("a number", stream(&[delta(json!({"content": 7})), text("hello")], "stop"), hello),
        (
            "a null delta",
            stream(&[event(&json!({"choices": [{"index": 0, "delta": null}]})), text("hello")], "stop"),
            hello,
        ),
        (
            "a delta that is a text",
            stream(&[event(&json!({"choices": [{"delta": "x"}]})), text("hello")], "stop"),
            hello,
        ),
    ];
    hold::<OpenaiChat>(table);
}

#[test]
fn fields_that_say_nothing() {
    let hello = r#""hello" 20/0/9 Finished"#;
    let transcript = |piece: &str| {
        delta(json!({"content": null, "audio": {"id": "au", "transcript": piece, "data": "AAAA"}}))
    };
    let older =
        |piece: &str| event(&json!({"choices": [{"index": 0, "text": piece, "finish_reason": null}]}));
    let table: &[Case<'_>] = &[
        (
            "null fields",
            with(
                json!({"role": null, "content": null, "refusal": null, "tool_calls": null, "function_call": null, "reasoning": null, "annotations": null, "audio": null}),
            ),
            hello,
        ),
        (
            "annotations",
            with(json!({"annotations": [{"type": "url_citation", "url_citation": {"url": "u"}}]})),
            hello,
        ),
        ("pictures", with(json!({"images": [{"image_url": {"url": "data:"}}]})), hello),
        (
            "a voice",
            stream(
                &[transcript("hel"), transcript("lo"), delta(json!({"audio": {"expires_at": 1}}))],
                "stop",
            ),
            hello,
        ),
        ("the older interface", stream(&[older("hel"), older("lo")], "stop"), hello),
        ("an empty refusal", with(json!({"refusal": ""})), hello),
        ("a refusal that is not a text", with(json!({"refusal": {"reason": "x"}})), hello),
    ];
    hold::<OpenaiChat>(table);
}

#[test]
fn chunks_in_other_forms() {
    let hello = r#""hello" 20/0/9 Finished"#;
    let plain = stream(&[text("hel"), text("lo")], "stop");
    let chunk = |choices: Value| event(&json!({"choices": choices}));
    let choice = |index: u32, text: &str| json!({"index": index, "delta": {"content": text}});
    let roles = delta(json!({"role": "assistant", "content": ""})).repeat(3);
    let none = [
        json!({"choices": []}),
        json!({"choices": {}}),
        json!({"choices": [null]}),
        json!({}),
        json!({"id": "c", "prompt_filter_results": []}),
    ];
    let none: String = none.iter().map(event).collect();
    let several = [
        chunk(json!([choice(0, "hel"), choice(1, "bye")])),
        chunk(json!([choice(1, " bye")])),
        chunk(json!([choice(1, "!"), choice(0, "lo")])),
    ];
    let whole_again = event(
        &json!({"choices": [{"message": {"role": "assistant", "content": "hello"}, "finish_reason": "stop"}]}),
    );
    let pretty = format!("data: {:#}\n\n", json!({"choices": [{"delta": {"content": "hello"}}]}))
        .replace('\n', "\ndata: ");
    let pretty = pretty.trim_end_matches("data: ").trim_end_matches('\n').to_owned() + "\n\n";
    let table: &[Case<'_>] = &[
        ("roles again and again", roles + &plain, hello),
        ("chunks without a choice", none.clone() + &plain + &none, hello),
        ("several choices", stream(&several, "stop"), hello),
        ("choices counted from 1", plain.replace("\"index\":0", "\"index\":1"), hello),
        ("choices not counted", plain.replace("\"index\":0,", ""), hello),
        ("all of it again at the end", [text("hello"), whole_again].concat(), r#""hello" Finished"#),
        ("JSON over several lines", stream(&[pretty], "stop"), hello),
        (
            "two in one event",
            stream(&[text("hel").trim_end().to_owned() + "\n" + &text("lo")], "stop"),
            hello,
        ),
        (
            "ids, times and events of others",
            plain.replace("data: ", "id: 7\nretry: 100\nevent: message\ndata: "),
            hello,
        ),
        ("marks in small letters", plain.replace("[DONE]", "[done]"), hello),
        ("the mark twice", plain.clone() + DONE, hello),
        ("CR alone between, CRLF within", plain.replace("\n\n", "\r\r"), hello),
        ("comments of a router", plain.replace("data: ", ": OPENROUTER PROCESSING\n\ndata: "), hello),
        ("lines without `data:`", plain.replace("data: ", "").replace("[DONE]\n\n", ""), hello),
        ("blanks around", format!("  \r\n\t\n{plain}"), hello),
    ];
    hold::<OpenaiChat>(table);
}

#[test]
fn ends_in_other_forms() {
    let ended = |reason: Value| {
        [
            text("hello"),
            event(&json!({"choices": [{"delta": {}, "finish_reason": reason}]})),
            usage(9),
            DONE.to_owned(),
        ]
        .concat()
    };
    let hello = r#""hello" 20/0/9 Finished"#;
    let broken =
        |reason: &str| format!(r#""hello" 20/0/9 BrokenOff("the provider ended it with `{reason}`")"#);
    let table: &[Case<'_>] = &[
        ("empty", ended(json!("")), hello),
        ("null", ended(Value::Null), hello),
        ("a number", ended(json!(3)), hello),
        ("capitals", ended(json!("STOP")), hello),
        ("end_turn", ended(json!("end_turn")), hello),
        ("stop_sequence", ended(json!("stop_sequence")), hello),
        ("MAX_TOKENS", ended(json!("MAX_TOKENS")), r#""hello" 20/0/9 CutAtOutputLimit"#),
        ("recitation", ended(json!("content_filter: RECITATION")), r#""hello" 20/0/9 Filtered("hello")"#),
        (
            "a call that Google filtered",
            ended(json!("function_call_filter: MALFORMED_FUNCTION_CALL")),
            &broken("function_call_filter: MALFORMED_FUNCTION_CALL"),
        ),
        (
            "no resources",
            ended(json!("insufficient_system_resource")),
            &broken("insufficient_system_resource"),
        ),
        ("a time limit", ended(json!("timeout")), &broken("timeout")),
        ("the window", ended(json!("model_context_window_exceeded")), r#""hello" 20/0/9 WindowFull"#),
    ];
    hold::<OpenaiChat>(table);
}

#[test]
fn ends_in_other_places() {
    let hello = r#""hello" 20/0/9 Finished"#;
    let with_text = event(&json!({"choices": [{"delta": {"content": "hello"}, "finish_reason": "stop"}]}));
    let early = [finish("stop"), text("hello"), DONE.to_owned()].concat();
    let table: &[Case<'_>] = &[
        ("with the last text", [with_text, usage(9)].concat(), hello),
        ("twice", [text("hello"), finish("stop").repeat(2), usage(9)].concat(), hello),
        (
            "a cut, then a stop",
            [text("hello"), finish("length"), finish("stop"), usage(9)].concat(),
            r#""hello" 20/0/9 CutAtOutputLimit"#,
        ),
        ("before the text", early, r#""hello" Finished"#),
        ("cut before anything", stream(&[], "length"), "20/0/9 CutAtOutputLimit"),
        (
            "cut in reasoning",
            stream(&[delta(json!({"reasoning": "hm"}))], "length"),
            "(hm) 20/0/9 CutAtOutputLimit",
        ),
        (
            "filtered with details",
            stream(
                &[event(
                    &json!({"choices": [{"delta": {}, "content_filter_results": {"hate": {"filtered": true}}}]}),
                )],
                "content_filter",
            ),
            r#"20/0/9 Filtered("")"#,
        ),
    ];
    hold::<OpenaiChat>(table);
}

#[test]
fn calls_in_other_forms() {
    let one = r#"note[a]({"a":"x"}) 20/0/9 WantsTools"#;
    let bare = "note[a]({}) 20/0/9 WantsTools";
    let given = |arguments: Value| made(&[call(json!(0), "a", "note", arguments)]);
    let pieces = |pieces: &[&str]| {
        let rest = pieces.iter().map(|piece| call(json!(0), "", "", *piece)).collect::<String>();
        made(&[call(json!(0), "a", "note", ""), rest])
    };
    let both = r#"note[a]({"a":"x"}) other[b]({"b":"y"}) 20/0/9 WantsTools"#;
    let in_one = json!([{"index": 0, "id": "a", "function": {"name": "note", "arguments": NOTE}}, {"index": 1, "id": "b", "function": {"name": "other", "arguments": "{\"b\":\"y\"}"}}]);
    let null_id =
        json!([{"index": 0, "id": null, "type": null, "function": {"name": null, "arguments": NOTE}}]);
    let named = calls(json!([{"index": 0, "id": "a", "function": {"name": "note"}}]));
    let table: &[Case<'_>] = &[
        ("an empty list for nothing", given(json!([])), bare),
        ("an empty text for nothing", given(json!("\"\"")), bare),
        ("blanks for nothing", given(json!(" \n")), bare),
        ("`null` for nothing", given(json!("null")), bare),
        ("an empty object before the pieces", pieces(&["{}", "{\"a\":", "\"x\"}"]), one),
        ("the pieces, then all of it", pieces(&["{\"a\":", "\"x\"}", NOTE]), one),
        ("a JSON text", given(json!("\"{\\\"a\\\":\\\"x\\\"}\"")), one),
        ("a number in place of an object", given(json!(7)), "note[a](7) 20/0/9 WantsTools"),
        ("two in one delta", made(&[calls(in_one.clone())]), both),
        (
            "two in one delta, indices at the end",
            made(&[calls(in_one.clone()), call(json!(1), "", "", ""), call(json!(0), "", "", "")]),
            both,
        ),
        ("null id and name later", made(&[named.clone(), calls(null_id)]), one),
        (
            "nothing but an index",
            made(&[named, calls(json!([{"index": 0}])), call(json!(0), "", "", NOTE)]),
            one,
        ),
    ];
    hold::<OpenaiChat>(table);
}

#[test]
fn calls_in_odd_deltas() {
    let one = r#"note[a]({"a":"x"}) 20/0/9 WantsTools"#;
    let table: &[Case<'_>] = &[
        (
            "one call outside of a list",
            made(&[delta(
                json!({"tool_calls": {"id": "a", "function": {"name": "note", "arguments": NOTE}}}),
            )]),
            one,
        ),
        (
            "name and arguments outside of `function`",
            made(&[calls(json!([{"index": 0, "id": "a", "name": "note", "arguments": NOTE}]))]),
            one,
        ),
        (
            "a number for an id",
            made(&[calls(json!([{"index": 0, "id": 7, "function": {"name": "note", "arguments": NOTE}}]))]),
            r#"note[7]({"a":"x"}) 20/0/9 WantsTools"#,
        ),
        ("a negative index", made(&[call(json!(-1), "a", "note", NOTE)]), one),
        (
            "an index in parts",
            made(&[call(json!(0.0), "a", "note", "{\"a\":"), call(json!(0), "", "", "\"x\"}")]),
            one,
        ),
        (
            "empty deltas alone",
            made(&[calls(json!([{}])), calls(json!([]))]),
            r#"20/0/9 BrokenOff("it announces tool calls and has none")"#,
        ),
    ];
    hold::<OpenaiChat>(table);
}

#[test]
fn calls_with_other_deltas_between() {
    let one = r#"note[a]({"a":"x"}) 20/0/9 WantsTools"#;
    let table: &[Case<'_>] = &[
        (
            "text and calls in turns",
            made(&[
                text("a"),
                call(json!(0), "a", "note", "{\"a\":"),
                text("b"),
                call(json!(0), "", "", "\"x\"}"),
            ]),
            r#""a" note[a]({"a":"x"}) "b" 20/0/9 WantsTools"#,
        ),
        ("a name with blanks", made(&[call(json!(0), "a", " note\n", NOTE)]), one),
        (
            "the whole call again at the end",
            made(&[
                call(json!(0), "a", "note", NOTE),
                calls(json!([{"index": 0, "id": "a", "function": {"name": "note", "arguments": NOTE}}])),
            ]),
            one,
        ),
        (
            "reasoning between",
            made(&[
                call(json!(0), "a", "note", "{\"a\":"),
                delta(json!({"reasoning_content": "hm"})),
                call(json!(0), "", "", "\"x\"}"),
            ]),
            r#"note[a]({"a":"x"}) (hm) 20/0/9 WantsTools"#,
        ),
    ];
    hold::<OpenaiChat>(table);
}

#[test]
fn counts_in_other_forms() {
    let counted = |usage: Value| {
        [text("hello"), finish("stop"), event(&json!({"choices": [], "usage": usage})), DONE.to_owned()]
            .concat()
    };
    let hello = r#""hello" 20/0/9 Finished"#;
    let table: &[Case<'_>] = &[
        ("with parts", counted(json!({"prompt_tokens": 20.0, "completion_tokens": 9.0})), hello),
        ("as texts", counted(json!({"prompt_tokens": "20", "completion_tokens": "9"})), hello),
        ("the other wire's names", counted(json!({"input_tokens": 20, "output_tokens": 9})), hello),
        (
            "both names",
            counted(
                json!({"prompt_tokens": 0, "completion_tokens": 0, "input_tokens": 20, "output_tokens": 9}),
            ),
            hello,
        ),
        (
            "details null",
            counted(json!({"prompt_tokens": 20, "completion_tokens": 9, "prompt_tokens_details": null})),
            hello,
        ),
        ("a list", counted(json!([1, 2])), r#""hello" Finished"#),
        ("after the mark", [text("hello"), finish("stop"), DONE.to_owned(), usage(9)].concat(), hello),
        (
            "of Groq",
            event(
                &json!({"choices": [], "x_groq": {"usage": {"prompt_tokens": 20, "completion_tokens": 9}}}),
            ) + &text("hello")
                + &finish("stop"),
            hello,
        ),
    ];
    hold::<OpenaiChat>(table);
}

#[test]
fn errors_in_other_forms() {
    let nested = json!({"message": json!({"error": {"code": 429, "status": "RESOURCE_EXHAUSTED", "message": "slow", "details": [{"retryDelay": "7s"}]}}).to_string(), "code": 500}).to_string();
    let nested: Value = serde_json::from_str(&nested).unwrap();
    let raw = json!({"code": 502, "message": "Provider returned error", "metadata": {"provider_name": "X", "raw": "{\"error\":{\"message\":\"Worker local total request limit reached (33/32)\"}}"}});
    let empty_choices = event(
        &json!({"id": "c", "choices": [], "error": {"code": 502, "message": "Provider disconnected", "metadata": {"error_type": "provider_unavailable"}}}),
    );
    let with_finish = event(
        &json!({"choices": [{"delta": {"content": ""}, "finish_reason": "error", "native_finish_reason": "error"}], "error": {"code": "server_error", "message": "gone"}}),
    );
    let table: &[Case<'_>] = &[
        ("a text", error(json!("model is overloaded")), r#""hello" Overloaded: model is overloaded"#),
        (
            "a text with a status beside it",
            event(&json!({"error": "Unauthorized", "statusCode": 401})),
            "Authentication: 401: Unauthorized",
        ),
        (
            "a code in a text",
            error(json!({"message": "slow", "code": "429"})),
            r#""hello" RateLimited: 429: slow"#,
        ),
        (
            "a type alone",
            error(json!({"type": "overloaded_error"})),
            r#""hello" Overloaded: overloaded_error"#,
        ),
        ("another provider's error as text", error(nested), r#""hello" RateLimited: 500: slow"#),
        (
            "another provider's error raw",
            error(raw),
            r#""hello" Server: 502: Worker local total request limit reached (33/32)"#,
        ),
        ("no choice", text("hello") + &empty_choices, r#""hello" Server: 502: Provider disconnected"#),
        ("with a reason", text("hello") + &with_finish, r#""hello" Server: server_error: gone"#),
    ];
    hold::<OpenaiChat>(table);
}

#[test]
fn errors_of_other_providers() {
    let table: &[Case<'_>] = &[
        ("an empty error", error(json!({})), r#""hello" Server: no reason was given"#),
        ("an empty text", error(json!("")), r#""hello" Server: no reason was given"#),
        (
            "a list",
            event(&json!({"errors": [{"message": "bad key", "code": "invalid_api_key"}]})),
            "Authentication: invalid_api_key: bad key",
        ),
        (
            "false",
            text("hello").replace("}\n", ",\"error\":false}\n") + &finish("stop"),
            r#""hello" Finished"#,
        ),
        (
            "the key ran out",
            error(json!({"message": "Your account balance is insufficient balance", "code": "1113"})),
            r#""hello" QuotaUsedUp: 1113: Your account balance is insufficient balance"#,
        ),
        (
            "xAI's window",
            event(
                &json!({"code": "Client specified an invalid argument", "error": "This model's maximum prompt length is 9 but the request contains 10 tokens."}),
            ),
            "ContextLength: Client specified an invalid argument: This model's maximum prompt length is 9 but the request contains 10 tokens.",
        ),
        (
            "a name of an event",
            text("hello") + "event: error\ndata: {\"code\":\"rate_limit\",\"message\":\"slow\"}\n\n",
            r#""hello" RateLimited: rate_limit: slow"#,
        ),
        (
            "after the end",
            [text("hello"), finish("stop"), event(&json!({"error": {"code": 500, "message": "late"}}))]
                .concat(),
            r#""hello" Server: 500: late"#,
        ),
    ];
    hold::<OpenaiChat>(table);
}
