//! What is sent, and what the provider would refuse and is not.

use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::Value;
use serde_json::json;

use crate::conversation::AssistantMessage;
use crate::conversation::Content;
use crate::conversation::ContentPart;
use crate::conversation::Image;
use crate::conversation::Message;
use crate::conversation::Origin;
use crate::conversation::Part;
use crate::conversation::ToolCall;
use crate::conversation::ToolResult;
use crate::conversation::ToolSpec;
use crate::openai_responses::OpenaiResponses;
use crate::reader::Close;
use crate::reader::ReadReply as _;
use crate::reader::Reader;
use crate::reply::Limits;
use crate::settings::Form;
use crate::settings::Settings;
use crate::settings::Thinking;
use crate::settings::ToolChoice;
use crate::testing::note;
use crate::wire::Ask;
use crate::wire::RequestError;
use crate::wire::Wire as _;
use crate::wire::WireRequest;

fn asked(settings: &Settings, messages: &[Message]) -> WireRequest {
    OpenaiResponses::request(settings, &Ask { messages, tools: &[] }).unwrap()
}

fn sent(settings: &Settings, messages: &[Message]) -> Value {
    asked(settings, messages).body["input"].take()
}

fn result(call_id: &str, content: impl Into<Content>) -> Message {
    let (call_id, name) = (call_id.into(), "note".into());
    Message::ToolResult(ToolResult { call_id, name, content: content.into(), is_error: false })
}

/// A reply that `model` made at the provider `openai`.
fn reply(model: &str, parts: Vec<Part>) -> Message {
    let origin =
        Origin { wire: OpenaiResponses::NAME.into(), provider: "openai".into(), model: model.into() };
    Message::Assistant(AssistantMessage { parts, origin: Some(origin), ..AssistantMessage::default() })
}

fn reasoning(encrypted: &str) -> Value {
    json!({"type": "reasoning", "summary": [], "encrypted_content": encrypted})
}

fn opaque(data: Value) -> Part {
    Part::Opaque { data }
}

fn said(text: &str) -> Value {
    json!({"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": text}]})
}

fn function_call(id: &str, arguments: &str) -> Value {
    json!({"type": "function_call", "call_id": id, "name": "note", "arguments": arguments})
}

#[test]
fn a_whole_request() {
    let mut settings = Settings::new("openai", "gpt-5.2");
    settings.max_output_tokens = Some(4000);
    settings.thinking = Some(Thinking::Effort("high".into()));
    settings.parallel_tool_calls = Some(false);
    settings.tool_choice = ToolChoice::Tool("note".into());
    settings.form = Some(Form {
        name: "answer".into(),
        description: Some("an answer".into()),
        strict: true,
        schema: json!({"type": "object"}),
    });
    settings.extra.insert("text".into(), json!({"verbosity": "low"}));
    settings.extra.insert("reasoning".into(), json!({"summary": "auto"}));
    settings.extra.insert("include".into(), json!(["web_search_call.results"]));
    settings.extra.insert("input".into(), json!("never"));
    let tool = ToolSpec { name: "note".into(), description: "notes".into(), parameters: Value::Null };
    let messages = [Message::system("be"), Message::user("go")];
    let request = OpenaiResponses::request(&settings, &Ask { messages: &messages, tools: &[tool] }).unwrap();
    let format = json!({"type": "json_schema", "name": "answer", "description": "an answer", "strict": true, "schema": {"type": "object"}});
    let expected = json!({
        "model": "gpt-5.2",
        "input": [{"role": "system", "content": "be"}, {"role": "user", "content": "go"}],
        "stream": true,
        "store": false,
        "include": ["web_search_call.results", "reasoning.encrypted_content"],
        "reasoning": {"summary": "auto", "effort": "high"},
        "max_output_tokens": 4000,
        "text": {"verbosity": "low", "format": format},
        "tools": [{"type": "function", "name": "note", "description": "notes", "parameters": {"type": "object", "properties": {}}, "strict": false}],
        "tool_choice": {"type": "function", "name": "note"},
        "parallel_tool_calls": false,
    });
    assert_eq!((request.path.as_str(), request.body, request.notes), ("responses", expected, vec![]));
}

