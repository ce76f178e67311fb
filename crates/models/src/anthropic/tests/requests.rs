//! What is sent, and what the provider would refuse and is not.

use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::Value;
use serde_json::json;

use crate::anthropic::Anthropic;
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

fn settings(model: &str) -> Settings {
    Settings::new("anthropic", model)
}

fn asked(settings: &Settings, messages: &[Message]) -> WireRequest {
    Anthropic::request(settings, &Ask { messages, tools: &[] }).unwrap()
}

/// The messages, without marks for the cache.
fn sent(settings: &Settings, messages: &[Message]) -> Value {
    let mut all = asked(settings, messages).body["messages"].take();
    for block in all.as_array_mut().unwrap().iter_mut().flat_map(|one| one["content"].as_array_mut().unwrap())
    {
        block.as_object_mut().unwrap().remove("cache_control");
    }
    all
}

fn result(call_id: &str, content: impl Into<Content>, is_error: bool) -> Message {
    let (call_id, name) = (call_id.into(), "note".into());
    Message::ToolResult(ToolResult { call_id, name, content: content.into(), is_error })
}

fn origin(provider: &str) -> Option<Origin> {
    Some(Origin { wire: "anthropic".into(), provider: provider.into(), model: "m".into() })
}

fn reply(parts: Vec<Part>) -> Message {
    let origin = origin("anthropic");
    Message::Assistant(AssistantMessage { parts, origin, ..AssistantMessage::default() })
}

fn tool(name: &str) -> ToolSpec {
    ToolSpec { name: name.into(), description: "notes".into(), parameters: json!({"properties": {}}) }
}

fn signed(text: &str) -> Part {
    Part::Thinking { text: text.into(), signature: Some("s".into()) }
}

#[test]
fn a_whole_request() {
    let mut settings = settings("claude-sonnet-4-5");
    settings.temperature = Some(0.5);
    settings.max_output_tokens = Some(4000);
    settings.parallel_tool_calls = Some(false);
    settings.tool_choice = ToolChoice::Tool("note".into());
    settings.extra.insert("metadata".into(), json!({"user_id": "u"}));
    settings.extra.insert("messages".into(), json!("never"));
    let messages =
        [Message::system("be"), Message::system(" "), Message::system("brief"), Message::user("go")];
    let request =
        Anthropic::request(&settings, &Ask { messages: &messages, tools: &[tool("note")] }).unwrap();
    let mark = json!({"type": "ephemeral"});
    let expected = json!({
        "model": "claude-sonnet-4-5",
        "max_tokens": 4000,
        "stream": true,
        "system": [{"type": "text", "text": "be"}, {"type": "text", "text": "brief", "cache_control": mark}],
        "messages": [{"role": "user", "content": [{"type": "text", "text": "go", "cache_control": mark}]}],
        "tools": [{"name": "note", "description": "notes", "input_schema": {"type": "object", "properties": {}}}],
        "tool_choice": {"type": "tool", "name": "note", "disable_parallel_tool_use": true},
        "temperature": 0.5,
        "metadata": {"user_id": "u"},
    });
    assert_eq!((request.path.as_str(), request.body, request.notes), ("messages", expected, vec![]));
    assert_eq!(request.headers, [("anthropic-version", "2023-06-01".to_owned())]);
}

#[test]
fn thinking_as_each_model_takes_it() {
    let effort = |word: &str| Thinking::Effort(word.into());
    let enabled = |tokens: u32| json!({"type": "enabled", "budget_tokens": tokens});
    let adaptive = || json!({"type": "adaptive", "display": "summarized"});
    let tokens = Thinking::Tokens;
    let table = [
        ("claude-sonnet-4-5", tokens(2048), enabled(2048), None, None),
        ("test", tokens(2048), enabled(2048), None, None),
        ("claude-opus-4-6", tokens(2048), enabled(2048), None, None),
        ("claude-sonnet-4-5", tokens(1023), Value::Null, None, Some("is left out: the least is 1024 tokens")),
        (
            "claude-opus-4-7",
            tokens(2048),
            adaptive(),
            None,
            Some("is sent as `adaptive`: this model takes no number of tokens"),
        ),
        (
            "claude-sonnet-4-5",
            effort("high"),
            Value::Null,
            None,
            Some("is left out: this model wants a number of tokens"),
        ),
        ("claude-opus-4-5", effort("high"), Value::Null, Some("high"), None),
        ("claude-opus-4-6", effort("adaptive/low"), adaptive(), Some("low"), None),
        (
            "claude-opus-4-6",
            effort("xhigh"),
            adaptive(),
            Some("high"),
            Some("is sent as `high`: this model does not know `xhigh`"),
        ),
        ("claude-sonnet-5", effort("max"), adaptive(), Some("max"), None),
        (
            "claude-sonnet-5",
            effort("much"),
            Value::Null,
            None,
            Some("is left out: this model knows low, medium, high, xhigh, max"),
        ),
        ("claude-opus-4-6", Thinking::Adaptive, adaptive(), None, None),
        (
            "claude-sonnet-4-5",
            Thinking::Adaptive,
            Value::Null,
            None,
            Some("is left out: this model wants a number of tokens"),
        ),
    ];
    for (model, thinking, expected, effort, change) in table {
        check_thinking(model, thinking, &expected, effort, change);
    }
}

