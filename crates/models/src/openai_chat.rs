//! OpenAI's chat completions, and what those who speak them make of it.

mod dialect;
mod reasoning;
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

/// The wire of chat completions.
#[derive(Debug, Clone, Copy)]
pub struct OpenaiChat;

impl Wire for OpenaiChat {
    const NAME: &'static str = "openai_chat";

    type State = ();

    fn request(settings: &Settings, ask: &Ask<'_>) -> Result<WireRequest, RequestError> {
        request::request(settings, ask)
    }

    fn event(
        _state: &mut Self::State,
        _name: Option<&str>,
        data: Value,
        reply: &mut Assembly,
    ) -> Result<(), ProviderError> {
        stream::chunk(&data, reply)
    }

    fn whole(body: Value, reply: &mut Assembly) -> Result<(), ProviderError> {
        if !body["choices"].is_array() {
            return Err(ProviderError::not_a_reply(&body.to_string()));
        }
        stream::chunk(&body, reply)
    }
}

#[cfg(test)]
mod tests;
