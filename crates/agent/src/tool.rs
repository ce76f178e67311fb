//! The port of a tool.

use std::fmt::Debug;

use async_trait::async_trait;
use legwork_common::id::JobId;
use legwork_common::service::CallIndex;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

/// What a model is told of a tool, and what the loop knows of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToolSpec {
    /// Its name.
    pub name: String,
    /// What it does, in words for the model.
    pub description: String,
    /// The JSON schema of its arguments.
    pub parameters: Value,
    /// Whether it changes nothing outside the run.
    pub read_only: bool,
    /// What a new attempt does with a call that was cut off.
    pub interrupted: Interrupted,
}

/// What happens to a call that was cut off by a crash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interrupted {
    /// It runs again: it changes nothing, or the same call has the same effect.
    RunAgain,
    /// The model is told that its outcome is unknown.
    Report,
}

/// What a tool knows of the call that it serves.
#[derive(Debug, Clone)]
pub struct ToolContext {
    /// Where the call stands in the run: the same after a crash.
    pub call: CallIndex,
    /// Cancelled when the run ends before the tool does.
    pub cancel: CancellationToken,
}

/// What a tool call came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ToolOutcome {
    /// What the model is told.
    pub text: String,
    /// Whether it went wrong.
    pub is_error: bool,
    /// Jobs whose end the text shows.
    pub ended: Vec<JobId>,
}

impl ToolOutcome {
    /// A good result.
    pub fn ok(text: impl Into<String>) -> Self {
        Self { text: text.into(), ..Self::default() }
    }

    /// An error result, which the model reads and may act on.
    pub fn error(text: impl Into<String>) -> Self {
        Self { text: text.into(), is_error: true, ended: Vec::new() }
    }
}

/// One tool of an agent.
#[async_trait]
pub trait Tool: Debug + Send + Sync {
    /// Its description. Constant for the life of the tool.
    fn spec(&self) -> &ToolSpec;

    /// What it is called where it comes from; an allow list may say this too.
    fn own_name(&self) -> &str {
        &self.spec().name
    }

    /// Does it. `arguments` is a JSON object with absent options left out.
    ///
    /// The loop drops the future when the run is cancelled; a tool that starts processes ends them
    /// then too.
    async fn call(&self, arguments: Value, context: &ToolContext) -> ToolOutcome;

    /// Takes in a call of an earlier attempt, for tools that remember calls (a log of thoughts).
    fn replay(&self, _arguments: &Value) {}
}

/// An argument as a text: what is a text already, as it is; all else as JSON.
pub(crate) fn text_of(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
