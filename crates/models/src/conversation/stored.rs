//! How a reply is stored: the fields that every release reads, and the order of the parts next to them.
//!
//! Texts and calls are stored once. The layout says how to cut the joined text and the joined reasoning back into parts;
//! where it is absent, as in what older releases wrote, the order is reasoning, text, calls.

use std::vec::IntoIter;

use serde::Deserialize;
use serde::Serialize;
use serde_json::Value;

use super::AssistantMessage;
use super::Origin;
use super::Part;
use super::ToolCall;
use super::Usage;

/// The stored form.
#[derive(Serialize, Deserialize)]
pub(super) struct StoredAssistant {
    #[serde(default)]
    text: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reasoning: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<ToolCall>,
    /// What releases before this form kept for the provider; read, never written.
    #[serde(default, skip_serializing)]
    continuation: Option<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    origin: Option<Origin>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    layout: Vec<Piece>,
    #[serde(default)]
    usage: StoredUsage,
}

/// The usage with a field that older releases cannot do without.
#[derive(Serialize, Deserialize)]
struct StoredUsage {
    #[serde(default)]
    input_tokens: u64,
    #[serde(default)]
    cached_tokens: u64,
    #[serde(default)]
    cache_write_tokens: u64,
    #[serde(default)]
    output_tokens: u64,
    #[serde(default)]
    reasoning_tokens: u64,
    /// A reply is one model call.
    #[serde(default)]
    turns: u64,
}

impl Default for StoredUsage {
    fn default() -> Self {
        Usage::default().into()
    }
}

impl From<Usage> for StoredUsage {
    fn from(usage: Usage) -> Self {
        let Usage { input_tokens, cached_tokens, cache_write_tokens, output_tokens, reasoning_tokens } =
            usage;
        Self { input_tokens, cached_tokens, cache_write_tokens, output_tokens, reasoning_tokens, turns: 1 }
    }
}

impl From<StoredUsage> for Usage {
    fn from(stored: StoredUsage) -> Self {
        let StoredUsage {
            input_tokens,
            cached_tokens,
            cache_write_tokens,
            output_tokens,
            reasoning_tokens,
            turns: _,
        } = stored;
        Self { input_tokens, cached_tokens, cache_write_tokens, output_tokens, reasoning_tokens }
    }
}

/// One part, its text left to the fields above.
#[derive(Serialize, Deserialize)]
#[serde(tag = "part", rename_all = "snake_case")]
enum Piece {
    /// The next `bytes` of the text.
    Text {
        bytes: usize,
    },
    /// The next `bytes` of the reasoning.
    Thinking {
        bytes: usize,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        signature: Option<String>,
    },
    RedactedThinking {
        data: String,
    },
    /// The next call.
    ToolCall,
    Opaque {
        data: Value,
    },
    /// What a later release knows.
    #[serde(other)]
    Unknown,
}

impl From<AssistantMessage> for StoredAssistant {
    fn from(message: AssistantMessage) -> Self {
        let (text, reasoning) = (message.text(), message.reasoning());
        let mut layout = Vec::with_capacity(message.parts.len());
        let mut tool_calls = Vec::new();
        let usual = is_usual(&message.parts);
        for part in message.parts {
            layout.push(match part {
                Part::Text(text) => Piece::Text { bytes: text.len() },
                Part::Thinking { text, signature } => Piece::Thinking { bytes: text.len(), signature },
                Part::RedactedThinking { data } => Piece::RedactedThinking { data },
                Part::Opaque { data } => Piece::Opaque { data },
                Part::ToolCall(call) => {
                    tool_calls.push(call);
                    Piece::ToolCall
                }
            });
        }
        if usual {
            layout.clear();
        }
        let (origin, usage) = (message.origin, message.usage.into());
        Self { text, reasoning, tool_calls, continuation: None, origin, layout, usage }
    }
}

/// Whether the order needs no layout: at most one unsigned reasoning, at most one text that is not empty, then calls.
fn is_usual(parts: &[Part]) -> bool {
    let mut rest = parts;
    if let [Part::Thinking { signature: None, .. }, after @ ..] = rest {
        rest = after;
    }
    if let [Part::Text(text), after @ ..] = rest
        && !text.is_empty()
    {
        rest = after;
    }
    rest.iter().all(|part| matches!(part, Part::ToolCall(_)))
}

