//! Lists folders.

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

use super::Workspace;
use super::read::error_text;

/// The most entries of one result: docker-agent's limit.
const MAX_ENTRIES: usize = 100;

#[derive(Deserialize)]
pub(super) struct FolderArguments {
    path: String,
}

/// Walks everything below `path` that can be reached, sorted by name. Links are not followed. With `ignore_vcs`, `.git`
/// and what Git ignores are skipped.
pub(super) fn walk(workspace: &Workspace, path: &Path, depth: Option<usize>) -> Walk {
    let ignore_vcs = workspace.ignore_vcs;
    let reach = workspace.reach.clone();
    WalkBuilder::new(path)
        .standard_filters(false)
        .parents(ignore_vcs)
        .git_ignore(ignore_vcs)
        .git_exclude(ignore_vcs)
        .max_depth(depth)
        .filter_entry(move |entry| {
            !(reach.leaves_out(entry.path()) || ignore_vcs && entry.file_name() == ".git")
        })
        .sort_by_file_name(Ord::cmp)
        .build()
}

/// Lists the entries of one folder, one a line.
pub(super) fn list(
    workspace: &Workspace,
    FolderArguments { path }: FolderArguments,
) -> Result<String, String> {
    let folder = existing(workspace, &path)?;
    let entries = walk(workspace, &folder, Some(1)).flatten().filter(|entry| entry.depth() == 1);
    let mut text = String::new();
    for (count, entry) in entries.enumerate() {
        if count == MAX_ENTRIES {
            text.push_str("...output truncated due to file limit...\n");
            break;
        }
        let kind = if is_dir(&entry) { "DIR " } else { "FILE" };
        let _ = writeln!(text, "{kind} {}", entry.file_name().to_string_lossy());
    }
    Ok(text)
}

/// A folder with everything below it, as JSON. Entries after the first [`MAX_ENTRIES`] are missing.
pub(super) fn tree(
    workspace: &Workspace,
    FolderArguments { path }: FolderArguments,
) -> Result<String, String> {
    let folder = existing(workspace, &path)?;
    let mut entries = walk(workspace, &folder, None).flatten().take(MAX_ENTRIES).peekable();
    let Some(root) = entries.next() else { return Err("not found".to_owned()) };
    let mut tree = node(&root, &mut entries);
    tree["name"] = json!(path);
    Ok(tree.to_string())
}

/// The JSON of an entry. Takes its descendants from `rest`: those that follow it and are deeper.
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

/// Resolves `path` and checks that it is a folder.
fn existing(workspace: &Workspace, path: &str) -> Result<PathBuf, String> {
    let folder = workspace.resolve(path)?;
    workspace.environment.files().check(&folder).map_err(|error| error_text(&error))?;
    if folder.is_dir() {
        return Ok(folder);
    }
    Err(if folder.exists() { format!("{path} is not a folder") } else { "not found".to_owned() })
}
