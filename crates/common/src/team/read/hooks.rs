//! Checks the sections that a team keeps unchanged: `hooks` and `structured_output`.

use crate::team::fields::Fields;
use crate::team::keys;
use crate::team::reader::Reader;
use crate::team::source::excerpt;
use crate::team::tree::Node;

/// Checks `hooks`, and returns it unchanged.
pub(super) fn read_hooks(reader: &mut Reader<'_>, agent: &Fields<'_>) -> Option<serde_json::Value> {
    let fields = reader.fields(agent.node("hooks")?, &keys::HOOKS)?;
    for name in ["pre_tool_use", "post_tool_use"] {
        for node in fields.list(reader, name) {
            let Some(matcher) = reader.fields(node, &keys::HOOK_MATCHER) else {
                continue;
            };
            matcher.string(reader, "matcher");
            for hook in matcher.list(reader, "hooks") {
                check_hook(reader, hook);
            }
        }
    }
    for name in ["session_start", "session_end", "on_user_input"] {
        for hook in fields.list(reader, name) {
            check_hook(reader, hook);
        }
    }
    agent.json(reader, "hooks")
}

/// Checks one hook.
fn check_hook(reader: &mut Reader<'_>, node: &Node) {
    let Some(fields) = reader.fields(node, &keys::HOOK) else {
        return;
    };
    fields.integer(reader, "timeout", 0, i64::MAX);
    let kind = fields.string_or_empty(reader, "type");
    if kind != "command" {
        let at = fields.node("type").map_or(node.at, |node| node.at);
        let unknown = format!("unknown hook type `{}`", excerpt(&kind));
        let message = if fields.has("type") { unknown } else { "a hook needs `type`".to_owned() };
        reader.error(at, message, Some("write `type: command`".to_owned()));
    }
    if fields.string(reader, "command").is_none() && !fields.has("command") {
        reader.error(node.at, "a hook needs `command`", None);
    }
}

/// Checks `structured_output`, and returns it unchanged.
pub(super) fn read_structured_output(
    reader: &mut Reader<'_>,
    agent: &Fields<'_>,
) -> Option<serde_json::Value> {
    let node = agent.node("structured_output")?;
    let fields = reader.fields(node, &keys::STRUCTURED_OUTPUT)?;
    fields.string(reader, "name");
    fields.string(reader, "description");
    fields.bool(reader, "strict");
    fields.map(reader, "schema", "a JSON schema");
    for required in ["name", "schema"] {
        if !fields.has(required) {
            reader.error(node.at, format!("a structured output needs `{required}`"), None);
        }
    }
    agent.json(reader, "structured_output")
}
