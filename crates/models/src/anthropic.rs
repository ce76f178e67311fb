//! Anthropic's Messages, and what gateways make of it.
//!
//! On Vertex and Bedrock the version of the interface is a field of the body and the model is part of the address: where
//! [`Settings::extra`](crate::settings::Settings::extra) has `anthropic_version`, the request has that form.

pub(crate) mod model;
pub(crate) mod request;
mod stream;

use serde_json::Value;

use crate::wire::impl_wire;

/// The wire of Messages.
#[derive(Debug, Clone, Copy)]
pub struct Anthropic;

impl_wire!(Anthropic, "anthropic", stream::Blocks);

/// Whether a block belongs to a tool that the provider itself runs: it is kept as it is and goes back with its reply.
fn is_of_server(block: &Value) -> bool {
    block["type"].as_str().is_some_and(|kind| kind.ends_with("_tool_use") || kind.ends_with("_tool_result"))
}

#[cfg(test)]
mod tests;
