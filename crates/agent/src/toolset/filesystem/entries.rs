//! Listing folders.

use std::fmt::Write as _;
use std::iter::Peekable;
use std::path::Path;
use std::path::PathBuf;

use ignore::DirEntry;
use ignore::Walk;
use ignore::WalkBuilder;
use serde::Deserialize;
use serde_json::Value;
use serde_json::json;

use super::Shared;

/// The most entries of one answer.
const MOST: usize = 100;

#[derive(Deserialize)]
pub(super) struct Folder {
    path: String,
}

/// Everything below `path` in the order of names, without what the version control ignores where that is asked
/// for. Links are not followed.
pub(super) fn walk(shared: &Shared, path: &Path, depth: Option<usize>) -> Walk {
    let ignore_vcs = shared.ignore_vcs;
    WalkBuilder::new(path)
        .standard_filters(false)
        .parents(ignore_vcs)
        .git_ignore(ignore_vcs)
        .git_exclude(ignore_vcs)
        .max_depth(depth)
        .filter_entry(move |entry| !(ignore_vcs && entry.file_name() == ".git"))
        .sort_by_file_name(Ord::cmp)
        .build()
}

/// One folder.
pub(super) fn list(shared: &Shared, Folder { path }: Folder) -> Result<String, String> {
    let folder = existing(shared, &path)?;
    let entries = walk(shared, &folder, Some(1)).flatten().filter(|entry| entry.depth() == 1);
    let mut text = String::new();
    for (count, entry) in entries.enumerate() {
        if count == MOST {
            text.push_str("...output truncated due to file limit...\n");
            break;
        }
        let kind = if is_dir(&entry) { "DIR " } else { "FILE" };
        let _ = writeln!(text, "{kind} {}", entry.file_name().to_string_lossy());
    }
    Ok(text)
}

/// One folder with everything below it.
pub(super) fn tree(shared: &Shared, Folder { path }: Folder) -> Result<String, String> {
    let folder = existing(shared, &path)?;
    let mut entries = walk(shared, &folder, None).flatten().take(MOST).peekable();
    let Some(root) = entries.next() else { return Err("not found".to_owned()) };
    let mut tree = node(&root, &mut entries);
    tree["name"] = json!(path);
    Ok(tree.to_string())
}

/// An entry with what follows it and lies deeper.
fn node(entry: &DirEntry, rest: &mut Peekable<impl Iterator<Item = DirEntry>>) -> Value {
    let name = entry.file_name().to_string_lossy();
    if !is_dir(entry) {
        return json!({"name": name, "type": "file"});
    }
    let mut children = Vec::new();
    while let Some(child) = rest.next_if(|next| next.depth() > entry.depth()) {
        children.push(node(&child, rest));
    }
    json!({"name": name, "type": "directory", "children": children})
}

fn is_dir(entry: &DirEntry) -> bool {
    entry.file_type().is_some_and(|kind| kind.is_dir())
}

/// The folder, if it is one.
fn existing(shared: &Shared, path: &str) -> Result<PathBuf, String> {
    let folder = shared.environment.resolve(path);
    if folder.is_dir() {
        return Ok(folder);
    }
    Err(if folder.exists() { format!("{path} is not a folder") } else { "not found".to_owned() })
}
