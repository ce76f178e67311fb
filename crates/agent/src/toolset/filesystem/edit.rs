//! Writes and edits files, creates and removes folders.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::string::FromUtf8Error;

use serde::Deserialize;

use super::Workspace;
use super::read::error_text;
use super::read::file_error;
use crate::files::MAX_FILE_BYTES;

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
    let file = workspace.resolve(&path)?;
    let written = workspace.environment.files().write(&file, content.as_bytes());
    written.map_err(|error| file_error(&path, &error))?;
    Ok((format!("File written successfully: {path} ({} bytes)", content.len()), Some(file)))
}

/// Replaces texts in a file. Nothing is written unless each is found, once.
///
/// A file that is not UTF-8 is refused: read with replacement characters and written back, it would lose every byte that
/// they stand for.
pub(super) fn edit(workspace: &Workspace, EditArguments { path, edits }: EditArguments) -> Edited {
    let file = workspace.resolve(&path)?;
    let files = workspace.environment.files();
    let bytes = files.read(&file, MAX_FILE_BYTES).map_err(|error| file_error(&path, &error))?;
    let before = String::from_utf8(bytes).map_err(|error| not_utf8(&path, &error))?;
    let after = replaced(before, &edits)?;
    files.write(&file, after.as_bytes()).map_err(|error| file_error(&path, &error))?;
    Ok((format!("File edited successfully: {path} ({} edits)", edits.len()), Some(file)))
}

/// Why a file cannot be edited, and what the model may do instead.
fn not_utf8(path: &str, error: &FromUtf8Error) -> String {
    let at = error.utf8_error().valid_up_to();
    let line = 1 + error.as_bytes()[..at].iter().filter(|&&byte| byte == b'\n').count();
    format!(
        "{path} is not UTF-8 (first at byte {at}, in line {line}), so it cannot be edited safely. It was not changed. \
         Edit it with a shell command that preserves its encoding."
    )
}

/// Applies the edits in order. Each must name one place: a text that occurs more than once may be another than was
/// meant.
fn replaced(mut text: String, edits: &[Replacement]) -> Result<String, String> {
    for (number, Replacement { old_text, new_text }) in (1..).zip(edits) {
        if old_text.is_empty() {
            return Err(format!("Edit {number} failed: old text is empty"));
        }
        match text.matches(old_text.as_str()).count() {
            0 => return Err(format!("Edit {number} failed: old text not found")),
            1 => text = text.replacen(old_text, new_text, 1),
            places => {
                return Err(format!(
                    "Edit {number} failed: old text occurs {places} times; add the lines around the one to replace"
                ));
            }
        }
    }
    Ok(text)
}

/// Creates folders, with the folders above them.
pub(super) fn create(
    workspace: &Workspace,
    FoldersArguments { paths }: FoldersArguments,
) -> Result<String, String> {
    for_each(&paths, "created", |path| {
        let folder = workspace.resolve(path)?;
        workspace.environment.files().create_folders(&folder).map_err(|error| error_text(&error))
    })
}

/// Removes empty folders.
pub(super) fn remove(
    workspace: &Workspace,
    FoldersArguments { paths }: FoldersArguments,
) -> Result<String, String> {
    for_each(&paths, "removed", |path| {
        let folder = workspace.resolve(path)?;
        workspace.environment.files().remove_folder(&folder).map_err(|error| error_text(&error))
    })
}

/// Applies `act` to every path, whether or not others fail. The text has a line for each; it is an error text where any
/// failed.
fn for_each(
    paths: &[String],
    done: &str,
    act: impl Fn(&str) -> Result<(), String>,
) -> Result<String, String> {
    let mut text = String::new();
    let mut failed = false;
    for path in paths {
        let _ = match act(path) {
            Ok(()) => writeln!(text, "Directory {done} successfully: {path}"),
            Err(error) => {
                failed = true;
                writeln!(text, "Error: {path}: {error}")
            }
        };
    }
    if failed { Err(text) } else { Ok(text) }
}
