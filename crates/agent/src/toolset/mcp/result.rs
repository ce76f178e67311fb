//! The results of tool calls: their text and their images. Pure.

use rmcp::model::CallToolResult;
use rmcp::model::ContentBlock;
use rmcp::model::ResourceContents;
use rmcp::model::ServerResult;
use serde::Deserialize;
use serde_json::Value;

use crate::image;
use crate::image::Image;
use crate::tool::ToolOutcome;

/// The outcome for the model of an answer to a call of `tool`.
pub(super) fn outcome(tool: &str, answer: ServerResult) -> ToolOutcome {
    match answer {
        ServerResult::CallToolResult(result) => complete(result),
        ServerResult::InputRequiredResult(_) | ServerResult::CreateTaskResult(_) => {
            ToolOutcome::error(format!(
                "{tool} did not return a result: it needs input from a person, or runs as a task of the server"
            ))
        }
        // A result with a part that the protocol library does not know. The tool has run, so the rest must not be lost.
        ServerResult::CustomResult(result) if result.0["content"].is_array() => custom(&result.0),
        _ => ToolOutcome::error(format!("{tool} did not return a result: the server's answer is not one")),
    }
}

fn complete(result: CallToolResult) -> ToolOutcome {
    let mut collected = Collected::default();
    for block in result.content {
        collected.add(block);
    }
    collected.into_outcome(result.structured_content.as_ref(), result.is_error.unwrap_or(false))
}

/// Reads the parts of a result one by one.
fn custom(result: &Value) -> ToolOutcome {
    let mut collected = Collected::default();
    for part in result["content"].as_array().into_iter().flatten() {
        match ContentBlock::deserialize(part) {
            Ok(block) => collected.add(block),
            Err(_) => collected.add_unknown(part),
        }
    }
    collected.into_outcome(result.get("structuredContent"), result["isError"].as_bool().unwrap_or(false))
}

/// The parts of a result so far.
#[derive(Debug, Default)]
struct Collected {
    text: String,
    images: Vec<Image>,
    /// The bytes of the images together.
    image_bytes: usize,
}

impl Collected {
    /// Adds one content block. Texts are joined as they are; any other block has a sentence in its place.
    fn add(&mut self, block: ContentBlock) {
        match block {
            ContentBlock::Text(block) => self.text.push_str(&block.text),
            ContentBlock::Image(block) => self.add_image(&block.data),
            ContentBlock::Audio(block) => {
                self.note(&format!("[audio ({}), which cannot be played here]", block.mime_type));
            }
            ContentBlock::Resource(block) => match &block.resource {
                ResourceContents::TextResourceContents { text, .. } => self.text.push_str(text),
                ResourceContents::BlobResourceContents { uri, mime_type, blob, .. } => {
                    if mime_type.as_ref().is_some_and(|name| name.starts_with("image/")) {
                        self.add_image(blob);
                    } else {
                        self.note(&format!("[a resource, which cannot be shown here: {uri}]"));
                    }
                }
                _ => self.note("[a resource of an unknown kind]"),
            },
            ContentBlock::ResourceLink(link) => self.note(&format!("[a resource: {}]", link.uri)),
            _ => self.note("[content of an unknown kind]"),
        }
    }

    /// Adds the sentence for a part that cannot be read.
    fn add_unknown(&mut self, part: &Value) {
        let kind: String = part["type"].as_str().unwrap_or("none").chars().take(100).collect();
        self.note(&format!("[content of the type {kind:?}, which cannot be shown here]"));
    }

    fn add_image(&mut self, data: &str) {
        let image = match image::from_base64(data) {
            Ok(image) => image,
            Err(sentence) => return self.note(&sentence),
        };
        self.note(&image::caption(&image));
        if self.images.len() >= image::MAX_PER_RESULT || self.image_bytes + image.bytes() > image::MAX_BYTES {
            return self.note("[it is left out: the images of this result are too many]");
        }
        self.image_bytes += image.bytes();
        self.images.push(image);
    }

    fn note(&mut self, sentence: &str) {
        self.text.push_str(sentence);
    }

    /// The outcome. Without any text, structured content stands in as JSON.
    fn into_outcome(mut self, structured: Option<&Value>, is_error: bool) -> ToolOutcome {
        if self.text.is_empty()
            && let Some(structured) = structured
        {
            self.text = structured.to_string();
        }
        if self.text.is_empty() {
            self.text = "no output".to_owned();
        }
        ToolOutcome { text: self.text, images: self.images, is_error, ..ToolOutcome::default() }
    }
}
