//! Google's generateContent and streamGenerateContent, of the Gemini API and of Vertex.
//!
//! The two differ in their address and their key. The path of a request follows `…/v1beta` on the Gemini API and
//! `…/projects/P/locations/L/publishers/google` on Vertex.
//!
//! Signatures: a call keeps its own, and so does thinking. The signature of a text is an empty thinking part directly before
//! the text. A signature that came alone is a part of its own, kept as it came.

mod model;
mod request;
mod stream;

use serde_json::Value;

use crate::wire::impl_wire;

/// Kinds of parts that belong to a tool that the provider itself runs: they go back as they came.
const OF_SERVER: [&str; 4] = ["executableCode", "codeExecutionResult", "toolCall", "toolResponse"];

/// The wire of generateContent.
#[derive(Debug, Clone, Copy)]
pub struct Gemini;

impl_wire!(Gemini, "gemini", stream::Progress);

/// Whether a part that was kept as it came may go back.
fn is_kept(part: &Value) -> bool {
    is_of_server(part) || part["thoughtSignature"].is_string()
}

/// Whether a part belongs to a tool of the provider.
fn is_of_server(part: &Value) -> bool {
    OF_SERVER.iter().any(|kind| part[*kind].is_object())
}

#[cfg(test)]
mod tests;
