//! OpenAI's Responses, and what gateways and local servers make of it.
//!
//! Nothing is kept at the provider: each request has the whole conversation. Reasoning goes back as the encrypted items
//! that came, or in the open where a server shows it and encrypts nothing. Ids of items are never sent: they name what the
//! provider did not keep.

mod items;
mod request;
mod stream;

use serde_json::Value;

use crate::error::ProviderError;
use crate::reply::Assembly;
use crate::settings::Settings;
use crate::wire::Ask;
use crate::wire::RequestError;
use crate::wire::Wire;
use crate::wire::WireRequest;
use items::Items;

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

impl Wire for OpenaiResponses {
    const NAME: &'static str = "openai_responses";

    type State = Items;

    fn request(settings: &Settings, ask: &Ask<'_>) -> Result<WireRequest, RequestError> {
        request::request(settings, ask)
    }

    fn event(
        state: &mut Self::State,
        name: Option<&str>,
        data: Value,
        reply: &mut Assembly,
    ) -> Result<(), ProviderError> {
        stream::event(state, name, data, reply)
    }

    fn whole(body: Value, reply: &mut Assembly) -> Result<(), ProviderError> {
        stream::whole(body, reply)
    }
}

#[cfg(test)]
mod tests;
