//! Files that must stay below a folder: those that an agent file names for toolsets of its own.

use std::fs;
use std::io;
use std::path::Component;
use std::path::Path;
use std::path::PathBuf;

/// The place of a path that must be below a folder, by its words alone.
///
/// # Errors
///
/// That it is not, in words for the agent and the operator.
pub(super) fn confined(folder: &Path, path: &str) -> Result<PathBuf, String> {
    let mut place = PathBuf::new();
    for component in folder.join(path).components() {
        match component {
            Component::ParentDir => {
                place.pop();
            }
            Component::CurDir => {}
            other @ (Component::Normal(_) | Component::RootDir | Component::Prefix(_)) => place.push(other),
        }
    }
    if place.starts_with(folder) && place != folder {
        Ok(place)
    } else {
        Err(format!("the path {path} is not below the working folder"))
    }
}

/// Whether links on the way to `path` lead out of `fence`, as far as that way exists. One that leads nowhere is an error.
///
/// # Errors
///
/// The system's.
pub(super) fn leads_out(path: &Path, fence: &Path) -> io::Result<bool> {
    let there = path.ancestors().find(|place| place.symlink_metadata().is_ok());
    Ok(!fs::canonicalize(there.unwrap_or(path))?.starts_with(fs::canonicalize(fence)?))
}
