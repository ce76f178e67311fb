//! Converts a request to the library's types. Pure.

use std::time::Duration;

use genai::adapter::AdapterKind;
use genai::chat::CacheControl;
use genai::chat::ChatMessage;
use genai::chat::ChatOptions;
use genai::chat::ChatRequest;
use genai::chat::ChatResponseFormat;
use genai::chat::ChatRole;
use genai::chat::ContentPart;
use genai::chat::JsonSpec;
use genai::chat::MessageContent;
use genai::chat::ReasoningEffort;
use genai::chat::Tool;
use genai::chat::ToolResponse;
use legwork_common::team::Api;
use legwork_common::team::ModelSettings;
use legwork_common::team::ThinkingBudget;
use serde::Deserialize;
use serde_json::Map;
use serde_json::Value;
use serde_json::json;

use crate::message::AssistantMessage;
use crate::message::Message;
use crate::message::ToolCall;
use crate::message::ToolResult;
use crate::model::ModelRequest;
use crate::tool::ToolSpec;

/// How long a provider may take to begin its answer. Reasoning models may think for minutes first.
const FIRST_BYTE_TIMEOUT: Duration = Duration::from_secs(600);
/// How long a provider may pause in the middle of an answer.
const READ_TIMEOUT: Duration = Duration::from_secs(300);

/// The conversation and the tools.
pub(super) fn chat(settings: &ModelSettings, request: &ModelRequest) -> ChatRequest {
    let mut messages = messages(settings, &request.messages);
    if settings.api == Api::Anthropic {
        cache(&mut messages);
    }
    let tools: Vec<Tool> = request.tools.iter().map(tool).collect();
    let chat = ChatRequest::from_messages(messages);
    if tools.is_empty() { chat } else { chat.with_tools(tools) }
}

/// The options of a request.
///
/// On the Responses wire no summaries of the reasoning are requested: OpenAI refuses them for models without
/// reasoning and for organizations that it has not verified.
pub(super) fn options(settings: &ModelSettings, wire: AdapterKind, form: Option<&Value>) -> ChatOptions {
    let mut options = ChatOptions::default()
        .with_capture_content(true)
        .with_capture_reasoning_content(wire != AdapterKind::OpenAIResp)
        .with_capture_tool_calls(true)
        .with_capture_usage(settings.track_usage.unwrap_or(true))
        .with_stream_header_timeout(FIRST_BYTE_TIMEOUT)
        .with_stream_read_timeout(READ_TIMEOUT);
    options.temperature = settings.temperature;
    options.max_tokens = settings.max_tokens;
    options.top_p = settings.top_p;
    options.reasoning_effort = settings.thinking_budget.as_ref().and_then(effort);
    options.response_format = form.map(|form| ChatResponseFormat::JsonSpec(specified(form)));
    let extra = extra(settings, wire);
    if extra.is_empty() { options } else { options.with_extra_body(Value::Object(extra)) }
}

/// `structured_output`.
fn specified(form: &Value) -> JsonSpec {
    let specified = JsonSpec::new(form["name"].as_str().unwrap_or("answer"), form["schema"].clone());
    match form["description"].as_str() {
        Some(description) => specified.with_description(description),
        None => specified,
    }
}

/// `-1` leaves it to the model.
fn effort(budget: &ThinkingBudget) -> Option<ReasoningEffort> {
    match budget {
        ThinkingBudget::Effort(word) => ReasoningEffort::from_keyword(word),
        ThinkingBudget::Tokens(0) => Some(ReasoningEffort::Zero),
        ThinkingBudget::Tokens(tokens) => u32::try_from(*tokens).ok().map(ReasoningEffort::Budget),
    }
}

