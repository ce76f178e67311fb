//! Models of real providers over HTTP.
//!
//! Requests are built and replies are read by `legwork-models`; here are the address, the key and the connection. Keys
//! come from the given environment, never from the process' own. The program installs a TLS provider for `rustls` before
//! it makes [`ProviderModels`]. Logs never hold what a provider sent.

mod adapted;
mod fault;
mod http;
mod request;
mod signature;
mod target;
mod wires;

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use legwork_common::job::Usage;
use legwork_common::team::ModelSettings;
use legwork_models::text_calls;
use legwork_models::wire::Ask;
use reqwest::Client;
use reqwest::Request;
use reqwest::header::HeaderValue;
use reqwest::redirect::Policy;
use thiserror::Error;

pub use self::adapted::adapted_settings;

use self::http::Exchange;
use self::http::Timeouts;
use self::target::Access;
use self::target::Target;
use self::wires::Prepared;
use super::ModelCall;
use super::ModelError;
use super::ModelPort;
use super::ModelReply;
use crate::environment::Environment;
use crate::message::AssistantMessage;

/// How long a connection may take, TLS included. Slower than that, a provider is as good as down.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
/// What the client calls itself.
const USER_AGENT: &str = concat!("legwork/", env!("CARGO_PKG_VERSION"));

/// The HTTP client could not be made.
#[derive(Debug, Error)]
#[error("no HTTP client for the model providers")]
pub struct ClientError(#[source] reqwest::Error);

/// Models of real providers. One for a process: it keeps connections.
#[derive(Debug, Clone)]
pub struct ProviderModels {
    client: Client,
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
            .map_err(ClientError)?;
        Ok(Self { client, timeouts: Timeouts::default(), environment })
    }

    /// The request with its key or signature, which are marked as secret, so that no log of the client shows them.
    fn request(
        &self,
        settings: &ModelSettings,
        target: &Target,
        prepared: &Prepared,
    ) -> Result<Request, ModelError> {
        let unusable = |detail: String| ModelError::Refused { model: settings.reference(), detail };
        let mut request = self.client.post(target.url(&prepared.request.path));
        for (name, value) in &prepared.request.headers {
            request = request.header(*name, value);
        }
        let request = request.json(&prepared.request.body);
        let mut request = request.build().map_err(|error| fault::by_network(settings, error))?;
        match &target.access {
            Access::Header(name, key) => {
                let Ok(mut key) = HeaderValue::from_str(key.trim()) else {
                    return Err(unusable(
                        "the API key has characters that no HTTP header can hold".to_owned(),
                    ));
                };
                key.set_sensitive(true);
                request.headers_mut().insert(*name, key);
            }
            Access::Signature(signer) => signer
                .sign(&mut request, Timestamp::now())
                .map_err(|why| unusable(format!("the request cannot be signed: {why}")))?,
        }
        Ok(request)
    }
}

#[async_trait]
impl ModelPort for ProviderModels {
    fn account(&self, settings: &ModelSettings) -> String {
        // The agent only stands in the error.
        match target::target(settings, "", &self.environment) {
            Ok(target) => format!("{}@{}", settings.model, target.digest()),
            Err(_) => settings.reference(),
        }
    }

    async fn stream(&self, call: ModelCall<'_>) -> Result<ModelReply, ModelError> {
        let ModelCall { settings, request, deltas } = call;
        let target = target::target(settings, &request.agent, &self.environment)?;
        let wire_settings = request::settings(settings, request.form.as_ref());
        let tools = request::tools(&request.tools);
        // Distinct from the ids of every other turn of the conversation.
        let id_prefix = format!("call_{}_", request.turn);
        let prepared = {
            // Not held for as long as the model answers.
            let messages = request::messages(&request.messages);
            let ask = Ask { messages: &messages, tools: &tools };
            let prepared = target.wire.prepare(&wire_settings, &ask, &id_prefix);
            prepared.map_err(|error| fault::not_sent(settings, &error))?
        };
        for note in &prepared.request.notes {
            tracing::debug!(model = %settings.reference(), "`{}` {}", note.setting, note.change);
        }
        let http_request = self.request(settings, &target, &prepared)?;
        let exchange = Exchange { settings, timeouts: self.timeouts.with(settings), deltas };
        let mut reply = exchange.run(&self.client, http_request, prepared.reader).await?;
        // Local servers offer other wires too. An answer in JSON may look like a call.
        if request.form.is_none() {
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
