//! The environment of a run: variables, working directory, process guard. Nothing in this crate reads the process'
//! own.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::fmt::Debug;
use std::ops::Deref;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use legwork_common::secrets::Secrets;
use legwork_common::secrets::passes_to_commands;
use legwork_common::team::MissingVariable;
use legwork_common::team::ModelSettings;
use legwork_common::team::StringMap;
use legwork_common::team::expand_address;
use legwork_common::team::expand_shell;
use legwork_common::team::expand_template;
use legwork_common::variables;

use crate::blocking::BlockingThreads;
use crate::files::Files;
pub use crate::files::user::CommandUser;

/// Where programs create temporary files.
const TMPDIR: &str = "TMPDIR";

/// Variables by name. Clones share them until one is changed, because all runs of a worker have the same. The debug form
/// omits the values, which may be secrets.
#[derive(Clone, Default)]
pub struct Variables(Arc<BTreeMap<String, String>>);

impl From<BTreeMap<String, String>> for Variables {
    fn from(variables: BTreeMap<String, String>) -> Self {
        Self(Arc::new(variables))
    }
}

impl Deref for Variables {
    type Target = BTreeMap<String, String>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl Debug for Variables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl Variables {
    /// Sets a variable.
    pub fn insert(&mut self, name: String, value: String) {
        Arc::make_mut(&mut self.0).insert(name, value);
    }

    /// Unsets a variable.
    pub fn remove(&mut self, name: &str) {
        if self.0.contains_key(name) {
            Arc::make_mut(&mut self.0).remove(name);
        }
    }
}

/// The environment of one run. Its debug form omits the values of variables, which may be secrets.
#[derive(Clone)]
pub struct Environment {
    /// The variables that an agent file may name. API keys and base URLs are read from them too.
    pub variables: Variables,
    /// Which of them child processes get without being given them by name.
    pub inherited: Inherited,
    /// Values that are in no text that leaves the run.
    pub secrets: Arc<Secrets>,
    /// What file tools reach; `None` for all.
    pub confinement: Option<Confinement>,
    /// The directory that commands start in and relative paths are resolved against.
    pub working_dir: PathBuf,
    /// Is notified of every process group of the run.
    pub guard: Arc<dyn ProcessGuard>,
    /// Where the run does what may block.
    pub blocking: BlockingThreads,
}

/// The folders that a confined run reaches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Confinement {
    /// For everything: the folder of the job, which is the home of its commands too.
    pub folder: PathBuf,
    /// For reading.
    pub readable: Vec<PathBuf>,
    /// The user that commands run as, with whose rights files are opened; `None` for the program's own.
    pub user: Option<CommandUser>,
}

/// Which variables a child process gets without being given them by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Inherited {
    /// Those that hold no secret: see [`passes_to_commands`].
    #[default]
    Harmless,
    /// All, API keys too: the operator wants it (`--inherit-environment`).
    All,
}

impl Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Environment")
            .field("variables", &self.variables)
            .field("working_dir", &self.working_dir)
            .field("guard", &self.guard)
            .finish()
    }
}

impl Environment {
    /// An environment without a guard, whose secrets are those of `variables`.
    pub fn new(variables: BTreeMap<String, String>, working_dir: PathBuf) -> Self {
        let secrets = Arc::new(Secrets::of(&variables));
        Self {
            variables: variables.into(),
            inherited: Inherited::Harmless,
            secrets,
            confinement: None,
            working_dir,
            guard: Arc::new(NoGuard),
            blocking: BlockingThreads::default(),
        }
    }

