//! Texts, each with the calls that it is, or none.

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::conversation::AssistantMessage;
use crate::conversation::Usage;

const NOTE: &str = r#"{"name": "note", "arguments": {"a": "x"}}"#;
const OTHER: &str = r#"{"name": "other", "arguments": {}}"#;

fn tools() -> Vec<ToolSpec> {
    let properties =
        json!({"a": {"type": "string"}, "n": {"type": "integer"}, "any": {"type": ["string", "null"]}});
    let tool = |name: &str| ToolSpec {
        name: name.into(),
        description: String::new(),
        parameters: json!({"type": "object", "properties": properties}),
    };
    ["note", "other"].map(tool).to_vec()
}

/// A finished reply of these parts.
fn finished(parts: Vec<Part>) -> Reply {
    let message =
        AssistantMessage { parts, usage: Usage { output_tokens: 9, ..Usage::default() }, origin: None };
    Reply { message, end: ReplyEnd::Finished, dropped_calls: Vec::new() }
}

fn text(text: impl Into<String>) -> Part {
    Part::Text(text.into())
}

/// The calls as `name(arguments)`, after `(reasoning)`; none where the reply is unchanged.
fn calls(written: &str) -> Option<String> {
    let reply = finished(vec![text(written)]);
    let read = recognise(reply.clone(), &tools(), "made_");
    if read == reply {
        return None;
    }
    assert_eq!((&read.end, read.message.usage.output_tokens), (&ReplyEnd::WantsTools, 9), "{written}");
    let part = |(at, part): (usize, &Part)| match part {
        Part::Thinking { text, signature: None } => format!("({text})"),
        Part::ToolCall(call) => {
            assert!(call.id.starts_with("made_"), "{at} {}", call.id);
            format!("{}({})", call.name, call.arguments)
        }
        other => panic!("{other:?}"),
    };
    Some(read.message.parts.iter().enumerate().map(part).collect::<Vec<_>>().join(" "))
}

