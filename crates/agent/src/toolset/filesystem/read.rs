//! Reads files.

use std::fmt::Write as _;
use std::io;

use serde::Deserialize;
use serde_json::Value;
use serde_json::json;

use super::Workspace;
use crate::files::MAX_FILE_BYTES;
use crate::image;
use crate::image::Image;
use crate::tool::ToolOutcome;

#[derive(Deserialize)]
pub(super) struct FileArguments {
    path: String,
    /// The first line, counted from 1.
    line: Option<usize>,
    /// The most lines.
    limit: Option<usize>,
}

#[derive(Deserialize)]
pub(super) struct FilesArguments {
    paths: Vec<String>,
    json: Option<bool>,
}

/// What one file is read as: a text, or an image with the sentence for it.
type Content = (String, Option<Image>);

/// The text of a file or some of its lines, or the image in it. Bytes of a text that are not UTF-8 are replaced.
pub(super) fn file(
    workspace: &Workspace,
    FileArguments { path, line, limit }: FileArguments,
) -> Result<ToolOutcome, String> {
    let (text, image) = content(workspace, &path, MAX_FILE_BYTES)?;
    let text = if image.is_some() || line.is_none() && limit.is_none() {
        text
    } else {
        lines(&text, line.unwrap_or(1).max(1), limit.unwrap_or(usize::MAX))?
    };
    Ok(ToolOutcome { images: image.into_iter().collect(), ..ToolOutcome::ok(text) })
}

/// At most `limit` lines from the one with the number `first`, with their line ends.
fn lines(text: &str, first: usize, limit: usize) -> Result<String, String> {
    let count = text.lines().count();
    if first > count.max(1) {
        return Err(format!("line {first} is after the end: the file has {count} lines"));
    }
    Ok(text.split_inclusive('\n').skip(first - 1).take(limit).collect())
}

/// The contents of several files. For one that cannot be read, the error stands in place of its text.
pub(super) fn files(workspace: &Workspace, FilesArguments { paths, json }: FilesArguments) -> ToolOutcome {
    let (mut read, mut images) = (Vec::new(), Vec::new());
    let mut left = image::MAX_BYTES;
    // All files of one call together have the bound of one file.
    let mut bytes_left = MAX_FILE_BYTES;
    for path in paths {
        let (mut text, image) =
            content(workspace, &path, bytes_left).unwrap_or_else(|error| (format!("Error: {error}"), None));
        bytes_left -= bytes_left.min(text.len() as u64);
        match image {
            Some(image) if image.bytes() <= left && images.len() < image::MAX_PER_RESULT => {
                left -= image.bytes();
                images.push(image);
            }
            Some(_) => text.push_str(" is left out: the images of this result are too many; read it alone"),
            None => {}
        }
        read.push((path, text));
    }
    let text = if json.unwrap_or(false) {
        let all = read.into_iter().map(|(path, content)| json!({"path": path, "content": content}));
        Value::from_iter(all).to_string()
    } else {
        let mut all = String::new();
        for (path, content) in read {
            let _ = write!(all, "=== {path} ===\n{content}\n\n");
        }
        all
    };
    ToolOutcome { images, ..ToolOutcome::ok(text) }
}

/// Reads one file, and refuses those that are too large or contain a NUL byte and are no image.
fn content(workspace: &Workspace, path: &str, max_bytes: u64) -> Result<Content, String> {
    let file = workspace.resolve(path)?;
    let bytes =
        workspace.environment.files().read(&file, max_bytes).map_err(|error| file_error(path, &error))?;
    if image::media_type(&bytes).is_some() {
        let image = image::read(&bytes).map_err(|sentence| format!("{path}: {sentence}"))?;
        return Ok((format!("{path}: {}", image::caption(&image)), Some(image)));
    }
    if bytes.contains(&0) {
        return Err(format!("{path} is not a text file: {} bytes", bytes.len()));
    }
    Ok((String::from_utf8_lossy(&bytes).into_owned(), None))
}

/// The error text for a file that is to be read, or written to.
pub(super) fn file_error(path: &str, error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::InvalidInput => format!("{path} is not a file"),
        io::ErrorKind::FileTooLarge => format!("{path} is {error}"),
        _ => error_text(error),
    }
}

/// The error text for the model. `not found` is docker-agent's text; others are the system's.
pub(super) fn error_text(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "not found".to_owned(),
        _ => error.to_string(),
    }
}
