//! OpenAI's chat completions, and what those who speak them make of it.

mod dialect;
mod reasoning;
mod request;
mod stream;

use crate::wire::impl_wire;

/// The wire of chat completions.
#[derive(Debug, Clone, Copy)]
pub struct OpenaiChat;

impl_wire!(OpenaiChat, "openai_chat", stream::Choice);

#[cfg(test)]
mod tests;
