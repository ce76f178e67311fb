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
use crate::conversation::ToolSpec;
use crate::gemini::Gemini;
use crate::reader::Close;
use crate::reader::ReadReply as _;
use crate::reader::Reader;
use crate::reply::Limits;
use crate::settings::Form;
use crate::settings::Settings;
use crate::settings::Thinking;
use crate::settings::ToolChoice;
use crate::testing::any_object;
use crate::testing::note;
use crate::testing::result;
use crate::wire::Ask;
use crate::wire::RequestError;
use crate::wire::Wire as _;
use crate::wire::WireRequest;

fn settings(model: &str) -> Settings {
    Settings::new("google", model)
}

fn asked(settings: &Settings, messages: &[Message]) -> WireRequest {
    Gemini::request(settings, &Ask { messages, tools: &[] }).unwrap()
}

fn sent(settings: &Settings, messages: &[Message]) -> Value {
    asked(settings, messages).body["contents"].take()
}

fn signed(id: &str) -> ToolCall {
    ToolCall { thought_signature: Some("s".into()), ..note(id) }
}

fn reply_of(provider: &str, parts: Vec<Part>) -> Message {
    let origin = Some(Origin { wire: "gemini".into(), provider: provider.into(), model: "m".into() });
    Message::Assistant(AssistantMessage { parts, origin, ..AssistantMessage::default() })
}

fn reply(parts: Vec<Part>) -> Message {
    reply_of("google", parts)
}

fn tool(name: &str) -> ToolSpec {
    let parameters = json!({"$schema": "x", "type": "object", "properties": {"a": {"$ref": "#/$defs/a"}}});
    ToolSpec { name: name.into(), description: "notes".into(), parameters }
}

#[test]
fn a_whole_request() {
    let mut settings = settings("gemini-3-flash-preview");
    settings.temperature = Some(0.5);
    settings.top_p = Some(0.9);
    settings.max_output_tokens = Some(4000);
    settings.tool_choice = ToolChoice::Tool("note".into());
    settings.form = Some(any_object());
    settings.extra.insert("generationConfig".into(), json!({"topK": 5, "temperature": 9}));
    settings.extra.insert("contents".into(), json!("never"));
    let messages =
        [Message::system("be"), Message::system(" "), Message::system("brief"), Message::user("go")];
    let request = Gemini::request(&settings, &Ask { messages: &messages, tools: &[tool("note")] }).unwrap();
    let schema = json!({"type": "object", "properties": {"a": {"$ref": "#/$defs/a"}}});
    let expected = json!({
        "systemInstruction": {"parts": [{"text": "be\n\nbrief"}]},
        "contents": [{"role": "user", "parts": [{"text": "go"}]}],
        "tools": [{"functionDeclarations": [{"name": "note", "description": "notes", "parametersJsonSchema": schema}]}],
        "toolConfig": {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["note"]}},
        "generationConfig": {
            "topK": 5,
            "temperature": 0.5,
            "topP": 0.9,
            "maxOutputTokens": 4000,
            "thinkingConfig": {"includeThoughts": true},
            "responseMimeType": "application/json",
            "responseJsonSchema": {"type": "object"},
        },
    });
    let path = "models/gemini-3-flash-preview:streamGenerateContent?alt=sse";
    assert_eq!((request.path.as_str(), request.body, request.notes), (path, expected, vec![]));
    assert!(request.headers.is_empty());
    let named = asked(&Settings { model: "models/gemini-2.5-pro".into(), ..settings }, &messages);
    assert_eq!(named.path, "models/gemini-2.5-pro:streamGenerateContent?alt=sse");
}

/// A model, its setting, what is sent, and the note.
type Row = (&'static str, Option<Thinking>, Value, Option<&'static str>);

fn thinking(rows: Vec<Row>) {
    for (model, thinking, expected, change) in rows {
        let case = format!("{model} {thinking:?}");
        let settings = Settings { thinking, ..settings(model) };
        let mut request = asked(&settings, &[Message::user("go")]);
        assert_eq!(request.body["generationConfig"]["thinkingConfig"].take(), expected, "{case}");
        assert_eq!(request.notes.first().map(|note| note.change.as_str()), change, "{case}");
    }
}

fn effort(word: &str) -> Option<Thinking> {
    Some(Thinking::Effort(word.into()))
}