#[test]
fn forms_of_calls() {
    let note = r#"note({"a": "x"})"#;
    let both = r#"note({"a": "x"}) other({})"#;
    let pairs =
        "<function=note>\n<parameter=a>\n5\n</parameter>\n<parameter=n>\n5\n</parameter>\n</function>";
    let from_pairs = r#"note({"a":"5","n":5})"#;
    let table = [
        ("Hermes", format!("<tool_call>\n{NOTE}\n</tool_call>"), note),
        ("Hermes, two", format!("<tool_call>{NOTE}</tool_call>\n<tool_call>{OTHER}</tool_call>\n"), both),
        ("Hermes, a list", format!("<tool_call>[{NOTE}, {OTHER}]</tool_call>"), both),
        ("Hermes, the last mark missing", format!("<tool_call>\n{NOTE}"), note),
        ("Hermes, a mark in an argument", r#"<tool_call>{"name": "note", "arguments": {"a": "</tool_call>"}}</tool_call>"#.into(), r#"note({"a": "</tool_call>"})"#),
        ("Qwen Coder", format!("<tool_call>\n{pairs}\n</tool_call>"), from_pairs),
        ("Qwen Coder, without the outer mark", format!("{pairs}\n{pairs}"), r#"note({"a":"5","n":5}) note({"a":"5","n":5})"#),
        ("Qwen Coder, no arguments", "<function=other>\n</function>".into(), "other({})"),
        ("GLM", "<tool_call>note\n<arg_key>a</arg_key>\n<arg_value>x y</arg_value>\n</tool_call>".into(), r#"note({"a":"x y"})"#),
        ("GLM, no arguments", "<tool_call>other\n</tool_call>".into(), "other({})"),
        ("Llama", r#"<function=note>{"a": "x"}</function>"#.into(), note),
        ("Llama, JSON", r#"<|python_tag|>{"name": "note", "parameters": {"a": "x"}}"#.into(), note),
        ("Llama, two", format!("{NOTE}; {OTHER}"), both),
        ("Mistral", format!("[TOOL_CALLS][{NOTE}, {OTHER}]"), both),
        ("Mistral, names before", r#"[TOOL_CALLS]note{"a": "x"}[TOOL_CALLS]other[CALL_ID]abc123[ARGS]{}"#.into(), both),
        ("a fence", format!("```json\n{NOTE}\n```"), note),
        ("two fences", format!("```\n{NOTE}\n```\n\n```tool_call\n{OTHER}\n```"), both),
        ("JSON", format!(" {NOTE}\n"), note),
        ("a list", format!("[{NOTE}, {OTHER}]"), both),
        ("an id", r#"{"id": "q", "type": "function", "name": "note", "arguments": {"a": "x"}}"#.into(), note),
        ("OpenAI's own", format!(r#"{{"type": "function", "function": {NOTE}}}"#), note),
        ("the name elsewhere", r#"{"function": "note", "args": {"a": "x"}}"#.into(), note),
        ("arguments as text", r#"{"name": "note", "arguments": "{\"a\": \"x\"}"}"#.into(), note),
        ("no arguments", r#"{"name": "other", "arguments": null}"#.into(), "other({})"),
        ("reasoning", format!("<think>\nhm\n</think>\n\n<tool_call>{NOTE}</tool_call>"), r#"(hm) note({"a": "x"})"#),
        ("reasoning without a beginning", format!("hm\n</think>{NOTE}"), r#"(hm) note({"a": "x"})"#),
        ("no reasoning", format!("<think></think>{NOTE}"), note),
        ("values of other types", "<function=note><parameter=any>7</parameter><parameter=n>many</parameter><parameter=q>[1]</parameter></function>".into(), r#"note({"any":"7","n":"many","q":[1]})"#),
    ];
    for (name, written, expected) in table {
        assert_eq!(calls(&written).as_deref(), Some(expected), "{name}");
    }
}

#[test]
fn texts_that_are_not_calls() {
    let table = [
        ("nothing", String::new()),
        ("a text", "I write a note.".into()),
        ("a text before", format!("I write: <tool_call>{NOTE}</tool_call>")),
        ("a text after", format!("<tool_call>{NOTE}</tool_call> Done.")),
        ("a text between", format!("<tool_call>{NOTE}</tool_call> and <tool_call>{NOTE}</tool_call>")),
        ("a text before a fence", format!("Like so:\n```json\n{NOTE}\n```")),
        ("an unknown tool", r#"<tool_call>{"name": "rm", "arguments": {}}</tool_call>"#.into()),
        ("one of two is unknown", format!(r#"{NOTE};{{"name": "rm", "arguments": {{}}}}"#)),
        ("an example in a fence", format!("```yaml\n{NOTE}\n```")),
        ("a fence that does not end", format!("```json\n{NOTE}")),
        ("broken JSON", r#"<tool_call>{"name": "note", "arguments": {"a": "x"}</tool_call>"#.into()),
        ("an answer in JSON", r#"{"name": "note", "result": 5}"#.into()),
        ("an answer with more than a call", r#"{"name": "note", "arguments": {}, "score": 5}"#.into()),
        ("no arguments", r#"{"name": "note"}"#.into()),
        ("arguments of another kind", r#"{"name": "note", "arguments": [1]}"#.into()),
        ("a name of another kind", r#"{"name": 5, "arguments": {}}"#.into()),
        ("deep fields", r#"{"function": "#.repeat(50_000) + NOTE + &"}".repeat(50_000)),
        ("too many", NOTE.repeat(513)),
        ("a list", "[1, 2]".into()),
        ("an empty list", "[]".into()),
        ("one of a list", format!("[{NOTE}, 1]")),
        ("only the mark", "<tool_call></tool_call>".into()),
        ("a name in a mark", "<tool_call>note and more</tool_call>".into()),
        ("a parameter that does not end", "<function=note><parameter=a>x</function>".into()),
        ("a function that does not end", r#"<function=note>{"a": "x"}"#.into()),
        ("only reasoning", format!("<think>{NOTE}</think>")),
        ("a call in the middle of reasoning", format!("<think>{NOTE}")),
    ];
    for (name, written) in table {
        assert_eq!(calls(&written), None, "{name}");
    }
}

#[test]
fn only_a_finished_reply_of_nothing_else() {
    let call =
        ToolCall { id: "a".into(), name: "note".into(), arguments: "{}".into(), thought_signature: None };
    let with = |end: ReplyEnd| Reply { end, ..finished(vec![text(NOTE)]) };
    let unchanged = [
        with(ReplyEnd::CutAtOutputLimit),
        with(ReplyEnd::Refused(String::new())),
        with(ReplyEnd::BrokenOff(String::new())),
        finished(vec![text(NOTE), Part::ToolCall(call.clone())]),
        Reply { end: ReplyEnd::WantsTools, ..finished(vec![text(NOTE), Part::ToolCall(call)]) },
        finished(vec![text(NOTE), text(" and more")]),
        finished(vec![text(NOTE.to_owned() + &" ".repeat(MAX_BYTES))]),
    ];
    for reply in unchanged {
        assert_eq!(recognise(reply.clone(), &tools(), ""), reply);
    }
    assert_eq!(recognise(finished(vec![text(NOTE)]), &[], ""), finished(vec![text(NOTE)]), "no tools");
    let thinking = Part::Thinking { text: "hm".into(), signature: None };
    let kept = Part::Opaque { data: json!({"reasoning_details": []}) };
    let parts = vec![thinking.clone(), text(&NOTE[..9]), kept.clone(), text(&NOTE[9..])];
    let read = recognise(finished(parts), &tools(), "t1_");
    assert_eq!(read.message.parts[..2], [thinking, kept]);
    assert_eq!(read.message.tool_calls().map(|call| call.id.as_str()).collect::<Vec<_>>(), ["t1_1"]);
}

#[test]
fn reading_is_linear() {
    for written in [
        format!("<tool_call>{NOTE}</tool_call>").repeat(20_000),
        "<tool_call>".repeat(90_000),
        "<function=note><parameter=a>".repeat(30_000),
        format!("{}1{}", "[".repeat(100), "]".repeat(100)).repeat(4000),
        format!("[{}{NOTE}]", format!("{NOTE},").repeat(20_000)),
    ] {
        let work = work::counted(|| {
            calls(&written);
        });
        assert!(work <= 8 * written.len(), "{work} for {}", written.len());
    }
}

proptest! {
    #[test]
    fn any_text_is_unchanged_or_calls_of_known_tools(
        pieces in prop::collection::vec(prop::sample::select(vec![
            NOTE, OTHER, "<tool_call>", "</tool_call>", "<function=note>", "</function>", "<parameter=a>", "</parameter>",
            "[TOOL_CALLS]", "[ARGS]", "note", "rm", "{", "}", "[", "]", "{}", "\"", "```", "json", "\n", " ", ";", "\u{e9}",
            "<think>", "</think>", "<arg_key>", "</arg_key>", "<arg_value>", "</arg_value>", "{\"name\": \"rm\", \"arguments\": {}}",
        ]), 0..12),
    ) {
        let read = recognise(finished(vec![text(pieces.concat())]), &tools(), "");
        let known = |call: &ToolCall| ["note", "other"].contains(&call.name.as_str()) && call.object() != "";
        prop_assert!(read.message.tool_calls().all(known));
        prop_assert_eq!(read.end == ReplyEnd::WantsTools, read.message.tool_calls().next().is_some());
    }
}
