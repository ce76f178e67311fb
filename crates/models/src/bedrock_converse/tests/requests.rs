//! What is sent, and what a model would refuse and is not.

use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::Value;
use serde_json::json;

use crate::bedrock_converse::BedrockConverse;
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

const SONNET: &str = "global.anthropic.claude-sonnet-4-5-20250929-v1:0";
const NOVA: &str = "us.amazon.nova-2-lite-v1:0";
const OPEN: &str = "openai.gpt-oss-120b-1:0";
const LLAMA: &str = "meta.llama3-1-70b-instruct-v1:0";

fn bedrock(model: &str) -> Settings {
    Settings::new("amazon-bedrock", model)
}

fn asked(settings: &Settings, messages: &[Message], tools: &[ToolSpec]) -> WireRequest {
    BedrockConverse::request(settings, &Ask { messages, tools }).unwrap()
}

fn sent(settings: &Settings, messages: &[Message]) -> Value {
    asked(settings, messages, &[]).body["messages"].take()
}

fn tool(parameters: Value) -> ToolSpec {
    ToolSpec { name: "note".into(), description: "notes".into(), parameters }
}

fn result(call_id: &str, content: impl Into<Content>, is_error: bool) -> Message {
    let (call_id, name) = (call_id.into(), "note".into());
    Message::ToolResult(ToolResult { call_id, name, content: content.into(), is_error })
}

/// A reply that `model` made here.
fn reply(model: &str, parts: Vec<Part>) -> Message {
    let origin =
        Origin { wire: BedrockConverse::NAME.into(), provider: "amazon-bedrock".into(), model: model.into() };
    Message::Assistant(AssistantMessage { parts, origin: Some(origin), ..AssistantMessage::default() })
}

fn form() -> Option<Form> {
    let schema = json!({"type": "object", "properties": {"n": {"type": "integer"}}});
    Some(Form { name: "count".into(), description: Some("a count".into()), strict: true, schema })
}

#[test]
fn a_whole_request() {
    let mut settings = bedrock(SONNET);
    settings.thinking = Some(Thinking::Tokens(2048));
    settings.interleaved_thinking = true;
    settings.max_output_tokens = Some(4000);
    settings.form = form();
    settings.extra.insert("guardrailConfig".into(), json!({"guardrailIdentifier": "g"}));
    settings.extra.insert("inferenceConfig".into(), json!({"stopSequences": ["END"]}));
    settings.extra.insert("additionalModelRequestFields".into(), json!({"top_k": 5}));
    let messages = [Message::system("be"), Message::system(" "), Message::user("go")];
    let request = asked(&settings, &messages, &[tool(json!({"anyOf": [], "$schema": "s"}))]);
    let closed =
        json!({"type": "object", "properties": {"n": {"type": "integer"}}, "additionalProperties": false});
    let schema = json!({"name": "count", "description": "a count", "schema": closed.to_string()});
    let expected = json!({
        "system": [{"text": "be"}],
        "messages": [{"role": "user", "content": [{"text": "go"}]}],
        "inferenceConfig": {"stopSequences": ["END"], "maxTokens": 4000},
        "additionalModelRequestFields": {
            "top_k": 5,
            "thinking": {"type": "enabled", "budget_tokens": 2048},
            "anthropic_beta": ["interleaved-thinking-2025-05-14"],
        },
        "toolConfig": {"tools": [{"toolSpec": {
            "name": "note",
            "description": "notes",
            "inputSchema": {"json": {"type": "object", "properties": {}, "$schema": "s"}},
        }}]},
        "outputConfig": {"textFormat": {"type": "json_schema", "structure": {"jsonSchema": schema}}},
        "guardrailConfig": {"guardrailIdentifier": "g"},
    });
    let path = "model/global.anthropic.claude-sonnet-4-5-20250929-v1%3A0/converse-stream";
    assert_eq!((request.path.as_str(), request.body, request.notes), (path, expected, vec![]));
    let arn = "arn:aws:bedrock:us-east-1:1:inference-profile/us.meta.llama4-x";
    let path = asked(&bedrock(arn), &messages, &[]).path;
    assert_eq!(
        path,
        "model/arn%3Aaws%3Abedrock%3Aus-east-1%3A1%3Ainference-profile%2Fus.meta.llama4-x/converse-stream"
    );
}