#[test]
fn thinking_that_is_switched_off() {
    let (off, tokens) = (Thinking::Off, Thinking::Tokens);
    let table: [(_, _, _, Option<&str>, _); 4] = [
        ("claude-sonnet-4-5", off.clone(), Value::Null, None, None),
        ("claude-sonnet-4-5", tokens(0), Value::Null, None, None),
        ("claude-opus-5", off.clone(), json!({"type": "disabled"}), None, None),
        ("claude-fable-5", off, Value::Null, None, Some("is left out: this model always thinks")),
    ];
    for (model, thinking, expected, effort, change) in table {
        check_thinking(model, thinking, &expected, effort, change);
    }
}

/// Asserts what a request has for this setting of thinking.
fn check_thinking(
    model: &str,
    thinking: Thinking,
    expected: &Value,
    effort: Option<&str>,
    change: Option<&str>,
) {
    let settings = Settings { thinking: Some(thinking), ..settings(model) };
    let request = asked(&settings, &[Message::user("go")]);
    assert_eq!(&request.body["thinking"], expected, "{model}");
    assert_eq!(request.body["output_config"]["effort"].as_str(), effort, "{model}");
    assert_eq!(request.notes.first().map(|note| note.change.as_str()), change, "{model}");
}

#[test]
fn thinking_leaves_room_for_the_answer() {
    let ask = |tokens: u32, limit: Option<u32>, model: &str| {
        let settings = Settings {
            thinking: Some(Thinking::Tokens(tokens)),
            max_output_tokens: limit,
            ..settings(model)
        };
        Anthropic::request(&settings, &Ask { messages: &[Message::user("go")], tools: &[] })
    };
    let limit = |tokens, limit, model| ask(tokens, limit, model).unwrap().body["max_tokens"].clone();
    assert_eq!(limit(16_000, Some(20_000), "claude-sonnet-4-5"), 20_000);
    assert_eq!(limit(16_000, None, "claude-sonnet-4-5"), 64_000);
    assert_eq!(limit(32_000, None, "claude-opus-4-1"), 40_192);
    let error = ask(16_000, Some(4000), "claude-sonnet-4-5").unwrap_err();
    assert_eq!(
        error.to_string(),
        "`thinking_budget` of 16000 tokens must be less than `max_tokens`, which is 4000: raise `max_tokens` to at least 17024"
    );
}

#[test]
fn sampling_that_would_be_refused_is_left_out() {
    let table = [
        ("claude-sonnet-4-0", None, vec!["temperature", "top_p"]),
        ("claude-sonnet-4-5", None, vec!["temperature"]),
        ("claude-sonnet-4-0", Some(Thinking::Tokens(1024)), vec![]),
        ("claude-opus-4-7", None, vec![]),
    ];
    for (model, thinking, taken) in table {
        let settings = Settings {
            temperature: Some(0.3),
            top_p: Some(0.9),
            frequency_penalty: Some(1.0),
            thinking,
            ..settings(model)
        };
        let request = asked(&settings, &[Message::user("go")]);
        let fields = ["temperature", "top_p", "frequency_penalty"];
        let sent: Vec<&str> = fields.into_iter().filter(|field| request.body.get(field).is_some()).collect();
        assert_eq!(sent, taken, "{model}");
        assert_eq!(request.notes.len(), 3 - taken.len(), "{model}");
    }
    let settings = Settings { temperature: Some(1.5), ..settings("claude-3-5-haiku") };
    let request = asked(&settings, &[Message::user("go")]);
    assert_eq!(request.body["temperature"], 1.0);
    assert_eq!(request.notes[0].change, "is sent as `1`: this provider takes no more");
}