#[test]
fn what_would_be_refused_is_not_sent() {
    let mut settings = Settings::new("openai", "o3");
    settings.temperature = Some(0.3);
    settings.top_p = Some(0.9);
    settings.frequency_penalty = Some(0.1);
    settings.max_output_tokens = Some(5);
    settings.parallel_tool_calls = Some(true);
    settings.thinking = Some(Thinking::Effort("max".into()));
    let tool = ToolSpec { name: "note".into(), description: String::new(), parameters: json!({}) };
    let messages = [Message::user("go")];
    let request = OpenaiResponses::request(&settings, &Ask { messages: &messages, tools: &[tool] }).unwrap();
    for field in ["temperature", "top_p", "frequency_penalty", "parallel_tool_calls", "tool_choice", "text"] {
        assert_eq!(request.body[field], Value::Null, "{field}");
    }
    assert_eq!(
        (&request.body["max_output_tokens"], &request.body["reasoning"]["effort"]),
        (&json!(16), &json!("high"))
    );
    let notes: Vec<&str> = request.notes.iter().map(|note| note.setting).collect();
    let expected =
        ["max_tokens", "temperature", "top_p", "frequency_penalty", "thinking_budget", "parallel_tool_calls"];
    assert_eq!(notes, expected);
    // A model that is not known to reason is asked for nothing of it.
    settings = Settings { temperature: Some(0.3), ..Settings::new("openai", "test-model") };
    let request = asked(&settings, &messages);
    for field in ["reasoning", "include"] {
        assert_eq!(request.body[field], Value::Null, "{field}");
    }
    assert_eq!((&request.body["temperature"], &request.notes), (&json!(0.3), &vec![]));
    for thinking in [Thinking::Off, Thinking::Effort("high".into())] {
        let settings = Settings { thinking: Some(thinking), ..Settings::new("openai", "gpt-4o") };
        assert_eq!(asked(&settings, &messages).body["reasoning"], Value::Null);
    }
    let nothing =
        OpenaiResponses::request(&settings, &Ask { messages: &[Message::system("be")], tools: &[] });
    assert_eq!(nothing, Err(RequestError::NothingAsked));
}

#[test]
fn replies_and_results() {
    let settings = Settings::new("openai", "gpt-5");
    let broken = ToolCall { arguments: "{\"a".into(), ..note("b") };
    let long = "c".repeat(65);
    let search = json!({"type": "web_search_call", "status": "completed"});
    let messages = [
        Message::user("go"),
        reply(
            "gpt-5",
            vec![
                Part::Thinking { text: "hm".into(), signature: None },
                opaque(reasoning("one")),
                opaque(search.clone()),
                opaque(json!({"type": "message", "phase": "commentary"})),
                Part::Text("I look.".into()),
                Part::Text(" \n".into()),
                Part::ToolCall(note("a")),
                Part::ToolCall(broken),
                Part::ToolCall(note(&long)),
                opaque(reasoning("of nothing")),
            ],
        ),
        result("a", ""),
        result(&long, "done"),
        reply("gpt-5", vec![opaque(reasoning("alone"))]),
        reply("gpt-5", vec![Part::Text("the end".into())]),
    ];
    let all = sent(&settings, &messages);
    let id = all[6]["call_id"].as_str().unwrap();
    let mut comment = said("I look.");
    comment["phase"] = json!("commentary");
    let wrapped = json!({"invalid_json": "{\"a"}).to_string();
    let output =
        |id: &str, output: &str| json!({"type": "function_call_output", "call_id": id, "output": output});
    let expected = json!([
        {"role": "user", "content": "go"},
        reasoning("one"),
        search,
        comment,
        function_call("a", "{\"a\":1}"),
        function_call("b", &wrapped),
        function_call(id, "{\"a\":1}"),
        output("a", "<no output>"),
        output("b", "The call was interrupted, and its result is not known."),
        output(id, "done"),
        said("the end"),
    ]);
    assert_eq!(all, expected);
    assert!(id.len() <= 64 && id != long, "{id}");
}

