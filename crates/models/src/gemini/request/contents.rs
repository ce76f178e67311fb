//! The contents of a request: results apart from words, nothing blank, signatures and ids where they came.

use std::iter::Peekable;
use std::slice::Iter;

use serde_json::Map;
use serde_json::Value;
use serde_json::json;

use crate::conversation::AssistantMessage;
use crate::conversation::Content;
use crate::conversation::ContentPart;
use crate::conversation::Image;
use crate::conversation::Message;
use crate::conversation::Part;
use crate::conversation::ToolCall;
use crate::conversation::ToolResult;
use crate::conversation::paired;
use crate::gemini::Gemini;
use crate::gemini::is_kept;
use crate::gemini::model::Model;
use crate::json::put;
use crate::settings::Settings;
use crate::wire::Wire as _;

/// Types of images that the provider reads.
const IMAGES: [&str; 5] = ["image/png", "image/jpeg", "image/webp", "image/heic", "image/heif"];
/// What stands for a result without words.
const NO_OUTPUT: &str = "<no output>";
/// Stands for the signature of a call that another model made: the provider does not check it.
const UNSIGNED: &str = "skip_thought_signature_validator";
/// Begins a conversation whose first message is the model's, which is refused.
const BEGINNING: &str = "[The beginning of the conversation is left out.]";
/// Follows a message of the model at the end, which is refused too.
const CONTINUE: &str = "Continue.";

/// The conversation; empty where there is nothing to answer.
///
/// A user's words after tool results are a content of their own: together with the results they would be overlooked.
pub(super) fn contents(settings: &Settings, model: Model, messages: &[Message]) -> Vec<Value> {
    let mut all = Contents::default();
    for message in paired(messages) {
        match &*message {
            Message::System { .. } => {}
            Message::User { content } => all.push(Kind::Words, parts(settings, content)),
            Message::Assistant(reply) => all.push(Kind::Model, assistant(settings, model, reply)),
            Message::ToolResult(result) => all.push(Kind::Results, tool_result(settings, model, result)),
        }
    }
    all.finish()
}

/// What a content holds. Neighbours of one kind are one content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Words,
    Results,
    Model,
}

#[derive(Debug, Default)]
struct Contents {
    all: Vec<(Kind, Vec<Value>)>,
}

impl Contents {
    fn push(&mut self, kind: Kind, parts: Vec<Value>) {
        match self.all.last_mut() {
            _ if parts.is_empty() => {}
            Some((last, all)) if *last == kind => all.extend(parts),
            _ => self.all.push((kind, parts)),
        }
    }

    fn finish(mut self) -> Vec<Value> {
        let words = |text: &str| (Kind::Words, vec![json!({"text": text})]);
        if self.all.first().is_some_and(|(kind, _)| *kind == Kind::Model) {
            self.all.insert(0, words(BEGINNING));
        }
        if self.all.last().is_some_and(|(kind, _)| *kind == Kind::Model) {
            self.all.push(words(CONTINUE));
        }
        let content = |(kind, parts)| {
            let role = if kind == Kind::Model { "model" } else { "user" };
            json!({"role": role, "parts": Value::Array(parts)})
        };
        self.all.into_iter().map(content).collect()
    }
}

fn parts(settings: &Settings, content: &Content) -> Vec<Value> {
    let part = |part: &ContentPart| match part {
        ContentPart::Text { text } => (!text.trim().is_empty()).then(|| json!({"text": text})),
        ContentPart::Image(image) => Some(match blob(settings, image) {
            Ok(blob) => json!({"inlineData": blob}),
            Err(words) => json!({"text": words}),
        }),
    };
    content.parts().iter().filter_map(part).collect()
}

/// An image, or the sentence that stands for it.
fn blob(settings: &Settings, image: &Image) -> Result<Value, String> {
    match image.media_type_in(&IMAGES) {
        _ if !settings.images => Err(image.in_words()),
        None => Err(image.left_out("this provider does not read its type")),
        Some(media_type) => Ok(json!({"mimeType": media_type, "data": image.data})),
    }
}

fn tool_result(settings: &Settings, model: Model, result: &ToolResult) -> Vec<Value> {
    let (mut words, mut blobs) = (Vec::new(), Vec::new());
    for part in result.content.parts() {
        match part {
            ContentPart::Text { text } => words.push(text.clone()),
            ContentPart::Image(image) => match blob(settings, image) {
                Ok(blob) => blobs.push(json!({"inlineData": blob})),
                Err(sentence) => words.push(sentence),
            },
        }
    }
    let words = Some(words.join("\n")).filter(|words| !words.trim().is_empty());
    let words = words.unwrap_or_else(|| NO_OUTPUT.to_owned());
    let outcome = if result.is_error { "error" } else { "output" };
    let mut response = json!({"name": result.name, "response": {outcome: words}});
    if model.has_ids() {
        response["id"] = json!(result.call_id);
    }
    let within = model.reads_images_in_results() && !blobs.is_empty();
    if within {
        response["parts"] = json!(std::mem::take(&mut blobs));
    }
    blobs.insert(0, json!({"functionResponse": response}));
    blobs
}

/// The parts of a reply. What only its maker understands goes back to it alone; thinking without a signature is not read.
fn assistant(settings: &Settings, model: Model, reply: &AssistantMessage) -> Vec<Value> {
    let own = reply.origin.as_ref().is_some_and(|origin| origin.is(Gemini::NAME, &settings.provider));
    let mut sent = Vec::with_capacity(reply.parts.len());
    let mut calls = 0;
    let mut rest = reply.parts.iter().peekable();
    while let Some(part) = rest.next() {
        match part {
            Part::Text(text) => sent.extend(text_part(text, None)),
            Part::Thinking { text, signature: Some(signature) } if own => {
                sent.extend(signed(text, signature, &mut rest));
            }
            Part::ToolCall(it) => {
                sent.push(call(it, model, own, calls == 0));
                calls += 1;
            }
            Part::Opaque { data } if own && is_kept(data) => sent.push(data.clone()),
            Part::Thinking { .. } | Part::RedactedThinking { .. } | Part::Opaque { .. } => {}
        }
    }
    sent
}

/// A signature with its part: thinking, the text that follows, or nothing.
fn signed(text: &str, signature: &str, rest: &mut Peekable<Iter<'_, Part>>) -> Option<Value> {
    if !text.is_empty() {
        return Some(json!({"text": text, "thought": true, "thoughtSignature": signature}));
    }
    match rest.next_if(|next| matches!(next, Part::Text(_))).and_then(Part::as_text) {
        Some(text) => text_part(text, Some(signature)),
        None => Some(json!({"text": "", "thoughtSignature": signature})),
    }
}

fn text_part(text: &str, signature: Option<&str>) -> Option<Value> {
    let mut part = Map::new();
    put(&mut part, "text", Some(text));
    put(&mut part, "thoughtSignature", signature);
    (signature.is_some() || !text.trim().is_empty()).then_some(Value::Object(part))
}

fn call(call: &ToolCall, model: Model, own: bool, is_first: bool) -> Value {
    let args: Value = serde_json::from_str(&call.object()).unwrap_or_else(|_| json!({}));
    let mut function = json!({"name": call.name, "args": args});
    if model.has_ids() {
        function["id"] = json!(call.id);
    }
    let signature = call.thought_signature.as_deref().filter(|_| own);
    let signature = signature.or((is_first && model.wants_signatures()).then_some(UNSIGNED));
    let mut part = json!({"functionCall": function});
    if let Some(signature) = signature {
        part["thoughtSignature"] = json!(signature);
    }
    part
}
