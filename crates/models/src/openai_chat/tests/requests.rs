//! What is sent, and what a provider would refuse and is not.

use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::Value;
use serde_json::json;

use crate::conversation::AssistantMessage;
use crate::conversation::Content;
use crate::conversation::ContentPart;
use crate::conversation::Image;
use crate::conversation::Message;
use crate::conversation::Part;
use crate::conversation::ToolCall;
use crate::conversation::ToolSpec;
use crate::openai_chat::OpenaiChat;
use crate::reader::Close;
use crate::reader::ReadReply as _;
use crate::reader::Reader;
use crate::reply::Limits;
use crate::settings::Settings;
use crate::settings::Thinking;
use crate::settings::ToolChoice;
use crate::testing;
use crate::testing::any_object;
use crate::testing::note;
use crate::wire::Ask;
use crate::wire::RequestError;
use crate::wire::Wire as _;
use crate::wire::WireRequest;

fn asked(settings: &Settings, messages: &[Message]) -> WireRequest {
    OpenaiChat::request(settings, &Ask { messages, tools: &[] }).unwrap()
}

fn sent(settings: &Settings, messages: &[Message]) -> Value {
    asked(settings, messages).body["messages"].take()
}

fn result(call_id: &str, content: impl Into<Content>) -> Message {
    testing::result(call_id, content, false)
}

fn reply(parts: Vec<Part>) -> Message {
    Message::Assistant(AssistantMessage { parts, ..AssistantMessage::default() })
}

#[test]
fn a_whole_request() {
    let mut settings = Settings::new("openai", "gpt-4o");
    settings.temperature = Some(0.5);
    settings.max_output_tokens = Some(4000);
    settings.parallel_tool_calls = Some(false);
    settings.tool_choice = ToolChoice::Tool("note".into());
    settings.form = Some(any_object());
    settings.extra.insert("top_k".into(), json!(5));
    settings.extra.insert("messages".into(), json!("never"));
    let tool = ToolSpec { name: "note".into(), description: "notes".into(), parameters: Value::Null };
    let messages = [Message::system("be"), Message::user("go")];
    let request = OpenaiChat::request(&settings, &Ask { messages: &messages, tools: &[tool] }).unwrap();
    let function =
        json!({"name": "note", "description": "notes", "parameters": {"type": "object", "properties": {}}});
    let expected = json!({
        "model": "gpt-4o",
        "messages": [{"role": "system", "content": "be"}, {"role": "user", "content": "go"}],
        "stream": true,
        "stream_options": {"include_usage": true},
        "temperature": 0.5,
        "max_tokens": 4000,
        "tools": [{"type": "function", "function": function}],
        "tool_choice": {"type": "function", "function": {"name": "note"}},
        "parallel_tool_calls": false,
        "response_format": {"type": "json_schema", "json_schema": {"name": "answer", "strict": true, "schema": {"type": "object"}}},
        "top_k": 5,
    });
    assert_eq!((request.path.as_str(), request.body, request.notes), ("chat/completions", expected, vec![]));
}

