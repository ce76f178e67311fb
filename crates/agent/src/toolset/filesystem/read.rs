//! Reads files.

use std::fmt::Write as _;
use std::fs;
use std::io;

use serde::Deserialize;
use serde_json::Value;
use serde_json::json;

use super::Workspace;

/// The largest file that is read. It protects the worker's memory; a model's context is far smaller.
const MAX_FILE_BYTES: u64 = 10 * 1024 * 1024;

#[derive(Deserialize)]
pub(super) struct FileArguments {
    path: String,
}

#[derive(Deserialize)]
pub(super) struct FilesArguments {
    paths: Vec<String>,
    json: Option<bool>,
}

/// The whole text of a file. Bytes that are not UTF-8 are replaced.
pub(super) fn file(workspace: &Workspace, FileArguments { path }: FileArguments) -> Result<String, String> {
    text(workspace, &path)
}

/// The texts of several files. For one that cannot be read, the error stands in place of its text.
pub(super) fn files(workspace: &Workspace, FilesArguments { paths, json }: FilesArguments) -> String {
    let read = paths.into_iter().map(|path| {
        let content = text(workspace, &path).unwrap_or_else(|error| format!("Error: {error}"));
        (path, content)
    });
    if json.unwrap_or(false) {
        let all: Vec<Value> = read.map(|(path, content)| json!({"path": path, "content": content})).collect();
        return Value::from(all).to_string();
    }
    let mut all = String::new();
    for (path, content) in read {
        let _ = write!(all, "=== {path} ===\n{content}\n\n");
    }
    all
}

/// Reads one file, and refuses those that are too large or contain a NUL byte.
fn text(workspace: &Workspace, path: &str) -> Result<String, String> {
    let file = workspace.environment.resolve(path);
    let metadata = fs::metadata(&file).map_err(|error| error_text(&error))?;
    if !metadata.is_file() {
        return Err(format!("{path} is not a file"));
    }
    if metadata.len() > MAX_FILE_BYTES {
        return Err(format!("{path} is too large to read whole: {} bytes", metadata.len()));
    }
    let bytes = fs::read(&file).map_err(|error| error_text(&error))?;
    if bytes.contains(&0) {
        return Err(format!("{path} is not a text file: {} bytes", bytes.len()));
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The error text for the model. `not found` is docker-agent's text; others are the system's.
pub(super) fn error_text(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "not found".to_owned(),
        _ => error.to_string(),
    }
}
