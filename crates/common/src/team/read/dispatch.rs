//! Warnings about dispatching: circles of agents, and dispatch tools without an agent to dispatch.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use crate::team::agent::Agent;
use crate::team::reader::Reader;
use crate::team::source::excerpt;
use crate::team::toolset::ToolsetKind;
use crate::team::tree::Entry;

/// The most agents that the warning about a circle names; a longer one is cut.
const MAX_NAMED: usize = 8;

/// Warns of agents whose `sub_agents` lead back to them, and of `background_agents` without `sub_agents`. Handoffs may
/// lead back: the conversation has one agent at a time.
pub(super) fn warn(reader: &mut Reader<'_>, entries: &[Entry], agents: &[Agent]) {
    let by_name: BTreeMap<&str, &Agent> = agents.iter().map(|agent| (agent.name.as_str(), agent)).collect();
    for entry in entries {
        let Some(agent) = by_name.get(entry.key.as_str()) else { continue };
        let name = excerpt(&agent.name);
        if agent.sub_agents.contains(&agent.name) {
            let message = format!(
                "agent '{name}' is among its own `sub_agents`: it can dispatch itself, ten levels deep"
            );
            reader.warn(entry.key_at, message);
        }
        let has_tool = agent.toolsets.iter().any(|toolset| toolset.kind == ToolsetKind::BackgroundAgents);
        if has_tool && agent.sub_agents.is_empty() {
            let message = format!(
                "`background_agents` has no effect in agent '{name}': it has no `sub_agents` to dispatch"
            );
            reader.warn(entry.key_at, message);
        }
    }
    for circle in circles(&by_name, agents) {
        let first = circle.first().copied().unwrap_or_default();
        let Some(entry) = entries.iter().find(|entry| entry.key == first) else { continue };
        let mut names: Vec<String> = circle.iter().map(|name| format!("'{}'", excerpt(name))).collect();
        if names.len() > MAX_NAMED {
            names.truncate(MAX_NAMED);
            names.push("…".to_owned());
        }
        let message = format!(
            "the `sub_agents` of {} → '{}' are a circle: they can dispatch each other, ten levels deep",
            names.join(" → "),
            excerpt(first)
        );
        reader.warn(entry.key_at, message);
    }
}

/// Circles of two agents or more that have no agent in common, at least one wherever agents can dispatch each other.
/// A depth-first search that visits each agent once; an agent that is met again on the current path closes a circle.
fn circles<'a>(by_name: &BTreeMap<&'a str, &'a Agent>, agents: &'a [Agent]) -> Vec<Vec<&'a str>> {
    let (mut visited, mut in_circles) = (BTreeSet::new(), BTreeSet::new());
    let mut circles = Vec::new();
    for start in agents {
        if !visited.insert(start.name.as_str()) {
            continue;
        }
        let mut path = vec![(start, start.sub_agents.iter())];
        let mut on_path = BTreeMap::from([(start.name.as_str(), 0)]);
        while let Some((agent, below)) = path.last_mut() {
            let Some(next) = below.next() else {
                on_path.remove(agent.name.as_str());
                path.pop();
                continue;
            };
            if let Some(&at) = on_path.get(next.as_str()) {
                let circle: Vec<&str> = path[at..].iter().map(|(agent, _)| agent.name.as_str()).collect();
                if circle.len() > 1 && circle.iter().all(|name| !in_circles.contains(name)) {
                    in_circles.extend(circle.iter().copied());
                    circles.push(circle);
                }
            } else if let Some(&agent) = by_name.get(next.as_str())
                && visited.insert(agent.name.as_str())
            {
                on_path.insert(agent.name.as_str(), path.len());
                path.push((agent, agent.sub_agents.iter()));
            }
        }
    }
    circles
}

#[cfg(test)]
mod tests {
    use crate::team::parse;

    fn warnings(agents: &str) -> Vec<String> {
        let parsed = parse("team.yaml", format!("agents:\n{agents}").as_bytes()).unwrap();
        parsed.warnings.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn each_circle_is_one_warning() {
        let found = warnings(
            "  root: {model: auto, sub_agents: [b, d]}\n  b: {model: auto, sub_agents: [c]}\n  \
             c: {model: auto, sub_agents: [root]}\n  d: {model: auto}\n  e: {model: auto, sub_agents: [e]}\n  \
             f: {model: auto, handoffs: [g]}\n  g: {model: auto, handoffs: [f]}\n",
        );
        assert_eq!(
            found,
            [
                "2:3: the `sub_agents` of 'root' → 'b' → 'c' → 'root' are a circle: they can dispatch each other, \
                 ten levels deep",
                "6:3: agent 'e' is among its own `sub_agents`: it can dispatch itself, ten levels deep",
            ]
        );
    }

    #[test]
    fn dispatch_tools_without_an_agent_to_dispatch_are_a_warning() {
        let found = warnings("  root: {model: auto, toolsets: [{type: background_agents}]}\n");
        let expected =
            "2:3: `background_agents` has no effect in agent 'root': it has no `sub_agents` to dispatch";
        assert_eq!(found, [expected]);
    }
}
