//! What hosts see: the agents that may be dispatched, the tools, and instructions for using them.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use legwork_agent::tool::ToolSpec;
use legwork_agent::toolset::background_tool_specs;
use legwork_common::duration;
use legwork_common::team::Team;
use rmcp::model::JsonObject;
use rmcp::model::Tool;
use rmcp::model::ToolAnnotations;
use serde_json::Value;
use serde_json::json;

use crate::failure::Failure;
use crate::mcp::structured;
use crate::mcp::tool_name;
use crate::team_checks::known_agent;

/// What hosts see; the same for every connection.
#[derive(Debug)]
pub struct Offer {
    /// The agents that may be dispatched.
    pub agents: Vec<String>,
    /// The tools, with their schemas and annotations.
    pub tools: Vec<Tool>,
    /// The server's instructions to a host's model.
    pub instructions: String,
}

impl Offer {
    /// Offers these agents of the team, through tools that answer within `answer_within`. `returns` is whether a restarted
    /// server returns to its session.
    pub fn new(team: &Team, agents: Vec<String>, answer_within: Duration, returns: bool) -> Self {
        let roster = roster(team, &agents);
        let tools =
            background_tool_specs().into_iter().map(|spec| tool(spec, &roster, answer_within)).collect();
        let instructions = instructions(&roster, answer_within, returns);
        Self { agents, tools, instructions }
    }
}

/// The agents to offer: the `named` ones; else the sub-agents of the file's root; else all agents but the root; else
/// the root, when it is alone.
///
/// # Errors
///
/// [`Failure`] for a name that the file does not have.
pub fn agents(team: &Team, named: &[String]) -> Result<Vec<String>, Failure> {
    if !named.is_empty() {
        return named.iter().map(|name| known_agent(team, name)).collect();
    }
    let root = team.default_agent();
    if !root.sub_agents.is_empty() {
        return Ok(root.sub_agents.clone());
    }
    let others: Vec<String> =
        team.agents().iter().map(|agent| agent.name.clone()).filter(|name| *name != root.name).collect();
    Ok(if others.is_empty() { vec![root.name.clone()] } else { others })
}

/// One line for each agent: its name and the first line of its description.
fn roster(team: &Team, agents: &[String]) -> String {
    let mut text = String::new();
    for name in agents {
        let description = team.agent(name).map(|agent| agent.description.trim()).unwrap_or_default();
        let first_line = description.lines().next().unwrap_or_default();
        let colon = if first_line.is_empty() { "" } else { ": " };
        let _ = write!(text, "\n- {name}{colon}{first_line}");
    }
    text
}

/// The server's instructions to a host's model.
fn instructions(roster: &str, answer_within: Duration, returns: bool) -> String {
    let session = if returns {
        " After a restart of this server in the same folder, list_background_agents still shows the tasks of earlier \
         conversations."
    } else {
        ""
    };
    let answer_within = duration::setting(answer_within);
    format!(
        "Agents that run in the background, on their own workers. Dispatch, keep working, then wait; never poll.\n\n\
         1. run_background_agent starts an agent on a task and returns its task id at once. Start all independent \
         tasks before you wait for any. An agent sees only the task that you write, not your conversation.\n\
         2. Continue with your own work.\n\
         3. wait_background_agents blocks until the tasks have ended and returns their results. It returns within \
         {answer_within} in any case; tasks that have not ended keep running: call it again with their ids. Do not \
         call list_background_agents or view_background_agent in a loop.\n\n\
         A task runs until it ends or you stop it, whatever happens to this connection.{session} A failed or stopped \
         task shows what it got done. send_background_agent sends a message to a running task.\n\n\
         The agents:{roster}"
    )
}

/// A tool of the contract in the protocol's form, with this server's extra parameters, schema and annotations.
fn tool(spec: ToolSpec, roster: &str, answer_within: Duration) -> Tool {
    let mut parameters = spec.parameters;
    for (property, shape) in additions(&spec.name) {
        parameters["properties"][property] = shape;
    }
    let description = match spec.name.as_str() {
        tool_name::RUN => format!("{} The agents:{roster}", spec.description),
        tool_name::WAIT => {
            format!("{} This call returns within {}.", spec.description, duration::setting(answer_within))
        }
        _ => spec.description,
    };
    let mut tool = Tool::new(spec.name.clone(), description, object(parameters));
    tool.output_schema = Some(object(structured::schema(&spec.name)));
    tool.annotations = Some(annotations(&spec.name, spec.read_only));
    tool
}

/// Parameters of this server that the contract does not have.
fn additions(tool: &str) -> Vec<(&'static str, Value)> {
    match tool {
        tool_name::RUN => vec![(
            "key",
            json!({
                "type": ["string", "null"],
                "description": "An idempotency key: a repeated request with the same key returns the task that the \
                                first one started instead of starting another",
            }),
        )],
        tool_name::VIEW => vec![(
            "wait_ms",
            json!({
                "type": ["integer", "null"],
                "minimum": 0,
                "description": "The longest time to wait for more output or for the task's end, in milliseconds",
            }),
        )],
        _ => Vec::new(),
    }
}

/// Hints by which a host decides whether to ask its user before a call.
fn annotations(tool: &str, read_only: bool) -> ToolAnnotations {
    let title = match tool {
        tool_name::RUN => "Run a background agent",
        tool_name::LIST => "List background agents",
        tool_name::VIEW => "View a background agent",
        tool_name::STOP => "Stop a background agent",
        tool_name::WAIT => "Wait for background agents",
        _ => "Send a message to a background agent",
    };
    // An agent's file decides what it may do, and a host cannot read it: assume the worst.
    let runs_agent = tool == tool_name::RUN;
    let destructive = (!read_only).then_some(runs_agent || tool == tool_name::STOP);
    let idempotent = (!read_only).then_some(tool == tool_name::STOP);
    ToolAnnotations::from_raw(
        Some(title.to_owned()),
        Some(read_only),
        destructive,
        idempotent,
        Some(runs_agent),
    )
}

/// A schema in the type that the protocol's library takes.
fn object(schema: Value) -> Arc<JsonObject> {
    Arc::new(schema.as_object().cloned().unwrap_or_default())
}

#[cfg(test)]
mod tests;