#[test]
fn reasoning_goes_back_only_to_its_maker() {
    let went_back = |provider: &str, model: &str, maker: &str| {
        let parts = vec![opaque(reasoning("xyz")), Part::ToolCall(note("a"))];
        let messages = [Message::user("go"), reply(maker, parts), result("a", "ok")];
        sent(&Settings::new(provider, model), &messages)[1] == reasoning("xyz")
    };
    assert!(went_back("openai", "gpt-5", "gpt-5"));
    assert!(went_back("openai", "gpt-5", "o3"), "another model that reasons");
    assert!(went_back("openai", "local", "local"), "a model of which nothing is known");
    assert!(!went_back("openai", "gpt-4o", "gpt-5"), "a model that does not reason refuses it");
    assert!(!went_back("azure", "gpt-5", "gpt-5"));
}

#[test]
fn images_stay_where_they_are() {
    let image = |media_type: &str| Image { media_type: media_type.into(), data: "AAAA".into() };
    let content = Content::new(vec![
        ContentPart::Text { text: "look".into() },
        ContentPart::Image(image("image/jpg")),
        ContentPart::Text { text: " ".into() },
        ContentPart::Image(image("image/tiff")),
    ]);
    let call = reply("gpt-5", vec![Part::ToolCall(note("a"))]);
    let messages = [Message::user(content.clone()), call, result("a", content)];
    let mut settings = Settings::new("openai", "gpt-5");
    let all = sent(&settings, &messages);
    let left_out = image("image/tiff").left_out("this provider does not read its type");
    let shown = json!([
        {"type": "input_text", "text": "look"},
        {"type": "input_image", "image_url": "data:image/jpeg;base64,AAAA", "detail": "auto"},
        {"type": "input_text", "text": left_out},
    ]);
    assert_eq!((&all[0]["content"], &all[2]["output"]), (&shown, &shown));
    settings.images = false;
    let all = sent(&settings, &messages);
    assert!(all[0]["content"].as_str().unwrap().contains("this model takes no images"), "{all}");
    assert_eq!(all[0]["content"], all[2]["output"]);
}

/// What a reply of this wire may hold, as it is read from it.
fn part() -> impl Strategy<Value = Vec<Part>> {
    prop_oneof![
        "[a-z]{1,9}".prop_map(|text| vec![Part::Text(text)]),
        ("[a-z]{1,9}", prop::sample::select(vec!["commentary", "final_answer"])).prop_map(|(text, phase)| {
            vec![opaque(json!({"type": "message", "phase": phase})), Part::Text(text)]
        }),
        "[a-z]{1,9}".prop_map(|argument| {
            let arguments = json!({"a": argument}).to_string();
            vec![Part::ToolCall(ToolCall { arguments, ..note("") })]
        }),
        "[a-z]{1,9}".prop_map(|data| vec![opaque(reasoning(&data))]),
        "[a-z]{1,9}".prop_map(|text| {
            let content = json!([{"type": "reasoning_text", "text": text}]);
            vec![opaque(json!({"type": "reasoning", "summary": [], "content": content}))]
        }),
        Just(vec![opaque(json!({"type": "web_search_call", "status": "completed"}))]),
    ]
}

proptest! {
    /// What goes back is what came: a reply that is sent back, and comes again as a whole reply, goes back the same.
    #[test]
    fn what_goes_back_is_what_came(parts in vec(part(), 1..6)) {
        let settings = Settings::new("openai", "gpt-5");
        let mut parts = parts.concat();
        for (at, part) in parts.iter_mut().enumerate() {
            if let Part::ToolCall(call) = part {
                call.id = format!("id{at}");
            }
        }
        let Message::Assistant(first) = reply("gpt-5", parts) else { unreachable!() };
        prop_assume!(first.says_anything());
        let items = |message: AssistantMessage| -> Vec<Value> {
            let all = sent(&settings, &[Message::user("go"), Message::Assistant(message)]);
            let outputs = |item: &&Value| item["type"] != "function_call_output";
            all.as_array().unwrap()[1..].iter().filter(outputs).cloned().collect()
        };
        let once = items(first);
        let body = json!({"object": "response", "status": "completed", "output": once}).to_string();
        let mut reader = Box::new(Reader::<OpenaiResponses>::new(&settings, Limits::default(), ""));
        let mut events = Vec::new();
        reader.feed(body.as_bytes(), &mut events).unwrap();
        let again = reader.finish(Close::Clean, &mut events).unwrap().message;
        prop_assert_eq!(once, items(again));
    }
}
