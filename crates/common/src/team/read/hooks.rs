//! Reads `hooks` and `structured_output`.

use super::agent::References;
use crate::team::fields::Fields;
use crate::team::hook_prompt::hook_prompt;
use crate::team::hooks::Hook;
use crate::team::hooks::HookKind;
use crate::team::hooks::HookRule;
use crate::team::hooks::Hooks;
use crate::team::hooks::OnHookError;
use crate::team::keys;
use crate::team::keys::Key;
use crate::team::keys::Keys;
use crate::team::keys::Support;
use crate::team::names::quoted_list;
use crate::team::reader::Reader;
use crate::team::source::Position;
use crate::team::source::excerpt;
use crate::team::tree::Entry;
use crate::team::tree::Node;
use crate::team::tree::Value;

/// The events that are about one tool, whose hooks can be chosen by its name.
const TOOL_EVENTS: [&str; 6] = [
    "pre_tool_use",
    "post_tool_use",
    "permission_request",
    "tool_input_transform",
    "tool_guard",
    "tool_response_transform",
];

/// The events whose hooks can hold back or rewrite what the agent does: one that does not run there is refused.
const HOLDING_EVENTS: [&str; 8] = [
    "pre_tool_use",
    "permission_request",
    "tool_input_transform",
    "tool_guard",
    "tool_response_transform",
    "before_llm_call",
    "user_prompt_submit",
    "before_compaction",
];

/// The event whose hooks may run before calls are approved.
const PREEMPTIBLE: &str = "pre_tool_use";

/// Reads `hooks` of an agent. `subject` begins the messages about models: `agent 'root'`.
pub(super) fn read_hooks(
    reader: &mut Reader<'_>,
    references: &References<'_>,
    subject: &str,
    agent: &Fields<'_>,
) -> Hooks {
    let mut hooks = Hooks::new();
    let Some(fields) = agent.node("hooks").and_then(|node| reader.fields(node, &keys::HOOKS)) else {
        return hooks;
    };
    let version = reader.version;
    for entry in fields.entries.iter().filter(|entry| fields.keys.find(&entry.key, version).is_some()) {
        let rules = match TOOL_EVENTS.contains(&entry.key.as_str()) {
            true => read_rules(reader, references, subject, entry),
            false => {
                let hooks = read_list(reader, references, subject, &entry.key, &entry.node);
                if hooks.is_empty() {
                    Vec::new()
                } else {
                    vec![HookRule { matcher: None, preempt_yolo: false, hooks }]
                }
            }
        };
        if !rules.is_empty() {
            hooks.insert(entry.key.clone(), rules);
        }
    }
    hooks
}

/// The items of a list; a single map stands for a list of one.
fn items<'n>(reader: &mut Reader<'_>, name: &str, node: &'n Node) -> &'n [Node] {
    match &node.value {
        Value::List(items) => items,
        Value::Map(_) => std::slice::from_ref(node),
        Value::Null => &[],
        _ => {
            reader.wrong_type(name, "a list", node);
            &[]
        }
    }
}

/// Reads an event that is about one tool.
fn read_rules(
    reader: &mut Reader<'_>,
    references: &References<'_>,
    subject: &str,
    event: &Entry,
) -> Vec<HookRule> {
    let mut rules = Vec::new();
    for (index, node) in items(reader, &event.key, &event.node).iter().enumerate() {
        let Some(fields) = reader.fields(node, &keys::HOOK_MATCHER) else { continue };
        let place = format!("{}[{index}]", event.key);
        let matcher = fields.string(reader, "matcher").filter(|matcher| matcher != "*");
        let preempt_yolo = fields.bool(reader, "preempt_yolo").unwrap_or(false);
        if let Some(flag) = fields
            .entry("preempt_yolo")
            .filter(|_| preempt_yolo && event.key != PREEMPTIBLE && reader.version >= 16)
        {
            let message = format!("`preempt_yolo` can only be used with `{PREEMPTIBLE}`");
            reader.error(flag.key_at, message, None);
        }
        let hooks = match fields.node("hooks") {
            Some(node) => read_list(reader, references, subject, &format!("{place}.hooks"), node),
            None => Vec::new(),
        };
        if !fields.has("hooks") {
            let hint = "example: `hooks: [{type: command, command: ./check.sh}]`".to_owned();
            let message = format!("hooks.{place}: at least one hook is required");
            reader.error(node.at, message, Some(hint));
        }
        if !hooks.is_empty() {
            rules.push(HookRule { matcher, preempt_yolo, hooks });
        }
    }
    rules
}

/// Reads the hooks of an event or of a matcher. `place` names it in messages: `stop`, `pre_tool_use[0].hooks`.
fn read_list(
    reader: &mut Reader<'_>,
    references: &References<'_>,
    subject: &str,
    place: &str,
    node: &Node,
) -> Vec<Hook> {
    let name = place.split('[').next().unwrap_or(place).to_owned();
    let mut hooks = Vec::new();
    for (index, node) in items(reader, &name, node).iter().enumerate() {
        hooks.extend(read_hook(reader, references, subject, &format!("hooks.{place}[{index}]"), node));
    }
    hooks
}

/// Reads one hook.
fn read_hook(
    reader: &mut Reader<'_>,
    references: &References<'_>,
    subject: &str,
    place: &str,
    node: &Node,
) -> Option<Hook> {
    let fields = reader.fields(node, &keys::HOOK)?;
    let kind = read_hook_kind(reader, references, subject, place, node, &fields);
    let timeout = fields.integer(reader, "timeout", 0, i64::from(u32::MAX));
    Some(Hook {
        name: fields.string(reader, "name"),
        args: fields.strings(reader, "args"),
        timeout: timeout.and_then(|seconds| u32::try_from(seconds).ok()).filter(|seconds| *seconds > 0),
        env: fields.string_map(reader, "env"),
        working_dir: fields.string(reader, "working_dir"),
        on_error: read_on_error(reader, &fields),
        strict_output: fields.bool(reader, "strict_output").unwrap_or(false),
        kind: kind?,
    })
}

