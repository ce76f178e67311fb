//! Names in hints: quoted lists, and the name that is closest to a misspelt one.

use super::source::excerpt;

/// The maximum number of names that a hint lists. The maps of the schema have fewer than 30 keys; only names
/// that the file defines itself can exceed this.
const MAX_LISTED: usize = 40;
/// The maximum number of names that are compared with a misspelt one. It bounds the cost of a file with many
/// names.
const MAX_COMPARED: usize = 1_000;
/// Longer names, in bytes, are not compared: the comparison takes quadratic time, and no key is that long.
const MAX_COMPARED_BYTES: usize = 60;
/// The minimum similarity of a suggestion, from 0 to 1. It accepts one or two typos in a short name.
const MIN_SIMILARITY: f64 = 0.6;

/// Formats names as `` `a`, `b` ``, with an ellipsis when there are too many.
pub(super) fn quoted_list<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let mut names = names.into_iter();
    let listed: Vec<String> =
        names.by_ref().take(MAX_LISTED).map(|name| format!("`{}`", excerpt(name))).collect();
    let rest = if names.next().is_some() { ", …" } else { "" };
    listed.join(", ") + rest
}

/// The name that is most similar to `misspelt`, ignoring case, `-`, `_` and spaces; `None` when none is
/// similar enough.
pub(super) fn closest<'a>(misspelt: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if misspelt.len() > MAX_COMPARED_BYTES {
        return None;
    }
    let normalized = |name: &str| name.to_lowercase().replace(['-', '_', ' '], "");
    let misspelt = normalized(misspelt);
    names
        .into_iter()
        .take(MAX_COMPARED)
        .filter(|name| name.len() <= MAX_COMPARED_BYTES)
        .map(|name| (strsim::normalized_damerau_levenshtein(&misspelt, &normalized(name)), name))
        .filter(|(similarity, _)| *similarity >= MIN_SIMILARITY)
        // Of equally similar names the first: tables list the usual ones first.
        .reduce(|best, next| if next.0 > best.0 { next } else { best })
        .map(|(_, name)| name)
}
