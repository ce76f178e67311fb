//! The messages of a request: roles that alternate, results first, nothing blank, the provider's own blocks in their order.

use std::collections::HashSet;

use serde_json::Value;
use serde_json::json;

use super::thinking::Thought;
use crate::anthropic::Anthropic;
use crate::anthropic::is_of_server;
use crate::anthropic::model::Claude;
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
/// Follows a message of the model that it does not continue without being asked.
const CONTINUE: &str = "Continue.";

/// A conversation in the form of the wire.
#[derive(Debug, Default)]
pub(super) struct Converted {
    /// The system prompt, a block for each message.
    pub(super) system: Vec<Value>,
    /// The other messages. Empty where there is nothing to answer.
    pub(super) messages: Vec<Value>,
}

/// Converts the conversation and marks what the provider is to cache.
pub(super) fn convert(
    settings: &Settings,
    model: Claude,
    thought: &Thought,
    messages: &[Message],
) -> Converted {
    let mut converted = Converted::default();
    for message in paired(messages) {
        match &*message {
            Message::System { text } => converted.system.extend(text_block(text)),
            Message::User { content } => converted.push("user", blocks(settings, content)),
            Message::Assistant(reply) => converted.push("assistant", assistant(settings, reply)),
            Message::ToolResult(result) => converted.push("user", vec![tool_result(settings, result)]),
        }
    }
    if converted.messages.first().is_some_and(|first| first["role"] == "assistant") {
        converted
            .messages
            .insert(0, json!({"role": "user", "content": [{"type": "text", "text": BEGINNING}]}));
    }
    let last = converted.messages.len().saturating_sub(1);
    for message in &mut converted.messages[..last] {
        drop_unpaired(message);
    }
    converted.end(model.continues_itself() && !thought.thinks);
    converted.mark();
    converted
}

impl Converted {
    /// Adds blocks to the last message if it has the same role, else as a message of their own.
    fn push(&mut self, role: &str, blocks: Vec<Value>) {
        if blocks.is_empty() {
            return;
        }
        let last = self.messages.last_mut().filter(|last| last["role"] == role);
        match last.and_then(|last| last["content"].as_array_mut()) {
            Some(all) => all.extend(blocks),
            None => self.messages.push(json!({"role": role, "content": blocks})),
        }
    }

    /// Makes the last message one that can be answered. A reply that the provider paused goes back as it is.
    fn end(&mut self, continues_itself: bool) {
        let Some(last) = self.messages.last_mut().filter(|last| last["role"] == "assistant") else { return };
        let Some(blocks) = last["content"].as_array_mut() else { return };
        let paused = blocks.iter().any(is_of_server);
        if !continues_itself && !paused {
            self.push("user", vec![json!({"type": "text", "text": CONTINUE})]);
        } else if let Some(Value::String(text)) = blocks.last_mut().and_then(|block| block.get_mut("text")) {
            // A blank at the end is refused.
            text.truncate(text.trim_end().len());
        }
    }

    /// Marks the last system block and the last block of the last two messages: the next request reads what comes before
    /// from the cache. Four marks are allowed.
    fn mark(&mut self) {
        let recent = self.messages.iter_mut().rev().take(2);
        let recent = recent.filter_map(|message| message["content"].as_array_mut()?.last_mut());
        for block in self.system.last_mut().into_iter().chain(recent) {
            if matches!(block["type"].as_str(), Some("text" | "tool_use" | "tool_result" | "image")) {
                block["cache_control"] = json!({"type": "ephemeral"});
            }
        }
    }
}

fn text_block(text: &str) -> Option<Value> {
    (!text.trim().is_empty()).then(|| json!({"type": "text", "text": text}))
}

fn blocks(settings: &Settings, content: &Content) -> Vec<Value> {
    content.blocks(|text| json!({"type": "text", "text": text}), |image| image_block(settings, image))
}

fn image_block(settings: &Settings, image: &Image) -> Value {
    let words = |text: String| json!({"type": "text", "text": text});
    match image.media_type_in(&IMAGES) {
        _ if !settings.images => words(image.in_words()),
        None => words(image.left_out("this provider does not read its type")),
        Some(media_type) => json!({
            "type": "image",
            "source": {"type": "base64", "media_type": media_type, "data": image.data},
        }),
    }
}

fn tool_result(settings: &Settings, result: &ToolResult) -> Value {
    let mut blocks = blocks(settings, &result.content);
    let content = match blocks.as_mut_slice() {
        [] => json!(NO_OUTPUT),
        [block] if block["type"] == "text" => block["text"].take(),
        _ => json!(blocks),
    };
    let mut sent = json!({"type": "tool_result", "tool_use_id": id(&result.call_id), "content": content});
    if result.is_error {
        sent["is_error"] = json!(true);
    }
    sent
}

/// The blocks of a reply. Thinking that its maker did not sign, or that another provider made, is left out: it is refused.
fn assistant(settings: &Settings, reply: &AssistantMessage) -> Vec<Value> {
    let own = reply.origin.as_ref().is_some_and(|origin| origin.is(Anthropic::NAME, &settings.provider));
    let block = |part: &Part| match part {
        Part::Text(text) => text_block(text),
        Part::ToolCall(call) => {
            let input: Value = serde_json::from_str(&call.object()).unwrap_or_else(|_| json!({}));
            Some(json!({"type": "tool_use", "id": id(&call.id), "name": call.name, "input": input}))
        }
        Part::Thinking { text, signature: Some(signature) } if own => {
            Some(json!({"type": "thinking", "thinking": text, "signature": signature}))
        }
        Part::RedactedThinking { data } if own => Some(json!({"type": "redacted_thinking", "data": data})),
        Part::Opaque { data } if own && is_of_server(data) => Some(of_server(data)),
        Part::Thinking { .. } | Part::RedactedThinking { .. } | Part::Opaque { .. } => None,
    };
    reply.parts.iter().filter_map(block).collect()
}

/// A block of the provider's own tools. Its input was kept as the text that was streamed.
fn of_server(data: &Value) -> Value {
    let mut block = data.clone();
    if let Some(input) = data["input"].as_str() {
        block["input"] = serde_json::from_str(input).unwrap_or_else(|_| json!({}));
    }
    block
}

fn id(id: &str) -> String {
    ids::fitted(id, ID_CHARS, |c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'))
}

/// Leaves out calls of the provider's own tools without a result, and results without a call: both are refused.
fn drop_unpaired(message: &mut Value) {
    let Some(blocks) = message["content"].as_array_mut() else { return };
    let ids = |field: &str| -> HashSet<String> {
        let of_server = blocks.iter().filter(|block| is_of_server(block));
        of_server.filter_map(|block| block[field].as_str().map(str::to_owned)).collect()
    };
    let (called, answered) = (ids("id"), ids("tool_use_id"));
    blocks.retain(|block| match (block["id"].as_str(), block["tool_use_id"].as_str()) {
        _ if !is_of_server(block) => true,
        (_, Some(call)) => called.contains(call),
        (Some(call), None) => answered.contains(call),
        (None, None) => false,
    });
}
