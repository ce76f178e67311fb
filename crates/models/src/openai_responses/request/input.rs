//! The conversation as a list of input items.

use serde_json::Value;
use serde_json::json;

use crate::conversation::AssistantMessage;
use crate::conversation::Content;
use crate::conversation::Image;
use crate::conversation::Message;
use crate::conversation::Part;
use crate::conversation::ToolCall;
use crate::conversation::ToolResult;
use crate::conversation::paired;
use crate::ids;
use crate::openai::Model;
use crate::openai_responses::OF_SERVER;
use crate::openai_responses::OpenaiResponses;
use crate::settings::Settings;
use crate::wire::Wire as _;

/// Types of images that the provider reads.
const IMAGES: [&str; 4] = ["image/png", "image/jpeg", "image/gif", "image/webp"];
/// The most characters of the id of a call.
const ID_CHARS: usize = 64;
/// What stands for a result without words: some servers refuse an empty one.
const NO_OUTPUT: &str = "<no output>";

/// Converts the conversation.
pub(super) fn input(settings: &Settings, model: Model, messages: &[Message]) -> Vec<Value> {
    let mut input = Vec::with_capacity(messages.len());
    for message in paired(messages) {
        match &*message {
            Message::System { text } => input.push(json!({"role": "system", "content": text})),
            Message::User { content } => {
                input.push(json!({"role": "user", "content": shown(settings, content)}));
            }
            Message::Assistant(reply) => input.extend(assistant(settings, model, reply)),
            Message::ToolResult(result) => input.push(tool_result(settings, result)),
        }
    }
    input
}

/// Content as a text, or as a list where it has images that are sent.
fn shown(settings: &Settings, content: &Content) -> Value {
    if !settings.images || content.images().next().is_none() {
        return Value::String(content.in_words());
    }
    content.blocks(text_part, image_part).into()
}

fn text_part(text: &str) -> Value {
    json!({"type": "input_text", "text": text})
}

fn image_part(image: &Image) -> Value {
    match image.media_type_in(&IMAGES) {
        None => text_part(&image.left_out("this provider does not read its type")),
        Some(media_type) => {
            let url = format!("data:{media_type};base64,{}", image.data);
            json!({"type": "input_image", "image_url": url, "detail": "auto"})
        }
    }
}

/// A result. Its images stay in it: a message of the user between results would make the model drop its reasoning.
fn tool_result(settings: &Settings, result: &ToolResult) -> Value {
    let output = match shown(settings, &result.content) {
        Value::String(words) if words.is_empty() => json!(NO_OUTPUT),
        output => output,
    };
    json!({"type": "function_call_output", "call_id": id(&result.call_id), "output": output})
}

/// The items of a reply. What only its maker understands goes back to its maker alone.
fn assistant(settings: &Settings, model: Model, reply: &AssistantMessage) -> Vec<Value> {
    let own = reply.origin.as_ref().filter(|it| it.is(OpenaiResponses::NAME, &settings.provider));
    // A model that does not reason refuses the reasoning of another one.
    let reasons = own.is_some_and(|origin| model.reasons || origin.model == settings.model);
    let (mut items, mut phase) = (Vec::new(), None);
    for part in &reply.parts {
        match part {
            Part::Text(text) => {
                let message = message(text, phase.take());
                items.extend(message);
            }
            Part::ToolCall(call) => items.push(function_call(call)),
            Part::Opaque { data } if own.is_some() => match data["type"].as_str() {
                Some("message") => phase = data["phase"].as_str(),
                Some("reasoning") if reasons => items.push(data.clone()),
                Some(kind) if OF_SERVER.contains(&kind) => items.push(data.clone()),
                _ => {}
            },
            Part::Thinking { .. } | Part::RedactedThinking { .. } | Part::Opaque { .. } => {}
        }
    }
    // Reasoning is refused unless what it led to follows.
    while items.last().is_some_and(|last| last["type"] == "reasoning") {
        items.pop();
    }
    items
}

/// A text of the model; none for a blank one. `phase` says whether it was a comment or the answer.
fn message(text: &str, phase: Option<&str>) -> Option<Value> {
    if text.trim().is_empty() {
        return None;
    }
    let content = json!([{"type": "output_text", "text": text}]);
    let mut message = json!({"type": "message", "role": "assistant", "content": content});
    if let Some(phase) = phase {
        message["phase"] = json!(phase);
    }
    Some(message)
}

fn function_call(call: &ToolCall) -> Value {
    json!({"type": "function_call", "call_id": id(&call.id), "name": call.name, "arguments": call.object()})
}

fn id(id: &str) -> String {
    ids::fitted(id, ID_CHARS, |c| c.is_ascii_graphic())
}
