//! What a run may know of the machine. Nothing in this crate reads the process' own environment.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::fmt::Debug;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use legwork_common::team::MissingVariable;
use legwork_common::team::TextMap;
use legwork_common::team::expand_shell;
use legwork_common::team::expand_template;

/// The surroundings of one run. Its debug form shows no values of variables: they may be secrets.
#[derive(Clone)]
pub struct Environment {
    /// The variables that children of the agent get and in which keys and base URLs are looked up.
    pub variables: BTreeMap<String, String>,
    /// The folder that relative paths and commands start in.
    pub working_dir: PathBuf,
    /// Who is told of every process group of the run.
    pub guard: Arc<dyn ProcessGuard>,
}

impl Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Environment")
            .field("variables", &self.variables.keys())
            .field("working_dir", &self.working_dir)
            .field("guard", &self.guard)
            .finish()
    }
}

impl Environment {
    /// Surroundings without a guard.
    pub fn new(variables: BTreeMap<String, String>, working_dir: PathBuf) -> Self {
        Self { variables, working_dir, guard: Arc::new(NoGuard) }
    }

    /// The value of a variable; an empty one counts as absent.
    pub fn variable(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// The variables of a child that gets `more` on top. What the team's file says wins.
    ///
    /// # Errors
    ///
    /// [`MissingVariable`] where a value names a variable that is not set.
    pub fn variables_with(&self, more: &TextMap) -> Result<BTreeMap<String, String>, MissingVariable> {
        let mut all = self.variables.clone();
        for (name, value) in more {
            let value = expand_shell(value, |name| self.variables.get(name).cloned())?;
            all.insert(name.clone(), value);
        }
        Ok(all)
    }

    /// `text` with each `${env.X}` in it replaced; a variable that is not set is empty.
    pub fn expanded(&self, text: &str) -> String {
        expand_template(text, |name| self.variables.get(name).cloned())
    }

    /// `path` as seen from the working folder. Absolute paths stay.
    pub fn resolve(&self, path: &str) -> PathBuf {
        self.working_dir.join(Path::new(path))
    }
}

/// Hears of the process groups that a run starts, so that they can be ended if the run cannot do it.
pub trait ProcessGuard: Debug + Send + Sync {
    /// The words that every command line begins with: a program that makes the group known and then becomes the
    /// command, so that a crash right after the start leaves nothing behind that nobody knows. None by default.
    fn before(&self) -> Vec<OsString> {
        Vec::new()
    }

    /// A group with this id (always above 1) exists now.
    fn started(&self, group: u32);

    /// The group is gone.
    fn ended(&self, group: u32);
}

/// A guard that remembers nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoGuard;

impl ProcessGuard for NoGuard {
    fn started(&self, _group: u32) {}

    fn ended(&self, _group: u32) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_secret_is_shown() {
        let variables = BTreeMap::from([("KEY".to_owned(), "hunter2".to_owned())]);
        let shown = format!("{:?}", Environment::new(variables, "/".into()));
        assert!(shown.contains("KEY") && !shown.contains("hunter2"), "{shown}");
    }
}
