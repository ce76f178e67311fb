//! Reads skills: those of an agent, and the named ones of the file.

use crate::team::fields::Fields;
use crate::team::keys;
use crate::team::reader::Reader;
use crate::team::skills::Skill;
use crate::team::skills::Skills;
use crate::team::source::excerpt;
use crate::team::tree::Node;
use crate::team::tree::Value;

/// Reads a value of `skills`: a boolean, or a list of sources, names and skills. `None` for no skills.
pub(super) fn read_skills(reader: &mut Reader<'_>, node: &Node) -> Option<Skills> {
    let items = match &node.value {
        Value::Bool(on) => return on.then(|| Skills { local: true, ..Skills::default() }),
        Value::List(items) => items,
        Value::Null => return None,
        _ => {
            reader.wrong_type("skills", "`true`, `false` or a list of sources, names and skills", node);
            return None;
        }
    };
    let mut skills = Skills::default();
    for item in items {
        match reader.string_of(item) {
            Some(source) if source == "local" => skills.local = true,
            Some(url) if url.starts_with("http://") || url.starts_with("https://") => {
                let message = format!("skills of `{}` have no effect: no skill is fetched", excerpt(&url));
                reader.warn(item.at, message);
                skills.urls.push(url);
            }
            Some(name) if name.trim().is_empty() => {
                reader.error(item.at, "the name of a skill must not be empty", None);
            }
            Some(name) => skills.names.push(name),
            None => skills.inline.extend(read_skill(reader, item)),
        }
    }
    // Names alone choose from the machine's own skills, as in docker-agent.
    skills.local |= skills.urls.is_empty() && !skills.names.is_empty();
    (skills != Skills::default()).then_some(skills)
}

/// Reads a skill that the file contains.
fn read_skill(reader: &mut Reader<'_>, node: &Node) -> Option<Skill> {
    let fields = reader.fields(node, &keys::SKILL)?;
    for required in ["name", "description", "instructions"] {
        if !fields.has(required) {
            reader.error(node.at, format!("a skill needs `{required}`"), None);
        }
    }
    let context = fields.string_or_empty(reader, "context");
    if !context.is_empty() && context != "fork" {
        let at = fields.node("context").map_or(node.at, |node| node.at);
        let message = format!("unknown context `{}` of a skill", excerpt(&context));
        reader.error(at, message, Some("write `fork`, or leave it out".to_owned()));
    }
    for name in ["model", "allowed_tools", "toolsets"] {
        if let Some(entry) = fields.entry(name).filter(|entry| context != "fork" && !entry.node.is_unset()) {
            let hint = "without it, a skill is a text that the agent reads".to_owned();
            let message = format!("`{name}` of a skill can only be used with `context: fork`");
            reader.error(entry.key_at, message, Some(hint));
        }
    }
    let allowed_tools = fields.strings(reader, "allowed_tools");
    check_allowed_tools(reader, &fields, &allowed_tools);
    Some(Skill {
        models: Vec::new(),
        more_toolsets: Vec::new(),
        name: fields.string_or_empty(reader, "name"),
        description: fields.string_or_empty(reader, "description"),
        instructions: fields.string_or_empty(reader, "instructions"),
        fork: context == "fork",
        model: fields.string(reader, "model"),
        allowed_tools,
        toolsets: fields.strings(reader, "toolsets"),
    })
}

/// Checks that `allowed_tools` names tools: the stored form of an empty list is that of all tools.
fn check_allowed_tools(reader: &mut Reader<'_>, fields: &Fields<'_>, names: &[String]) {
    let Some(entry) = fields.entries.iter().find(|entry| entry.key == "allowed_tools") else { return };
    let is_empty = entry.node.is_unset() && !matches!(entry.node.value, Value::Null);
    if is_empty || names.iter().any(|name| name.trim().is_empty()) {
        let hint = "leave it out for all tools of the agent".to_owned();
        reader.error(entry.key_at, "`allowed_tools` of a skill must name tools".to_owned(), Some(hint));
    }
}