/// Reads what a hook runs.
fn read_hook_kind(
    reader: &mut Reader<'_>,
    references: &References<'_>,
    subject: &str,
    place: &str,
    node: &Node,
    fields: &Fields<'_>,
) -> Option<HookKind> {
    let kind = fields.string_or_empty(reader, "type");
    let at = fields.node("type").map_or(node.at, |node| node.at);
    let Some(known) = keys::HOOK_TYPES.find(&kind, reader.version) else {
        let message = match kind.as_str() {
            "" => format!("{place}: type is required"),
            other => format!("{place}: unsupported hook type '{}'", excerpt(other)),
        };
        let hint = format!("supported: {}", quoted_list(keys::HOOK_TYPES.names(reader.version)));
        reader.error(at, message, Some(hint));
        return None;
    };
    judge_hook(reader, place, known, &keys::HOOK_TYPES, at);
    for key in ["command", "model", "prompt", "schema"] {
        fields.string(reader, key);
    }
    let required: &[&str] = if known.name == "model" { &["model", "prompt"] } else { &["command"] };
    for key in required {
        if !fields.has(key) {
            reader.error(node.at, format!("{place}: {key} is required for {} hooks", known.name), None);
        }
    }
    if known.name == "model" {
        check_model_hook(reader, place, fields);
        let reference = fields.string(reader, "model")?;
        let at = fields.node("model").map_or(node.at, |node| node.at);
        return Some(HookKind::Model {
            models: references.models.resolve(reader, subject, &reference, at)?,
            prompt: fields.string(reader, "prompt")?,
            schema: fields.string(reader, "schema"),
        });
    }
    let command = fields.string(reader, "command")?;
    if known.name == "command" {
        return Some(HookKind::Command(command));
    }
    let at = fields.node("command").map_or(node.at, |node| node.at);
    match keys::BUILTIN_HOOKS.find(&command, reader.version) {
        Some(builtin) => judge_hook(reader, place, builtin, &keys::BUILTIN_HOOKS, at),
        None => {
            let names = || keys::BUILTIN_HOOKS.names(keys::NEWEST_VERSION);
            let near = reader
                .closest(&command, names())
                .map_or_else(String::new, |near| format!(" (did you mean `{near}`?)"));
            let message = format!("unknown built-in hook `{}`{near}; it does not run", excerpt(&command));
            reader.warn(at, message);
        }
    }
    Some(HookKind::Builtin(command))
}

/// Notes the row of a hook. One that does not run is an error where it could hold the agent back, and a warning elsewhere.
fn judge_hook(reader: &mut Reader<'_>, place: &str, row: &Key, rows: &Keys, at: Position) {
    reader.note(row, rows, at);
    if matches!(row.support, Support::Yes | Support::Partly) {
        return;
    }
    let event = place.trim_start_matches("hooks.").split('[').next().unwrap_or_default();
    let subject = format!("`{}` as {}", row.name, rows.noun);
    match row.support {
        Support::Refused if HOLDING_EVENTS.contains(&event) => reader.refuse(at, &subject, row.note),
        _ => reader.warn(at, format!("{subject} has no effect yet: {}", row.note)),
    }
}

/// The forms that the answer of a model can have. Without one it is a text for the agent's model.
const ANSWER_FORMS: [&str; 1] = ["pre_tool_use_decision"];

/// Checks the prompt and the schema of a hook that asks a model.
fn check_model_hook(reader: &mut Reader<'_>, place: &str, fields: &Fields<'_>) {
    if let Some(node) = fields.node("prompt")
        && let Some(prompt) = reader.string_of(node)
        && let Err(why) = hook_prompt(&prompt, &serde_json::Value::Null)
    {
        let hint = "supported: fields such as `{{ .ToolInput.cmd }}`, `toJSON`, `truncate` and pipes";
        reader.error(
            node.at,
            format!("{place}: the prompt cannot be filled in: {why}"),
            Some(hint.to_owned()),
        );
    }
    if let Some(node) = fields.node("schema")
        && let Some(schema) = reader.string_of(node)
        && !schema.is_empty()
        && !ANSWER_FORMS.contains(&schema.as_str())
    {
        let hint = format!("supported: {}", quoted_list(ANSWER_FORMS));
        reader.error(node.at, format!("{place}: unknown schema '{}'", excerpt(&schema)), Some(hint));
    }
}

/// Reads `on_error`.
fn read_on_error(reader: &mut Reader<'_>, fields: &Fields<'_>) -> OnHookError {
    let word = fields.string_or_empty(reader, "on_error");
    match word.as_str() {
        "" | "warn" => OnHookError::Warn,
        "ignore" => OnHookError::Ignore,
        "block" => OnHookError::Block,
        other => {
            let at = fields.node("on_error").map_or(fields.at, |node| node.at);
            let hint = "valid values: `warn`, `ignore`, `block`".to_owned();
            reader.error(at, format!("unknown on_error `{}`", excerpt(other)), Some(hint));
            OnHookError::Warn
        }
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
    let mode = fields.string_or_empty(reader, "mode");
    if !["", "native", "tool"].contains(&mode.as_str()) {
        let at = fields.node("mode").map_or(node.at, |node| node.at);
        let hint = "valid values: `native`, `tool`".to_owned();
        reader.error(at, format!("unknown mode `{}` of a structured output", excerpt(&mode)), Some(hint));
    }
    agent.json(reader, "structured_output")
}
