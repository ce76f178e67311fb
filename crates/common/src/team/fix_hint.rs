//! Hints for values of the wrong type, where the intention is clear.

use crate::duration;

use super::source::excerpt;
use super::tree::Value;

/// The name of a boolean in messages.
pub(super) const BOOLEAN: &str = "`true` or `false`";
/// The name of a string in messages.
pub(super) const STRING: &str = "a string";
/// The name of a list of strings in messages.
pub(super) const STRING_LIST: &str = "a list of strings";

/// Examples for keys whose values have a structure, by name of the key.
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

/// A hint for a value of the wrong type. `expected` is the description in the message; `text` is the value as
/// it is written in the file, for a scalar.
pub(super) fn fix_hint(name: &str, expected: &str, value: &Value, text: Option<&str>) -> Option<String> {
    if let Some((_, example)) = EXAMPLES.iter().find(|(key, _)| *key == name) {
        return Some(format!("example: {example}"));
    }
    match (value, text) {
        (Value::List(_) | Value::Map(_), _) if expected == STRING => {
            Some("quote a string that begins with `[` or `{`".to_owned())
        }
        (Value::List(_), _) if expected.starts_with("a map") => {
            Some("write each entry as `name: value`, without dashes and brackets".to_owned())
        }
        (_, Some(text)) => scalar_hint(expected, value, text),
        _ => None,
    }
}

/// A hint for a scalar: the usual confusions of booleans, lists and numbers with strings.
fn scalar_hint(expected: &str, value: &Value, text: &str) -> Option<String> {
    let is_string = matches!(value, Value::String(_));
    let is_number = expected.contains("number") || expected.contains("integer");
    match text.to_lowercase().as_str() {
        "true" | "false" if expected == BOOLEAN && is_string => Some("remove the quotes".to_owned()),
        "yes" | "on" | "y" if expected == BOOLEAN => Some("write `true`".to_owned()),
        "no" | "off" | "n" if expected == BOOLEAN => Some("write `false`".to_owned()),
        _ if expected == STRING_LIST => Some(format!("write it in brackets: `[{}]`", excerpt(text))),
        _ if is_number && is_string && text.parse::<f64>().is_ok() => Some("remove the quotes".to_owned()),
        // Every numeric key of the schema that is a duration is in seconds.
        _ if is_number && is_string => {
            duration::parse(text).ok().map(|time| format!("write it in seconds: `{}`", time.as_secs()))
        }
        _ => None,
    }
}
