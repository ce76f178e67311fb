//! The messages of a request: roles that alternate, the user first, results before words, nothing blank.

use serde_json::Value;
use serde_json::json;

use crate::bedrock_converse::BedrockConverse;
use crate::bedrock_converse::vendor::Vendor;
use crate::conversation::AssistantMessage;
use crate::conversation::Content;
use crate::conversation::Image;
use crate::conversation::Message;
use crate::conversation::Part;
use crate::conversation::ToolResult;
use crate::conversation::paired;
use crate::ids;
use crate::settings::Settings;
use crate::wire::Wire as _;

/// Types of images that the provider reads.
const IMAGES: [&str; 4] = ["image/png", "image/jpeg", "image/gif", "image/webp"];
/// The most characters of the id of a call.
const ID_CHARS: usize = 64;
/// What stands for a result without words, which is refused.
const NO_OUTPUT: &str = "<no output>";
/// Begins a conversation whose first message is the model's, which is refused.
const BEGINNING: &str = "[The beginning of the conversation is left out.]";
/// Follows a message of the model, which many models refuse to continue without being asked.
const CONTINUE: &str = "Continue.";

/// The system prompt, a block for each message, and the other messages; empty where there is nothing to answer.
pub(super) fn convert(settings: &Settings, vendor: Vendor, messages: &[Message]) -> (Vec<Value>, Vec<Value>) {
    let (mut system, mut sent) = (Vec::new(), Vec::new());
    let mut pictures: Vec<Value> = Vec::new();
    for message in paired(messages) {
        if !matches!(*message, Message::ToolResult(_)) {
            push(&mut sent, "user", std::mem::take(&mut pictures));
        }
        match &*message {
            Message::System { text } => system.extend(text_block(text)),
            Message::User { content } => push(&mut sent, "user", blocks(settings, content)),
            Message::Assistant(reply) => push(&mut sent, "assistant", assistant(settings, vendor, reply)),
            Message::ToolResult(result) => {
                push(&mut sent, "user", vec![tool_result(settings, vendor, result, &mut pictures)]);
            }
        }
    }
    push(&mut sent, "user", pictures);
    if sent.first().is_some_and(|first| first["role"] == "assistant") {
        sent.insert(0, json!({"role": "user", "content": [{"text": BEGINNING}]}));
    }
    if sent.last().is_some_and(|last| last["role"] == "assistant") {
        push(&mut sent, "user", vec![json!({"text": CONTINUE})]);
    }
    (system, sent)
}

/// Adds blocks to the last message if it has the same role, else as a message of their own.
fn push(sent: &mut Vec<Value>, role: &str, blocks: Vec<Value>) {
    if blocks.is_empty() {
        return;
    }
    let last = sent.last_mut().filter(|last| last["role"] == role);
    match last.and_then(|last| last["content"].as_array_mut()) {
        Some(all) => all.extend(blocks),
        None => sent.push(json!({"role": role, "content": blocks})),
    }
}

fn text_block(text: &str) -> Option<Value> {
    (!text.trim().is_empty()).then(|| json!({"text": text}))
}

fn blocks(settings: &Settings, content: &Content) -> Vec<Value> {
    content.blocks(|text| json!({"text": text}), |image| image_block(settings, image))
}

fn image_block(settings: &Settings, image: &Image) -> Value {
    match image.media_type_in(&IMAGES).and_then(|known| known.strip_prefix("image/")) {
        _ if !settings.images => json!({"text": image.in_words()}),
        None => json!({"text": image.left_out("this provider does not read its type")}),
        Some(format) => json!({"image": {"format": format, "source": {"bytes": image.data}}}),
    }
}

/// A result. Its images go to `pictures`, after the results, where the model does not take them in it.
fn tool_result(settings: &Settings, vendor: Vendor, result: &ToolResult, pictures: &mut Vec<Value>) -> Value {
    let all = blocks(settings, &result.content);
    let hoisted = |block: &Value| !vendor.takes_images_in_results() && block["image"].is_object();
    let (images, mut content): (Vec<Value>, Vec<Value>) = all.into_iter().partition(hoisted);
    if content.is_empty() {
        let words = if images.is_empty() { NO_OUTPUT } else { "The image follows." };
        content.push(json!({"text": words}));
    }
    if !images.is_empty() {
        pictures.push(json!({"text": format!("From the result of the tool {}:", result.name)}));
        pictures.extend(images);
    }
    let mut sent = json!({"toolUseId": id(&result.call_id), "content": content});
    if result.is_error && vendor.takes_status() {
        sent["status"] = json!("error");
    }
    json!({"toolResult": sent})
}

/// The blocks of a reply. Reasoning goes back only to models of the vendor that signed it.
fn assistant(settings: &Settings, vendor: Vendor, reply: &AssistantMessage) -> Vec<Value> {
    let own = reply.origin.as_ref().is_some_and(|origin| {
        let understands = origin.model == settings.model || vendor.is_same(Vendor::of(&origin.model));
        origin.is(BedrockConverse::NAME, &settings.provider) && understands
    });
    let block = |part: &Part| match part {
        Part::Text(text) => text_block(text),
        Part::ToolCall(call) => {
            let input: Value = serde_json::from_str(&call.object()).unwrap_or_else(|_| json!({}));
            Some(json!({"toolUse": {"toolUseId": id(&call.id), "name": call.name, "input": input}}))
        }
        Part::Thinking { text, signature: Some(signature) } if own => {
            let signed = json!({"text": text, "signature": signature});
            Some(json!({"reasoningContent": {"reasoningText": signed}}))
        }
        Part::RedactedThinking { data } if own => {
            Some(json!({"reasoningContent": {"redactedContent": data}}))
        }
        Part::Thinking { .. } | Part::RedactedThinking { .. } | Part::Opaque { .. } => None,
    };
    reply.parts.iter().filter_map(block).collect()
}

fn id(id: &str) -> String {
    ids::fitted(id, ID_CHARS, |c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'))
}
