//! Reading files.

use std::fmt::Write as _;
use std::fs;
use std::io;

use serde::Deserialize;
use serde_json::Value;
use serde_json::json;

use super::Shared;

/// A file above this is not read into a conversation.
const LARGEST: u64 = 10 * 1024 * 1024;

#[derive(Deserialize)]
pub(super) struct One {
    path: String,
}

#[derive(Deserialize)]
pub(super) struct Many {
    paths: Vec<String>,
    json: Option<bool>,
}

/// The text of a file.
pub(super) fn file(shared: &Shared, One { path }: One) -> Result<String, String> {
    text(shared, &path)
}

/// The texts of files, with what went wrong in the place of those that cannot be read.
pub(super) fn files(shared: &Shared, Many { paths, json }: Many) -> String {
    let read = paths.into_iter().map(|path| {
        let content = text(shared, &path).unwrap_or_else(|error| format!("Error: {error}"));
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

fn text(shared: &Shared, path: &str) -> Result<String, String> {
    let file = shared.environment.resolve(path);
    let about = fs::metadata(&file).map_err(|error| described(&error))?;
    if !about.is_file() {
        return Err(format!("{path} is not a file"));
    }
    if about.len() > LARGEST {
        return Err(format!("{path} is too large to read whole: {} bytes", about.len()));
    }
    let bytes = fs::read(&file).map_err(|error| described(&error))?;
    if bytes.contains(&0) {
        return Err(format!("{path} is not a text file: {} bytes", bytes.len()));
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// What went wrong, in the words that models know.
pub(super) fn described(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "not found".to_owned(),
        _ => error.to_string(),
    }
}