#[test]
fn a_tool_is_not_forced_on_a_model_that_thinks() {
    let messages = [Message::user("go")];
    let tools = [tool("note")];
    let choice = |choice: ToolChoice, thinking: Option<Thinking>| {
        let settings = Settings { tool_choice: choice, thinking, ..settings("claude-sonnet-4-5") };
        let request = Anthropic::request(&settings, &Ask { messages: &messages, tools: &tools }).unwrap();
        (request.body["tool_choice"]["type"].as_str().map(str::to_owned), request.notes.len())
    };
    let budget = || Some(Thinking::Tokens(1024));
    assert_eq!(choice(ToolChoice::Required, None), (Some("any".into()), 0));
    assert_eq!(choice(ToolChoice::Never, budget()), (Some("none".into()), 0));
    assert_eq!(choice(ToolChoice::Auto, budget()), (None, 0));
    assert_eq!(choice(ToolChoice::Required, budget()), (None, 1));
}

#[test]
fn roles_alternate_and_results_come_first() {
    let messages = [
        Message::user("go"),
        Message::user("now"),
        reply(vec![Part::Text("\n\n".into()), Part::ToolCall(note("a")), Part::ToolCall(note("b"))]),
        result("b", "two", false),
        result("a", "broken", true),
        Message::user("and"),
        Message::user(" "),
        reply(vec![Part::Text("so".into())]),
        reply(vec![Part::Text(" ".into())]),
        reply(vec![Part::Text("it is\n".into())]),
    ];
    let all = sent(&settings("test"), &messages);
    let text = |text: &str| json!({"type": "text", "text": text});
    let call = |id: &str| json!({"type": "tool_use", "id": id, "name": "note", "input": {"a": 1}});
    assert_eq!(
        all,
        json!([
            {"role": "user", "content": [text("go"), text("now")]},
            {"role": "assistant", "content": [call("a"), call("b")]},
            {"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": "a", "content": "broken", "is_error": true},
                {"type": "tool_result", "tool_use_id": "b", "content": "two"},
                text("and"),
            ]},
            {"role": "assistant", "content": [text("so"), text("it is")]},
        ])
    );
}

#[test]
fn the_ends_of_a_conversation_are_the_users() {
    let messages = [reply(vec![Part::Text("so".into())])];
    let words = |model: &str| -> Vec<String> {
        let all = sent(&settings(model), &messages);
        all.as_array()
            .unwrap()
            .iter()
            .map(|one| one["content"][0]["text"].as_str().unwrap().to_owned())
            .collect()
    };
    let beginning = "[The beginning of the conversation is left out.]";
    assert_eq!(words("claude-sonnet-4-5"), [beginning, "so"]);
    assert_eq!(words("claude-sonnet-4-6"), [beginning, "so", "Continue."]);
    let nothing = Ask { messages: &[Message::system("be"), Message::user("  ")], tools: &[] };
    assert_eq!(Anthropic::request(&settings("m"), &nothing), Err(RequestError::NothingAsked));
}

#[test]
fn images_where_they_are_taken_and_words_where_not() {
    let image = |media_type: &str| Image { media_type: media_type.into(), data: "AAAA".into() };
    let content = |media_type: &str| {
        Content::new(vec![
            ContentPart::Text { text: "look".into() },
            ContentPart::Image(image(media_type)),
            ContentPart::Text { text: " ".into() },
        ])
    };
    let messages = [
        Message::user(content("image/jpg")),
        reply(vec![Part::ToolCall(note("a")), Part::ToolCall(note("b"))]),
        result("a", content("image/png"), false),
        result("b", "", false),
        Message::user(content("image/tiff")),
    ];
    let mut settings = settings("claude-sonnet-4-5");
    let all = sent(&settings, &messages);
    let picture = |media_type: &str| json!({"type": "image", "source": {"type": "base64", "media_type": media_type, "data": "AAAA"}});
    let look = json!({"type": "text", "text": "look"});
    assert_eq!(all[0]["content"], json!([look, picture("image/jpeg")]));
    assert_eq!(all[2]["content"][0]["content"], json!([look, picture("image/png")]));
    assert_eq!(all[2]["content"][1]["content"], "<no output>");
    let words = "[An image (image/tiff, about 3 bytes) is left out: this provider does not read its type.]";
    assert_eq!(all[2]["content"][3]["text"], words);
    settings.images = false;
    let all = sent(&settings, &messages);
    assert_eq!(all[2]["content"][0]["content"][1]["text"], image("image/png").in_words());
}

