//! The port of a tool: what the loop needs to know to offer it to a model and to call it.

use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;
use legwork_common::id::JobId;
use legwork_common::job::Usage;
use legwork_common::service::CallIndex;
use legwork_common::team::Agent;
use legwork_common::team::SafetyMode;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::image::Image;
use crate::person::Person;

/// A tool's description for the model, and its properties for the loop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToolSpec {
    /// The name, unique among the agent's tools.
    pub name: String,
    /// What it does, for the model.
    pub description: String,
    /// The JSON schema of its arguments.
    pub parameters: Value,
    /// Whether it changes nothing outside the run.
    pub read_only: bool,
    /// What a new attempt does with a call that a crash interrupted.
    pub interrupted: Interrupted,
}

/// What happens to a call that has no recorded result because an attempt ended during it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interrupted {
    /// It runs again: it is read-only, or idempotent by its place in the run.
    RunAgain,
    /// It is not repeated; its result states that the outcome is unknown.
    Report,
}

/// What a tool gets in addition to its arguments.
#[derive(Debug, Clone)]
pub struct ToolContext {
    /// The place of the call in the run. It is the same after a crash, so it serves as an idempotency key.
    pub call: CallIndex,
    /// The safety mode of the run, which jobs that the call dispatches inherit.
    pub safety: Option<SafetyMode>,
    /// Who answers questions; `None` where no one does.
    pub person: Option<Arc<dyn Person>>,
    /// Cancelled when the run is: the tool returns early, and its outcome is not recorded.
    pub cancel: CancellationToken,
}

/// The outcome of a tool call.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ToolOutcome {
    /// The text of the result, as the model reads it. Where an image belongs it has a sentence.
    pub text: String,
    /// The images of the result, in the order of their sentences in the text.
    pub images: Vec<Image>,
    /// Whether the call failed; the text is the error then.
    pub is_error: bool,
    /// Jobs whose end the text shows: they are not announced again.
    pub ended: Vec<JobId>,
    /// What model calls of a run within the run used.
    pub used: Usage,
}

impl ToolOutcome {
    /// A result of a call that succeeded.
    pub fn ok(text: impl Into<String>) -> Self {
        Self { text: text.into(), ..Self::default() }
    }

    /// An error result. The run continues, and the model decides what to do about it.
    pub fn error(text: impl Into<String>) -> Self {
        Self { text: text.into(), is_error: true, ..Self::default() }
    }
}

/// A run within a run: an agent that is not in the team, with its prompt. Its last message is the result of the call.
#[derive(Debug, Clone)]
pub struct InnerRun {
    /// The agent.
    pub agent: Agent,
    /// The prompt.
    pub prompt: String,
}

/// One tool of an agent. The calls of one reply run concurrently, also of the same tool.
#[async_trait]
pub trait Tool: Debug + Send + Sync {
    /// The tool's description. It does not change during the life of the tool.
    fn spec(&self) -> &ToolSpec;

    /// The name at the tool's origin, such as an MCP server; an allow list may name the tool by it too.
    fn own_name(&self) -> &str {
        &self.spec().name
    }

    /// Makes the call. `arguments` is a JSON object without nulls.
    ///
    /// The loop drops the future when the run is cancelled; a tool that starts processes ends them
    /// then too.
    async fn call(&self, arguments: Value, context: &ToolContext) -> ToolOutcome;

    /// The run that a call is carried out by, in place of [`call`](Self::call); `None` for almost every tool.
    ///
    /// # Errors
    ///
    /// The outcome where the arguments name no run.
    fn inner_run(&self, _arguments: &Value) -> Option<Result<InnerRun, ToolOutcome>> {
        None
    }

    /// Whether the tool, called without arguments, lists the background work that it started. The list stands under a
    /// summary of the conversation, which may have lost the ids.
    fn is_overview(&self) -> bool {
        false
    }

    /// Replays a finished call of an earlier attempt, for tools that keep a state of their own (`think`, the todo
    /// list). Called before the first call of this attempt.
    fn replay(&self, _arguments: &Value) {}
}

/// An argument as text: a string without its quotes, any other value as JSON.
pub(crate) fn text_of(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
