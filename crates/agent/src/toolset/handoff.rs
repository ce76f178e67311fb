//! `handoff`: another agent of the team takes over the conversation.
//!
//! The tool only accepts or refuses. [`crate::active_agent`] derives from the recorded turns which agent is active.

use async_trait::async_trait;
use legwork_common::team::Agent;
use legwork_common::team::Team;
use serde::Deserialize;
use serde_json::Value;

use super::schema;
use super::schema::Schema;
use crate::active_agent;
use crate::tool::Tool;
use crate::tool::ToolContext;
use crate::tool::ToolOutcome;
use crate::tool::ToolSpec;

/// The tool `handoff` of one agent.
#[derive(Debug)]
pub(crate) struct Handoff {
    spec: ToolSpec,
    caller: String,
    /// The agents that the caller may name.
    handoffs: Vec<String>,
    /// Those of them that run a program instead of a model, and so cannot take over a conversation.
    programs: Vec<String>,
}

#[derive(Deserialize)]
struct Arguments {
    agent: String,
}

impl Handoff {
    /// The tool for `agent`, which has handoffs.
    pub(crate) fn new(team: &Team, agent: &Agent) -> Self {
        let schema = Schema::new().required("agent", schema::string(), "The name of the agent");
        let spec = schema::read_only(
            active_agent::HANDOFF,
            "Hand this conversation over to another agent, which continues it in your place. It sees the whole \
             conversation.",
            schema,
        );
        let programs = agent
            .handoffs
            .iter()
            .filter(|name| !active_agent::accepts_handoff(team, name))
            .cloned()
            .collect();
        Self { spec, caller: agent.name.clone(), handoffs: agent.handoffs.clone(), programs }
    }

    /// Why the caller cannot hand off to `target`, if it cannot.
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

    fn hand_off(&self, target: &str) -> ToolOutcome {
        match self.refusal(target) {
            Some(refusal) => ToolOutcome::error(refusal),
            None => ToolOutcome::ok(format!(
                "The agent {} handed the conversation over to you, {target}. Read it to see what was done and what is \
                 left. Use only the tools that you have now, and hand off only to the agents that your own system \
                 messages name, not to those that earlier agents could name. Do your part, then hand off to the agent \
                 that should continue, or answer the user if nothing is left.",
                self.caller
            )),
        }
    }
}

#[async_trait]
impl Tool for Handoff {
    fn spec(&self) -> &ToolSpec {
        &self.spec
    }

    async fn call(&self, arguments: Value, _context: &ToolContext) -> ToolOutcome {
        match schema::parse(&self.spec, arguments) {
            Ok(Arguments { agent }) => self.hand_off(&agent),
            Err(invalid) => invalid,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;
    use crate::testing;

    #[tokio::test]
    async fn only_agents_of_the_list_that_run_a_model_are_accepted() {
        let program =
            json!({"kind": {"command": {"program": "x", "args": [], "env": {}, "working_dir": null}}});
        let team = testing::team(&[
            ("a", &[], json!({"handoffs": ["b", "p"]})),
            ("b", &[], json!({})),
            ("p", &[], program),
        ]);
        let tool: Arc<dyn Tool> = Arc::new(Handoff::new(&team, team.agent("a").unwrap()));
        let accepted = testing::call(&tool, json!({"agent": "b"})).await;
        assert!(
            !accepted.is_error
                && accepted.text.starts_with("The agent a handed the conversation over to you, b.")
        );
        let expected =
            "Agent a cannot hand off to c: target agent not in handoffs list. Available agent IDs are: b, p";
        assert_eq!(testing::call(&tool, json!({"agent": "c"})).await, ToolOutcome::error(expected));
        let program = testing::call(&tool, json!({"agent": "p"})).await;
        assert!(program.is_error && program.text.contains("it is a program"), "{program:?}");
    }
}
