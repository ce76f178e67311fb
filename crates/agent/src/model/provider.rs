//! Models of real providers over HTTP.
//!
//! Requests are built and replies are read by `legwork-models`; here are the address, the key and the connection. Keys
//! come from the given environment, never from the process' own. The program installs a TLS provider for `rustls` before
//! it makes [`ProviderModels`]. Logs never hold what a provider sent.

mod fault;
mod http;
mod library;
mod request;
mod target;
mod wires;

use std::time::Duration;

use async_trait::async_trait;
use legwork_common::job::Usage;
use legwork_common::team::Api;
use legwork_common::team::ModelSettings;
use legwork_models::text_calls;
use legwork_models::wire::Ask;
use reqwest::Client;
use reqwest::RequestBuilder;
use reqwest::header::HeaderValue;
use reqwest::redirect::Policy;
use thiserror::Error;
use tokio::sync::mpsc;

use self::http::Exchange;
use self::http::Timeouts;
use self::library::LibraryModels;
use self::target::Target;
use self::wires::Prepared;
use self::wires::WireKind;
use super::Delta;
use super::ModelError;
use super::ModelPort;
use super::ModelReply;
use super::ModelRequest;
use crate::environment::Environment;
use crate::message::AssistantMessage;

/// How long a connection may take, TLS included. Slower than that, a provider is as good as down.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
/// What the client calls itself.
const USER_AGENT: &str = concat!("legwork/", env!("CARGO_PKG_VERSION"));

/// The HTTP client could not be made.
#[derive(Debug, Error)]
pub enum ClientError {
    /// The client of the wires.
    #[error("no HTTP client for the model providers")]
    Http(#[source] reqwest::Error),
    /// The client of Bedrock.
    #[error("no HTTP client for Bedrock")]
    Library(#[source] genai::Error),
}

/// Models of real providers. One for a process: it keeps connections.
#[derive(Debug, Clone)]
pub struct ProviderModels {
    client: Client,
    library: LibraryModels,
    timeouts: Timeouts,
    environment: Environment,
}

impl ProviderModels {
    /// Models whose keys and base URLs are looked up in `environment`.
    ///
    /// # Errors
    ///
    /// [`ClientError`] where the system has no usable network configuration.
    pub fn new(environment: Environment) -> Result<Self, ClientError> {
        let client = Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .redirect(Policy::none())
            .user_agent(USER_AGENT)
            .build()
            .map_err(ClientError::Http)?;
        let library = LibraryModels::new(environment.clone()).map_err(ClientError::Library)?;
        Ok(Self { client, library, timeouts: Timeouts::default(), environment })
    }

    /// The request with its key. The key is marked as secret, so that no log of the client shows it.
    fn request(
        &self,
        settings: &ModelSettings,
        target: &Target,
        prepared: &Prepared,
    ) -> Result<RequestBuilder, ModelError> {
        let (name, key) = &target.key;
        let Ok(mut key) = HeaderValue::from_str(key.trim()) else {
            let detail = "the API key has characters that no HTTP header can hold".to_owned();
            return Err(ModelError::Refused { model: settings.reference(), detail });
        };
        key.set_sensitive(true);
        let mut request = self.client.post(target.url(&prepared.request.path)).header(*name, key);
        for (name, value) in &prepared.request.headers {
            request = request.header(*name, value);
        }
        Ok(request.json(&prepared.request.body))
    }
}

#[async_trait]
impl ModelPort for ProviderModels {
    async fn stream(
        &self,
        settings: &ModelSettings,
        request: &ModelRequest,
        deltas: mpsc::Sender<Delta>,
    ) -> Result<ModelReply, ModelError> {
        if settings.api == Api::AmazonBedrock {
            return self.library.stream(settings, request, deltas).await;
        }
        let target = target::target(settings, &request.agent, &self.environment)?;
        let wire_settings = request::settings(settings, request.form.as_ref());
        let (messages, tools) = (request::messages(&request.messages), request::tools(&request.tools));
        let ask = Ask { messages: &messages, tools: &tools };
        // Distinct from the ids of every other turn of the conversation.
        let id_prefix = format!("call_{}_", request.turn);
        let prepared = target
            .wire
            .prepare(&wire_settings, &ask, &id_prefix)
            .map_err(|error| fault::not_sent(settings, &error))?;
        for note in &prepared.request.notes {
            tracing::debug!(model = %settings.reference(), "`{}` {}", note.setting, note.change);
        }
        let http_request = self.request(settings, &target, &prepared)?;
        let exchange = Exchange { settings, timeouts: self.timeouts, deltas: &deltas };
        let mut reply = exchange.run(&self.client, http_request, prepared.reader).await?;
        // An answer in JSON may look like a call.
        if target.wire == WireKind::OpenaiChat && request.form.is_none() {
            reply = text_calls::recognise(reply, &tools, &id_prefix);
        }
        let mut message = AssistantMessage::from_wire(reply.message);
        if !wire_settings.track_usage {
            // Some providers count it unasked.
            message.usage = Usage { turns: 1, ..Usage::default() };
        }
        Ok(ModelReply { message, end: reply.end })
    }
}

#[cfg(test)]
mod tests;
