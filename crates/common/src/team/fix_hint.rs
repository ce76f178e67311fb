//! What to write in place of a value of the wrong kind, where that is plain.

use crate::duration;

use super::source::shown;
use super::tree::Value;

/// What two kinds of values are called in messages.
pub(super) const A_FLAG: &str = "`true` or `false`";
pub(super) const A_LIST: &str = "a list of texts";

/// How keys look that are written wrong in more ways than one.
const EXAMPLES: &[(&str, &str)] = &[
    ("toolsets", "`toolsets: [{type: shell}]`"),
    ("commands", "`commands: {fix: Fix the failing tests}`"),
    ("pre_tool_use", "`[{matcher: shell, hooks: [{type: command, command: ./check.sh}]}]`"),
    ("post_tool_use", "`[{matcher: shell, hooks: [{type: command, command: ./check.sh}]}]`"),
    ("session_start", "`[{type: command, command: ./begin.sh}]`"),
    ("session_end", "`[{type: command, command: ./end.sh}]`"),
    ("on_user_input", "`[{type: command, command: ./bell.sh}]`"),
    ("routing", "`[{model: openai/gpt-4o-mini, examples: [What is the time?]}]`"),
    ("post_edit", "`[{path: \"*.rs\", cmd: rustfmt $path}]`"),
    ("schema", "`{type: object, properties: {answer: {type: string}}}`"),
    ("strategies", "`[{type: bm25}]`"),
];

/// How the value would be written. `text` is a scalar as it stands in the file.
pub(super) fn fix_hint(name: &str, wanted: &str, value: &Value, text: Option<&str>) -> Option<String> {
    if let Some((_, example)) = EXAMPLES.iter().find(|(key, _)| *key == name) {
        return Some(format!("for example {example}"));
    }
    match (value, text) {
        (Value::List(_) | Value::Map(_), _) if wanted == "text" => {
            Some("a text that begins with `[` or `{` goes in quotes".to_owned())
        }
        (Value::List(_), _) if wanted.starts_with("a map") => {
            Some("write each as `name: value`, without dashes and brackets".to_owned())
        }
        (_, Some(text)) => of_text(wanted, value, text),
        _ => None,
    }
}

fn of_text(wanted: &str, value: &Value, text: &str) -> Option<String> {
    let quoted = matches!(value, Value::Text(_));
    let is_number = wanted.contains("number");
    match text.to_lowercase().as_str() {
        "true" | "false" if wanted == A_FLAG && quoted => Some("remove the quotes".to_owned()),
        "yes" | "on" | "y" if wanted == A_FLAG => Some("write `true`".to_owned()),
        "no" | "off" | "n" if wanted == A_FLAG => Some("write `false`".to_owned()),
        _ if wanted == A_LIST => Some(format!("write it in brackets: `[{}]`", shown(text))),
        _ if is_number && quoted && text.parse::<f64>().is_ok() => Some("remove the quotes".to_owned()),
        // Keys that take a number and look like a time take seconds.
        _ if is_number && quoted => {
            duration::parse(text).ok().map(|time| format!("write it in seconds: `{}`", time.as_secs()))
        }
        _ => None,
    }
}
