//! Names in hints: lists of them, and the one that was meant.

use super::source::shown;

/// At most so many names stand in one hint, and are compared for one.
const MAX_LISTED: usize = 40;
const MAX_COMPARED: usize = 1_000;

/// Names longer than this, in bytes, are not compared.
const MAX_LENGTH: usize = 60;

/// Names as `a`, `b`.
pub(super) fn listed<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let mut names = names.into_iter();
    let listed: Vec<String> = names
        .by_ref()
        .take(MAX_LISTED)
        .map(|name| format!("`{}`", shown(name)))
        .collect();
    let rest = if names.next().is_some() { ", …" } else { "" };
    listed.join(", ") + rest
}

/// The one of the names that was most likely meant.
pub(super) fn nearest<'a>(
    wrong: &str,
    names: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    if wrong.len() > MAX_LENGTH {
        return None;
    }
    let plain = |name: &str| name.to_lowercase().replace(['-', '_', ' '], "");
    let wrong = plain(wrong);
    names
        .into_iter()
        .take(MAX_COMPARED)
        .filter(|name| name.len() <= MAX_LENGTH)
        .map(|name| {
            (
                strsim::normalized_damerau_levenshtein(&wrong, &plain(name)),
                name,
            )
        })
        .filter(|(likeness, _)| *likeness >= 0.6)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, name)| name)
}
