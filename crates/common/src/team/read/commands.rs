//! Reads commands: the prompts that users run as `/name`.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use crate::team::agent::Command;
use crate::team::keys;
use crate::team::reader::Reader;
use crate::team::source::Position;
use crate::team::source::excerpt;
use crate::team::template::Template;
use crate::team::toolset::Toolset;
use crate::team::tree::Node;
use crate::team::tree::Value;

/// Reads `commands`: a map, or a list of maps.
pub(super) fn read_commands(reader: &mut Reader<'_>, node: &Node) -> BTreeMap<String, Command> {
    let mut commands = BTreeMap::new();
    let maps = match &node.value {
        Value::List(items) => items.as_slice(),
        _ => std::slice::from_ref(node),
    };
    for node in maps {
        for entry in reader.entries_of("commands", "a map of names to prompts", node) {
            if let Some(text) = reader.string_of(&entry.node) {
                let command = Command { description: String::new(), instruction: text };
                commands.insert(entry.key.clone(), command);
            } else if let Some(command) = reader.fields(&entry.node, &keys::COMMAND) {
                let description = command.string_or_empty(reader, "description");
                let instruction = command.string_or_empty(reader, "instruction");
                command.string(reader, "agent");
                command.string(reader, "url");
                commands.insert(entry.key.clone(), Command { description, instruction });
            }
        }
    }
    commands
}

/// Warns of what cannot be run in the prompts of `commands`: expressions that cannot be read, and calls of tools that no
/// toolset of the agent has. `has` tells whether it has sub-agents and handoffs.
pub(super) fn check_commands(
    reader: &mut Reader<'_>,
    at: Position,
    commands: &BTreeMap<String, Command>,
    subject: &str,
    toolsets: &[Toolset],
    has: [bool; 2],
) {
    let known = known_tools(toolsets, has);
    for (name, command) in commands {
        let template = Template::parse(&command.instruction);
        let name = excerpt(name);
        for problem in &template.problems {
            reader.warn(at, format!("command '{name}' is sent as it is written: {problem}"));
        }
        let Some(known) = &known else { continue };
        for tool in template.tools().into_iter().filter(|tool| !known.contains(*tool)) {
            let tool = excerpt(tool);
            let message =
                format!("command '{name}' calls the tool `{tool}`, which no toolset of {subject} has");
            reader.warn(at, message);
        }
    }
}

/// The tools that an agent has; `None` where some are known only when it runs.
fn known_tools(toolsets: &[Toolset], [has_sub_agents, has_handoffs]: [bool; 2]) -> Option<BTreeSet<String>> {
    let mut known = BTreeSet::new();
    for toolset in toolsets {
        let names = toolset.kind.tool_names()?;
        let is_listed =
            |name: &&str| toolset.tools.is_empty() || toolset.tools.iter().any(|tool| tool == *name);
        known.extend(names.into_iter().filter(is_listed).map(str::to_owned));
        if toolset.defer.is_some() {
            known.extend(["search_tool", "add_tool"].map(str::to_owned));
        }
    }
    known.extend(has_sub_agents.then(|| "transfer_task".to_owned()));
    known.extend(has_handoffs.then(|| "handoff".to_owned()));
    Some(known)
}
