//! `run_skill`: a skill that runs in a conversation of its own, as an agent with the skill's text as its prompt.

use std::collections::BTreeMap;

use async_trait::async_trait;
use legwork_common::team::Agent;
use legwork_common::team::AgentKind;
use legwork_common::team::ModelSettings;
use legwork_common::team::Toolset;
use legwork_common::team::ToolsetKind;
use serde::Deserialize;
use serde_json::Value;

use crate::hooks;
use crate::tool::InnerRun;
use crate::tool::Tool;
use crate::tool::ToolContext;
use crate::tool::ToolOutcome;
use crate::tool::ToolSpec;
use crate::toolset::schema;
use crate::toolset::schema::Schema;

/// What a skill needs beyond its name.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Fork {
    pub(super) text: String,
    /// Empty for those of the agent.
    pub(super) models: Vec<ModelSettings>,
    /// Globs of the agent's tools that it gets; empty for all.
    pub(super) allowed_tools: Vec<String>,
    pub(super) more_toolsets: Vec<Toolset>,
}

impl Fork {
    /// Of a skill of the agent file; `None` for one that is read.
    pub(super) fn of(skill: &legwork_common::team::Skill) -> Option<Self> {
        skill.fork.then(|| Self {
            text: skill.instructions.clone(),
            models: skill.models.clone(),
            allowed_tools: skill.allowed_tools.clone(),
            more_toolsets: skill.more_toolsets.clone(),
        })
    }

    /// The agent that runs the skill: the one that called it, with the skill's text and tools. It dispatches nothing and
    /// hands nothing over, so that its call ends when it does.
    fn agent(&self, name: &str, caller: &Agent) -> Agent {
        let mut toolsets: Vec<Toolset> = caller
            .toolsets
            .iter()
            .filter(|toolset| !matches!(toolset.kind, ToolsetKind::BackgroundAgents))
            .map(|toolset| Toolset { left: self.allowed_tools.clone(), ..toolset.clone() })
            .collect();
        toolsets.extend(self.more_toolsets.iter().cloned());
        let kind = match self.models.as_slice() {
            [] => caller.kind.clone(),
            models => AgentKind::Models(models.to_vec()),
        };
        let mut hooks = caller.hooks.clone();
        hooks.remove(hooks::USER_PROMPT_SUBMIT);
        Agent {
            name: format!("{}/{name}", caller.name),
            instruction: self.text.clone(),
            kind,
            toolsets,
            hooks,
            sub_agents: Vec::new(),
            handoffs: Vec::new(),
            force_handoff: None,
            commands: BTreeMap::new(),
            cache: None,
            skills: None,
            structured_output: None,
            ..caller.clone()
        }
    }
}

/// The tool.
#[derive(Debug)]
pub(super) struct RunSkill {
    spec: ToolSpec,
    caller: Agent,
    skills: Vec<(String, Fork)>,
}

#[derive(Deserialize)]
struct Arguments {
    name: String,
    task: String,
}

impl RunSkill {
    pub(super) fn new(caller: &Agent, skills: Vec<(String, Fork)>) -> Self {
        let schema = Schema::new().required("name", schema::string(), "The name of the skill").required(
            "task",
            schema::string(),
            "What it is to do, with everything that it needs to know: it does not see this conversation",
        );
        let about = "Run a skill in a conversation of its own and get its answer";
        Self { spec: schema::writing("run_skill", about, schema), caller: caller.clone(), skills }
    }

    fn run_of(&self, arguments: Value) -> Result<InnerRun, ToolOutcome> {
        let Arguments { name, task } = schema::parse(&self.spec, arguments)?;
        if task.trim().is_empty() {
            return Err(ToolOutcome::error("task must not be empty"));
        }
        let found = self.skills.iter().find(|(known, _)| *known == name);
        let Some((_, fork)) = found else {
            let names: Vec<&str> = self.skills.iter().map(|(name, _)| name.as_str()).collect();
            let message = format!(
                "no skill `{name}` runs in a conversation of its own. These do: {}",
                names.join(", ")
            );
            return Err(ToolOutcome::error(message));
        };
        Ok(InnerRun { agent: fork.agent(&name, &self.caller), prompt: task })
    }
}

#[async_trait]
impl Tool for RunSkill {
    fn spec(&self) -> &ToolSpec {
        &self.spec
    }

    fn inner_run(&self, arguments: &Value) -> Option<Result<InnerRun, ToolOutcome>> {
        Some(self.run_of(arguments.clone()))
    }

    async fn call(&self, _arguments: Value, _context: &ToolContext) -> ToolOutcome {
        ToolOutcome::error("run_skill is carried out by the run of the agent")
    }
}
