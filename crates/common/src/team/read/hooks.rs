//! Reads `hooks` and `structured_output`.

use super::agent::References;
use crate::team::fields::Fields;
use crate::team::hook_prompt::hook_prompt;
use crate::team::hooks::HOLDING_EVENTS;
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

/// The events that a failing hook can end in docker-agent's schema 16 and not here: `on_error: block` is allowed there.
const STOPPABLE_ELSEWHERE: [&str; 4] =
    ["post_tool_use", "user_steering_messages_submit", "user_followup_submit", "worktree_create"];

/// Built-in hooks that do nothing at other events than this one.
const ONLY_AT: [(&str, &str); 2] =
    [("max_iterations", "before_llm_call"), ("elide_repeated_tool_results", "tool_response_transform")];

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
        let matcher = read_matcher(reader, &place, &fields);
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

/// Reads `matcher`; `None` for every tool.
fn read_matcher(reader: &mut Reader<'_>, place: &str, fields: &Fields<'_>) -> Option<String> {
    let matcher = fields.string(reader, "matcher").filter(|matcher| matcher != "*")?;
    if let Err(error) = regex_syntax::parse(&matcher) {
        let at = fields.node("matcher").map_or(fields.at, |node| node.at);
        let why =
            error.to_string().lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
        let message =
            format!("hooks.{place}: matcher `{}` is not a regular expression: {why}", excerpt(&matcher));
        let hint = "it must match the whole name of a tool, such as `shell|edit_.*`; `*` matches every tool";
        reader.error(at, message, Some(hint.to_owned()));
    }
    Some(matcher)
}

/// Reads the hooks of an event or of a matcher. `place` names it in messages: `stop`, `pre_tool_use[0].hooks`.
fn read_list(
    reader: &mut Reader<'_>,
    references: &References<'_>,
    subject: &str,
    place: &str,
    node: &Node,
) -> Vec<Hook> {
    let mut hooks = Vec::new();
    for (index, node) in items(reader, event_of(place), node).iter().enumerate() {
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
        on_error: read_on_error(reader, place, &fields),
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
    check_builtin(reader, place, fields, &command);
    Some(HookKind::Builtin(command))
}

/// The event of a place such as `hooks.pre_tool_use[0].hooks[1]`.
fn event_of(place: &str) -> &str {
    place.trim_start_matches("hooks.").split('[').next().unwrap_or_default()
}

/// Reads the name of a built-in hook. An unknown one is an error where it could hold the agent back: nothing else would.
fn check_builtin(reader: &mut Reader<'_>, place: &str, fields: &Fields<'_>, name: &str) {
    let at = fields.node("command").map_or(fields.at, |node| node.at);
    if let Some(builtin) = keys::BUILTIN_HOOKS.find(name, reader.version) {
        judge_hook(reader, place, builtin, &keys::BUILTIN_HOOKS, at);
        check_event(reader, place, builtin.name, at);
        check_arguments(reader, place, fields, builtin.name);
        return;
    }
    let names = || keys::BUILTIN_HOOKS.names(keys::NEWEST_VERSION);
    let near = reader.closest(name, names()).map(|near| format!("did you mean `{near}`?"));
    let message = format!("unknown built-in hook `{}`", excerpt(name));
    if HOLDING_EVENTS.contains(&event_of(place)) {
        let hint = near.unwrap_or_else(|| format!("known hooks: {}", quoted_list(names())));
        reader.error(at, format!("{place}: {message}"), Some(hint));
        return;
    }
    let near = near.map_or_else(String::new, |near| format!(" ({near})"));
    reader.warn(at, format!("{message}{near}; it does not run"));
}

/// Checks that a built-in hook does something at its event. One that does nothing where it could hold the agent back is an
/// error.
fn check_event(reader: &mut Reader<'_>, place: &str, builtin: &str, at: Position) {
    let Some((_, event)) = ONLY_AT.iter().find(|(name, _)| *name == builtin) else { return };
    if event_of(place) == *event {
        return;
    }
    let message = format!("the built-in hook `{builtin}` does nothing at `{}`", event_of(place));
    let hint = format!("write it below `{event}`");
    match HOLDING_EVENTS.contains(&event_of(place)) {
        true => reader.error(at, format!("{place}: {message}"), Some(hint)),
        false => reader.warn(at, format!("{message}: {hint}")),
    }
}

/// Checks the arguments of a built-in hook that cannot work with others.
fn check_arguments(reader: &mut Reader<'_>, place: &str, fields: &Fields<'_>, builtin: &str) {
    let arguments = fields.positioned_strings(reader, "args");
    match builtin {
        "max_iterations" => {
            let is_limit = |text: &str| text.trim().parse::<u32>().is_ok_and(|limit| limit > 0);
            if !arguments.first().is_some_and(|(text, _)| is_limit(text)) {
                let at = arguments.first().map_or(fields.at, |(_, at)| *at);
                let hint = "example: `args: [\"50\"]`".to_owned();
                reader.error(at, format!("{place}: `max_iterations` needs a number above zero"), Some(hint));
            }
        }
        "http_post" => {
            let is_http = |text: &str| text.starts_with("http://") || text.starts_with("https://");
            if !arguments.first().is_some_and(|(text, _)| is_http(text)) {
                let at = arguments.first().map_or(fields.at, |(_, at)| *at);
                let hint = "example: `args: [\"https://example.com/done\", \"{}\"]`".to_owned();
                reader.error(at, format!("{place}: `http_post` needs an http or https URL"), Some(hint));
            }
        }
        "add_context" => {
            for (template, at) in arguments {
                if let Err(why) = hook_prompt(&template, &serde_json::Value::Null) {
                    let message = format!("{place}: the text cannot be filled in: {why}");
                    reader.error(at, message, Some(TEMPLATES.to_owned()));
                }
            }
        }
        _ => {}
    }
}

/// What the templates of hooks can contain.
const TEMPLATES: &str = "supported: fields such as `{{ .ToolInput.cmd }}`, `toJSON`, `truncate` and pipes";

/// Notes the row of a hook. One that does not run is an error where it could hold the agent back, and a warning elsewhere.
fn judge_hook(reader: &mut Reader<'_>, place: &str, row: &Key, rows: &Keys, at: Position) {
    reader.note(row, rows, at);
    if matches!(row.support, Support::Yes | Support::Partly) {
        return;
    }
    let event = event_of(place);
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
        reader.error(
            node.at,
            format!("{place}: the prompt cannot be filled in: {why}"),
            Some(TEMPLATES.to_owned()),
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

/// Whether a failing hook can end what the event is about.
fn is_stoppable(event: &str) -> bool {
    HOLDING_EVENTS.contains(&event) || STOPPABLE_ELSEWHERE.contains(&event)
}

/// Reads `on_error`.
fn read_on_error(reader: &mut Reader<'_>, place: &str, fields: &Fields<'_>) -> OnHookError {
    let word = fields.string_or_empty(reader, "on_error");
    match word.as_str() {
        "" | "warn" => OnHookError::Warn,
        "ignore" => OnHookError::Ignore,
        "block" if reader.version >= 16 && !is_stoppable(event_of(place)) => {
            let at = fields.node("on_error").map_or(fields.at, |node| node.at);
            let message = format!("{place}: `on_error: block` needs an event that a hook can stop");
            let hint = format!("write `warn`, or use one of {}", quoted_list(HOLDING_EVENTS));
            reader.error(at, message, Some(hint));
            OnHookError::Warn
        }
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
