//! What is checked of a team before anything runs: the agent exists, and its models' keys are set.

use std::collections::BTreeSet;

use legwork_agent::Environment;
use legwork_agent::preflight::preflight;
use legwork_common::error::ExitStatus;
use legwork_common::error::chain;
use legwork_common::team::Agent;
use legwork_common::team::Team;
use legwork_queue::operator::check_agent;

use crate::failure::Failure;

/// The name of an agent that the team has.
///
/// # Errors
///
/// [`Failure`] with the team's agents in its hint.
pub fn known_agent(team: &Team, name: &str) -> Result<String, Failure> {
    check_agent(name, team)?;
    Ok(name.to_owned())
}

/// Checks that the keys of an agent's models are set; with `below`, also those of every agent that it can reach.
///
/// # Errors
///
/// [`Failure`] that names every missing variable and the agent that needs it.
pub fn check_keys(team: &Team, agent: &str, below: bool, environment: &Environment) -> Result<(), Failure> {
    let agents = if below { reachable(team, agent) } else { team.agent(agent).into_iter().collect() };
    let missing: Vec<String> = agents
        .into_iter()
        .filter_map(|agent| preflight(agent, environment).err())
        .map(|missing| chain(&missing))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(Failure {
        code: "missing_key",
        message: missing.join("; "),
        detail: None,
        hint: Some("set the variable in the environment".to_owned()),
        exit: ExitStatus::Usage,
    })
}

/// An agent and every agent that it can dispatch to, directly or not. Teams may have cycles.
fn reachable<'team>(team: &'team Team, agent: &str) -> Vec<&'team Agent> {
    let mut seen = BTreeSet::new();
    let mut open = vec![agent.to_owned()];
    let mut agents = Vec::new();
    while let Some(name) = open.pop() {
        if seen.insert(name.clone())
            && let Some(agent) = team.agent(&name)
        {
            open.extend(agent.sub_agents.iter().cloned());
            agents.push(agent);
        }
    }
    agents
}

#[cfg(test)]
mod tests {
    use legwork_common::team;

    use super::*;

    const FILE: &str = "
agents:
  root: {model: openai/gpt-4o, sub_agents: [first, second], toolsets: [{type: background_agents}]}
  first: {model: openai/gpt-4o, sub_agents: [second], toolsets: [{type: background_agents}]}
  second: {model: openai/gpt-4o, sub_agents: [first], toolsets: [{type: background_agents}]}
  spare: {model: openai/gpt-4o}
";

    fn parsed() -> Team {
        team::parse("team.yaml", FILE.as_bytes()).unwrap().team
    }

    #[test]
    fn reaches_each_agent_once_even_in_a_cycle() {
        let team = parsed();
        let mut names: Vec<&str> =
            reachable(&team, "root").into_iter().map(|agent| agent.name.as_str()).collect();
        names.sort_unstable();
        assert_eq!(names, ["first", "root", "second"]);
        assert!(reachable(&team, "missing").is_empty());
    }

    #[test]
    fn an_unknown_agent_is_refused_with_the_known_ones() {
        let failure = known_agent(&parsed(), "missing").unwrap_err();
        assert_eq!(failure.message, "no such agent: missing");
        assert_eq!(failure.hint.as_deref(), Some("this file has root, first, second, spare"));
    }
}
