//! The team: every agent of a file, every reference checked.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fmt::Write;

use serde::Deserialize;
use serde::Serialize;
use sha2::Digest;
use sha2::Sha256;

use super::agent::Agent;
use super::agent::AgentKind;
use super::model::ModelSettings;

/// Who made the file, and under which terms.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Metadata {
    /// Who wrote it.
    pub author: String,
    /// Its licence.
    pub license: String,
    /// What it is for.
    pub description: String,
    /// A longer text about it.
    pub readme: String,
    /// Its own version.
    pub version: String,
}

/// Which tool calls are let through, asked about, refused: `tool` or `tool:arg=glob`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Permissions {
    /// Let through without asking.
    pub allow: Vec<String>,
    /// Asked about, even where the tool only reads.
    pub ask: Vec<String>,
    /// Refused.
    pub deny: Vec<String>,
}

/// A team: at least one agent, names unique, every sub-agent and every handoff an agent of the team, every list of models with at
/// least one. Reading it back from JSON checks all of this again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Parts")]
pub struct Team {
    agents: Vec<Agent>,
    models: BTreeMap<String, Vec<ModelSettings>>,
    permissions: Permissions,
    metadata: Metadata,
    rag: BTreeMap<String, serde_json::Value>,
}

/// What a team is made of, before it is known to be one.
#[derive(Debug, Deserialize)]
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
}

/// Why parts are not a team. A file's mistakes are told by [`TeamErrors`](super::TeamErrors), with their places.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BrokenTeam {
    /// There is nobody in it.
    #[error("the team has no agents")]
    NoAgents,
    /// Two agents have one name.
    #[error("two agents are named '{0}'")]
    SameName(String),
    /// An agent refers to one that is not there.
    #[error("agent '{agent}' references non-existent {role} '{name}'")]
    NoSuchAgent {
        /// Who refers.
        agent: String,
        /// `sub-agent` or `handoff agent`.
        role: &'static str,
        /// To whom.
        name: String,
    },
    /// A list of models is empty.
    #[error("agent '{0}' has no model")]
    NoModel(String),
}

impl TryFrom<Parts> for Team {
    type Error = BrokenTeam;

    fn try_from(parts: Parts) -> Result<Self, BrokenTeam> {
        if parts.agents.is_empty() {
            return Err(BrokenTeam::NoAgents);
        }
        let mut names = BTreeSet::new();
        for agent in &parts.agents {
            if !names.insert(agent.name.as_str()) {
                return Err(BrokenTeam::SameName(agent.name.clone()));
            }
        }
        for agent in &parts.agents {
            check_agent(agent, &names)?;
        }
        let Parts { agents, models, permissions, metadata, rag } = parts;
        Ok(Self { agents, models, permissions, metadata, rag })
    }
}

/// That an agent refers to agents of the team only, and can run.
fn check_agent(agent: &Agent, names: &BTreeSet<&str>) -> Result<(), BrokenTeam> {
    if matches!(&agent.runner, AgentKind::Models(models) if models.is_empty()) {
        return Err(BrokenTeam::NoModel(agent.name.clone()));
    }
    for (role, others) in [("sub-agent", &agent.sub_agents), ("handoff agent", &agent.handoffs)] {
        if let Some(name) = others.iter().find(|name| !names.contains(name.as_str())) {
            let (agent, name) = (agent.name.clone(), name.clone());
            return Err(BrokenTeam::NoSuchAgent { agent, role, name });
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

    /// The agent of this name.
    #[must_use]
    pub fn agent(&self, name: &str) -> Option<&Agent> {
        self.agents.iter().find(|agent| agent.name == name)
    }

    /// The agent that a run begins with: the one named `root`, else the first.
    #[must_use]
    pub fn default_agent(&self) -> &Agent {
        self.agent("root").unwrap_or(&self.agents[0])
    }

    /// The file's named models; one of several alternatives is drawn for each turn.
    #[must_use]
    pub fn models(&self) -> &BTreeMap<String, Vec<ModelSettings>> {
        &self.models
    }

    /// Which tool calls are let through, asked about, refused.
    #[must_use]
    pub fn permissions(&self) -> &Permissions {
        &self.permissions
    }

    /// Who made the file.
    #[must_use]
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// The sources that agents can search, as the file has them.
    #[must_use]
    pub fn rag(&self) -> &BTreeMap<String, serde_json::Value> {
        &self.rag
    }

    /// The one JSON text of this team: equal teams have equal texts, whatever their files look like. Whoever stores a team
    /// stores this text.
    ///
    /// # Errors
    /// None in a team that was read from a file or from JSON.
    pub fn to_json(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string(self)
    }

    /// The SHA-256 of [`to_json`](Self::to_json), in hexadecimal.
    ///
    /// # Errors
    /// Those of `to_json`.
    pub fn sha256(&self) -> Result<String, serde_json::Error> {
        Ok(hexadecimal(&Sha256::digest(self.to_json()?)))
    }

    /// A short name for what the team remembers on a machine, in hexadecimal. It stays the same while the team's agents
    /// keep their names and descriptions, whatever else of them is changed.
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

/// The bytes in hexadecimal.
fn hexadecimal(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        // Writing to a String cannot fail.
        write!(text, "{byte:02x}").ok();
    }
    text
}