#[test]
fn thinking_goes_back_to_its_maker_in_its_order() {
    let unsigned = Part::Thinking { text: "hm".into(), signature: None };
    let hidden = Part::RedactedThinking { data: "ENC".into() };
    let parts = vec![signed("one"), hidden, signed(""), unsigned, Part::ToolCall(note("a"))];
    let kinds = |provider: &str| -> Vec<String> {
        let message = AssistantMessage {
            parts: parts.clone(),
            origin: origin(provider),
            ..AssistantMessage::default()
        };
        let all = sent(&settings("claude-sonnet-4-5"), &[Message::user("go"), Message::Assistant(message)]);
        kinds_of(&all[1])
    };
    assert_eq!(kinds("anthropic"), ["thinking", "redacted_thinking", "thinking", "tool_use"]);
    assert_eq!(kinds("bedrock"), ["tool_use"]);
    let all = sent(&settings("m"), &[Message::user("go"), reply(parts)]);
    assert_eq!(all[1]["content"][0], json!({"type": "thinking", "thinking": "one", "signature": "s"}));
    assert_eq!(all[1]["content"][1], json!({"type": "redacted_thinking", "data": "ENC"}));
}

#[test]
fn thinking_is_not_switched_on_within_a_turn() {
    let settings = Settings { thinking: Some(Thinking::Tokens(1024)), ..settings("claude-sonnet-4-5") };
    let turn = |first: Vec<Part>| {
        [
            Message::user("go"),
            reply(first),
            result("a", "one", false),
            reply(vec![Part::ToolCall(note("b"))]),
            result("b", "two", false),
        ]
    };
    let thinks = |messages: &[Message]| asked(&settings, messages).body.get("thinking").is_some();
    assert!(thinks(&turn(vec![signed("hm"), Part::ToolCall(note("a"))])));
    let unthinking = turn(vec![Part::ToolCall(note("a"))]);
    assert!(!thinks(&unthinking));
    let mut next = unthinking.to_vec();
    next.push(Message::user("words along with the result"));
    assert!(!thinks(&next));
    next.extend([reply(vec![Part::Text("so".into())]), Message::user("and")]);
    assert!(thinks(&next));
}

#[test]
fn tools_of_the_provider_go_back_in_pairs() {
    let block = |kind: &str, field: &str, id: &str| Part::Opaque { data: json!({"type": kind, field: id}) };
    let called = |id: &str| Part::Opaque {
        data: json!({"type": "server_tool_use", "id": id, "name": "web_search", "input": "{\"q\":1}"}),
    };
    let answered = |id: &str| block("web_search_tool_result", "tool_use_id", id);
    let parts = || vec![called("1"), answered("1"), Part::Text("so".into()), called("2"), answered("3")];
    let kinds = |messages: &[Message]| -> Vec<String> {
        let all = sent(&settings("claude-opus-5"), messages);
        kinds_of(&all[1])
    };
    let paused = [Message::user("go"), reply(parts())];
    assert_eq!(kinds(&paused).len(), 5, "a paused reply is continued as it is");
    assert_eq!(sent(&settings("claude-opus-5"), &paused).as_array().unwrap().len(), 2);
    assert_eq!(sent(&settings("m"), &paused)[1]["content"][0]["input"], json!({"q": 1}));
    let continued = [
        Message::user("go"),
        reply(parts()),
        reply(vec![answered("2"), Part::Text("x".into())]),
        Message::user("and"),
    ];
    assert_eq!(
        kinds(&continued),
        [
            "server_tool_use",
            "web_search_tool_result",
            "text",
            "server_tool_use",
            "web_search_tool_result",
            "text"
        ]
    );
    let answered = [Message::user("go"), reply(parts()), Message::user("and")];
    assert_eq!(kinds(&answered), ["server_tool_use", "web_search_tool_result", "text"]);
}

