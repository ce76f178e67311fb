//! The parser's errors in our own words.

use serde_saphyr::DeserializeError;
use serde_saphyr::MessageFormatter;
use serde_saphyr::UserMessageFormatter;

use crate::team::error::TeamError;
use crate::team::source::Source;
use crate::team::source::shown;
use crate::team::tree::MAX_DEPTH;
use crate::team::tree::position;

/// What the YAML parser found, with its place.
pub(super) fn yaml_error(source: Source<'_>, error: &DeserializeError) -> TeamError {
    let error = error.without_snippet();
    let place = error.location().and_then(position);
    let (message, hint) = words(error);
    source.error(place, message, hint.map(str::to_owned))
}

/// The message, and the hint where we know one.
fn words(error: &DeserializeError) -> (String, Option<&'static str>) {
    match error {
        DeserializeError::DuplicateMappingKey { key, .. } => {
            let key = key.as_deref().map_or_else(String::new, |key| format!(" `{}`", shown(key)));
            (format!("the key{key} stands here for the second time"), Some("keep one of the two"))
        }
        DeserializeError::Budget { breach, .. } => budget_words(breach),
        DeserializeError::AliasReplayLimitExceeded { .. }
        | DeserializeError::AliasReplayStackDepthExceeded { .. }
        | DeserializeError::AliasExpansionLimitExceeded { .. } => {
            ("the aliases of this file stand for too much text".to_owned(), Some("write the values out"))
        }
        DeserializeError::UnknownAnchor { .. } => (
            "this alias has no anchor".to_owned(),
            Some("`*name` refers to `&name` earlier in the file; put the text in quotes to mean a star"),
        ),
        DeserializeError::MultipleDocuments { .. } => (
            "a second YAML document begins here".to_owned(),
            Some("an agent file is one document; remove the `---`"),
        ),
        DeserializeError::AliasError { error, .. } => words(error),
        DeserializeError::UnsupportedTag { tag, .. } => (
            format!("the tag `{}` means nothing in an agent file", shown(tag)),
            Some("remove it; to begin a text with `!`, put the text in quotes"),
        ),
        other => {
            let message = UserMessageFormatter.format_message(other);
            if message.contains("recursion limit") {
                return too_deep();
            }
            (format!("this is not YAML: {}", one_line(&message)), hint_of(&message))
        }
    }
}

/// A file beyond the limits.
fn budget_words(breach: &serde_saphyr::budget::BudgetBreach) -> (String, Option<&'static str>) {
    match breach {
        serde_saphyr::budget::BudgetBreach::Depth { .. } => too_deep(),
        _ => (
            "the file is too large or too intricate to be an agent file".to_owned(),
            Some("an alias counts as all that it stands for, each time"),
        ),
    }
}

/// A file that nests without end.
fn too_deep() -> (String, Option<&'static str>) {
    (format!("maps and lists nest more than {MAX_DEPTH} deep here"), None)
}

/// The parser's message, which may quote the file, on one line.
fn one_line(message: &str) -> String {
    message.lines().next().unwrap_or_default().chars().filter(|c| !c.is_control()).take(200).collect()
}

/// What most often causes a message.
fn hint_of(message: &str) -> Option<&'static str> {
    const CAUSES: &[(&str, &str)] = &[
        ("tab", "indent with spaces; YAML allows no tabs there"),
        (
            "mapping values are not allowed",
            "a text with `: ` in it goes in quotes, or on its own lines after `|`",
        ),
        ("did not find expected key", "the keys of one map begin in the same column"),
        ("unclosed quote", "close it with the same kind of quote; a quote inside goes in the other kind"),
        ("unclosed bracket", "close it, or write one item on each line without brackets"),
        ("expected string scalar", "a key is a text"),
    ];
    CAUSES.iter().find(|(part, _)| message.contains(part)).map(|(_, hint)| *hint)
}
