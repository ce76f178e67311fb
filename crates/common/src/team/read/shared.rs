//! The named toolsets, commands and skills of a file, and what agents take from them.

use std::collections::BTreeMap;

use super::agent::References;
use super::commands::read_commands;
use super::skills::read_skills;
use super::toolset;
use crate::team::agent::Command;
use crate::team::fields::Fields;
use crate::team::names::quoted_list;
use crate::team::reader::Reader;
use crate::team::skills::Skills;
use crate::team::source::Position;
use crate::team::source::excerpt;
use crate::team::toolset::Toolset;
use crate::team::tree::Entry;

/// A definition, and the approximate memory that a copy of it takes, in bytes. `None` for one with an error, so that a
/// reference to it is not reported as a second one.
type Named<T> = BTreeMap<String, (Option<T>, usize)>;

/// The definitions of a file that agents can use by name.
#[derive(Debug, Default)]
pub(super) struct Shared {
    toolsets: Named<Toolset>,
    commands: Named<BTreeMap<String, Command>>,
    skills: Named<Skills>,
}

impl Shared {
    /// Reads `commands` and `skills` of the file, also those that no agent uses.
    pub(super) fn read(reader: &mut Reader<'_>, file: &Fields<'_>) -> Self {
        let mut shared = Self::default();
        for entry in file.map(reader, "commands", "a map of names to commands") {
            let commands = Some(read_commands(reader, &entry.node));
            shared.commands.insert(entry.key.clone(), (commands, entry.node.size()));
        }
        for entry in file.map(reader, "skills", "a map of names to skills") {
            let skills = read_skills(reader, &entry.node).unwrap_or_default();
            shared.skills.insert(entry.key.clone(), (Some(skills), entry.node.size()));
        }
        shared
    }

    /// Reads `toolsets` of the file, which may refer to models and to `mcps`.
    pub(super) fn read_toolsets(
        &mut self,
        reader: &mut Reader<'_>,
        references: &References<'_>,
        entries: &[Entry],
    ) {
        for entry in entries {
            let subject = format!("toolset '{}'", excerpt(&entry.key));
            let read = toolset::read(reader, references, &subject, &entry.node);
            self.toolsets.insert(entry.key.clone(), (read, entry.node.size()));
        }
    }

    /// The toolsets that an agent uses by name.
    pub(super) fn toolsets_of(
        &self,
        reader: &mut Reader<'_>,
        agent: &Fields<'_>,
        subject: &str,
    ) -> Vec<Toolset> {
        let names = agent.positioned_strings(reader, "use_toolsets");
        let used =
            |(name, at): (String, Position)| find(reader, &self.toolsets, subject, "toolset", &name, at);
        names.into_iter().filter_map(used).collect()
    }

    /// The commands of an agent: its own, then those that it uses by name and does not have.
    pub(super) fn commands_of(
        &self,
        reader: &mut Reader<'_>,
        agent: &Fields<'_>,
        subject: &str,
    ) -> BTreeMap<String, Command> {
        let mut commands =
            agent.node("commands").map_or_else(BTreeMap::new, |node| read_commands(reader, node));
        for (name, at) in agent.positioned_strings(reader, "use_commands") {
            let used = find(reader, &self.commands, subject, "commands", &name, at).unwrap_or_default();
            for (name, command) in used {
                commands.entry(name).or_insert(command);
            }
        }
        commands
    }

    /// The skills of an agent: its own, then those that it uses by name. What they refer to is resolved.
    pub(super) fn skills_of(
        &self,
        reader: &mut Reader<'_>,
        references: &References<'_>,
        agent: &Fields<'_>,
        subject: &str,
    ) -> Option<Skills> {
        let mut skills = agent.node("skills").and_then(|node| read_skills(reader, node)).unwrap_or_default();
        for (name, at) in agent.positioned_strings(reader, "use_skills") {
            skills.extend(find(reader, &self.skills, subject, "skills", &name, at).unwrap_or_default());
        }
        let entry = agent.entry("skills").or_else(|| agent.entry("use_skills"));
        let at = entry.map_or(agent.at, |entry| entry.key_at);
        for skill in &mut skills.inline {
            let subject = format!("skill '{}' of {subject}", excerpt(&skill.name));
            if let Some(model) = &skill.model {
                skill.models = references.models.resolve(reader, &subject, model, at).unwrap_or_default();
            }
            let used = |name: &String| find(reader, &self.toolsets, &subject, "toolset", name, at);
            skill.more_toolsets = skill.toolsets.iter().filter_map(used).collect();
        }
        (skills != Skills::default()).then_some(skills)
    }
}

/// A copy of a definition; `None` after recording an error.
fn find<T: Clone>(
    reader: &mut Reader<'_>,
    named: &Named<T>,
    subject: &str,
    what: &str,
    name: &str,
    at: Position,
) -> Option<T> {
    let Some((definition, bytes)) = named.get(name) else {
        let names = || named.keys().map(String::as_str);
        let hint = match reader.closest(name, names()) {
            Some(near) => format!("did you mean `{near}`?"),
            None if named.is_empty() => format!("the file defines no {what} at its left margin"),
            None => format!("the file defines {}", quoted_list(names())),
        };
        let message = format!("{subject} references non-existent {what} '{}'", excerpt(name));
        reader.error(at, message, Some(hint));
        return None;
    };
    if reader.charge_copy(*bytes, at) { definition.clone() } else { None }
}