#[test]
fn thinking_in_the_field_of_the_vendor() {
    let effort = |word: &str| Some(Thinking::Effort(word.into()));
    let adaptive = json!({"thinking": {"type": "adaptive", "display": "summarized"}, "output_config": {"effort": "low"}});
    let table = [
        (
            SONNET,
            Some(Thinking::Tokens(2048)),
            json!({"thinking": {"type": "enabled", "budget_tokens": 2048}}),
            None,
        ),
        (SONNET, effort("high"), Value::Null, Some("is left out: this model wants a number of tokens")),
        ("anthropic.claude-opus-4-6-v1", effort("low"), adaptive, None),
        (
            "anthropic.claude-opus-4-5-20251101-v1:0",
            effort("low"),
            json!({"anthropic_beta": ["effort-2025-11-24"], "output_config": {"effort": "low"}}),
            None,
        ),
        (
            NOVA,
            effort("low"),
            json!({"reasoningConfig": {"type": "enabled", "maxReasoningEffort": "low"}}),
            None,
        ),
        (NOVA, Some(Thinking::Off), Value::Null, None),
        (
            NOVA,
            Some(Thinking::Tokens(2048)),
            Value::Null,
            Some("is left out: this model takes words, not tokens"),
        ),
        (
            "amazon.nova-pro-v1:0",
            effort("low"),
            Value::Null,
            Some("is left out: this model has no effort to set"),
        ),
        (
            OPEN,
            effort("max"),
            json!({"reasoning_effort": "high"}),
            Some("is sent as `high`: this model does not know `max`"),
        ),
        ("us.openai.gpt-5.6-terra", effort("max"), json!({"reasoning": {"effort": "max"}}), None),
        (
            LLAMA,
            Some(Thinking::Tokens(2048)),
            Value::Null,
            Some("is left out: this model has no effort to set"),
        ),
    ];
    for (model, thinking, fields, change) in table {
        let settings = Settings { thinking, ..bedrock(model) };
        let request = asked(&settings, &[Message::user("go")], &[]);
        assert_eq!(request.body["additionalModelRequestFields"], fields, "{model}");
        assert_eq!(request.notes.first().map(|note| note.change.as_str()), change, "{model}");
    }
}

#[test]
fn a_budget_that_leaves_no_answer_is_an_error() {
    let settings =
        Settings { thinking: Some(Thinking::Tokens(9000)), max_output_tokens: Some(4000), ..bedrock(SONNET) };
    let refused = BedrockConverse::request(&settings, &Ask { messages: &[Message::user("go")], tools: &[] });
    assert!(matches!(refused, Err(RequestError::Setting { setting: "thinking_budget", .. })), "{refused:?}");
}

#[test]
fn what_would_be_refused_is_not_sent() {
    let sampled = |model: &str| Settings {
        temperature: Some(1.5),
        top_p: Some(0.9),
        presence_penalty: Some(0.1),
        parallel_tool_calls: Some(false),
        form: form(),
        ..bedrock(model)
    };
    let high = Some(Thinking::Effort("high".into()));
    let table = [
        (
            sampled(LLAMA),
            json!({"temperature": 1.0, "topP": 0.9}),
            vec!["temperature", "presence_penalty", "structured_output", "parallel_tool_calls"],
        ),
        (
            sampled(SONNET),
            json!({"temperature": 1.0, "maxTokens": 64_000}),
            vec!["temperature", "top_p", "presence_penalty", "parallel_tool_calls"],
        ),
        (
            Settings { thinking: Some(Thinking::Tokens(1024)), ..sampled(SONNET) },
            json!({"maxTokens": 64_000}),
            vec!["temperature", "top_p", "presence_penalty", "parallel_tool_calls"],
        ),
        (
            Settings { thinking: high, max_output_tokens: Some(500), ..sampled(NOVA) },
            Value::Null,
            vec![
                "max_tokens",
                "temperature",
                "top_p",
                "presence_penalty",
                "structured_output",
                "parallel_tool_calls",
            ],
        ),
        (
            sampled("us.openai.gpt-5.6-terra"),
            Value::Null,
            vec!["temperature", "top_p", "presence_penalty", "parallel_tool_calls"],
        ),
    ];
    for (settings, inference, notes) in table {
        let request = asked(&settings, &[Message::user("go")], &[]);
        assert_eq!(request.body["inferenceConfig"], inference, "{}", settings.model);
        let settings_of: Vec<&str> = request.notes.iter().map(|note| note.setting).collect();
        assert_eq!(settings_of, notes, "{}", settings.model);
        assert_eq!(request.body["outputConfig"].is_null(), notes.contains(&"structured_output"));
    }
    let nothing =
        BedrockConverse::request(&bedrock(LLAMA), &Ask { messages: &[Message::system("be")], tools: &[] });
    assert_eq!(nothing, Err(RequestError::NothingAsked));
}

