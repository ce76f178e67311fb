//! The port of a model: one request in, one streamed reply out.

mod deltas;
pub mod provider;
pub(crate) mod retry;
pub(crate) mod routing;
pub mod scripted;
pub(crate) mod verdict;

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use legwork_common::team::ModelSettings;
pub use legwork_models::reply::ReplyEnd;
use serde_json::Value;
use thiserror::Error;

pub use self::deltas::Deltas;
use crate::message::AssistantMessage;
use crate::message::Message;
use crate::tool::ToolSpec;

/// One request to a model, in the same form for all providers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelRequest {
    /// The agent that makes the request, for error messages and scripts.
    pub agent: String,
    /// The turn that the reply begins, counted from 1 over all attempts.
    pub turn: u32,
    /// The conversation, system messages first.
    pub messages: Vec<Arc<Message>>,
    /// The tools that the model may call.
    pub tools: Vec<ToolSpec>,
    /// The JSON schema of the reply, as `structured_output` of the agent file has it; `None` for free text.
    pub form: Option<Value>,
    /// What the reply is used for.
    pub purpose: Purpose,
    /// Whether a pause of the provider is waited for. If not, another model can be asked, and the call fails as rate-limited
    /// while the provider is paused.
    pub waits_for_pauses: bool,
}

/// What a reply is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// It begins the turn, and its text is output.
    Turn,
    /// It replaces a part of the conversation so far. It is not a turn, and its text is not output.
    Summary,
    /// It is the answer of a hook. It is not a turn, and its text is not output.
    Hook,
}

/// A piece of a reply as it arrives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delta {
    /// The next piece of visible text.
    Text(String),
    /// The next piece of reasoning.
    Reasoning(String),
    /// The call waits before it begins, such as for a rate limit: for what, as a phrase; `None` when the wait is
    /// over.
    Waiting(Option<String>),
}

/// Why a model gave no reply.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ModelError {
    /// The provider's API key is not in the environment.
    #[error("agent `{agent}` needs the environment variable {variable} for {model}, and it is not set")]
    MissingKey {
        /// The agent that needs it.
        agent: String,
        /// The variable that would hold the key.
        variable: String,
        /// The model, as `provider/model`.
        model: String,
    },
    /// The provider limits the rate of requests.
    #[error("{model} limits the rate: {detail}")]
    RateLimited {
        /// The model, as `provider/model`.
        model: String,
        /// How long the provider asks to wait, where it does.
        retry_after: Option<Duration>,
        /// The provider's own message.
        detail: String,
    },
    /// A transient error of the provider or of the network; it may succeed when it is retried.
    #[error("{model} did not answer: {detail}")]
    Transient {
        /// The model, as `provider/model`.
        model: String,
        /// The provider's message, or that of the network.
        detail: String,
    },
    /// The provider has too many requests from all its users. That lasts tens of seconds.
    #[error("{model} is overloaded: {detail}")]
    Overloaded {
        /// The model, as `provider/model`.
        model: String,
        /// How long the provider asks to wait, where it does.
        retry_after: Option<Duration>,
        /// The provider's own message.
        detail: String,
    },
    /// The provider refused the request and would refuse it again.
    #[error("{model} refused: {detail}")]
    Refused {
        /// The model, as `provider/model`.
        model: String,
        /// The provider's message, or that of the network.
        detail: String,
    },
    /// The conversation does not fit into the model's context window.
    #[error("the conversation is too long for {model}: {detail}")]
    WindowFull {
        /// The model, as `provider/model`.
        model: String,
        /// The provider's message.
        detail: String,
    },
    /// The reply has neither text nor a call. Models rarely do that twice.
    #[error("{model}: {detail}")]
    Empty {
        /// The model, as `provider/model`.
        model: String,
        /// Whether there was anything else in it.
        detail: String,
    },
    /// The model replied, but with nothing that a turn can be made of, and would do so again.
    #[error("{model}: {detail}")]
    Unusable {
        /// The model, as `provider/model`.
        model: String,
        /// How the reply ended, with the model's or the provider's words.
        detail: String,
    },
}

impl ModelError {
    /// What kind of error it is, in one word.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::MissingKey { .. } => "missing_key",
            Self::RateLimited { .. } => "rate_limited",
            Self::Transient { .. } => "transient",
            Self::Overloaded { .. } => "overloaded",
            Self::Refused { .. } => "refused",
            Self::WindowFull { .. } => "window_full",
            Self::Empty { .. } => "empty",
            Self::Unusable { .. } => "unusable",
        }
    }
}

/// A reply that arrived, and how it ended. The caller decides each end: only the first two are a success.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelReply {
    /// The reply, as much of it as came. It has calls only where the reply ends in [`ReplyEnd::WantsTools`].
    pub message: AssistantMessage,
    /// How it ended.
    pub end: ReplyEnd,
}

impl ModelReply {
    /// A reply that ended well, as scripts make it.
    #[must_use]
    pub fn complete(message: AssistantMessage) -> Self {
        let end = if message.tool_calls.is_empty() { ReplyEnd::Finished } else { ReplyEnd::WantsTools };
        Self { message, end }
    }
}

/// One call of a model.
#[derive(Debug)]
pub struct ModelCall<'a> {
    /// The model, where it is, and how it is asked.
    pub settings: &'a ModelSettings,
    /// What it is asked.
    pub request: &'a ModelRequest,
    /// Gets each delta as it arrives; full, it slows the stream down.
    pub deltas: &'a Deltas,
}

/// Calls models; an implementation serves all providers.
#[async_trait]
pub trait ModelPort: Debug + Send + Sync {
    /// What a provider's refusal of a call (429) holds for: models that are at one address, asked for with one key and of one
    /// name have the same. No secret can be read from it.
    fn account(&self, settings: &ModelSettings) -> String {
        settings.reference()
    }

    /// Makes one request, and returns the reply with its end.
    ///
    /// Dropping the future ends the request.
    ///
    /// # Errors
    ///
    /// [`ModelError`]; nothing is retried here.
    async fn stream(&self, call: ModelCall<'_>) -> Result<ModelReply, ModelError>;
}
