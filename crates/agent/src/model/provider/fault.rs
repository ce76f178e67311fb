//! What the failure of a request means for the run. Pure.

use std::error::Error;

use legwork_common::team::ModelSettings;
use legwork_models::error::ErrorKind;
use legwork_models::error::ProviderError;
use legwork_models::wire::RequestError;

use crate::model::ModelError;

/// An error that the provider gave in place of a reply. `status` is not in an error of a stream.
pub(super) fn by_provider(settings: &ModelSettings, error: &ProviderError) -> ModelError {
    let (model, detail, retry_after) = (settings.reference(), error.to_string(), error.retry_after);
    match error.kind {
        ErrorKind::RateLimited => ModelError::RateLimited { model, retry_after, detail },
        ErrorKind::ContextLength => ModelError::WindowFull { model, detail },
        ErrorKind::Overloaded => ModelError::Overloaded { model, retry_after, detail },
        kind if kind.is_retryable() => ModelError::Transient { model, detail },
        _ => ModelError::Refused { model, detail },
    }
}

/// A request that is not sent, because no provider would take it.
pub(super) fn not_sent(settings: &ModelSettings, error: &RequestError) -> ModelError {
    ModelError::Refused { model: settings.reference(), detail: error.to_string() }
}

/// A failure of the network. An address that cannot be used stays so.
pub(super) fn by_network(settings: &ModelSettings, error: reqwest::Error) -> ModelError {
    let (model, detail) = (settings.reference(), network(error));
    if detail.is_permanent {
        return ModelError::Refused { model, detail: detail.words };
    }
    ModelError::Transient { model, detail: detail.words }
}

/// A failure of the network in words.
pub(super) struct Network {
    pub(super) words: String,
    is_permanent: bool,
}

/// The error with its causes. Without the address, which may hold a key.
pub(super) fn network(error: reqwest::Error) -> Network {
    let is_permanent = error.is_builder();
    let error = error.without_url();
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !words.contains(&more) {
            words = format!("{words}: {more}");
        }
        cause = error.source();
    }
    Network { words, is_permanent }
}

/// A response that sends the request to another address. It is not followed: it would take the key there.
pub(super) fn redirected(settings: &ModelSettings, status: u16) -> ModelError {
    let detail = format!("{status}: the address redirects to another one, which must be set as `base_url`");
    ModelError::Refused { model: settings.reference(), detail }
}