#[test]
fn earlier_calls_have_their_tools_described() {
    let messages = [Message::user("go"), reply(vec![Part::ToolCall(note("a"))]), result("a", "one", false)];
    let body = asked(&settings("m"), &messages).body;
    assert_eq!((&body["tools"][0]["name"], &body["tool_choice"]), (&json!("note"), &json!({"type": "none"})));
    let request = Anthropic::request(&settings("m"), &Ask { messages: &messages, tools: &[tool("other")] });
    assert_eq!(request.unwrap().body["tools"].as_array().unwrap().len(), 1);
}

#[test]
fn marks_for_the_cache_are_on_the_system_prompt_and_the_last_two_messages() {
    let messages = [
        Message::system("be"),
        Message::user("go"),
        reply(vec![signed("hm"), Part::ToolCall(note("a"))]),
        result("a", "one", false),
    ];
    let body = asked(&settings("m"), &messages).body;
    assert_eq!(body.to_string().matches("cache_control").count(), 3);
    for place in ["/system/0", "/messages/1/content/1", "/messages/2/content/0"] {
        assert_eq!(body.pointer(place).unwrap()["cache_control"]["type"], "ephemeral", "{place}");
    }
}

#[test]
fn the_form_of_the_answer() {
    let schema = json!({
        "type": "object",
        "properties": {"n": {"type": "integer"}, "all": {"type": "array", "items": {"properties": {}}}},
        "$defs": {"open": {"type": "object", "additionalProperties": {"type": "object"}}},
    });
    let form = Form { name: "count".into(), description: None, strict: true, schema };
    let mut settings = Settings {
        form: Some(form),
        thinking: Some(Thinking::Effort("low".into())),
        ..settings("claude-opus-4-6")
    };
    settings.extra.insert("output_config".into(), json!({"task_budget": {"type": "tokens", "total": 9}}));
    let mut request = asked(&settings, &[Message::user("go")]);
    assert_eq!(request.headers[1], ("anthropic-beta", "task-budgets-2026-03-13".to_owned()));
    let output = request.body["output_config"].take();
    assert_eq!((&output["effort"], &output["task_budget"]["total"]), (&json!("low"), &json!(9)));
    let expected = json!({
        "type": "object",
        "additionalProperties": false,
        "properties": {
            "n": {"type": "integer"},
            "all": {"type": "array", "items": {"properties": {}, "additionalProperties": false}},
        },
        "$defs": {"open": {"type": "object", "additionalProperties": {"type": "object", "additionalProperties": false}}},
    });
    assert_eq!(output["format"], json!({"type": "json_schema", "schema": expected}));
}

#[test]
fn the_version_may_be_in_the_body() {
    let mut settings = Settings { interleaved_thinking: true, ..settings("claude-sonnet-4-5@20250929") };
    settings.extra.insert("anthropic_version".into(), json!("vertex-2023-10-16"));
    let request = asked(&settings, &[Message::user("go")]);
    assert_eq!(request.path, "models/claude-sonnet-4-5@20250929:streamRawPredict");
    assert_eq!(request.headers, [("anthropic-beta", "interleaved-thinking-2025-05-14".to_owned())]);
    assert!(request.body.get("model").is_none(), "{}", request.body);
    let settings = Settings { interleaved_thinking: true, ..Settings::new("anthropic", "claude-opus-4-7") };
    assert_eq!(asked(&settings, &[Message::user("go")]).headers.len(), 1, "it does so of its own accord");
}

#[test]
fn ids_and_schemas_are_fitted() {
    let messages = [
        Message::user("go"),
        reply(vec![Part::ToolCall(ToolCall { arguments: "{\"a".into(), ..note("functions.note:0") })]),
        result("functions.note:0", "one", false),
    ];
    let all = sent(&settings("m"), &messages);
    let id = all[1]["content"][0]["id"].as_str().unwrap();
    assert!(!id.is_empty() && id.chars().all(|c| c.is_ascii_alphanumeric()), "{id}");
    assert_eq!(all[2]["content"][0]["tool_use_id"], id);
    assert_eq!(all[1]["content"][0]["input"], json!({"invalid_json": "{\"a"}));
    let odd = ToolSpec {
        name: "n".into(),
        description: " ".into(),
        parameters: json!({"type": "string", "anyOf": []}),
    };
    let request = Anthropic::request(&settings("m"), &Ask { messages: &messages, tools: &[odd] }).unwrap();
    assert_eq!(request.body["tools"][0], json!({"name": "n", "input_schema": {"type": "object"}}));
}