impl From<StoredAssistant> for AssistantMessage {
    fn from(stored: StoredAssistant) -> Self {
        let mut left = Left {
            text: &stored.text,
            reasoning: stored.reasoning.as_deref(),
            calls: stored.tool_calls.into_iter(),
        };
        let mut parts: Vec<Part> = stored.layout.into_iter().filter_map(|piece| left.part(piece)).collect();
        let kept = stored.continuation.map(Kept::read).unwrap_or_default();
        if kept.parts.iter().any(|part| matches!(part, Part::Thinking { .. })) {
            left.reasoning = None;
        }
        parts.extend(kept.parts);
        left.drain_into(&mut parts, &kept.signatures);
        Self { parts, origin: stored.origin.or(kept.origin), usage: stored.usage.into() }
    }
}

/// What no part has taken yet.
struct Left<'a> {
    text: &'a str,
    reasoning: Option<&'a str>,
    calls: IntoIter<ToolCall>,
}

impl Left<'_> {
    fn part(&mut self, piece: Piece) -> Option<Part> {
        match piece {
            Piece::Text { bytes } => Some(Part::Text(cut(&mut self.text, bytes))),
            Piece::Thinking { bytes, signature } => {
                let text = self.reasoning.as_mut().map(|reasoning| cut(reasoning, bytes)).unwrap_or_default();
                Some(Part::Thinking { text, signature })
            }
            Piece::RedactedThinking { data } => Some(Part::RedactedThinking { data }),
            Piece::ToolCall => self.calls.next().map(Part::ToolCall),
            Piece::Opaque { data } => Some(Part::Opaque { data }),
            Piece::Unknown => None,
        }
    }

    /// What the layout does not speak of, in the usual order.
    fn drain_into(self, parts: &mut Vec<Part>, signatures: &Value) {
        let had_layout = !parts.is_empty();
        let reasoning = self.reasoning.filter(|text| !text.is_empty() || !had_layout);
        parts.extend(reasoning.map(|text| Part::Thinking { text: text.to_owned(), signature: None }));
        if !self.text.is_empty() {
            parts.push(Part::Text(self.text.to_owned()));
        }
        parts.extend(self.calls.map(|mut call| {
            let signed = signatures[&call.id][0].as_str();
            call.thought_signature = call.thought_signature.or(signed.map(str::to_owned));
            Part::ToolCall(call)
        }));
    }
}

/// The first `bytes` of the text, or what there is, never inside of a character.
fn cut(text: &mut &str, bytes: usize) -> String {
    let at = (0..=bytes.min(text.len())).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
    let (first, rest) = text.split_at(at);
    *text = rest;
    first.to_owned()
}

/// What releases before this form kept for the provider: parts of the library that they used, and signatures of calls.
#[derive(Default)]
struct Kept {
    parts: Vec<Part>,
    signatures: Value,
    origin: Option<Origin>,
}

impl Kept {
    fn read(mut continuation: Value) -> Self {
        let parts = continuation["parts"].as_array().into_iter().flatten().filter_map(kept_part).collect();
        let signatures = continuation["signatures"].take();
        // Only Anthropic's blocks were kept whole, and only Gemini signed calls.
        let wire = if signatures.as_object().is_some_and(|signed| !signed.is_empty()) {
            "gemini"
        } else {
            "anthropic"
        };
        let origin = continuation["provider"].as_str().map(|provider| Origin {
            wire: wire.to_owned(),
            provider: provider.to_owned(),
            model: String::new(),
        });
        Self { parts, signatures, origin }
    }
}

fn kept_part(part: &Value) -> Option<Part> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let block = &part["Custom"]["data"];
    match block["type"].as_str() {
        Some("thinking") => {
            let signature = text(&block["signature"]);
            Some(Part::Thinking { text: text(&block["thinking"]).unwrap_or_default(), signature })
        }
        Some("redacted_thinking") => text(&block["data"]).map(|data| Part::RedactedThinking { data }),
        _ => text(&part["ReasoningContent"]).map(|text| Part::Thinking { text, signature: None }),
    }
}