    /// The value of a variable; an empty variable counts as not set.
    pub fn variable(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// The variables of a child process that the team's file gives none.
    pub fn command_variables(&self) -> BTreeMap<String, String> {
        let is_inherited = |name: &str| match self.inherited {
            Inherited::Harmless => passes_to_commands(name),
            Inherited::All => true,
        };
        let inherited = self.variables.iter().filter(|(name, _)| is_inherited(name));
        let mut all: BTreeMap<String, String> =
            inherited.map(|(name, value)| (name.clone(), value.clone())).collect();
        if let Some(Confinement { folder, .. }) = &self.confinement {
            // The user's own are out of reach.
            all.extend([variables::HOME, TMPDIR].map(|name| (name.to_owned(), folder.display().to_string())));
        }
        all
    }

    /// The variables of a child process, with `more` from the team's file added. Those of the file win.
    ///
    /// # Errors
    ///
    /// [`MissingVariable`] where a value names a variable that is not set.
    pub fn variables_with(&self, more: &StringMap) -> Result<BTreeMap<String, String>, MissingVariable> {
        let mut all = self.command_variables();
        for (name, value) in more {
            let value = expand_shell(value, |name| self.variables.get(name).cloned())?;
            all.insert(name.clone(), value);
        }
        Ok(all)
    }

    /// `text` with each `${env.X}` replaced; a variable that is not set is replaced by nothing.
    pub fn expanded(&self, text: &str) -> String {
        expand_template(text, |name| self.variables.get(name).cloned())
    }

    /// `text` with each `${env.X}` replaced, where the text is an address: without the variable it would name another
    /// place.
    ///
    /// # Errors
    ///
    /// [`MissingVariable`] for the first variable that is not set, or empty.
    pub fn address(&self, text: &str) -> Result<String, MissingVariable> {
        expand_address(text, |name| self.variable(name).map(str::to_owned))
    }

    /// The model to call for one of an agent file: the first of which a key is set, with its variables replaced.
    pub(crate) fn model<'m>(&self, settings: &'m ModelSettings) -> CalledModel<'m> {
        let available = settings.available(|key| self.variable(key).is_some());
        match available.expanded(|name| self.variable(name).map(str::to_owned)) {
            Some(expanded) => expanded.into(),
            None => CalledModel::OfFile(available),
        }
    }

    /// The environment of a toolset that reaches public addresses only, whatever the operator allows.
    pub(crate) fn public_only(&self) -> Self {
        let mut environment = self.clone();
        environment.variables.remove(variables::API_PRIVATE);
        environment
    }

    /// Legwork's state directory of the user; `None` where no variable determines it.
    pub fn state_dir(&self) -> Option<PathBuf> {
        let folder = |name| self.variable(name).map(PathBuf::from);
        let state = || folder(variables::XDG_STATE_HOME);
        let home = || folder(variables::HOME).map(|home| home.join(".local/state"));
        folder(variables::STATE_DIR).or_else(|| Some(state().or_else(home)?.join("legwork")))
    }

    /// The folder that an agent file names: relative to the working directory, or with `~`, `$X`, `${X}` or `${env.X}`.
    ///
    /// # Errors
    ///
    /// The variable that is not set.
    pub fn folder(&self, text: &str) -> Result<PathBuf, String> {
        let set = |name: &str| self.variable(name).map(str::to_owned);
        let home = || set(variables::HOME).ok_or_else(|| format!("{} is not set", variables::HOME));
        let text = expand_address(text, set).map_err(|missing| missing.to_string())?;
        let text = match text.strip_prefix('~') {
            Some(rest) if rest.is_empty() || rest.starts_with('/') => home()? + rest,
            _ => text,
        };
        let text = expand_shell(&text, set).map_err(|missing| missing.to_string())?;
        Ok(self.resolve(&text))
    }

    /// The files that tools of the run reach.
    pub(crate) fn files(&self) -> Files<'_> {
        Files::new(self.confinement.as_ref())
    }

    /// The files to read `path` with, which no agent names but the place of a setting: a run that is confined reaches those of
    /// the operator too, and in the job's own folder no more than its tools do.
    pub(crate) fn files_at(&self, path: &Path) -> Files<'_> {
        let is_own = |confinement: &&Confinement| path.starts_with(&confinement.folder);
        Files::new(self.confinement.as_ref().filter(is_own))
    }

    /// `path`, resolved against the working directory. Absolute paths stay.
    pub fn resolve(&self, path: &str) -> PathBuf {
        self.working_dir.join(Path::new(path))
    }
}

/// A model that may be called. Settings are some hundred bytes, and a call holds them for as long as the model answers, so those
/// of the agent file are not copied.
#[derive(Debug)]
pub(crate) enum CalledModel<'m> {
    /// As the file has it.
    OfFile(&'m ModelSettings),
    /// With variables replaced, or of another origin.
    Made(Box<ModelSettings>),
}

impl From<ModelSettings> for CalledModel<'_> {
    fn from(settings: ModelSettings) -> Self {
        Self::Made(Box::new(settings))
    }
}

impl Deref for CalledModel<'_> {
    type Target = ModelSettings;

    fn deref(&self) -> &ModelSettings {
        match self {
            Self::OfFile(settings) => settings,
            Self::Made(settings) => settings,
        }
    }
}

impl CalledModel<'_> {
    /// The same, whatever it was borrowed from.
    pub(crate) fn into_owned<'m>(self) -> CalledModel<'m> {
        match self {
            Self::OfFile(settings) => settings.clone().into(),
            Self::Made(settings) => CalledModel::Made(settings),
        }
    }
}

/// Tracks the process groups of a run, so that they can be ended even if the process that runs the agent dies.
pub trait ProcessGuard: Debug + Send + Sync {
    /// A prefix for every command line: a program that registers its group with the guard and then becomes the
    /// command by `exec`. So there is no moment, even in a crash, at which a command runs unregistered. Empty by
    /// default.
    fn command_prefix(&self) -> Vec<OsString> {
        Vec::new()
    }

    /// A group with this id exists now. The id is always above 1: 0 and 1 would address other processes.
    fn started(&self, group: u32);

    /// No process of the group is left; its id may be reused.
    fn ended(&self, group: u32);

    /// The limits on all commands of the run together, and how often they were met so far. By default there are none.
    fn met_limits(&self) -> Vec<MetLimit> {
        Vec::new()
    }
}

/// A limit on all commands of a run together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetLimit {
    /// How often it was met so far.
    pub count: u64,
    /// For the agent: what the limit is, and what the system does at it.
    pub meaning: String,
}

/// A guard that tracks nothing: process groups outlive a crash.
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
    fn a_folder_of_an_agent_file_is_expanded() {
        let set =
            [("HOME", "/home/ada"), ("SUB", "deep")].map(|(name, value)| (name.to_owned(), value.to_owned()));
        let environment = Environment::new(BTreeMap::from(set), "/job".into());
        let table = [
            ("tools", "/job/tools"),
            ("~/x", "/home/ada/x"),
            ("~", "/home/ada"),
            ("$SUB/a", "/job/deep/a"),
            ("/${env.SUB}/${SUB}", "/deep/deep"),
        ];
        for (text, expected) in table {
            assert_eq!(environment.folder(text).unwrap(), PathBuf::from(expected), "{text}");
        }
        assert!(environment.folder("$NOWHERE").unwrap_err().contains("NOWHERE"));
    }

    #[test]
    fn debug_output_omits_values_of_variables() {
        let variables = BTreeMap::from([("KEY".to_owned(), "hunter2".to_owned())]);
        let shown = format!("{:?}", Environment::new(variables, "/".into()));
        assert!(shown.contains("KEY") && !shown.contains("hunter2"), "{shown}");
    }
}