/// A stream of these blocks.
fn streamed(blocks: &Value) -> String {
    let mut events = Vec::new();
    for (index, block) in blocks.as_array().unwrap().iter().enumerate() {
        let (start, deltas) = match block["type"].as_str().unwrap() {
            "text" => (
                json!({"type": "text", "text": ""}),
                vec![json!({"type": "text_delta", "text": block["text"]})],
            ),
            "thinking" => (
                json!({"type": "thinking", "thinking": "", "signature": ""}),
                vec![
                    json!({"type": "thinking_delta", "thinking": block["thinking"]}),
                    json!({"type": "signature_delta", "signature": block["signature"]}),
                ],
            ),
            "tool_use" | "mcp_tool_use" => {
                let mut start = block.clone();
                start["input"] = json!({});
                let input = block["input"].to_string();
                let (first, rest) = input.split_at(input.len() / 2);
                let piece = |piece: &str| json!({"type": "input_json_delta", "partial_json": piece});
                (start, vec![piece(first), piece(rest)])
            }
            _ => (block.clone(), vec![]),
        };
        events.push(json!({"type": "content_block_start", "index": index, "content_block": start}));
        let delta = |delta| json!({"type": "content_block_delta", "index": index, "delta": delta});
        events.extend(deltas.into_iter().map(delta));
        events.push(json!({"type": "content_block_stop", "index": index}));
    }
    events.push(json!({"type": "message_delta", "delta": {"stop_reason": "end_turn"}}));
    events.iter().map(|event| format!("data: {event}\n\n")).collect()
}

/// What a reply of this wire may hold, as it is read from it.
fn part() -> impl Strategy<Value = Part> {
    prop_oneof![
        "[a-z]{1,9}".prop_map(Part::Text),
        "[ \n]{1,3}".prop_map(Part::Text),
        "[a-z]{0,9}".prop_map(|text| signed(&text)),
        "[a-z]{1,9}".prop_map(|data| Part::RedactedThinking { data }),
        "[a-z]{1,9}".prop_map(|argument| {
            Part::ToolCall(ToolCall { arguments: json!({"a": argument}).to_string(), ..note("") })
        }),
        "[a-z]{1,9}".prop_map(|query| {
            Part::Opaque { data: json!({"type": "mcp_tool_use", "id": "m", "input": {"q": query}}) }
        }),
        Just(Part::Opaque { data: json!({"type": "mcp_tool_result", "tool_use_id": "m"}) }),
    ]
}

proptest! {
    /// What goes back is what came: a reply that is sent back, and comes again whole or as a stream, goes back the same.
    #[test]
    fn what_goes_back_is_what_came(parts in vec(part(), 1..8)) {
        let settings = settings("m");
        let mut parts = parts;
        for (at, part) in parts.iter_mut().enumerate() {
            if let Part::ToolCall(call) = part {
                call.id = format!("id{at}");
            }
        }
        let first = AssistantMessage { parts, origin: origin("anthropic"), ..AssistantMessage::default() };
        prop_assume!(first.says_anything());
        let once = sent(&settings, &[Message::user("go"), Message::Assistant(first)])[1].take();
        let whole = json!({"type": "message", "content": once["content"], "stop_reason": "end_turn"});
        for body in [whole.to_string(), streamed(&once["content"])] {
            let mut reader = Box::new(Reader::<Anthropic>::new(&settings, Limits::default(), ""));
            let mut events = Vec::new();
            reader.feed(body.as_bytes(), &mut events).unwrap();
            let again = reader.finish(Close::Clean, &mut events).unwrap().message;
            let twice = sent(&settings, &[Message::user("go"), Message::Assistant(again)])[1].take();
            prop_assert_eq!(&once, &twice);
        }
    }
}

/// The types of a message's blocks.
fn kinds_of(message: &Value) -> Vec<String> {
    let blocks = message["content"].as_array().unwrap();
    blocks.iter().map(|block| block["type"].as_str().unwrap().to_owned()).collect()
}
