//! Writes and edits files, creates and removes folders.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use serde::Deserialize;

use super::Workspace;
use super::read::error_text;

#[derive(Deserialize)]
pub(super) struct WriteArguments {
    path: String,
    content: String,
}

#[derive(Deserialize)]
pub(super) struct EditArguments {
    path: String,
    edits: Vec<Replacement>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Replacement {
    old_text: String,
    new_text: String,
}

#[derive(Deserialize)]
pub(super) struct FoldersArguments {
    paths: Vec<String>,
}

/// The result text and the edited file, or the error text.
type Edited = Result<(String, Option<PathBuf>), String>;

/// Writes a file, with the folders above it. A crash in the middle may leave a part of the content.
pub(super) fn write(workspace: &Workspace, WriteArguments { path, content }: WriteArguments) -> Edited {
    let file = workspace.environment.resolve(&path);
    if let Some(parent) = file.parent() {
        fs::create_dir_all(parent).map_err(|error| error_text(&error))?;
    }
    fs::write(&file, &content).map_err(|error| error_text(&error))?;
    Ok((format!("File written successfully: {path} ({} bytes)", content.len()), Some(file)))
}

/// Replaces texts in a file. Nothing is written unless each is found.
pub(super) fn edit(workspace: &Workspace, EditArguments { path, edits }: EditArguments) -> Edited {
    let file = workspace.environment.resolve(&path);
    let before = fs::read_to_string(&file).map_err(|error| error_text(&error))?;
    let after = replaced(before, &edits)?;
    fs::write(&file, after).map_err(|error| error_text(&error))?;
    Ok((format!("File edited successfully: {path} ({} edits)", edits.len()), Some(file)))
}

/// Applies the edits in order; each replaces the first occurrence only.
fn replaced(mut text: String, edits: &[Replacement]) -> Result<String, String> {
    for (number, Replacement { old_text, new_text }) in (1..).zip(edits) {
        if !text.contains(old_text) {
            return Err(format!("Edit {number} failed: old text not found"));
        }
        text = text.replacen(old_text, new_text, 1);
    }
    Ok(text)
}

/// Creates folders, with the folders above them.
pub(super) fn create(
    workspace: &Workspace,
    FoldersArguments { paths }: FoldersArguments,
) -> Result<String, String> {
    for_each(&paths, "created", |path| fs::create_dir_all(workspace.environment.resolve(path)))
}

/// Removes empty folders.
pub(super) fn remove(
    workspace: &Workspace,
    FoldersArguments { paths }: FoldersArguments,
) -> Result<String, String> {
    for_each(&paths, "removed", |path| fs::remove_dir(workspace.environment.resolve(path)))
}

/// Applies `act` to every path, whether or not others fail. The text has a line for each; it is an error text where any
/// failed.
fn for_each(
    paths: &[String],
    done: &str,
    act: impl Fn(&str) -> std::io::Result<()>,
) -> Result<String, String> {
    let mut text = String::new();
    let mut failed = false;
    for path in paths {
        let _ = match act(path) {
            Ok(()) => writeln!(text, "Directory {done} successfully: {path}"),
            Err(error) => {
                failed = true;
                writeln!(text, "Error: {path}: {}", error_text(&error))
            }
        };
    }
    if failed { Err(text) } else { Ok(text) }
}
