//! What models are told of the file tools.

use serde_json::json;

use super::Action;
use crate::tool::ToolSpec;
use crate::toolset::schema;
use crate::toolset::schema::Schema;

/// Every tool with its description.
pub(super) fn all() -> Vec<(Action, ToolSpec)> {
    let mut all = reading();
    all.extend(writing());
    all
}

fn reading() -> Vec<(Action, ToolSpec)> {
    let text = || json!({"type": "string"});
    let texts = || json!({"type": "array", "items": text()});
    let path = |of| Schema::new().required("path", text(), of);
    let flag = || json!({"type": "boolean"});
    vec![
        (
            Action::ReadFile,
            schema::reading("read_file", "Read a text file, whole", path("The path of the file")),
        ),
        (
            Action::ReadMultipleFiles,
            schema::reading(
                "read_multiple_files",
                "Read several text files, whole",
                Schema::new().required("paths", texts(), "The paths of the files").optional(
                    "json",
                    flag(),
                    "Answer with a JSON list of path and content",
                ),
            ),
        ),
        (
            Action::ListDirectory,
            schema::reading(
                "list_directory",
                "List the files and folders in a folder",
                path("The path of the folder"),
            ),
        ),
        (
            Action::DirectoryTree,
            schema::reading(
                "directory_tree",
                "Show a folder with everything below it, as JSON",
                path("The path of the folder"),
            ),
        ),
        (
            Action::SearchFilesContent,
            schema::reading(
                "search_files_content",
                "Find the lines of files below a folder that hold a text or match a regular expression",
                path("The path of the folder, or of one file")
                    .required("query", text(), "What to look for")
                    .optional("is_regex", flag(), "Whether it is a regular expression")
                    .optional("excludePatterns", texts(), "Globs of files and folders to leave out"),
            ),
        ),
    ]
}

fn writing() -> Vec<(Action, ToolSpec)> {
    let text = || json!({"type": "string"});
    let texts = || json!({"type": "array", "items": text()});
    let path = |of| Schema::new().required("path", text(), of);
    let edit = json!({
        "type": "object",
        "properties": {
            "oldText": {"type": "string", "description": "The exact text to replace"},
            "newText": {"type": "string", "description": "What to put in its place"},
        },
        "required": ["oldText", "newText"],
        "additionalProperties": false,
    });
    vec![
        (
            Action::WriteFile,
            schema::writing(
                "write_file",
                "Write a file, new or over an old one. Folders that are missing are made.",
                path("The path of the file").required("content", text(), "The whole content"),
            ),
        ),
        (
            Action::EditFile,
            schema::writing(
                "edit_file",
                "Replace exact texts in a file, one after the other. Nothing is written unless all are found.",
                path("The path of the file").required(
                    "edits",
                    json!({"type": "array", "items": edit}),
                    "The replacements",
                ),
            ),
        ),
        (
            Action::CreateDirectory,
            schema::writing(
                "create_directory",
                "Make folders, with the folders above them that are missing",
                Schema::new().required("paths", texts(), "The paths of the folders"),
            ),
        ),
        (
            Action::RemoveDirectory,
            schema::writing(
                "remove_directory",
                "Remove empty folders",
                Schema::new().required("paths", texts(), "The paths of the folders"),
            ),
        ),
    ]
}
