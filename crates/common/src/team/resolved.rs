//! The team: all agents of a file, with every reference checked.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fmt::Write;
use std::time::Duration;

use serde::Deserialize;
use serde::Serialize;
use sha2::Digest;
use sha2::Sha256;

use super::agent::Agent;
use super::agent::AgentKind;
use super::agent::SafetyMode;
use super::model::ModelSettings;
use crate::job::TeamDigest;
use crate::stored;

/// The metadata of an agent file. It is kept with the team and has no other effect.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Metadata {
    /// The author.
    pub author: String,
    /// The licence.
    pub license: String,
    /// A short description.
    pub description: String,
    /// A longer description.
    pub readme: String,
    /// The version of the file itself, as the author counts it.
    pub version: String,
    /// Words to find it by.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
}

/// What the agents of a session may use together: one pot for each limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Budget {
    /// The input and output tokens of all model calls; 0 for no limit.
    pub max_tokens: u64,
    /// The cost of all model calls in US dollars, for models whose `cost` the file has; `None` for no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_cost: Option<f64>,
    /// The time of all turns; `None` for no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_time: Option<Duration>,
}

/// The permissions of tool calls: lists of patterns `tool` or `tool:arg=glob`. `deny` wins over `allow`, and
/// `allow` over `ask`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Permissions {
    /// Calls that run without confirmation.
    pub allow: Vec<String>,
    /// Calls that need a confirmation by the user, even of read-only tools.
    pub ask: Vec<String>,
    /// Calls that are rejected.
    pub deny: Vec<String>,
}

/// A validated team. It has at least one agent, the names of its agents are unique, every sub-agent and every
/// handoff is an agent of the team, and no list of models is empty. Deserialization checks all of this again,
/// so a worker can rely on it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Parts")]
pub struct Team {
    agents: Vec<Agent>,
    models: BTreeMap<String, Vec<ModelSettings>>,
    permissions: Permissions,
    metadata: Metadata,
    rag: BTreeMap<String, serde_json::Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    safety: Option<SafetyMode>,
    #[serde(skip_serializing_if = "Option::is_none")]
    budget: Option<Budget>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    budgets: BTreeMap<String, Budget>,
}

/// The fields of a team before validation.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Parts {
    pub(super) agents: Vec<Agent>,
    #[serde(default)]
    pub(super) models: BTreeMap<String, Vec<ModelSettings>>,
    #[serde(default)]
    pub(super) permissions: Permissions,
    #[serde(default)]
    pub(super) metadata: Metadata,
    #[serde(default)]
    pub(super) rag: BTreeMap<String, serde_json::Value>,
    #[serde(default)]
    pub(super) safety: Option<SafetyMode>,
    #[serde(default)]
    pub(super) budget: Option<Budget>,
    #[serde(default)]
    pub(super) budgets: BTreeMap<String, Budget>,
}

/// Why a team is invalid. Errors of an agent file are reported as [`TeamErrors`](super::TeamErrors) with
/// their positions; this one is for stored teams.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTeam {
    /// The team has no agents.
    #[error("the team has no agents")]
    NoAgents,
    /// Two agents have the same name.
    #[error("two agents are named '{0}'")]
    DuplicateName(String),
    /// An agent refers to an agent that does not exist.
    #[error("agent '{agent}' references non-existent {role} '{name}'")]
    UnknownAgent {
        /// The referring agent.
        agent: String,
        /// The kind of reference: `sub-agent` or `handoff agent`.
        role: &'static str,
        /// The missing agent.
        name: String,
    },
    /// The agent's list of models is empty.
    #[error("agent '{0}' has no model")]
    NoModel(String),
}

impl TryFrom<Parts> for Team {
    type Error = InvalidTeam;

    fn try_from(parts: Parts) -> Result<Self, InvalidTeam> {
        if parts.agents.is_empty() {
            return Err(InvalidTeam::NoAgents);
        }
        let mut names = BTreeSet::new();
        for agent in &parts.agents {
            if !names.insert(agent.name.as_str()) {
                return Err(InvalidTeam::DuplicateName(agent.name.clone()));
            }
        }
        for agent in &parts.agents {
            check_agent(agent, &names)?;
        }
        let Parts { agents, models, permissions, metadata, rag, safety, budget, budgets } = parts;
        Ok(Self { agents, models, permissions, metadata, rag, safety, budget, budgets })
    }
}

