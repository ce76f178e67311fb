//! Searching in files.

use std::fmt::Write as _;
use std::io;
use std::path::Path;

use globset::Glob;
use globset::GlobSet;
use globset::GlobSetBuilder;
use grep_matcher::Matcher;
use grep_regex::RegexMatcher;
use grep_regex::RegexMatcherBuilder;
use grep_searcher::BinaryDetection;
use grep_searcher::Searcher;
use grep_searcher::SearcherBuilder;
use grep_searcher::sinks::Lossy;
use serde::Deserialize;
use tokio_util::sync::CancellationToken;

use super::Shared;
use super::entries::walk;
use crate::toolset::RESULT_BYTES;
use crate::toolset::boundary;
use crate::toolset::limited;

/// Longer lines are shown around the match only.
const WHOLE_LINE: usize = 100;
/// Characters shown on each side of a match in a long line.
const AROUND: usize = 20;

#[derive(Deserialize)]
pub(super) struct Query {
    path: String,
    query: String,
    is_regex: Option<bool>,
    #[serde(rename = "excludePatterns")]
    exclude_patterns: Option<Vec<String>>,
}

/// Lines that match, as `file:line:column: line`.
pub(super) fn search(shared: &Shared, query: Query, cancel: &CancellationToken) -> Result<String, String> {
    let root = shared.environment.resolve(&query.path);
    if !root.exists() {
        return Err("not found".to_owned());
    }
    let matcher = RegexMatcherBuilder::new()
        .fixed_strings(!query.is_regex.unwrap_or(false))
        .build(&query.query)
        .map_err(|error| format!("invalid regular expression: {error}"))?;
    let excluded = excluded(query.exclude_patterns.as_deref().unwrap_or_default())?;
    let mut searcher = SearcherBuilder::new().binary_detection(BinaryDetection::quit(0)).build();
    let mut found = String::new();
    for entry in walk(shared, &root, None).flatten() {
        if cancel.is_cancelled() || found.len() > RESULT_BYTES {
            break;
        }
        let path = entry.path();
        let below = path.strip_prefix(&root).unwrap_or(path);
        if entry.file_type().is_some_and(|kind| kind.is_file()) && !left_out(&excluded, below) {
            let name = path.strip_prefix(&shared.environment.working_dir).unwrap_or(path);
            // A file that cannot be read has no lines.
            search_file(&mut searcher, &matcher, path, name, &mut found).ok();
        }
    }
    if found.is_empty() {
        return Ok("No results found".to_owned());
    }
    Ok(limited(found))
}

fn excluded(patterns: &[String]) -> Result<GlobSet, String> {
    let wrong = |error: globset::Error| format!("invalid exclude pattern: {error}");
    let mut set = GlobSetBuilder::new();
    for pattern in patterns {
        set.add(Glob::new(pattern).map_err(wrong)?);
    }
    set.build().map_err(wrong)
}

/// Whether a pattern fits the path, a folder above it, or the name of either.
fn left_out(excluded: &GlobSet, path: &Path) -> bool {
    path.ancestors()
        .any(|part| excluded.is_match(part) || part.file_name().is_some_and(|name| excluded.is_match(name)))
}

fn search_file(
    searcher: &mut Searcher,
    matcher: &RegexMatcher,
    path: &Path,
    name: &Path,
    found: &mut String,
) -> io::Result<()> {
    let sink = Lossy(|number, line| {
        let line = line.trim_end_matches(['\r', '\n']);
        let place = matcher.find(line.as_bytes()).ok().flatten();
        let (start, end) = place.map_or((0, 0), |place| (place.start(), place.end()));
        let (start, end) = (boundary(line, start), boundary(line, end));
        let column = line[..start].chars().count() + 1;
        let _ = writeln!(found, "{}:{number}:{column}: {}", name.display(), preview(line, start, end));
        Ok(found.len() <= RESULT_BYTES)
    });
    searcher.search_path(matcher, path, sink)
}

/// The line, or where it is long the match with some characters around it.
fn preview(line: &str, start: usize, end: usize) -> String {
    if line.chars().count() <= WHOLE_LINE {
        return line.trim().to_owned();
    }
    let mut before: Vec<char> = line[..start].chars().rev().take(AROUND).collect();
    before.reverse();
    let after = line[end..].chars().take(AROUND);
    before.into_iter().chain(line[start..end].chars().take(WHOLE_LINE)).chain(after).collect()
}
