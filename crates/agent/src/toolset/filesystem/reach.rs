//! Which paths the file tools reach: `allow_list` and `deny_list` of a toolset, and `.agentsignore` of the project.
//!
//! Paths are compared after links are resolved, so that no link leads around a list. A link that another process puts in
//! place between the check and the use is not noticed: isolate the worker against that.

use std::path::Path;
use std::path::PathBuf;

use crate::environment::Environment;
use crate::files::hidden::Hidden;
use crate::files::hidden::real;

/// The folders and files that can be reached. By default all of them.
#[derive(Debug, Clone, Default)]
pub(super) struct Reach {
    /// `None` for every path.
    allowed: Option<Vec<PathBuf>>,
    /// They win over `allowed`.
    denied: Vec<PathBuf>,
    hidden: Hidden,
}

impl Reach {
    /// Reads the lists of an agent file: absolute paths, paths relative to the working folder, and paths with `~` or
    /// variables.
    ///
    /// # Errors
    ///
    /// Why an entry, or a line of `.agentsignore`, has no meaning here. The toolset must not be opened then.
    pub(super) fn new(environment: &Environment, allow: &[String], deny: &[String]) -> Result<Self, String> {
        let all = |entries: &[String]| {
            entries.iter().map(|entry| folder(environment, entry)).collect::<Result<Vec<_>, _>>()
        };
        let allowed = all(allow)?;
        let hidden = Hidden::of(environment)?;
        Ok(Self { allowed: (!allow.is_empty()).then_some(allowed), denied: all(deny)?, hidden })
    }

    /// The path to use for `path`, which the model wrote as `written`: with lists, the one that its links lead to.
    ///
    /// # Errors
    ///
    /// The text for the model where the path cannot be reached.
    pub(super) fn check(&self, path: PathBuf, written: &str) -> Result<PathBuf, String> {
        let path = self.hidden.check(path, written)?;
        if self.allowed.is_none() && self.denied.is_empty() {
            return Ok(path);
        }
        let path = real(&path).map_err(|error| format!("{written} cannot be resolved: {error}"))?;
        if self.is_denied(&path) {
            return Err(format!("{written} cannot be reached: deny_list of this toolset has it"));
        }
        if self.allowed.as_ref().is_some_and(|allowed| !allowed.iter().any(|folder| path.starts_with(folder)))
        {
            return Err(format!("{written} cannot be reached: allow_list of this toolset does not have it"));
        }
        Ok(path)
    }

    fn is_denied(&self, path: &Path) -> bool {
        self.denied.iter().any(|folder| path.starts_with(folder))
    }

    /// Whether a walk leaves out a path, whose links were resolved where it began.
    pub(super) fn leaves_out(&self, path: &Path) -> bool {
        self.is_denied(path) || self.hidden.hides(path)
    }
}

/// The folder or file of an entry.
fn folder(environment: &Environment, entry: &str) -> Result<PathBuf, String> {
    real(&environment.folder(entry)?).map_err(|error| format!("`{entry}` cannot be resolved: {error}"))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::testing;

    fn reach(folder: &Path, allow: &[&str], deny: &[&str]) -> Result<Reach, String> {
        let mut environment = testing::environment(folder);
        environment.variables.insert("HOME".into(), folder.join("home").display().to_string());
        environment.variables.insert("DATA".into(), folder.join("data").display().to_string());
        let owned = |list: &[&str]| list.iter().map(|&entry| entry.to_owned()).collect::<Vec<_>>();
        Reach::new(&environment, &owned(allow), &owned(deny))
    }

    #[test]
    fn deny_wins_over_allow_and_links_do_not_lead_around_either() {
        let folder = tempfile::tempdir().unwrap();
        let at = |path: &str| folder.path().join(path);
        for name in ["work/secret", "home/notes", "data", "other"] {
            fs::create_dir_all(at(name)).unwrap();
        }
        symlink(at("other"), at("work/away")).unwrap();
        symlink(at("work/secret"), at("data/link")).unwrap();
        symlink(at("nowhere"), at("work/broken")).unwrap();
        let reach =
            reach(folder.path(), &["work", "~/notes", "$DATA"], &["work/secret", "work/./.env"]).unwrap();
        let can = |path: &str| reach.check(at(path), path).is_ok();
        for path in ["work", "work/new/file", "home/notes/a", "data/x", "work/./../data", "work/secrets"] {
            assert!(can(path), "{path}");
        }
        let refused = [
            "",
            "home",
            "other",
            "work/secret",
            "work/secret/x",
            "work/.env",
            "work/away/x",
            "data/link/x",
            "work/new/../../other",
            "work/broken",
            "work/x/../../../etc/passwd",
        ];
        for path in refused {
            assert!(!can(path), "{path}");
        }
        let why = |path: &str| reach.check(at(path), path).unwrap_err();
        assert_eq!(why("work/secret"), "work/secret cannot be reached: deny_list of this toolset has it");
        assert_eq!(why("other"), "other cannot be reached: allow_list of this toolset does not have it");
    }

    #[test]
    fn an_entry_without_meaning_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        assert!(reach(folder.path(), &["$NOWHERE/x"], &[]).unwrap_err().contains("NOWHERE"));
        let unlimited = reach(folder.path(), &[], &[]).unwrap();
        assert_eq!(unlimited.check("/etc/../x".into(), "x").unwrap(), PathBuf::from("/etc/../x"));
    }
}
