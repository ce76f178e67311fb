//! Anthropic's Messages, and what gateways make of it.
//!
//! On Vertex and Bedrock the version of the interface is a field of the body and the model is part of the address: where
//! [`Settings::extra`] has `anthropic_version`, the request has that form.

pub(crate) mod model;
pub(crate) mod request;
mod stream;

use serde_json::Value;

use crate::error::ProviderError;
use crate::reply::Assembly;
use crate::settings::Settings;
use crate::wire::Ask;
use crate::wire::RequestError;
use crate::wire::Wire;
use crate::wire::WireRequest;
use stream::Blocks;

/// The wire of Messages.
#[derive(Debug, Clone, Copy)]
pub struct Anthropic;

impl Wire for Anthropic {
    const NAME: &'static str = "anthropic";

    type State = Blocks;

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

/// Whether a block belongs to a tool that the provider itself runs: it is kept as it is and goes back with its reply.
fn is_of_server(block: &Value) -> bool {
    block["type"].as_str().is_some_and(|kind| kind.ends_with("_tool_use") || kind.ends_with("_tool_result"))
}

#[cfg(test)]
mod tests;
