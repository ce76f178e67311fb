//! The port of a model.

pub mod provider;
pub(crate) mod retry;
pub(crate) mod routing;
pub mod scripted;

use std::fmt::Debug;
use std::time::Duration;

use async_trait::async_trait;
use legwork_common::team::ModelSettings;
use serde_json::Value;
use thiserror::Error;
use tokio::sync::mpsc;

use crate::message::AssistantMessage;
use crate::message::Message;
use crate::tool::ToolSpec;

/// What a model is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelRequest {
    /// The agent that asks, for error messages and scripts.
    pub agent: String,
    /// The turn that the reply begins, counted from 1 over all attempts.
    pub turn: u32,
    /// The conversation.
    pub messages: Vec<Message>,
    /// The tools that may be called.
    pub tools: Vec<ToolSpec>,
    /// The form of the answer, as the agent file has it (`structured_output`); none: free text.
    pub form: Option<Value>,
    /// What the reply is for.
    pub purpose: Purpose,
}

/// What a reply is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// It begins the turn.
    Turn,
    /// It takes the place of the conversation so far, and is no turn.
    Summary,
}

/// A piece of a reply as it arrives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delta {
    /// New visible text: only what was not sent before.
    Text(String),
    /// New reasoning text.
    Reasoning(String),
    /// The call has not begun: why, in words; `None` once it goes on.
    Waits(Option<String>),
}

/// Why a model gave no reply.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ModelError {
    /// The key is not in the environment.
    #[error("agent `{agent}` needs the environment variable {variable} for {model}, and it is not set")]
    MissingKey {
        /// The agent.
        agent: String,
        /// The variable that would hold the key.
        variable: String,
        /// `provider/model`.
        model: String,
    },
    /// The provider asks for patience.
    #[error("{model} limits the rate: {detail}")]
    RateLimited {
        /// `provider/model`.
        model: String,
        /// How long the provider wants to be left alone, where it says so.
        retry_after: Option<Duration>,
        /// Its own words.
        detail: String,
    },
    /// The provider, or the way to it, failed in a way that may pass.
    #[error("{model} did not answer: {detail}")]
    Transient {
        /// `provider/model`.
        model: String,
        /// What happened.
        detail: String,
    },
    /// The provider refused, and would again.
    #[error("{model} refused: {detail}")]
    Refused {
        /// `provider/model`.
        model: String,
        /// What happened.
        detail: String,
    },
}

/// Where replies come from.
#[async_trait]
pub trait ModelPort: Debug + Send + Sync {
    /// Asks once. Sends each piece as it arrives and returns the whole reply.
    ///
    /// Dropping the future ends the request. A closed `deltas` changes nothing.
    ///
    /// # Errors
    ///
    /// [`ModelError`]; nothing is tried again here.
    async fn stream(
        &self,
        settings: &ModelSettings,
        request: &ModelRequest,
        deltas: mpsc::Sender<Delta>,
    ) -> Result<AssistantMessage, ModelError>;
}
