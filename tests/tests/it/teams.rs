//! The agent files and scripts that several tests use.

use legwork_common::variables;
use legwork_tests::programs::StateFolder;
use serde_json::Value;
use serde_json::json;

/// A team whose agents follow a script.
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
    description: Lets another one work.
    instruction: Delegate.
    sub_agents: [nested, quick, shell]
    toolsets: [{type: background_agents}]
";

/// A state with the team and this script (the value of its `agents`).
pub(crate) struct Team {
    pub(crate) file: String,
}

impl Team {
    /// Writes both into the state and makes every program use the script.
    pub(crate) fn in_house(state: &mut StateFolder, agents: &Value) -> Self {
        let file = state.file("team.yaml", TEAM);
        let script = state.file("script.json", json!({"agents": agents}).to_string());
        state.set(variables::SCRIPT, &script);
        Self { file }
    }
}

/// A reply that calls one tool.
pub(crate) fn calls(tool: &str, arguments: &Value) -> Value {
    json!({"text": format!("I call {tool}."), "tool_calls": [{"name": tool, "arguments": arguments}]})
}
