//! The messages of a chat completion.

use serde_json::Map;
use serde_json::Value;
use serde_json::json;

use crate::conversation::AssistantMessage;
use crate::conversation::Content;
use crate::conversation::Image;
use crate::conversation::Message;
use crate::conversation::ToolCall;
use crate::conversation::ToolResult;
use crate::conversation::paired;
use crate::openai_chat::OpenaiChat;
use crate::openai_chat::dialect::Dialect;
use crate::openai_chat::reasoning;
use crate::settings::Settings;
use crate::wire::Wire;

/// What stands for a result without words: some providers refuse an empty one.
const NO_OUTPUT: &str = "<no output>";

/// The conversation. Images of results follow the results of a turn as a user's message, since a result takes only words.
pub(super) fn messages(settings: &Settings, dialect: &Dialect, messages: &[Message]) -> Vec<Value> {
    let mut said = Vec::with_capacity(messages.len());
    let mut pictures: Vec<Value> = Vec::new();
    for message in paired(messages) {
        if !matches!(*message, Message::ToolResult(_)) {
            flush(&mut pictures, &mut said);
        }
        match &*message {
            Message::System { text } => said.push(json!({"role": "system", "content": text})),
            Message::User { content } => {
                said.push(json!({"role": "user", "content": user(content, settings.images)}));
            }
            Message::Assistant(reply) => said.push(assistant(settings, dialect, reply)),
            Message::ToolResult(result) => {
                said.push(tool_result(dialect, result, settings.images));
                if settings.images {
                    pictures.extend(result_pictures(result));
                }
            }
        }
    }
    flush(&mut pictures, &mut said);
    said
}

fn flush(pictures: &mut Vec<Value>, said: &mut Vec<Value>) {
    if !pictures.is_empty() {
        said.push(json!({"role": "user", "content": std::mem::take(pictures)}));
    }
}

fn user(content: &Content, images: bool) -> Value {
    if !images || content.images().next().is_none() {
        return Value::String(content.in_words());
    }
    content.blocks(text_part, image_part).into()
}

fn tool_result(dialect: &Dialect, result: &ToolResult, images: bool) -> Value {
    let words = if images { result.content.text() } else { result.content.in_words() };
    let words = match words.as_str() {
        "" if images && result.content.images().next().is_some() => "The image follows.",
        "" => NO_OUTPUT,
        words => words,
    };
    json!({"role": "tool", "tool_call_id": dialect.id(&result.call_id), "content": words})
}

fn result_pictures(result: &ToolResult) -> Vec<Value> {
    let mut parts: Vec<Value> = result.content.images().map(image_part).collect();
    if !parts.is_empty() {
        parts.insert(0, text_part(&format!("From the result of the tool {}:", result.name)));
    }
    parts
}

fn text_part(text: &str) -> Value {
    json!({"type": "text", "text": text})
}

fn image_part(image: &Image) -> Value {
    let url = format!("data:{};base64,{}", image.media_type, image.data);
    json!({"type": "image_url", "image_url": {"url": url}})
}

fn assistant(settings: &Settings, dialect: &Dialect, reply: &AssistantMessage) -> Value {
    let text = Some(reply.text()).filter(|text| !text.trim().is_empty());
    let own = reply.origin.as_ref().is_some_and(|origin| origin.is(OpenaiChat::NAME, &settings.provider));
    let calls: Vec<Value> = reply.tool_calls().map(|it| call(dialect, it, own)).collect();
    let mut message = Map::new();
    message.insert("role".to_owned(), json!("assistant"));
    message.insert("content".to_owned(), text.into());
    if own {
        message.extend(reasoning::details(reply).map(|details| ("reasoning_details".to_owned(), details)));
    }
    if !calls.is_empty() {
        let back = dialect.reasoning_back.zip(reply.reasoning());
        message.extend(back.map(|(field, reasoning)| (field.to_owned(), reasoning.into())));
        message.insert("tool_calls".to_owned(), Value::Array(calls));
    }
    Value::Object(message)
}

fn call(dialect: &Dialect, call: &ToolCall, own: bool) -> Value {
    let function = json!({"name": call.name, "arguments": call.object()});
    let mut sent = json!({"id": dialect.id(&call.id), "type": "function", "function": function});
    if let Some(signature) = call.thought_signature.as_ref().filter(|_| own) {
        sent["extra_content"] = json!({"google": {"thought_signature": signature}});
    }
    sent
}
