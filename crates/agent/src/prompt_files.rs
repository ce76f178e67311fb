//! `add_prompt_files`: files of the project and of the user whose text is added to an agent's prompt.
//!
//! Each name is searched for in the working directory and its ancestors, where the nearest file counts, and in
//! addition in the home directory.

use std::path::Path;
use std::path::PathBuf;

use legwork_common::variables::HOME;

use crate::environment::Environment;
use crate::files::MAX_FILE_BYTES;
use crate::toolset::limited;

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
}
