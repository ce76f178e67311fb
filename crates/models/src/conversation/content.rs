//! Words and images, in the order in which they were given.

use serde::Deserialize;
use serde::Serialize;
use serde_json::Value;

/// What a user or a tool says. Stored as a text where there is nothing else, as older releases wrote it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Stored", into = "Stored")]
pub struct Content(Vec<ContentPart>);

/// One piece of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ContentPart {
    /// Words.
    Text {
        /// The words.
        text: String,
    },
    /// A picture.
    Image(Image),
}

/// A picture.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// Such as `image/png`.
    pub media_type: String,
    /// The bytes in standard base64, without line breaks.
    pub data: String,
}

impl Image {
    /// Its size in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let padding = self.data.bytes().rev().take_while(|&byte| byte == b'=').count();
        (self.data.len() / 4 * 3).saturating_sub(padding)
    }

    /// The sentence that stands for it where a model takes no images.
    #[must_use]
    pub fn in_words(&self) -> String {
        self.left_out("this model takes no images")
    }

    /// The sentence that stands for it where it is not sent, and why.
    pub(crate) fn left_out(&self, why: &str) -> String {
        let bytes = self.data.len() / 4 * 3;
        format!("[An image ({}, about {bytes} bytes) is left out: {why}.]", self.media_type)
    }

    /// Its media type if it is one of `known`, in the spelling that providers take.
    pub(crate) fn media_type_in(&self, known: &[&'static str]) -> Option<&'static str> {
        let own = self.media_type.to_ascii_lowercase();
        let own = if own == "image/jpg" { "image/jpeg" } else { own.as_str() };
        known.iter().copied().find(|known| *known == own)
    }
}

/// The stored form.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Stored {
    Text(String),
    Parts(Vec<ContentPart>),
}

impl Content {
    /// These parts in this order.
    #[must_use]
    pub fn new(parts: Vec<ContentPart>) -> Self {
        Self(parts)
    }

    /// Its parts in their order.
    #[must_use]
    pub fn parts(&self) -> &[ContentPart] {
        &self.0
    }

    /// Its images in their order.
    pub fn images(&self) -> impl Iterator<Item = &Image> {
        self.0.iter().filter_map(|part| match part {
            ContentPart::Image(image) => Some(image),
            ContentPart::Text { .. } => None,
        })
    }

    /// Its words, pieces joined by line breaks, images left out.
    #[must_use]
    pub fn text(&self) -> String {
        self.joined(|_| None)
    }

    /// Its words, with a sentence in the place of each image.
    #[must_use]
    pub fn in_words(&self) -> String {
        self.joined(|image| Some(image.in_words()))
    }

    /// Its parts in the form of a wire, without blank texts: providers refuse them.
    pub(crate) fn blocks(
        &self,
        text_block: impl Fn(&str) -> Value,
        image_block: impl Fn(&Image) -> Value,
    ) -> Vec<Value> {
        let block = |part: &ContentPart| match part {
            ContentPart::Text { text } if text.trim().is_empty() => None,
            ContentPart::Text { text } => Some(text_block(text)),
            ContentPart::Image(image) => Some(image_block(image)),
        };
        self.0.iter().filter_map(block).collect()
    }

    fn joined(&self, of_image: impl Fn(&Image) -> Option<String>) -> String {
        let words = self.0.iter().filter_map(|part| match part {
            ContentPart::Text { text } => Some(text.clone()),
            ContentPart::Image(image) => of_image(image),
        });
        words.collect::<Vec<_>>().join("\n")
    }

    pub(super) fn bytes(&self) -> usize {
        let of_part = |part: &ContentPart| match part {
            ContentPart::Text { text } => text.len(),
            ContentPart::Image(image) => image.data.len(),
        };
        self.0.iter().map(of_part).sum()
    }
}

impl From<String> for Content {
    fn from(text: String) -> Self {
        Self(vec![ContentPart::Text { text }])
    }
}

impl From<&str> for Content {
    fn from(text: &str) -> Self {
        text.to_owned().into()
    }
}

impl From<Stored> for Content {
    fn from(stored: Stored) -> Self {
        match stored {
            Stored::Text(text) => text.into(),
            Stored::Parts(parts) => Self(parts),
        }
    }
}

impl From<Content> for Stored {
    fn from(Content(mut parts): Content) -> Self {
        match parts.pop() {
            Some(ContentPart::Text { text }) if parts.is_empty() => Self::Text(text),
            last => {
                parts.extend(last);
                Self::Parts(parts)
            }
        }
    }
}
