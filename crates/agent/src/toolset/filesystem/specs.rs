//! The specs of the file tools.

use serde_json::json;

use super::Action;
use crate::tool::ToolSpec;
use crate::toolset::schema;
use crate::toolset::schema::Schema;

/// The system message of the toolset.
pub(super) const INSTRUCTION: &str = "\
## Files

- Relative paths start at the working folder. Absolute paths and .. are allowed.
- Read several files with one call of read_multiple_files, not one after the other with read_file.
- Find code and text in files with search_files_content. Leave out what does not matter with excludePatterns, and list \
only the folder that you need: long results are cut off.";

pub(super) fn all() -> impl Iterator<Item = (Action, ToolSpec)> {
    reading().into_iter().chain(writing())
}

fn path(description: &str) -> Schema {
    Schema::new().required("path", schema::string(), description)
}

fn paths(description: &str) -> Schema {
    Schema::new().required("paths", schema::list_of(schema::string()), description)
}

/// The arguments that select some lines of a file.
fn lines(file: Schema) -> Schema {
    let number = || json!({"type": "integer", "minimum": 1});
    file.optional("line", number(), "The first line to read; 1 by default").optional(
        "limit",
        number(),
        "The most lines to read; all by default",
    )
}

fn reading() -> [(Action, ToolSpec); 5] {
    [
        (
            Action::ReadFile,
            schema::read_only(
                "read_file",
                "Read a text file, whole or some of its lines, or an image",
                lines(path("The path of the file")),
            ),
        ),
        (
            Action::ReadMultipleFiles,
            schema::read_only(
                "read_multiple_files",
                "Read several whole text files or images",
                paths("The paths of the files").optional(
                    "json",
                    schema::boolean(),
                    "Return a JSON list of path and content",
                ),
            ),
        ),
        (
            Action::ListDirectory,
            schema::read_only(
                "list_directory",
                "List the files and folders in a folder",
                path("The path of the folder"),
            ),
        ),
        (
            Action::DirectoryTree,
            schema::read_only(
                "directory_tree",
                "Show a folder with everything below it, as JSON",
                path("The path of the folder"),
            ),
        ),
        (
            Action::SearchFilesContent,
            schema::read_only(
                "search_files_content",
                "Find the lines of files below a folder that contain a text or match a regular expression",
                path("The path of the folder, or of one file")
                    .required("query", schema::string(), "The text or regular expression")
                    .optional("is_regex", schema::boolean(), "Whether the query is a regular expression")
                    .optional(
                        "excludePatterns",
                        schema::list_of(schema::string()),
                        "Globs of files and folders to skip",
                    ),
            ),
        ),
    ]
}

fn writing() -> [(Action, ToolSpec); 4] {
    let edit = Schema::new()
        .required(
            "oldText",
            schema::string(),
            "The exact text to replace, with enough around it to be unique",
        )
        .required("newText", schema::string(), "The text to put in its place")
        .build();
    [
        (
            Action::WriteFile,
            schema::writing(
                "write_file",
                "Create or overwrite a file. Missing folders are created.",
                path("The path of the file").required("content", schema::string(), "The whole content"),
            ),
        ),
        (
            Action::EditFile,
            schema::writing(
                "edit_file",
                "Replace exact texts in a file, one after the other. Each must occur exactly once. Nothing is written \
                 unless all are found.",
                path("The path of the file").required("edits", schema::list_of(edit), "The replacements"),
            ),
        ),
        (
            Action::CreateDirectory,
            schema::writing(
                "create_directory",
                "Create folders, with missing folders above them",
                paths("The paths of the folders"),
            ),
        ),
        (
            Action::RemoveDirectory,
            schema::writing("remove_directory", "Remove empty folders", paths("The paths of the folders")),
        ),
    ]
}