fn budget(tokens: i64) -> Value {
    json!({"thinkingBudget": tokens, "includeThoughts": true})
}

#[test]
fn thinking_by_a_number_of_tokens() {
    let tokens = |tokens: u32| Some(Thinking::Tokens(tokens));
    let (off, adaptive) = (|| Some(Thinking::Off), Some(Thinking::Adaptive));
    let (shown, stopped) = (|| json!({"includeThoughts": true}), || json!({"thinkingBudget": 0}));
    let (flash, lite, pro) = ("gemini-2.5-flash", "gemini-2.5-flash-lite", "gemini-2.5-pro");
    let most = "is sent as `24576`: this model takes from 1 to 24576 tokens";
    let least = "is sent as `512`: this model takes from 512 to 24576 tokens";
    let wanted = "is sent as `24000`: this model wants a number of tokens";
    thinking(vec![
        (flash, None, shown(), None),
        (flash, tokens(1024), budget(1024), None),
        (flash, tokens(99_999), budget(24_576), Some(most)),
        (lite, tokens(9), budget(512), Some(least)),
        (flash, adaptive, budget(-1), None),
        (flash, off(), stopped(), None),
        (flash, tokens(0), stopped(), None),
        (pro, off(), budget(128), Some("is sent as `128`: this model always thinks")),
        (pro, effort("high"), budget(24_000), Some(wanted)),
        (pro, effort("much"), shown(), Some("is left out: this model wants a number of tokens")),
        ("gemini-2.0-flash", tokens(2000), Value::Null, Some("is left out: this model does not think")),
        ("gemini-2.0-flash", off(), Value::Null, None),
        ("test", tokens(99_999), budget(99_999), None),
    ]);
}

#[test]
fn thinking_by_a_word() {
    let level = |level: &str| json!({"thinkingLevel": level, "includeThoughts": true});
    let shown = || json!({"includeThoughts": true});
    let (flash, pro, later) = ("gemini-3-flash", "gemini-3-pro-preview", "gemini-3.1-pro-preview");
    let unknown = "is left out: this model knows minimal, low, medium, high";
    thinking(vec![
        (flash, effort("minimal"), level("MINIMAL"), None),
        (flash, effort("max"), level("HIGH"), Some("is sent as `high`: this model does not know `max`")),
        (pro, effort("medium"), level("HIGH"), Some("is sent as `high`: this model does not know `medium`")),
        (
            later,
            effort("minimal"),
            level("LOW"),
            Some("is sent as `low`: this model does not know `minimal`"),
        ),
        (later, effort("adaptive/medium"), level("MEDIUM"), None),
        (flash, effort("much"), shown(), Some(unknown)),
        (flash, Some(Thinking::Adaptive), shown(), None),
        (flash, Some(Thinking::Tokens(2000)), budget(2000), None),
        (
            flash,
            Some(Thinking::Off),
            level("MINIMAL"),
            Some("is sent as `minimal`: this model always thinks"),
        ),
    ]);
}

#[test]
fn what_would_be_refused_is_left_out() {
    let form =
        Form { name: "answer".into(), description: None, strict: true, schema: json!({"type": "object"}) };
    let notes = |model: &str, tools: &[ToolSpec]| -> Vec<&'static str> {
        let settings = Settings {
            frequency_penalty: Some(0.5),
            form: Some(form.clone()),
            parallel_tool_calls: Some(false),
            ..settings(model)
        };
        let request = Gemini::request(&settings, &Ask { messages: &[Message::user("go")], tools }).unwrap();
        let config = &request.body["generationConfig"];
        let notes: Vec<&str> = request.notes.iter().map(|note| note.setting).collect();
        assert_eq!(config.get("frequencyPenalty").is_none(), notes.contains(&"frequency_penalty"));
        assert_eq!(config.get("responseJsonSchema").is_none(), notes.contains(&"structured_output"));
        notes
    };
    assert_eq!(notes("gemini-2.0-flash", &[]), Vec::<&str>::new());
    assert_eq!(notes("gemini-2.5-flash", &[]), ["frequency_penalty"]);
    assert_eq!(
        notes("gemini-2.5-flash", &[tool("note")]),
        ["parallel_tool_calls", "frequency_penalty", "structured_output"]
    );
    assert_eq!(notes("gemini-3-flash", &[tool("note")]), ["parallel_tool_calls", "frequency_penalty"]);
    let nothing = Ask { messages: &[Message::system("be"), Message::user(" ")], tools: &[] };
    assert_eq!(Gemini::request(&settings("m"), &nothing), Err(RequestError::NothingAsked));
}

