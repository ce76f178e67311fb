//! Translates errors of the YAML parser into messages and hints for users.

use serde_saphyr::DeserializeError;
use serde_saphyr::MessageFormatter;
use serde_saphyr::UserMessageFormatter;

use crate::team::error::TeamError;
use crate::team::source::Source;
use crate::team::source::excerpt;
use crate::team::tree::MAX_DEPTH;
use crate::team::tree::position;

/// Converts an error of the YAML parser.
pub(super) fn yaml_error(source: Source<'_>, error: &DeserializeError) -> TeamError {
    let error = error.without_snippet();
    let at = error.location().and_then(position);
    let (message, hint) = describe(error);
    source.error(at, message, hint.map(str::to_owned))
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
        ("mapping values are not allowed", "quote a string that contains `: `, or write it below `|`"),
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
