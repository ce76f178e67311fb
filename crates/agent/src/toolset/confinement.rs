//! Keeps files that an agent file names for a toolset (`memory`, `tasks`) below the working folder.

use std::fs;
use std::io;
use std::path::Component;
use std::path::Path;
use std::path::PathBuf;

/// Joins `path` to `folder` and resolves `.` and `..` without the file system. Links are checked by [`escapes`].
///
/// # Errors
///
/// The result is not below the folder. The message is for the agent and the operator.
pub(crate) fn confine(folder: &Path, path: &str) -> Result<PathBuf, String> {
    let mut confined = PathBuf::new();
    for component in folder.join(path).components() {
        match component {
            Component::ParentDir => {
                confined.pop();
            }
            Component::CurDir => {}
            other @ (Component::Normal(_) | Component::RootDir | Component::Prefix(_)) => {
                confined.push(other)
            }
        }
    }
    if confined.starts_with(folder) && confined != folder {
        Ok(confined)
    } else {
        Err(format!("the path {path} is not below the working folder"))
    }
}

/// Whether links on the way to `path` lead out of `folder`. Parts of the path that do not exist yet are ignored.
///
/// # Errors
///
/// The system's, for example for a link whose target does not exist.
pub(super) fn escapes(path: &Path, folder: &Path) -> io::Result<bool> {
    let existing = path.ancestors().find(|ancestor| ancestor.symlink_metadata().is_ok());
    Ok(!fs::canonicalize(existing.unwrap_or(path))?.starts_with(fs::canonicalize(folder)?))
}
