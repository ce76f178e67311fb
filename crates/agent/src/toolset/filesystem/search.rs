//! Searches the contents of files.

use std::fmt::Write as _;
use std::fs::File;
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

use super::Workspace;
use super::entries::walk;
use super::read::error_text;
use crate::toolset::MAX_RESULT_BYTES;
use crate::toolset::boundary;
use crate::toolset::limited;

/// The longest line that is shown whole: docker-agent's limit. Of a longer one, only the match and its context are
/// shown.
const MAX_WHOLE_LINE_CHARS: usize = 100;
/// Characters shown on each side of a match in a long line, as in docker-agent.
const CONTEXT_CHARS: usize = 20;

/// The longest line that is searched, in bytes. A file with a longer one is skipped from there on: the search holds whole
/// lines in memory.
const MAX_LINE_BYTES: usize = 8 * 1024 * 1024;

#[derive(Deserialize)]
pub(super) struct SearchArguments {
    path: String,
    query: String,
    is_regex: Option<bool>,
    #[serde(rename = "excludePatterns")]
    exclude_patterns: Option<Vec<String>>,
}

/// The matching lines as `file:line:column: line`, in the order of paths. The search stops when the result is full,
/// when the call is cancelled or when it is dropped. Files that cannot be read are skipped.
pub(super) fn search(
    workspace: &Workspace,
    arguments: SearchArguments,
    cancel: &CancellationToken,
) -> Result<String, String> {
    let root = workspace.resolve(&arguments.path)?;
    let files = workspace.environment.files();
    files.check(&root).map_err(|error| error_text(&error))?;
    let matcher = RegexMatcherBuilder::new()
        .fixed_strings(!arguments.is_regex.unwrap_or(false))
        .build(&arguments.query)
        .map_err(|error| format!("invalid regular expression: {error}"))?;
    let excluded = excluded(arguments.exclude_patterns.as_deref().unwrap_or_default())?;
    let mut searcher = SearcherBuilder::new()
        .binary_detection(BinaryDetection::quit(0))
        .heap_limit(Some(MAX_LINE_BYTES))
        .build();
    let mut found = String::new();
    for entry in walk(workspace, &root, None).flatten() {
        if cancel.is_cancelled() || found.len() > MAX_RESULT_BYTES {
            break;
        }
        let path = entry.path();
        let relative = path.strip_prefix(&root).unwrap_or(path);
        if entry.file_type().is_some_and(|kind| kind.is_file()) && !is_excluded(&excluded, relative) {
            let name = path.strip_prefix(&workspace.environment.working_dir).unwrap_or(path);
            // A file that cannot be read is skipped.
            let file = files.open(path);
            file.and_then(|file| search_file(&mut searcher, &matcher, &file, name, &mut found)).ok();
        }
    }
    if found.is_empty() {
        return Ok("No results found".to_owned());
    }
    Ok(limited(found))
}

/// Compiles the globs of `excludePatterns`.
fn excluded(patterns: &[String]) -> Result<GlobSet, String> {
    let invalid = |error: globset::Error| format!("invalid exclude pattern: {error}");
    let mut set = GlobSetBuilder::new();
    for pattern in patterns {
        set.add(Glob::new(pattern).map_err(invalid)?);
    }
    set.build().map_err(invalid)
}

/// Whether a glob matches the path, a folder above it, or the name of either.
fn is_excluded(excluded: &GlobSet, path: &Path) -> bool {
    path.ancestors()
        .any(|part| excluded.is_match(part) || part.file_name().is_some_and(|name| excluded.is_match(name)))
}

/// Appends the matching lines of one file to `found`, until that is full.
fn search_file(
    searcher: &mut Searcher,
    matcher: &RegexMatcher,
    file: &File,
    name: &Path,
    found: &mut String,
) -> io::Result<()> {
    let sink = Lossy(|number, line| {
        let line = line.trim_end_matches(['\r', '\n']);
        let found_at = matcher.find(line.as_bytes()).ok().flatten();
        let (start, end) = found_at.map_or((0, 0), |found_at| (found_at.start(), found_at.end()));
        let (start, end) = (boundary(line, start), boundary(line, end));
        let column = line[..start].chars().count() + 1;
        let _ = writeln!(found, "{}:{number}:{column}: {}", name.display(), preview(line, start, end));
        Ok(found.len() <= MAX_RESULT_BYTES)
    });
    searcher.search_file(matcher, file, sink)
}

/// The line, or of a long one the match between `start` and `end` with its context.
fn preview(line: &str, start: usize, end: usize) -> String {
    if line.chars().count() <= MAX_WHOLE_LINE_CHARS {
        return line.trim().to_owned();
    }
    let mut before: Vec<char> = line[..start].chars().rev().take(CONTEXT_CHARS).collect();
    before.reverse();
    let after = line[end..].chars().take(CONTEXT_CHARS);
    before.into_iter().chain(line[start..end].chars().take(MAX_WHOLE_LINE_CHARS)).chain(after).collect()
}
