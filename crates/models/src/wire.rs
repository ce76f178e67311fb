//! The shape of a wire: what each folder of this crate gives, and what it is given.

use std::fmt::Debug;
use std::fmt::Display;

use serde_json::Value;
use thiserror::Error;

use crate::conversation::Message;
use crate::conversation::ToolSpec;
use crate::error::ProviderError;
use crate::names::Names;
use crate::reply::Assembly;
use crate::settings::Settings;

/// How a provider is spoken to. Implemented by a type without values, one for each folder.
///
/// The reader of bytes is the same for all of them: [`Reader`](crate::reader::Reader).
pub trait Wire: Debug {
    /// Its name, as [`Origin::wire`](crate::conversation::Origin::wire) stores it: it never changes.
    const NAME: &'static str;

    /// What its reader remembers from one event to the next, beyond the reply itself.
    type State: Debug + Default + Send;

    /// Builds a request that asks for a stream. Pure.
    ///
    /// What the provider would refuse is left out or adapted, and each such change is among the notes.
    ///
    /// # Errors
    ///
    /// [`RequestError`] where no request can be built that the provider would take.
    fn request(settings: &Settings, ask: &Ask<'_>) -> Result<WireRequest, RequestError>;

    /// Reads the JSON of one server-sent event. What is not known is passed over.
    ///
    /// # Errors
    ///
    /// [`ProviderError`] where the event is an error of the provider, or the reply breaks a limit.
    fn event(state: &mut Self::State, event: Event<'_>, reply: &mut Assembly) -> Result<(), ProviderError>;

    /// Reads a whole reply that came in place of a stream. Ends with [`Assembly::stop`] if the reply says why it ended.
    ///
    /// # Errors
    ///
    /// [`ProviderError`] where the body is an error of the provider or is not a reply.
    fn whole(body: Value, reply: &mut Assembly) -> Result<(), ProviderError>;
}

/// A wire whose parts are the functions of its modules: `request::request`, `stream::event` and `stream::whole`.
macro_rules! impl_wire {
    ($wire:ident, $stored:literal, $state:ty) => {
        impl crate::wire::Wire for $wire {
            const NAME: &'static str = $stored;

            type State = $state;

            fn request(
                settings: &crate::settings::Settings,
                ask: &crate::wire::Ask<'_>,
            ) -> Result<crate::wire::WireRequest, crate::wire::RequestError> {
                request::request(settings, ask)
            }

            fn event(
                state: &mut Self::State,
                event: crate::wire::Event<'_>,
                reply: &mut crate::reply::Assembly,
            ) -> Result<(), crate::error::ProviderError> {
                stream::event(state, event, reply)
            }

            fn whole(
                body: ::serde_json::Value,
                reply: &mut crate::reply::Assembly,
            ) -> Result<(), crate::error::ProviderError> {
                stream::whole(body, reply)
            }
        }
    };
}

pub(crate) use impl_wire;

/// One event of a stream.
#[derive(Debug, Clone, PartialEq)]
pub struct Event<'a> {
    /// What its line `event:`, or its frame, calls it.
    pub name: Option<&'a str>,
    /// What it says.
    pub data: Value,
}

/// Builds the request of a wire as [`Wire::request`] does, with names of tools that its provider takes. The names are for
/// [`Reader::with_names`](crate::reader::Reader::with_names), which restores them in the reply.
///
/// # Errors
///
/// As [`Wire::request`].
pub fn build_request<W: Wire>(
    settings: &Settings,
    ask: &Ask<'_>,
) -> Result<(WireRequest, Names), RequestError> {
    let names = Names::of(ask);
    if names.is_empty() {
        return Ok((W::request(settings, ask)?, names));
    }
    let (messages, tools) = (names.in_messages(ask.messages), names.in_tools(ask.tools));
    let ask = Ask { messages: &messages, tools: &tools };
    Ok((W::request(&names.in_settings(settings), &ask)?, names))
}

/// What a model is asked.
#[derive(Debug, Clone, Copy)]
pub struct Ask<'a> {
    /// The conversation.
    pub messages: &'a [Message],
    /// The tools that may be called.
    pub tools: &'a [ToolSpec],
}

/// A request, without the address of the provider and without a key.
#[derive(Debug, Clone, PartialEq)]
pub struct WireRequest {
    /// What follows the provider's base address, without a leading slash; may have a query.
    pub path: String,
    /// Headers that the wire itself wants, names in lower case.
    pub headers: Vec<(&'static str, String)>,
    /// The body.
    pub body: Value,
    /// What of the settings is not sent as it stands.
    pub notes: Vec<Note>,
}

/// A setting that is not sent as it stands, because the provider would refuse the request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// The setting, as the agent file names it.
    pub setting: &'static str,
    /// What is done, as a lowercase fragment that follows the name: `is left out: …`.
    pub change: String,
}

impl Note {
    /// A setting that is not sent, and why.
    pub(crate) fn left_out(setting: &'static str, why: &str) -> Self {
        Self { setting, change: format!("is left out: {why}") }
    }

    /// A setting that is sent with another value, and why.
    pub(crate) fn sent_as(setting: &'static str, value: impl Display, why: &str) -> Self {
        Self { setting, change: format!("is sent as `{value}`: {why}") }
    }
}

/// Why no request can be built.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RequestError {
    /// Settings that contradict each other.
    #[error("`{setting}` {why}")]
    Setting {
        /// The setting, as the agent file names it.
        setting: &'static str,
        /// Why, as a fragment that follows the name.
        why: String,
    },
    /// Nothing is asked: no message has anything for the model to answer.
    #[error("the conversation has no message that a model could answer")]
    NothingAsked,
}

#[cfg(test)]
mod tests;