#[test]
fn tools_and_their_choice() {
    let parameters =
        json!({"type": "object", "properties": {"a": {}}, "additionalProperties": false, "required": ["a"]});
    let go = [Message::user("go")];
    let called =
        [Message::user("go"), reply(LLAMA, vec![Part::ToolCall(note("a"))]), result("a", "ok", false)];
    let config = |settings: &Settings, messages: &[Message], tools: &[ToolSpec]| {
        let mut request = asked(settings, messages, tools);
        (request.body["toolConfig"].take(), request.notes.first().map(|note| note.setting))
    };
    let choices = [
        (SONNET, ToolChoice::Required, json!({"any": {}}), None),
        (NOVA, ToolChoice::Tool("note".into()), json!({"tool": {"name": "note"}}), None),
        ("mistral.x", ToolChoice::Required, json!({"any": {}}), None),
        ("mistral.x", ToolChoice::Tool("note".into()), Value::Null, Some("tool_choice")),
        (LLAMA, ToolChoice::Required, Value::Null, Some("tool_choice")),
        (LLAMA, ToolChoice::Auto, Value::Null, None),
    ];
    for (model, tool_choice, choice, left_out) in choices {
        let settings = Settings { tool_choice, ..bedrock(model) };
        let (config, note) = config(&settings, &go, &[tool(parameters.clone())]);
        assert_eq!((&config["toolChoice"], note), (&choice, left_out), "{model}");
    }
    let thinking = Settings {
        tool_choice: ToolChoice::Required,
        thinking: Some(Thinking::Tokens(1024)),
        ..bedrock(SONNET)
    };
    assert_eq!(config(&thinking, &go, &[tool(json!({}))]).1, Some("tool_choice"));
    let never = Settings { tool_choice: ToolChoice::Never, ..bedrock(LLAMA) };
    assert_eq!(config(&never, &go, &[tool(json!({}))]), (Value::Null, None));
    assert_eq!(config(&never, &called, &[tool(json!({}))]).1, Some("tool_choice"));
    let withdrawn = config(&bedrock(LLAMA), &called, &[]).0;
    assert_eq!(withdrawn["tools"][0]["toolSpec"]["name"], "note");
    assert_eq!(config(&bedrock(LLAMA), &go, &[]).0, Value::Null);
    let plain = ToolSpec { description: " ".into(), ..tool(parameters) };
    let spec = config(&bedrock(NOVA), &go, &[plain]).0["tools"][0]["toolSpec"].take();
    let schema = json!({"type": "object", "properties": {"a": {}}, "required": ["a"]});
    assert_eq!(spec, json!({"name": "note", "inputSchema": {"json": schema}}));
}

#[test]
fn replies_and_results() {
    let thinking = Part::Thinking { text: "hm".into(), signature: Some("sig".into()) };
    let unsigned = Part::Thinking { text: "hm".into(), signature: None };
    let hidden = Part::RedactedThinking { data: "xyz".into() };
    let broken = ToolCall { arguments: "{\"a".into(), ..note("functions.note:1") };
    let parts = vec![
        unsigned,
        thinking,
        hidden,
        Part::Text("\n\n".into()),
        Part::ToolCall(note("a")),
        Part::ToolCall(broken),
    ];
    let messages = [
        reply(SONNET, vec![Part::Text("first".into())]),
        Message::user("go"),
        Message::user("on"),
        reply(SONNET, parts),
        result("functions.note:1", "", true),
        result("a", "one", false),
        Message::user("and"),
        reply(SONNET, vec![Part::Text("last".into())]),
    ];
    let all = sent(&bedrock(SONNET), &messages);
    let id = all[3]["content"][3]["toolUse"]["toolUseId"].clone();
    let result = |id: &Value, text: &str| json!({"toolUseId": id, "content": [{"text": text}]});
    let mut failed = result(&id, "<no output>");
    failed["status"] = json!("error");
    let call =
        |id: &Value, input: Value| json!({"toolUse": {"toolUseId": id, "name": "note", "input": input}});
    let expected = json!([
        {"role": "user", "content": [{"text": "[The beginning of the conversation is left out.]"}]},
        {"role": "assistant", "content": [{"text": "first"}]},
        {"role": "user", "content": [{"text": "go"}, {"text": "on"}]},
        {"role": "assistant", "content": [
            {"reasoningContent": {"reasoningText": {"text": "hm", "signature": "sig"}}},
            {"reasoningContent": {"redactedContent": "xyz"}},
            call(&json!("a"), json!({"a": 1})),
            call(&id, json!({"invalid_json": "{\"a"})),
        ]},
        {"role": "user", "content": [{"toolResult": result(&json!("a"), "one")}, {"toolResult": failed}, {"text": "and"}]},
        {"role": "assistant", "content": [{"text": "last"}]},
        {"role": "user", "content": [{"text": "Continue."}]},
    ]);
    assert_eq!(all, expected);
    let elsewhere = sent(&bedrock(LLAMA), &messages);
    assert_eq!(elsewhere[3]["content"].as_array().unwrap().len(), 2, "reasoning of another vendor stays");
    assert_eq!(elsewhere[4]["content"][1]["toolResult"]["status"], Value::Null);
}

