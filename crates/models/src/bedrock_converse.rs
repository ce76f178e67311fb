//! Amazon Bedrock's Converse: one interface to the models of many vendors, which take different things through it.
//!
//! A stream comes as frames of AWS, which the reader takes apart. The path names the model; the address of the region and
//! the bearer token are the caller's.

mod request;
mod stream;
mod vendor;

use serde_json::Value;

use crate::error::ProviderError;
use crate::reply::Assembly;
use crate::settings::Settings;
use crate::wire::Ask;
use crate::wire::RequestError;
use crate::wire::Wire;
use crate::wire::WireRequest;
use stream::Blocks;

/// The wire of Converse.
#[derive(Debug, Clone, Copy)]
pub struct BedrockConverse;

impl Wire for BedrockConverse {
    const NAME: &'static str = "bedrock_converse";

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
        stream::event(state, name, &data, reply)
    }

    fn whole(body: Value, reply: &mut Assembly) -> Result<(), ProviderError> {
        stream::whole(&body, reply)
    }
}

#[cfg(test)]
mod tests;
