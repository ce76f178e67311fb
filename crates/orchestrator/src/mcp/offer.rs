//! What a host is told: the agents that may be dispatched, the tools, and how to use them.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use legwork_agent::tool::ToolSpec;
use legwork_agent::toolset::background_tools;
use legwork_common::duration;
use legwork_common::team::Team;
use rmcp::model::JsonObject;
use rmcp::model::Tool;
use rmcp::model::ToolAnnotations;
use serde_json::Value;
use serde_json::json;

use crate::failure::Failure;
use crate::local_worker::known_agent;
use crate::mcp::structured;

/// The names of the tools, as the contract has them.
pub mod name {
    /// Dispatches.
    pub const RUN: &str = "run_background_agent";
    /// Lists.
    pub const LIST: &str = "list_background_agents";
    /// Shows one.
    pub const VIEW: &str = "view_background_agent";
    /// Stops a tree.
    pub const STOP: &str = "stop_background_agent";
    /// Waits.
    pub const WAIT: &str = "wait_background_agents";
    /// Sends a message.
    pub const SEND: &str = "send_background_agent";
}

/// What a host is told. The same for every connection.
#[derive(Debug)]
pub struct Offer {
    /// The agents that may be dispatched.
    pub agents: Vec<String>,
    /// The tools.
    pub tools: Vec<Tool>,
    /// How a model best uses them.
    pub instructions: String,
}

impl Offer {
    /// Offers these agents of the team, by tools that answer within `longest`.
    pub fn new(team: &Team, agents: Vec<String>, longest: Duration) -> Self {
        let roster = roster(team, &agents);
        let tools = background_tools().into_iter().map(|spec| tool(spec, &roster, longest)).collect();
        let instructions = instructions(&roster, longest);
        Self { agents, tools, instructions }
    }
}

/// The agents that are offered: those that were named, else the sub-agents of the file's first agent, else all others,
/// else that one.
///
/// # Errors
///
/// [`Failure`] that names an agent that the file does not have.
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

/// A line for each agent: its name and what it is for.
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

/// The server's own words to a model.
fn instructions(roster: &str, longest: Duration) -> String {
    let longest = duration::short(longest);
    format!(
        "Agents that work in the background, on workers of their own. Dispatch, go on, wait; never poll.\n\n\
         1. run_background_agent starts an agent on a task and returns its task id at once. Start all independent \
         tasks before you wait for any. An agent sees only the task that you write, nothing of your conversation.\n\
         2. Go on with your own work.\n\
         3. wait_background_agents blocks until the tasks have ended and brings their results. It answers within \
         {longest} in any case; tasks that still run, run on: call it again with their ids. Do not call \
         list_background_agents or view_background_agent in a loop.\n\n\
         A task lives until it ends or you stop it, whatever happens to this connection. A failed or stopped task \
         shows what it got done. send_background_agent gives a running task a message.\n\n\
         The agents:{roster}"
    )
}

/// A tool of the contract as the protocol describes tools, with what this face adds.
fn tool(spec: ToolSpec, roster: &str, longest: Duration) -> Tool {
    let mut parameters = spec.parameters;
    for (property, shape) in additions(&spec.name) {
        parameters["properties"][property] = shape;
    }
    let description = match spec.name.as_str() {
        name::RUN => format!("{} The agents:{roster}", spec.description),
        name::WAIT => format!("{} This call answers within {}.", spec.description, duration::short(longest)),
        _ => spec.description,
    };
    let mut tool = Tool::new(spec.name.clone(), description, object(parameters));
    tool.output_schema = Some(object(structured::schema(&spec.name)));
    tool.annotations = Some(annotations(&spec.name, spec.read_only));
    tool
}

/// Parameters that the contract leaves to a face.
fn additions(tool: &str) -> Vec<(&'static str, Value)> {
    match tool {
        name::RUN => vec![(
            "key",
            json!({
                "type": ["string", "null"],
                "description": "A word of yours for this request: repeated with the same key, it finds the task that \
                                it started the first time instead of starting another",
            }),
        )],
        name::VIEW => vec![(
            "wait_ms",
            json!({
                "type": ["integer", "null"],
                "minimum": 0,
                "description": "Milliseconds to wait at most for more output, or for the task's end",
            }),
        )],
        _ => Vec::new(),
    }
}

/// What a host may think of a tool before it asks its user.
fn annotations(tool: &str, read_only: bool) -> ToolAnnotations {
    let title = match tool {
        name::RUN => "Run a background agent",
        name::LIST => "List background agents",
        name::VIEW => "View a background agent",
        name::STOP => "Stop a background agent",
        name::WAIT => "Wait for background agents",
        _ => "Send a background agent a message",
    };
    // What an agent may do is for its file to say; a host cannot know, so it is told the worst.
    let works = tool == name::RUN;
    let destructive = (!read_only).then_some(works || tool == name::STOP);
    let idempotent = (!read_only).then_some(tool == name::STOP);
    ToolAnnotations::from_raw(Some(title.to_owned()), Some(read_only), destructive, idempotent, Some(works))
}

/// A schema as the map that the protocol wants.
fn object(schema: Value) -> Arc<JsonObject> {
    Arc::new(schema.as_object().cloned().unwrap_or_default())
}

#[cfg(test)]
mod tests;
