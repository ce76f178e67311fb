//! The agent file that several tests share, and helpers for scripted replies.

use legwork_common::variables;
use legwork_tests::programs::StateFolder;
use serde_json::Value;
use serde_json::json;

/// Agents whose replies come from the script of the test.
pub(crate) const TEAM: &str = "
agents:
  root:
    model: scripted/any
    instruction: Coordinate.
    sub_agents: [quick, shell, nested]
    toolsets: [{type: background_agents}]
  quick:
    model: scripted/any
    description: Answers at once.
    instruction: Answer.
  shell:
    model: scripted/any
    description: Runs a command.
    instruction: Run it.
    toolsets: [{type: shell}]
  nested:
    model: scripted/any
    description: Delegates.
    instruction: Delegate.
    sub_agents: [nested, quick, shell]
    toolsets: [{type: background_agents}]
";

/// The agent file of a test; its script is set for all programs.
pub(crate) struct Team {
    /// Path of the agent file.
    pub(crate) file: String,
}

impl Team {
    /// Writes [`TEAM`] and a script with these `agents` into the folder, and sets the script for programs started later.
    pub(crate) fn write(state: &mut StateFolder, agents: &Value) -> Self {
        let file = state.file("team.yaml", TEAM);
        let script = state.file("script.json", json!({"agents": agents}).to_string());
        state.set(variables::SCRIPT, &script);
        Self { file }
    }
}

/// A scripted reply that calls one tool.
pub(crate) fn calls(tool: &str, arguments: &Value) -> Value {
    json!({"text": format!("I call {tool}."), "tool_calls": [{"name": tool, "arguments": arguments}]})
}