#[test]
fn what_would_be_refused_is_not_sent() {
    let effort = |word: &str| Some(Thinking::Effort(word.into()));
    let table = [
        ("gpt-4o", effort("high"), None, Some("is left out: this model has no effort to set")),
        ("gpt-5", effort("high"), Some("high"), None),
        ("openai/gpt-5", effort("minimal"), Some("minimal"), None),
        ("gpt-5", Some(Thinking::Off), None, None),
        ("o3", effort("minimal"), Some("low"), Some("is sent as `low`: this model does not know `minimal`")),
        ("gpt-5.2", effort("max"), Some("xhigh"), Some("is sent as `xhigh`: this model does not know `max`")),
        ("gpt-5", effort("much"), None, Some("is left out: this model knows minimal, low, medium, high")),
        (
            "gpt-5",
            Some(Thinking::Tokens(1024)),
            None,
            Some("is left out: this model takes words, not tokens"),
        ),
        ("gpt-5-chat-latest", effort("low"), None, Some("is left out: this model has no effort to set")),
        ("gpt-oss-20b", effort("low"), Some("low"), None),
    ];
    for (model, thinking, expected, change) in table {
        let settings = Settings { thinking, ..Settings::new("openai", model) };
        let request = asked(&settings, &[Message::user("go")]);
        assert_eq!(request.body["reasoning_effort"].as_str(), expected, "{model}");
        assert_eq!(request.notes.first().map(|note| note.change.as_str()), change, "{model}");
    }
    let settings = Settings {
        temperature: Some(0.3),
        top_p: Some(0.9),
        max_output_tokens: Some(5),
        parallel_tool_calls: Some(true),
        ..Settings::new("openai", "o3")
    };
    let request = asked(&settings, &[Message::user("go")]);
    for field in ["temperature", "top_p", "max_tokens", "tools", "tool_choice", "parallel_tool_calls"] {
        assert_eq!(request.body[field], Value::Null, "{field}");
    }
    assert_eq!(request.body["max_completion_tokens"], 5);
    let left_out: Vec<&str> = request.notes.iter().map(|note| note.setting).collect();
    assert_eq!(left_out, ["temperature", "top_p"]);
    let nothing = OpenaiChat::request(&settings, &Ask { messages: &[Message::system("be")], tools: &[] });
    assert_eq!(nothing, Err(RequestError::NothingAsked));
}

#[test]
fn replies_and_results() {
    let settings = Settings::new("openai", "gpt-4o");
    let broken = ToolCall { arguments: "{\"a".into(), ..note("b") };
    let thinking = Part::Thinking { text: "hm".into(), signature: None };
    let messages = [
        Message::user("go"),
        reply(vec![thinking, Part::Text("\n\n".into()), Part::ToolCall(note("a")), Part::ToolCall(broken)]),
        result("a", ""),
        reply(vec![Part::Text(" ".into())]),
    ];
    let called = |id: &str, arguments: &str| json!({"id": id, "type": "function", "function": {"name": "note", "arguments": arguments}});
    let wrapped = json!({"invalid_json": "{\"a"}).to_string();
    let all = sent(&settings, &messages);
    assert_eq!(
        all[1],
        json!({"role": "assistant", "content": null, "tool_calls": [called("a", "{\"a\":1}"), called("b", &wrapped)]})
    );
    assert_eq!(all[2], json!({"role": "tool", "tool_call_id": "a", "content": "<no output>"}));
    assert_eq!(all[3]["tool_call_id"], "b");
    assert_eq!(all.as_array().unwrap().len(), 4);
}

