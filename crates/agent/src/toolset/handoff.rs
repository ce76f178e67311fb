//! `handoff`: another agent of the team goes on with the conversation.
//!
//! The tool says yes or no. What follows from a yes is decided from the recorded turns, by [`crate::floor`].

use async_trait::async_trait;
use legwork_common::team::Agent;
use legwork_common::team::Team;
use serde::Deserialize;
use serde_json::Value;
use serde_json::json;

use super::schema;
use super::schema::Schema;
use crate::active_agent;
use crate::tool::Tool;
use crate::tool::ToolContext;
use crate::tool::ToolOutcome;
use crate::tool::ToolSpec;

/// The tool.
#[derive(Debug)]
pub(crate) struct Handoff {
    spec: ToolSpec,
    caller: String,
    handoffs: Vec<String>,
    /// Those of them that are programs.
    programs: Vec<String>,
}

#[derive(Deserialize)]
struct Arguments {
    agent: String,
}

impl Handoff {
    /// The tool of an agent that has handoffs.
    pub(crate) fn new(team: &Team, agent: &Agent) -> Self {
        let schema = Schema::new().required("agent", json!({"type": "string"}), "The name of the agent");
        let spec = schema::reading(
            active_agent::HANDOFF,
            "Hand this conversation over to another agent, which goes on with it in your place. It sees everything \
             that was said here.",
            schema,
        );
        let programs =
            agent.handoffs.iter().filter(|name| !active_agent::takes(team, name)).cloned().collect();
        Self { spec, caller: agent.name.clone(), handoffs: agent.handoffs.clone(), programs }
    }

    fn refusal(&self, target: &str) -> Option<String> {
        let caller = &self.caller;
        if !self.handoffs.iter().any(|name| name == target) {
            return Some(format!(
                "Agent {caller} cannot hand off to {target}: target agent not in handoffs list. Available agent IDs are: {}",
                self.handoffs.join(", ")
            ));
        }
        self.programs.iter().any(|name| name == target).then(|| {
            format!("Agent {caller} cannot hand off to {target}: it is a program, which cannot take over a conversation.")
        })
    }
}

#[async_trait]
impl Tool for Handoff {
    fn spec(&self) -> &ToolSpec {
        &self.spec
    }

    async fn call(&self, arguments: Value, _context: &ToolContext) -> ToolOutcome {
        let Arguments { agent } = match schema::read(&self.spec, arguments) {
            Ok(arguments) => arguments,
            Err(outcome) => return outcome,
        };
        match self.refusal(&agent) {
            Some(refusal) => ToolOutcome::error(refusal),
            None => ToolOutcome::ok(format!(
                "The agent {} handed the conversation over to you, {agent}. Read it to see what was done and what is \
                 left. Use only the tools that you have now, and hand off only to the agents that your own system \
                 messages name: those of agents before you are not yours. Do your part, then hand off to the agent \
                 that should go on, or answer the user where nothing is left.",
                self.caller
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::testing;

    #[tokio::test]
    async fn yes_and_no() {
        let program =
            json!({"runner": {"command": {"program": "x", "args": [], "env": {}, "working_dir": null}}});
        let team = testing::team(&[
            ("a", &[], json!({"handoffs": ["b", "p"]})),
            ("b", &[], json!({})),
            ("p", &[], program),
        ]);
        let tool: Arc<dyn Tool> = Arc::new(Handoff::new(&team, team.agent("a").unwrap()));
        let yes = testing::call(&tool, json!({"agent": "b"})).await;
        assert!(!yes.is_error && yes.text.starts_with("The agent a handed the conversation over to you, b."));
        let expected =
            "Agent a cannot hand off to c: target agent not in handoffs list. Available agent IDs are: b, p";
        assert_eq!(testing::call(&tool, json!({"agent": "c"})).await, ToolOutcome::error(expected));
        let program = testing::call(&tool, json!({"agent": "p"})).await;
        assert!(program.is_error && program.text.contains("it is a program"), "{program:?}");
    }
}
