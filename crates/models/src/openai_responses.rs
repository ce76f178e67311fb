//! OpenAI's Responses, and what gateways and local servers make of it.
//!
//! Nothing is kept at the provider: each request has the whole conversation. Reasoning goes back as the encrypted items
//! that came, or in the open where a server shows it and encrypts nothing. Ids of items are never sent: they name what the
//! provider did not keep.

mod items;
mod request;
mod stream;

use crate::wire::impl_wire;

/// Items of tools that the provider itself runs, and of its own compaction: they go back as they came.
const OF_SERVER: [&str; 7] = [
    "web_search_call",
    "file_search_call",
    "code_interpreter_call",
    "image_generation_call",
    "mcp_call",
    "mcp_list_tools",
    "compaction",
];

/// The wire of Responses.
#[derive(Debug, Clone, Copy)]
pub struct OpenaiResponses;

impl_wire!(OpenaiResponses, "openai_responses", items::Items);

#[cfg(test)]
mod tests;