#[test]
fn images_where_they_are_taken_and_words_where_not() {
    let image = Image { media_type: "image/png".into(), data: "AAAA".into() };
    let content =
        Content::new(vec![ContentPart::Text { text: "look".into() }, ContentPart::Image(image.clone())]);
    let messages = [
        Message::user(content.clone()),
        reply(vec![Part::ToolCall(note("a")), Part::ToolCall(note("b"))]),
        result("a", content),
        result("b", "two"),
        Message::user("and"),
    ];
    let mut settings = Settings::new("openai", "gpt-4o");
    let all = sent(&settings, &messages);
    let picture = json!({"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}});
    assert_eq!(all[0]["content"], json!([{"type": "text", "text": "look"}, picture]));
    assert_eq!(all[2]["content"], "look");
    assert_eq!((&all[4]["role"], &all[4]["content"][1]), (&json!("user"), &picture));
    settings.images = false;
    let all = sent(&settings, &messages);
    let words = format!("look\n{}", image.in_words());
    assert_eq!((&all[0]["content"], &all[2]["content"]), (&json!(words), &json!(words)));
    assert_eq!(all[4]["content"], "and");
}

#[test]
fn reasoning_goes_back_only_where_it_is_wanted() {
    let thinking = Part::Thinking { text: "hm".into(), signature: None };
    let messages = |parts| [Message::user("go"), reply(parts), result("a", "ok")];
    let called = messages(vec![thinking.clone(), Part::ToolCall(note("a"))]);
    for (provider, model, back) in [
        ("openai", "gpt-4o", Value::Null),
        ("openrouter", "qwen/qwen3", Value::Null),
        ("deepseek", "deepseek-chat", json!("hm")),
        ("mine", "moonshotai/Kimi-K2", json!("hm")),
    ] {
        let all = sent(&Settings::new(provider, model), &called);
        assert_eq!(all[1]["reasoning_content"], back, "{provider}");
        assert_eq!(all[1]["reasoning"], Value::Null, "{provider}");
    }
    let said = messages(vec![thinking, Part::Text("hello".into())]);
    assert_eq!(sent(&Settings::new("deepseek", "deepseek-chat"), &said)[1]["reasoning_content"], Value::Null);
}

#[test]
fn ids_are_fitted_to_the_provider() {
    let long = "call_that_another_provider_made_very_long_indeed";
    let messages = [Message::user("go"), reply(vec![Part::ToolCall(note(long))]), result(long, "ok")];
    for (provider, kept) in [("openai", false), ("mistral", false)] {
        let all = sent(&Settings::new(provider, "m"), &messages);
        let id = all[1]["tool_calls"][0]["id"].as_str().unwrap();
        assert_eq!((id == long, id.len()), (kept, 9), "{provider}");
        assert_eq!(all[2]["tool_call_id"], id);
    }
    let request = asked(&Settings::new("mistral", "m"), &[Message::user("go")]);
    assert_eq!(request.body["stream_options"], Value::Null);
}

/// What a reply of this wire may hold, as it is read from it.
fn part() -> impl Strategy<Value = Part> {
    let signature = proptest::option::of("[a-z]{1,4}".prop_map(String::from));
    prop_oneof![
        "[a-z]{1,9}".prop_map(Part::Text),
        ("[a-z]{1,9}", signature).prop_map(|(argument, thought_signature)| {
            let arguments = json!({"a": argument}).to_string();
            Part::ToolCall(ToolCall { arguments, thought_signature, ..note("") })
        }),
        "[a-z]{1,9}".prop_map(|data| {
            Part::Opaque {
                data: json!({"reasoning_details": [{"type": "reasoning.encrypted", "data": data}]}),
            }
        }),
    ]
}

proptest! {
    /// What goes back is what came: a reply that is sent back, and comes again as a whole reply, goes back the same.
    #[test]
    fn what_goes_back_is_what_came(parts in vec(part(), 1..6)) {
        let settings = Settings::new("openrouter", "m");
        let mut parts = parts;
        for (at, part) in parts.iter_mut().enumerate() {
            if let Part::ToolCall(call) = part {
                call.id = format!("id{at}");
            }
        }
        let origin = Some(crate::conversation::Origin { wire: OpenaiChat::NAME.into(), provider: "openrouter".into(), model: "m".into() });
        let first = AssistantMessage { parts, origin, ..AssistantMessage::default() };
        prop_assume!(first.says_anything());
        let once = sent(&settings, &[Message::user("go"), Message::Assistant(first)])[1].take();
        let body = json!({"choices": [{"message": once.clone(), "finish_reason": "stop"}]}).to_string();
        let mut reader = Box::new(Reader::<OpenaiChat>::new(&settings, Limits::default(), ""));
        let mut events = Vec::new();
        reader.feed(body.as_bytes(), &mut events).unwrap();
        let again = reader.finish(Close::Clean, &mut events).unwrap().message;
        let twice = sent(&settings, &[Message::user("go"), Message::Assistant(again)])[1].take();
        prop_assert_eq!(once, twice);
    }
}
