//! Writing files, making and removing folders.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use serde::Deserialize;

use super::Shared;
use super::read::described;

#[derive(Deserialize)]
pub(super) struct Write {
    path: String,
    content: String,
}

#[derive(Deserialize)]
pub(super) struct Edit {
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
pub(super) struct Folders {
    paths: Vec<String>,
}

/// What to tell the model, and which file was edited.
type Edited = Result<(String, Option<PathBuf>), String>;

/// Writes a file.
pub(super) fn write(shared: &Shared, Write { path, content }: Write) -> Edited {
    let file = shared.environment.resolve(&path);
    if let Some(parent) = file.parent() {
        fs::create_dir_all(parent).map_err(|error| described(&error))?;
    }
    fs::write(&file, &content).map_err(|error| described(&error))?;
    Ok((format!("File written successfully: {path} ({} bytes)", content.len()), Some(file)))
}

/// Replaces texts in a file, all or none.
pub(super) fn edit(shared: &Shared, Edit { path, edits }: Edit) -> Edited {
    let file = shared.environment.resolve(&path);
    let before = fs::read_to_string(&file).map_err(|error| described(&error))?;
    let after = replaced(before, &edits)?;
    fs::write(&file, after).map_err(|error| described(&error))?;
    Ok((format!("File edited successfully: {path} ({} edits)", edits.len()), Some(file)))
}

fn replaced(mut text: String, edits: &[Replacement]) -> Result<String, String> {
    for (number, Replacement { old_text, new_text }) in (1..).zip(edits) {
        if !text.contains(old_text) {
            return Err(format!("Edit {number} failed: old text not found"));
        }
        text = text.replacen(old_text, new_text, 1);
    }
    Ok(text)
}

/// Makes folders.
pub(super) fn create(shared: &Shared, Folders { paths }: Folders) -> Result<String, String> {
    each(&paths, "created", |path| fs::create_dir_all(shared.environment.resolve(path)))
}

/// Removes empty folders.
pub(super) fn remove(shared: &Shared, Folders { paths }: Folders) -> Result<String, String> {
    each(&paths, "removed", |path| fs::remove_dir(shared.environment.resolve(path)))
}

/// Does it to each; an error where any failed, with what became of all.
fn each(paths: &[String], done: &str, act: impl Fn(&str) -> std::io::Result<()>) -> Result<String, String> {
    let mut text = String::new();
    let mut failed = false;
    for path in paths {
        let _ = match act(path) {
            Ok(()) => writeln!(text, "Directory {done} successfully: {path}"),
            Err(error) => {
                failed = true;
                writeln!(text, "Error: {path}: {}", described(&error))
            }
        };
    }
    if failed { Err(text) } else { Ok(text) }
}