/// Checks that an agent has a model or a command, and refers to agents of the team only.
fn check_agent(agent: &Agent, names: &BTreeSet<&str>) -> Result<(), InvalidTeam> {
    if matches!(&agent.kind, AgentKind::Models(models) if models.is_empty()) {
        return Err(InvalidTeam::NoModel(agent.name.clone()));
    }
    for (role, others) in [("sub-agent", &agent.sub_agents), ("handoff agent", &agent.handoffs)] {
        if let Some(name) = others.iter().find(|name| !names.contains(name.as_str())) {
            let (agent, name) = (agent.name.clone(), name.clone());
            return Err(InvalidTeam::UnknownAgent { agent, role, name });
        }
    }
    Ok(())
}

impl Team {
    /// The agents, in the order of the file; at least one.
    #[must_use]
    pub fn agents(&self) -> &[Agent] {
        &self.agents
    }

    /// The agent with this name.
    #[must_use]
    pub fn agent(&self, name: &str) -> Option<&Agent> {
        self.agents.iter().find(|agent| agent.name == name)
    }

    /// The agent that a session starts with: the one named `root`, or else the first.
    #[must_use]
    pub fn default_agent(&self) -> &Agent {
        self.agent("root").unwrap_or(&self.agents[0])
    }

    /// The same team with one more agent, which takes the place of one with its name.
    #[must_use]
    pub fn with_agent(&self, agent: Agent) -> Self {
        let mut team = self.clone();
        team.agents.retain(|other| other.name != agent.name);
        team.agents.push(agent);
        team
    }

    /// The named models of the file. Where a name lists several models, one is chosen at random for each turn.
    #[must_use]
    pub fn models(&self) -> &BTreeMap<String, Vec<ModelSettings>> {
        &self.models
    }

    /// The permissions of tool calls.
    #[must_use]
    pub fn permissions(&self) -> &Permissions {
        &self.permissions
    }

    /// The metadata of the file.
    #[must_use]
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// The `rag` section of the file, unchanged. It has no effect yet.
    #[must_use]
    pub fn rag(&self) -> &BTreeMap<String, serde_json::Value> {
        &self.rag
    }

    /// The safety mode of a session whose first agent has none: `runtime.safety`.
    #[must_use]
    pub fn safety(&self) -> Option<SafetyMode> {
        self.safety
    }

    /// The budget of a session; `None` for no limit.
    #[must_use]
    pub fn budget(&self) -> Option<Budget> {
        self.budget
    }

    /// The token budget of a session; `None` for no limit.
    #[must_use]
    pub fn token_budget(&self) -> Option<u64> {
        self.budget.map(|budget| budget.max_tokens).filter(|tokens| *tokens > 0)
    }

    /// The budgets that agents name, by name.
    #[must_use]
    pub fn budgets(&self) -> &BTreeMap<String, Budget> {
        &self.budgets
    }

    /// The canonical JSON of the team: equal teams have equal texts, however their files are formatted. Teams
    /// are stored in this form.
    ///
    /// # Errors
    ///
    /// None for a team that was parsed from a file or from JSON.
    pub fn to_json(&self) -> Result<String, serde_json::Error> {
        stored::TEAM.at_version(if self.holds_back() { 2 } else { 1 }).to_json(self)
    }

    /// Whether something in it holds an agent back that releases of the first stored form would leave out.
    fn holds_back(&self) -> bool {
        self.safety.is_some()
            || self.budget.is_some()
            || !self.budgets.is_empty()
            || self.agents.iter().any(Agent::holds_back)
    }

    /// The SHA-256 of [`to_json`](Self::to_json), in hexadecimal.
    ///
    /// # Errors
    ///
    /// Those of [`to_json`](Self::to_json).
    pub fn sha256(&self) -> Result<String, serde_json::Error> {
        Ok(TeamDigest::of(&self.to_json()?).0)
    }

    /// An identifier for files that belong to the team on a machine, such as its memory: eight hexadecimal
    /// digits. It depends only on the names and descriptions of the agents, so that other changes of the file
    /// keep the team's memory.
    pub fn identity(&self) -> String {
        let mut digest = Sha256::new();
        for agent in self.agents() {
            for text in [&agent.name, &agent.description] {
                digest.update(text.len().to_be_bytes());
                digest.update(text);
            }
        }
        hexadecimal(&digest.finalize()[..4])
    }
}

/// Formats bytes as lowercase hexadecimal digits.
fn hexadecimal(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        // Writing to a String cannot fail.
        write!(text, "{byte:02x}").ok();
    }
    text
}