#[test]
fn results_are_apart_from_words() {
    let broken = ToolCall { arguments: "{\"a".into(), ..note("b") };
    let messages = [
        Message::user("go"),
        Message::user("now"),
        reply(vec![Part::Text("\n".into()), Part::ToolCall(signed("a")), Part::ToolCall(broken)]),
        result("b", "bad", true),
        result("a", "", false),
        Message::user("and"),
        reply(vec![Part::Text("so".into())]),
        reply(vec![Part::Text("it is".into())]),
    ];
    let text = |text: &str| json!({"text": text});
    let expected = |ids: bool| {
        let with_id = |mut function: Value, id: &str| {
            if ids {
                function["id"] = json!(id);
            }
            function
        };
        json!([
            {"role": "user", "parts": [text("go"), text("now")]},
            {"role": "model", "parts": [
                {"functionCall": with_id(json!({"name": "note", "args": {"a": 1}}), "a"), "thoughtSignature": "s"},
                {"functionCall": with_id(json!({"name": "note", "args": {"invalid_json": "{\"a"}}), "b")},
            ]},
            {"role": "user", "parts": [
                {"functionResponse": with_id(json!({"name": "note", "response": {"output": "<no output>"}}), "a")},
                {"functionResponse": with_id(json!({"name": "note", "response": {"error": "bad"}}), "b")},
            ]},
            {"role": "user", "parts": [text("and")]},
            {"role": "model", "parts": [text("so"), text("it is")]},
            {"role": "user", "parts": [text("Continue.")]},
        ])
    };
    assert_eq!(sent(&settings("gemini-2.5-flash"), &messages), expected(false));
    assert_eq!(sent(&settings("gemini-3-flash"), &messages), expected(true));
    let headless = sent(&settings("m"), &messages[2..]);
    assert_eq!(headless[0]["parts"][0]["text"], "[The beginning of the conversation is left out.]");
}

#[test]
fn signatures_go_back_to_their_maker() {
    let thinking = |text: &str| Part::Thinking { text: text.into(), signature: Some("s".into()) };
    let unsigned = Part::Thinking { text: "hm".into(), signature: None };
    let code = Part::Opaque { data: json!({"executableCode": {"code": "1"}}) };
    let parts = vec![
        unsigned,
        thinking("hm"),
        thinking(""),
        Part::Text("hello".into()),
        Part::Text("more".into()),
        thinking(""),
        code,
        Part::ToolCall(signed("a")),
        Part::ToolCall(note("b")),
    ];
    let call = |signature: Option<&str>, id: &str| {
        let mut part = json!({"functionCall": {"name": "note", "args": {"a": 1}, "id": id}});
        if let Some(signature) = signature {
            part["thoughtSignature"] = json!(signature);
        }
        part
    };
    let settings = settings("gemini-3-flash");
    let all = sent(&settings, &[Message::user("go"), reply(parts.clone())]);
    assert_eq!(
        all[1]["parts"],
        json!([
            {"text": "hm", "thought": true, "thoughtSignature": "s"},
            {"text": "hello", "thoughtSignature": "s"},
            {"text": "more"},
            {"text": "", "thoughtSignature": "s"},
            {"executableCode": {"code": "1"}},
            call(Some("s"), "a"),
            call(None, "b"),
        ])
    );
    let all = sent(&settings, &[Message::user("go"), reply_of("other", parts)]);
    let unchecked = Some("skip_thought_signature_validator");
    assert_eq!(
        all[1]["parts"],
        json!([{"text": "hello"}, {"text": "more"}, call(unchecked, "a"), call(None, "b")])
    );
}

