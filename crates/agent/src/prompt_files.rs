//! `add_prompt_files`: files of the project and of the user whose text is added to an agent's prompt.
//!
//! Each name is searched for in the working directory and its ancestors, where the nearest file counts, and in
//! addition in the home directory. With `add_prompt_files_depth`, the paths of files of these names in folders below the
//! working directory are listed too.

use std::path::Path;
use std::path::PathBuf;

use ignore::WalkBuilder;
use legwork_common::variables::HOME;

use crate::environment::Environment;
use crate::files::MAX_FILE_BYTES;
use crate::toolset::limited;

/// The most paths that are listed. A project with more has no use for such a list.
const MAX_LISTED: usize = 100;
/// The most entries of folders that are searched.
const MAX_ENTRIES: usize = 100_000;
/// Begins the list of files below the working directory.
const BELOW: &str = "These files have instructions for the folders that they are in. Read the one of a folder before you \
work there:";

/// The prompt files of an agent.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Found {
    /// One text for each file, under its path, truncated like the result of a tool.
    pub(crate) texts: Vec<String>,
    /// One line for each file that was not found or not readable.
    pub(crate) warnings: Vec<String>,
}

/// Finds and reads the files.
pub(crate) fn find(names: &[String], environment: &Environment) -> Found {
    let home = environment.variable(HOME).map(Path::new);
    let mut found = Found::default();
    for name in names {
        let paths = paths_of(name, &environment.working_dir, home);
        if paths.is_empty() {
            found.warnings.push(format!("prompt file {name} not found: the agent runs without it"));
        }
        for path in paths {
            match environment.files().read(&path, MAX_FILE_BYTES) {
                Ok(bytes) => {
                    let text = limited(String::from_utf8_lossy(&bytes).into_owned());
                    found.texts.push(format!("Instructions from {}\n\n{text}", path.display()));
                }
                Err(error) => {
                    found.warnings.push(format!("prompt file {} cannot be read: {error}", path.display()));
                }
            }
        }
    }
    found
}

/// A text that lists the files of these names up to `depth` levels below the working directory; `None` where there are none.
/// Hidden folders, and what Git ignores, are not searched.
pub(crate) fn listed(names: &[String], depth: u32, environment: &Environment) -> Option<String> {
    let folder = &environment.working_dir;
    let _as_user = environment.files().as_user().ok()?;
    let walk = WalkBuilder::new(folder)
        .max_depth(Some((depth as usize).saturating_add(1)))
        .require_git(false)
        .sort_by_file_name(Ord::cmp)
        .build();
    let files = walk.take(MAX_ENTRIES).flatten().filter(|entry| {
        let is_file = entry.file_type().is_some_and(|kind| kind.is_file());
        is_file && entry.depth() > 1 && names.iter().any(|name| entry.file_name() == name.as_str())
    });
    let lines: String = files
        .take(MAX_LISTED)
        .filter_map(|entry| Some(format!("\n- {}", entry.path().strip_prefix(folder).ok()?.display())))
        .collect();
    (!lines.is_empty()).then(|| format!("{BELOW}{lines}"))
}

/// The files of this name: at most one of the project and one of the user.
fn paths_of(name: &str, working_dir: &Path, home: Option<&Path>) -> Vec<PathBuf> {
    let file_in = |folder: &Path| Some(folder.join(name)).filter(|path| path.is_file());
    let mut paths: Vec<PathBuf> = working_dir.ancestors().find_map(file_in).into_iter().collect();
    paths.extend(home.and_then(file_in).filter(|path| !paths.contains(path)));
    paths
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs;

    use super::*;

    #[test]
    fn finds_the_nearest_file_and_the_one_of_the_home_directory() {
        let folder = tempfile::tempdir().unwrap();
        let at = |path: &str| folder.path().join(path);
        fs::create_dir_all(at("home/project/deep")).unwrap();
        fs::create_dir_all(at("home/project/NONE.md")).unwrap();
        fs::write(at("home/project/RULES.md"), "of the project").unwrap();
        fs::write(at("home/RULES.md"), "of the user").unwrap();
        fs::write(at("home/OWN.md"), "once").unwrap();
        let variables = BTreeMap::from([(HOME.to_owned(), at("home").display().to_string())]);
        let environment = Environment::new(variables, at("home/project/deep"));
        let found = find(&["RULES.md", "OWN.md", "NONE.md"].map(str::to_owned), &environment);
        let ends: Vec<&str> = found.texts.iter().filter_map(|text| text.split("\n\n").nth(1)).collect();
        assert_eq!(ends, ["of the project", "of the user", "once"]);
        assert_eq!(found.warnings, ["prompt file NONE.md not found: the agent runs without it"]);
    }

    // `add_prompt_files_depth`
    #[test]
    fn lists_files_below_the_working_directory_by_their_paths() {
        let folder = tempfile::tempdir().unwrap();
        for name in
            ["RULES.md", "a/RULES.md", "a/b/RULES.md", "a/OTHER.md", "built/RULES.md", ".git/RULES.md"]
        {
            let file = folder.path().join(name);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, "secret text").unwrap();
        }
        fs::write(folder.path().join(".gitignore"), "built/\n").unwrap();
        let environment = Environment::new(BTreeMap::new(), folder.path().to_owned());
        let list = |depth| listed(&["RULES.md".to_owned()], depth, &environment);
        assert_eq!(list(1).unwrap(), format!("{BELOW}\n- a/RULES.md"));
        assert_eq!(list(2).unwrap(), format!("{BELOW}\n- a/RULES.md\n- a/b/RULES.md"));
        assert_eq!(listed(&["NONE.md".to_owned()], 9, &environment), None);
    }
}
