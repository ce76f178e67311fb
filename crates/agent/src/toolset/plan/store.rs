//! The files of the plans, one for each.

use std::fs;
use std::io;
use std::path::PathBuf;

use jiff::Timestamp;
use serde::Deserialize;
use serde::Serialize;
use serde_json::Value;
use serde_json::json;
use thiserror::Error;

pub(super) use crate::blocking::BlockingThreads;
pub(super) use crate::toolset::shared_file::Lock;
use crate::toolset::shared_file::SharedFile;
use crate::toolset::shared_file::SharedFileError;

/// The largest plan, and the largest file that becomes one.
pub(super) const MAX_PLAN_BYTES: u64 = 4 * 1024 * 1024;
/// The most plans of one list. docker-agent has no limit; a list is a tool result.
const MAX_LISTED: usize = 500;
/// The longest name of a plan, which is a file name.
const MAX_NAME_BYTES: usize = 128;

/// A plan. The names of the fields are docker-agent's.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Plan {
    pub(super) name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) title: String,
    pub(super) content: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) author: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) status: String,
    pub(super) revision: u64,
    #[serde(rename = "updatedAt")]
    pub(super) updated_at: String,
}

impl Plan {
    /// The plan without its content.
    pub(super) fn summary(&self) -> Value {
        let mut summary = json!(self);
        if let Value::Object(fields) = &mut summary {
            fields.remove("content");
        }
        summary
    }

    pub(super) fn status_view(&self) -> Value {
        json!({"name": self.name, "status": self.status, "revision": self.revision})
    }
}

/// What a change sets; what is `None` stays.
#[derive(Debug, Default)]
pub(super) struct Change {
    pub(super) content: Option<String>,
    pub(super) title: Option<String>,
    pub(super) author: Option<String>,
    pub(super) status: Option<String>,
    /// The revision that the plan must have.
    pub(super) last_known_revision: Option<u64>,
}

/// Why a plan could not be read or changed. It is unchanged.
#[derive(Debug, Error)]
pub(super) enum PlanError {
    #[error(transparent)]
    File(#[from] SharedFileError),
    #[error("{} cannot be listed", folder.display())]
    Folder { folder: PathBuf, source: io::Error },
    #[error("the plan {name} cannot be read: {detail}; delete_plan removes it")]
    Broken { name: String, detail: String },
    #[error("plan not found: {0}")]
    NotFound(String),
    #[error(
        "version conflict on plan {name}: last_known_revision {expected} does not match the current revision {current}; read the plan again"
    )]
    Conflict { name: String, expected: u64, current: u64 },
    #[error("the plan {name} would be larger than 4 MiB")]
    TooLarge { name: String },
    #[error("the plan {name} cannot be deleted")]
    Delete { name: String, source: io::Error },
}

/// Checks the name of a plan. No name leads out of the folder, and no two names are the same file.
pub(super) fn check_name(name: &str) -> Result<(), String> {
    let is_allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
    let starts = name.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
    if starts && name.len() <= MAX_NAME_BYTES && name.chars().all(is_allowed) {
        return Ok(());
    }
    Err("the name of a plan must be lowercase letters, digits, - and _, and begin with a letter or a digit"
        .to_owned())
}

/// The folder of the plans.
#[derive(Debug)]
pub(super) struct PlanStore {
    pub(super) folder: PathBuf,
}

impl PlanStore {
    /// The file of a plan, whose name was checked. The operator chose the folder, so links in it may lead anywhere.
    fn file(&self, name: &str) -> SharedFile {
        SharedFile { path: self.folder.join(format!("{name}.json")), root: None, confinement: None }
    }

    pub(super) async fn lock(&self, name: &str, blocking: &BlockingThreads) -> Result<Lock, PlanError> {
        Ok(self.file(name).lock(blocking).await?)
    }

    /// The plan; `None` where there is none.
    pub(super) fn read(&self, name: &str) -> Result<Option<Plan>, PlanError> {
        // Escapes make a stored plan at most six times as long.
        let Some(bytes) = self.file(name).read(6 * MAX_PLAN_BYTES)? else { return Ok(None) };
        let plan = serde_json::from_slice(&bytes)
            .map_err(|error| PlanError::Broken { name: name.to_owned(), detail: error.to_string() })?;
        Ok(Some(Plan { name: name.to_owned(), ..plan }))
    }

    /// Changes a plan, which is created where there is none.
    pub(super) fn change(&self, name: &str, change: Change, lock: &Lock) -> Result<Plan, PlanError> {
        let old = self.read(name)?.unwrap_or_default();
        check_revision(name, change.last_known_revision, old.revision)?;
        let plan = Plan {
            name: name.to_owned(),
            title: change.title.unwrap_or(old.title),
            content: change.content.unwrap_or(old.content),
            author: change.author.unwrap_or(old.author),
            status: change.status.unwrap_or(old.status),
            revision: old.revision + 1,
            updated_at: Timestamp::now().to_string(),
        };
        if plan.content.len() as u64 > MAX_PLAN_BYTES {
            return Err(PlanError::TooLarge { name: name.to_owned() });
        }
        self.file(name).replace(json!(plan).to_string().as_bytes(), lock)?;
        Ok(plan)
    }

    /// Deletes a plan, also one that cannot be read.
    pub(super) fn delete(&self, name: &str, expected: Option<u64>, _lock: &Lock) -> Result<(), PlanError> {
        match self.read(name) {
            Ok(None) => return Err(PlanError::NotFound(name.to_owned())),
            Ok(Some(plan)) => check_revision(name, expected, plan.revision)?,
            Err(PlanError::Broken { .. }) => {}
            Err(error) => return Err(error),
        }
        fs::remove_file(self.file(name).path)
            .map_err(|source| PlanError::Delete { name: name.to_owned(), source })
    }

    /// All plans without their content, by name, and what cannot be read.
    pub(super) fn list(&self) -> Result<Value, PlanError> {
        let mut plans = Vec::new();
        let mut warnings = Vec::new();
        for name in self.names()? {
            match self.read(&name) {
                Ok(Some(plan)) => plans.push(plan.summary()),
                Ok(None) => {}
                Err(error) => warnings.push(error.to_string()),
            }
        }
        let mut list = json!({"plans": plans});
        if !warnings.is_empty() {
            list["warnings"] = json!(warnings);
        }
        Ok(list)
    }

    fn names(&self) -> Result<Vec<String>, PlanError> {
        let entries = match fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(source) => return Err(PlanError::Folder { folder: self.folder.clone(), source }),
        };
        let name = |entry: fs::DirEntry| Some(entry.file_name().to_str()?.strip_suffix(".json")?.to_owned());
        let mut names: Vec<String> =
            entries.flatten().filter_map(name).filter(|name| check_name(name).is_ok()).collect();
        names.sort();
        names.truncate(MAX_LISTED);
        Ok(names)
    }
}

fn check_revision(name: &str, expected: Option<u64>, current: u64) -> Result<(), PlanError> {
    match expected {
        Some(expected) if expected != current => {
            Err(PlanError::Conflict { name: name.to_owned(), expected, current })
        }
        Some(_) | None => Ok(()),
    }
}