#[test]
fn images_where_they_are_taken_and_words_where_not() {
    let image = |media_type: &str| Image { media_type: media_type.into(), data: "AAAA".into() };
    let content = |media_type: &str| {
        Content::new(vec![ContentPart::Text { text: "look".into() }, ContentPart::Image(image(media_type))])
    };
    let messages = [
        Message::user(content("image/jpg")),
        reply(vec![Part::ToolCall(note("a"))]),
        result("a", content("image/png"), false),
        Message::user(content("image/gif")),
    ];
    let blob = |media_type: &str| json!({"inlineData": {"mimeType": media_type, "data": "AAAA"}});
    let response = |words: &str| json!({"name": "note", "response": {"output": words}});
    let all = sent(&settings("gemini-2.5-flash"), &messages);
    assert_eq!(all[0]["parts"], json!([{"text": "look"}, blob("image/jpeg")]));
    assert_eq!(all[2]["parts"], json!([{"functionResponse": response("look")}, blob("image/png")]));
    let words = "[An image (image/gif, about 3 bytes) is left out: this provider does not read its type.]";
    assert_eq!(all[3]["parts"][1]["text"], words);
    let all = sent(&settings("gemini-3-flash"), &messages);
    let mut within = response("look");
    (within["id"], within["parts"]) = (json!("a"), json!([blob("image/png")]));
    assert_eq!(all[2]["parts"], json!([{"functionResponse": within}]));
    let blind = Settings { images: false, ..settings("gemini-2.5-flash") };
    let all = sent(&blind, &messages);
    let words = format!("look\n{}", image("image/png").in_words());
    assert_eq!(all[2]["parts"], json!([{"functionResponse": response(&words)}]));
}

/// What a reply of this wire may hold, as it is read from it.
fn part() -> impl Strategy<Value = Part> {
    let signature = || proptest::option::of("[a-z]{1,4}".prop_map(String::from));
    prop_oneof![
        "[a-z \n]{1,9}".prop_map(Part::Text),
        ("[a-z]{0,9}", signature()).prop_map(|(text, signature)| Part::Thinking { text, signature }),
        ("[a-z]{1,9}", signature()).prop_map(|(argument, thought_signature)| {
            let arguments = json!({"a": argument}).to_string();
            Part::ToolCall(ToolCall { arguments, thought_signature, ..note("") })
        }),
        "[a-z]{1,9}".prop_map(|code| Part::Opaque { data: json!({"executableCode": {"code": code}}) }),
    ]
}

/// The parts of a content, unsigned texts in a row as the one text that they are read as.
fn joined(content: &Value) -> Vec<Value> {
    let is_plain = |part: &Value| part["text"].is_string() && part.as_object().unwrap().len() == 1;
    let mut all: Vec<Value> = Vec::new();
    for part in content["parts"].as_array().unwrap() {
        match all.last_mut().filter(|last| is_plain(last) && is_plain(part)) {
            Some(last) => {
                let texts = [&*last, part].map(|part| part["text"].as_str().unwrap().to_owned());
                *last = json!({"text": texts.concat()});
            }
            None => all.push(part.clone()),
        }
    }
    all
}

proptest! {
    /// What goes back is what came: a reply that is sent back, and comes again whole or as a stream, goes back the same.
    #[test]
    fn what_goes_back_is_what_came(parts in vec(part(), 1..8), model in prop_oneof![Just("gemini-3-pro"), Just("gemini-2.5-pro")]) {
        let settings = settings(model);
        let mut parts = parts;
        for (at, part) in parts.iter_mut().enumerate() {
            if let Part::ToolCall(call) = part {
                call.id = format!("made_{}", at + 1);
            }
        }
        let first = reply(parts);
        prop_assume!(matches!(&first, Message::Assistant(reply) if reply.says_anything()));
        let once = sent(&settings, &[Message::user("go"), first])[1].take();
        let whole = json!({"candidates": [{"content": once, "finishReason": "STOP"}]}).to_string();
        let chunk = |part: &Value| json!({"candidates": [{"content": {"parts": [part]}, "finishReason": "STOP"}]});
        let chunks = once["parts"].as_array().unwrap().iter().map(|part| format!("data: {}\n\n", chunk(part)));
        for body in [whole, chunks.collect()] {
            let mut reader = Box::new(Reader::<Gemini>::new(&settings, Limits::default(), "made_"));
            let mut events = Vec::new();
            reader.feed(body.as_bytes(), &mut events).unwrap();
            let again = reader.finish(Close::Clean, &mut events).unwrap().message;
            let twice = sent(&settings, &[Message::user("go"), Message::Assistant(again)])[1].take();
            prop_assert_eq!(joined(&once), joined(&twice));
        }
    }
}
