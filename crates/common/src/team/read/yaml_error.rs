//! Translates errors of the YAML parser into messages and hints for users.

use serde_saphyr::DeserializeError;
use serde_saphyr::MessageFormatter;
use serde_saphyr::UserMessageFormatter;

use super::repeated_keys;
use crate::team::error::TeamError;
use crate::team::source::Source;
use crate::team::source::excerpt;
use crate::team::tree::MAX_DEPTH;
use crate::team::tree::position;

/// Converts an error of the YAML parser; a repeated key becomes one error for each.
pub(super) fn yaml_errors(source: Source<'_>, error: &DeserializeError) -> Vec<TeamError> {
    let error = error.without_snippet();
    if matches!(error, DeserializeError::DuplicateMappingKey { .. }) {
        let repeated = repeated_keys::errors(source);
        if !repeated.is_empty() {
            return repeated;
        }
    }
    let at = error.location().and_then(position);
    let (message, hint) = describe(error);
    let hint = match at {
        Some(at) if message.contains(MISPLACED) && is_indented_too_far(source.text, at.line) => {
            Some(INDENTATION)
        }
        _ => hint,
    };
    vec![source.error(at, message, hint.map(str::to_owned))]
}

/// The part of the parser's message for a `key: value` where none may be.
const MISPLACED: &str = "mapping values are not allowed";
/// The hint for a line that is indented further than its map.
const INDENTATION: &str = "this line is indented further than the line above, which has a value already; all keys of a map \
                           must start in the same column";

/// Whether a line that begins with a key is indented further than the line above, whose key has a value on the same
/// line: no map can begin there.
fn is_indented_too_far(text: &str, line: u64) -> bool {
    let Some(index) = usize::try_from(line).ok().and_then(|line| line.checked_sub(1)) else { return false };
    let above = text.lines().take(index).filter(|line| !is_blank(line)).last();
    let (Some(line), Some(above)) = (text.lines().nth(index), above) else { return false };
    let indent = |line: &str| line.len() - line.trim_start_matches([' ', '-']).len();
    let has_value = |line: &str| line.split_once(": ").is_some_and(|(_, value)| !value.trim().is_empty());
    let begins_with_key = line.trim_start().split_once(':').is_some_and(|(key, _)| {
        !key.is_empty() && key.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-'))
    });
    begins_with_key && has_value(above) && indent(line) > indent(above)
}

/// Whether a line is empty or a comment.
fn is_blank(line: &str) -> bool {
    let line = line.trim_start();
    line.is_empty() || line.starts_with('#')
}

/// The message, and a hint for the common errors.
fn describe(error: &DeserializeError) -> (String, Option<&'static str>) {
    match error {
        DeserializeError::DuplicateMappingKey { key, .. } => {
            let key = key.as_deref().map_or_else(String::new, |key| format!(" `{}`", excerpt(key)));
            (format!("duplicate key{key}"), Some("remove one of the two"))
        }
        DeserializeError::Budget { breach, .. } => describe_budget(breach),
        DeserializeError::AliasReplayLimitExceeded { .. }
        | DeserializeError::AliasReplayStackDepthExceeded { .. }
        | DeserializeError::AliasExpansionLimitExceeded { .. } => (
            "the aliases in this file expand to too much text".to_owned(),
            Some("replace aliases by their values"),
        ),
        DeserializeError::UnknownAnchor { .. } => (
            "this alias has no anchor".to_owned(),
            Some("`*name` refers to `&name` earlier in the file; quote a string that begins with `*`"),
        ),
        DeserializeError::MultipleDocuments { .. } => (
            "the file has more than one YAML document".to_owned(),
            Some("remove the `---`; an agent file is a single document"),
        ),
        DeserializeError::AliasError { error, .. } => describe(error),
        DeserializeError::UnsupportedTag { tag, .. } => (
            format!("unsupported YAML tag `{}`", excerpt(tag)),
            Some("remove it, or quote a string that begins with `!`"),
        ),
        other => {
            let message = UserMessageFormatter.format_message(other);
            if message.contains("recursion limit") {
                return too_deep();
            }
            (format!("invalid YAML: {}", one_line(&message)), hint_of(&message))
        }
    }
}

/// The message for a file that exceeds the limits of the parser.
fn describe_budget(breach: &serde_saphyr::budget::BudgetBreach) -> (String, Option<&'static str>) {
    match breach {
        serde_saphyr::budget::BudgetBreach::Depth { .. } => too_deep(),
        _ => (
            "the file is too large or too complex for an agent file".to_owned(),
            Some("every use of an alias counts as a copy of its value"),
        ),
    }
}

/// The message for a file that exceeds the nesting depth.
fn too_deep() -> (String, Option<&'static str>) {
    (format!("maps and lists are nested more than {MAX_DEPTH} levels deep"), None)
}

/// The first line of the parser's message, without control characters, because it may quote the file.
fn one_line(message: &str) -> String {
    message.lines().next().unwrap_or_default().chars().filter(|c| !c.is_control()).take(200).collect()
}

/// A hint about the usual cause of a message of the parser.
fn hint_of(message: &str) -> Option<&'static str> {
    const CAUSES: &[(&str, &str)] = &[
        ("tab", "indent with spaces; YAML does not allow tabs in indentation"),
        (MISPLACED, "quote a string that contains `: `, or write it below `|`"),
        ("did not find expected key", "all keys of a map must start in the same column"),
        (
            "unclosed quote",
            "close it with the same kind of quote; use the other kind around a string that contains a quote",
        ),
        ("unclosed bracket", "close it, or write each item on a line of its own, without brackets"),
        ("expected string scalar", "a key must be a string"),
    ];
    CAUSES.iter().find(|(part, _)| message.contains(part)).map(|(_, hint)| *hint)
}

#[cfg(test)]
mod tests {
    use crate::team::parse;

    fn hint(file: &str) -> String {
        let errors = parse("team.yaml", file.as_bytes()).unwrap_err();
        errors.iter().next().and_then(|error| error.hint()).unwrap_or_default().to_owned()
    }

    #[test]
    fn a_line_that_is_indented_too_far_has_a_hint_about_indentation() {
        for file in [
            "agents:\n  root:\n    model: auto\n      instruction: hi\n",
            "agents:\n  root:\n    model: auto\n\n    # why\n     add_date: true\n",
            "agents:\n  root:\n    model: auto\n    toolsets:\n      - type: shell\n          tools: [shell]\n",
        ] {
            assert!(hint(file).contains("must start in the same column"), "{file}{}", hint(file));
        }
        let colon = "agents:\n  root:\n    model: auto\n    instruction: note: hi\n";
        assert!(hint(colon).starts_with("quote a string"), "{}", hint(colon));
    }
}