#[test]
fn images_where_they_are_taken() {
    let image =
        |media_type: &str| ContentPart::Image(Image { media_type: media_type.into(), data: "AAAA".into() });
    let picture = json!({"image": {"format": "jpeg", "source": {"bytes": "AAAA"}}});
    let messages = |model| {
        let content = Content::new(vec![image("image/jpg")]);
        [
            Message::user(content.clone()),
            reply(model, vec![Part::ToolCall(note("a")), Part::ToolCall(note("b"))]),
            result("a", content, false),
            result("b", "two", false),
        ]
    };
    let all = sent(&bedrock(SONNET), &messages(SONNET));
    assert_eq!(all[0]["content"], json!([picture]));
    assert_eq!(all[2]["content"][0]["toolResult"]["content"], json!([picture]));
    let all = sent(&bedrock(OPEN), &messages(OPEN));
    let results = all[2]["content"].as_array().unwrap();
    assert_eq!(results[0]["toolResult"]["content"], json!([{"text": "The image follows."}]));
    assert_eq!((&results[1]["toolResult"]["toolUseId"], &results[3]), (&json!("b"), &picture));
    let none = Settings { images: false, ..bedrock(OPEN) };
    assert!(sent(&none, &messages(OPEN)).to_string().contains("this model takes no images"));
    let odd = [Message::user(Content::new(vec![image("image/tiff")]))];
    assert!(sent(&bedrock(SONNET), &odd).to_string().contains("does not read its type"));
}

/// What a reply of this wire may hold, as it is read from it.
fn part() -> impl Strategy<Value = Part> {
    prop_oneof![
        "[a-z]{1,9}".prop_map(Part::Text),
        ("[a-z]{0,9}", "[a-z]{1,4}").prop_map(|(text, sig)| Part::Thinking { text, signature: Some(sig) }),
        "[a-z]{1,9}".prop_map(|data| Part::RedactedThinking { data }),
        "[a-z]{1,9}".prop_map(|argument| {
            Part::ToolCall(ToolCall { arguments: json!({"a": argument}).to_string(), ..note("") })
        }),
    ]
}

proptest! {
    /// What goes back is what came: a reply that is sent back, and comes again as a whole reply, goes back the same.
    #[test]
    fn what_goes_back_is_what_came(parts in vec(part(), 1..6)) {
        let settings = bedrock(SONNET);
        let mut parts = parts;
        for (at, part) in parts.iter_mut().enumerate() {
            if let Part::ToolCall(call) = part {
                call.id = format!("id{at}");
            }
        }
        let Message::Assistant(first) = reply(SONNET, parts) else { unreachable!() };
        prop_assume!(first.says_anything());
        let back = |message: AssistantMessage| sent(&settings, &[Message::user("go"), Message::Assistant(message)])[1].take();
        let once = back(first);
        let body = json!({"output": {"message": once}, "stopReason": "end_turn"}).to_string();
        let mut reader = Box::new(Reader::<BedrockConverse>::new(&settings, Limits::default(), ""));
        let mut events = Vec::new();
        reader.feed(body.as_bytes(), &mut events).unwrap();
        let again = reader.finish(Close::Clean, &mut events).unwrap().message;
        prop_assert_eq!(once, back(again));
    }
}