/// Fields that only OpenAI's wire formats have.
fn extra(settings: &ModelSettings, wire: AdapterKind) -> Map<String, Value> {
    let mut extra = Map::new();
    let mut put =
        |name: &str, value: Option<Value>| extra.extend(value.map(|value| (name.to_owned(), value)));
    if matches!(wire, AdapterKind::OpenAI | AdapterKind::OpenAIResp) {
        put("parallel_tool_calls", settings.parallel_tool_calls.map(Value::from));
    }
    if wire == AdapterKind::OpenAI {
        put("frequency_penalty", settings.frequency_penalty.map(Value::from));
        put("presence_penalty", settings.presence_penalty.map(Value::from));
    }
    extra
}

fn tool(spec: &ToolSpec) -> Tool {
    Tool::new(spec.name.as_str()).with_description(&spec.description).with_schema(spec.parameters.clone())
}

/// The messages; results that follow each other are one message.
fn messages(settings: &ModelSettings, messages: &[Message]) -> Vec<ChatMessage> {
    let mut converted: Vec<ChatMessage> = Vec::new();
    for message in messages {
        match message {
            Message::System { text } => converted.push(ChatMessage::system(text.as_str())),
            Message::User { text } => converted.push(ChatMessage::user(text.as_str())),
            Message::Assistant(message) => converted.extend(assistant(settings, message)),
            Message::ToolResult(result) => match converted.last_mut() {
                Some(last) if last.role == ChatRole::Tool => last.content.push(response(result)),
                _ => converted.push(ChatMessage::tool(MessageContent::from_parts(vec![response(result)]))),
            },
        }
    }
    converted
}

fn response(result: &ToolResult) -> ContentPart {
    // Some providers refuse an empty result.
    let text = if result.text.is_empty() { "<no output>" } else { &result.text };
    ContentPart::ToolResponse(ToolResponse::new(&result.call_id, text).with_fn_name(&result.name))
}

/// A reply; `None` for an empty one, which providers refuse.
fn assistant(settings: &ModelSettings, message: &AssistantMessage) -> Option<ChatMessage> {
    let kept = continuation(settings, message);
    let mut parts: Vec<ContentPart> = Vec::deserialize(&kept["parts"]).unwrap_or_default();
    if !message.text.is_empty() {
        parts.push(ContentPart::from_text(message.text.as_str()));
    }
    parts.extend(message.tool_calls.iter().map(|it| call(it, &kept["signatures"][&it.id])));
    let has_content = parts.iter().any(|part| part.is_text() || part.is_tool_call());
    has_content.then(|| ChatMessage::assistant(MessageContent::from_parts(parts)))
}

/// What the provider requires to be sent back, if the reply is from the same provider.
fn continuation<'m>(settings: &ModelSettings, message: &'m AssistantMessage) -> &'m Value {
    match &message.continuation {
        Some(kept) if kept["provider"] == settings.provider.as_str() => kept,
        Some(_) | None => &Value::Null,
    }
}

fn call(call: &ToolCall, signatures: &Value) -> ContentPart {
    let arguments = match serde_json::from_str(call.arguments.trim()) {
        Ok(arguments @ Value::Object(_)) => arguments,
        Ok(Value::Null) => json!({}),
        // Providers require an object even where the model wrote none.
        Ok(_) | Err(_) if call.arguments.trim().is_empty() => json!({}),
        Ok(_) | Err(_) => json!({"invalid_json": call.arguments}),
    };
    ContentPart::ToolCall(genai::chat::ToolCall {
        call_id: call.id.clone(),
        fn_name: call.name.clone(),
        fn_arguments: arguments,
        thought_signatures: Vec::deserialize(signatures).ok(),
    })
}

/// Marks the last system message and the last message, so that the next turn reads what is before them from the
/// cache.
fn cache(messages: &mut [ChatMessage]) {
    let system = messages.iter().rposition(|message| message.role == ChatRole::System);
    let last = messages.len().checked_sub(1);
    for at in [system, last].into_iter().flatten() {
        messages[at].options = Some(CacheControl::Ephemeral.into());
    }
}
