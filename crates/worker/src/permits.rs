//! What a worker runs at all, whatever a job asks for: its toolsets, and the programs that are agents or servers. Pure.

use std::collections::BTreeSet;

use legwork_agent::toolset::type_name;
use legwork_common::team::Agent;
use legwork_common::team::AgentKind;
use legwork_common::team::Launch;
use legwork_common::team::McpServer;
use legwork_common::team::Team;
use legwork_common::team::Toolset;
use legwork_common::team::ToolsetKind;
use thiserror::Error;

/// The program that starts servers of Docker's catalog.
const DOCKER: &str = "docker";
/// The toolset whose commands are those of the agent file, as hooks and commands after an edit are.
const SCRIPT: &str = "script";

/// What the operator permits, or a key may sign. The default permits everything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Permits {
    /// The only agents; `None` for all.
    pub agents: Option<BTreeSet<String>>,
    /// The only toolsets, by their `type`; `None` for all.
    pub toolsets: Option<BTreeSet<String>>,
    /// Toolsets that are refused although they may be permitted above.
    pub denied_toolsets: BTreeSet<String>,
    /// The only programs of `command:` agents and MCP servers, as the agent file spells them; `None` for all.
    pub commands: Option<BTreeSet<String>>,
}

/// What an agent has and is not permitted.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Unpermitted {
    /// The agent itself.
    #[error("the agent {0}")]
    Agent(String),
    /// A toolset of it.
    #[error("the toolset {0}")]
    Toolset(String),
    /// The program that it is.
    #[error("the command {0}")]
    Command(String),
    /// The program of an MCP server.
    #[error("the MCP server {0}")]
    McpServer(String),
}

impl Unpermitted {
    /// What a worker lacks that does not run it.
    pub fn lacking(&self) -> String {
        let flags = match self {
            Self::Agent(_) => "",
            Self::Toolset(_) => " (--allow-toolset, --deny-toolset)",
            Self::Command(_) | Self::McpServer(_) => " (--allow-command)",
        };
        format!("a permit for {self}{flags}")
    }
}

impl Permits {
    /// Checks an agent, and all agents of its team that it may hand its conversation to. Jobs that it dispatches are checked
    /// by the workers that run them.
    ///
    /// # Errors
    ///
    /// The first thing that is not permitted.
    pub fn check(&self, team: &Team, agent: &Agent) -> Result<(), Unpermitted> {
        let mut checked = BTreeSet::new();
        let mut open = vec![agent];
        while let Some(agent) = open.pop() {
            if !checked.insert(&agent.name) {
                continue;
            }
            self.check_one(agent)?;
            let next = agent.handoffs.iter().chain(&agent.force_handoff);
            open.extend(next.filter_map(|name| team.agent(name)));
        }
        Ok(())
    }

    fn check_one(&self, agent: &Agent) -> Result<(), Unpermitted> {
        if !permits(&self.agents, &agent.name) {
            return Err(Unpermitted::Agent(agent.name.clone()));
        }
        if let AgentKind::Command { program, .. } = &agent.kind
            && !permits(&self.commands, program)
        {
            return Err(Unpermitted::Command(program.clone()));
        }
        if !agent.hooks.is_empty() {
            self.check_name(SCRIPT)?;
        }
        // A skill with a conversation of its own may open toolsets that its agent has not.
        let skills = agent.skills.iter().flat_map(|skills| &skills.inline);
        let of_skills = skills.flat_map(|skill| &skill.more_toolsets);
        agent.toolsets.iter().chain(of_skills).try_for_each(|toolset| self.check_toolset(toolset))
    }

    fn check_name(&self, toolset: &str) -> Result<(), Unpermitted> {
        if permits(&self.toolsets, toolset) && !self.denied_toolsets.contains(toolset) {
            return Ok(());
        }
        Err(Unpermitted::Toolset(toolset.to_owned()))
    }

    fn check_toolset(&self, toolset: &Toolset) -> Result<(), Unpermitted> {
        let runs_scripts =
            matches!(&toolset.kind, ToolsetKind::Filesystem { post_edit, .. } if !post_edit.is_empty());
        self.check_name(type_name(&toolset.kind))?;
        if runs_scripts {
            self.check_name(SCRIPT)?;
        }
        let ToolsetKind::Mcp(mcp) = &toolset.kind else { return Ok(()) };
        let program = match &mcp.server {
            McpServer::Command(Launch { command, .. }) => command,
            McpServer::Docker { .. } => DOCKER,
            McpServer::Remote { .. } => return Ok(()),
        };
        if permits(&self.commands, program) {
            return Ok(());
        }
        Err(Unpermitted::McpServer(program.to_owned()))
    }
}

fn permits(only: &Option<BTreeSet<String>>, name: &str) -> bool {
    only.as_ref().is_none_or(|only| only.contains(name))
}

#[cfg(test)]
mod tests {
    use legwork_common::team;

    use super::*;

    const FILE: &str = "
agents:
  shell: {model: openai/x, instruction: i, toolsets: [{type: shell}]}
  files: {model: openai/x, instruction: i, toolsets: [{type: filesystem}]}
  hooks: {model: openai/x, instruction: i, toolsets: [{type: filesystem, post_edit: [{path: '*', cmd: evil}]}]}
  mcp: {model: openai/x, instruction: i, toolsets: [{type: mcp, command: server}]}
  remote: {model: openai/x, instruction: i, toolsets: [{type: mcp, remote: {url: 'http://x.example'}}]}
  program: {command: [claude, -p], description: d}
  innocent: {model: openai/x, instruction: i, handoffs: [files, onward]}
  onward: {model: openai/x, instruction: i, handoffs: [innocent, shell]}
  skilled:
    model: openai/x
    instruction: i
    skills: [{name: s, description: d, instructions: i, context: fork, toolsets: [own]}]
toolsets:
  own: {type: shell}
";

    fn names(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn an_agent_runs_only_with_what_is_permitted() {
        let team = team::parse("team.yaml", FILE.as_bytes()).unwrap().team;
        let everything = Permits::default();
        let only_files = Permits { toolsets: Some(names(&["filesystem", "mcp"])), ..Permits::default() };
        let no_shell = Permits { denied_toolsets: names(&["shell", "script"]), ..Permits::default() };
        let one_program = Permits { commands: Some(names(&["server"])), ..Permits::default() };
        let two_agents = Permits { agents: Some(names(&["files", "innocent"])), ..Permits::default() };
        let nothing =
            Permits { toolsets: Some(names(&[])), commands: Some(names(&[])), ..Permits::default() };
        for (permits, refused) in [
            (&everything, &[][..]),
            (&only_files, &["shell", "hooks", "innocent", "onward", "skilled"]),
            (&no_shell, &["shell", "hooks", "innocent", "onward", "skilled"]),
            (&one_program, &["program"]),
            (&two_agents, &["shell", "hooks", "mcp", "remote", "program", "innocent", "onward", "skilled"]),
            (
                &nothing,
                &["shell", "files", "hooks", "mcp", "remote", "program", "innocent", "onward", "skilled"],
            ),
        ] {
            for agent in team.agents() {
                let expected = !refused.contains(&agent.name.as_str());
                assert_eq!(permits.check(&team, agent).is_ok(), expected, "{permits:?} {}", agent.name);
            }
        }
        let reason = no_shell.check(&team, team.agent("innocent").unwrap()).unwrap_err();
        assert_eq!(reason.lacking(), "a permit for the toolset shell (--allow-toolset, --deny-toolset)");
    }
}
