//! `add_prompt_files`: files of the project and of the user whose text belongs to an agent's prompt.
//!
//! Each is looked for in the working folder, then in those above it, where the first counts, and beside that in the
//! home folder.

use std::path::Path;
use std::path::PathBuf;

use legwork_common::variables::HOME;

use crate::environment::Environment;
use crate::toolset::limited;

/// What was found.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Found {
    /// The texts, each with where it is from, cut to what a model is given at once.
    pub(crate) texts: Vec<String>,
    /// Which files were not found or not readable.
    pub(crate) warnings: Vec<String>,
}

/// Looks for the files.
pub(crate) fn find(names: &[String], environment: &Environment) -> Found {
    let home = environment.variable(HOME).map(Path::new);
    let mut found = Found::default();
    for name in names {
        let paths = places(name, &environment.working_dir, home);
        if paths.is_empty() {
            found.warnings.push(format!("prompt file {name} is not there: the agent runs without it"));
        }
        for path in paths {
            match std::fs::read(&path) {
                Ok(bytes) => {
                    let text = limited(String::from_utf8_lossy(&bytes).into_owned());
                    found.texts.push(format!("Instructions from {}\n\n{text}", path.display()));
                }
                Err(error) => {
                    found.warnings.push(format!("prompt file {} left out: {error}", path.display()));
                }
            }
        }
    }
    found
}

/// Where a file of this name is, at most one of the project and one of the user.
fn places(name: &str, here: &Path, home: Option<&Path>) -> Vec<PathBuf> {
    let there = |folder: &Path| Some(folder.join(name)).filter(|path| path.is_file());
    let mut paths: Vec<PathBuf> = here.ancestors().find_map(there).into_iter().collect();
    paths.extend(home.and_then(there).filter(|path| !paths.contains(path)));
    paths
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs;

    use super::*;

    #[test]
    fn the_nearest_file_and_that_of_the_home_folder() {
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
        assert_eq!(found.warnings, ["prompt file NONE.md is not there: the agent runs without it"]);
    }
}
