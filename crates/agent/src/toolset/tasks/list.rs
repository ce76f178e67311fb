//! The task list: its changes, dependencies and order, as docker-agent has them. Pure.

use std::collections::BTreeSet;

use serde::Deserialize;
use serde::Serialize;
use serde_json::Map;
use serde_json::Value;
use serde_json::json;
use thiserror::Error;

use super::stored::Stored;

/// The status of a task, as it is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Status {
    Pending,
    // The aliases are those of Legwork's first files.
    #[serde(alias = "in-progress")]
    InProgress,
    #[serde(alias = "completed")]
    Done,
    /// Set by hand. The effective status of a task with open dependencies is this one too.
    Blocked,
}

/// The priority of a task. The order of the variants is the order of the list.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Priority {
    Critical,
    High,
    #[default]
    Medium,
    Low,
}

/// One task, with the fields and the names of docker-agent's file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Task {
    #[serde(default)]
    pub(super) id: String,
    title: String,
    #[serde(default)]
    description: String,
    #[serde(default)]
    priority: Priority,
    status: Status,
    #[serde(default)]
    dependencies: Vec<String>,
    /// RFC 3339 in UTC and whole seconds, so that the text sorts by time. Empty for tasks of Legwork's first files.
    #[serde(default)]
    created_at: String,
    #[serde(default)]
    updated_at: String,
    /// Fields that other programs wrote. They are kept.
    #[serde(flatten)]
    rest: Map<String, Value>,
}

/// A task as the model reads it.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
struct Shown<'t> {
    #[serde(flatten)]
    task: &'t Task,
    effective_status: Status,
}

/// The content of the file. The tasks are in the order of the file.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(from = "Stored", into = "Stored")]
pub(super) struct TaskList {
    pub(super) tasks: Vec<Task>,
    /// Fields that other programs wrote. They are kept.
    pub(super) rest: Map<String, Value>,
}

/// A change of the list, with the arguments of its tool.
#[derive(Debug, Clone)]
pub(super) enum Change {
    Create(Create),
    Update(Update),
    Delete(Id),
    AddDependency(Dependency),
    RemoveDependency(Dependency),
}

/// The arguments of `create_task`.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Create {
    title: String,
    #[serde(default)]
    pub(super) description: String,
    /// A file whose content becomes the description.
    pub(super) path: Option<String>,
    priority: Option<Priority>,
    #[serde(default)]
    dependencies: Vec<String>,
}

/// The arguments of `update_task`. Absent and empty fields stay as they are.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Update {
    id: String,
    #[serde(default)]
    title: String,
    #[serde(default)]
    pub(super) description: String,
    /// A file whose content becomes the description.
    pub(super) path: Option<String>,
    priority: Option<Priority>,
    status: Option<Status>,
    dependencies: Option<Vec<String>>,
}

/// The argument of the tools that take one task.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Id {
    pub(super) id: String,
}

/// The arguments of `add_dependency` and `remove_dependency`.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Dependency {
    task_id: String,
    depends_on_id: String,
}

/// The arguments of `list_tasks`.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Filter {
    status: Option<Status>,
    priority: Option<Priority>,
}

/// What a change needs of the outside world.
#[derive(Debug, Clone)]
pub(super) struct Stamp {
    /// The id of a task that is created.
    pub(super) id: String,
    /// The time of the change.
    pub(super) now: String,
}

/// Why a change was refused. The list is unchanged. The texts are docker-agent's.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(super) enum ChangeError {
    #[error("task not found: {0}")]
    Unknown(String),
    #[error("dependency task not found: {0}")]
    UnknownDependency(String),
    #[error("dependency already exists")]
    AlreadyExists,
    #[error("adding this dependency would create a cycle")]
    Cycle,
    #[error("adding these dependencies would create a cycle")]
    Cycles,
    #[error("a task needs a title")]
    Untitled,
}

impl TaskList {
    /// An id that two tasks share, if any. Such a list cannot be changed safely.
    pub(super) fn duplicate_id(&self) -> Option<&str> {
        let mut seen = BTreeSet::new();
        self.tasks.iter().map(|task| task.id.as_str()).find(|id| !seen.insert(*id))
    }

    /// Applies a change and returns the answer for the model. A refused change leaves the list as it was.
    pub(super) fn apply(&mut self, change: Change, stamp: &Stamp) -> Result<String, ChangeError> {
        match change {
            Change::Create(new) => self.create(new, stamp),
            Change::Update(update) => self.update(update, stamp),
            Change::Delete(Id { id }) => self.delete(&id),
            Change::AddDependency(dependency) => self.add_dependency(dependency, stamp),
            Change::RemoveDependency(Dependency { task_id, depends_on_id }) => {
                let at = self.index_of(&task_id)?;
                self.tasks[at].dependencies.retain(|on| *on != depends_on_id);
                Ok(self.touch(at, stamp))
            }
        }
    }

    fn create(&mut self, new: Create, stamp: &Stamp) -> Result<String, ChangeError> {
        if new.title.trim().is_empty() {
            return Err(ChangeError::Untitled);
        }
        self.tasks.push(Task {
            id: stamp.id.clone(),
            title: new.title,
            description: new.description,
            priority: new.priority.unwrap_or_default(),
            status: Status::Pending,
            // No task depends on a new one, so there is no cycle.
            dependencies: self.known(new.dependencies)?,
            created_at: stamp.now.clone(),
            updated_at: String::new(),
            rest: Map::new(),
        });
        Ok(self.touch(self.tasks.len() - 1, stamp))
    }

    fn update(&mut self, update: Update, stamp: &Stamp) -> Result<String, ChangeError> {
        let at = self.index_of(&update.id)?;
        if let Some(dependencies) = update.dependencies {
            let dependencies = self.known(dependencies)?;
            if dependencies.iter().any(|on| self.depends_on(on, &update.id)) {
                return Err(ChangeError::Cycles);
            }
            self.tasks[at].dependencies = dependencies;
        }
        let task = &mut self.tasks[at];
        if !update.title.trim().is_empty() {
            task.title = update.title;
        }
        if !update.description.is_empty() {
            task.description = update.description;
        }
        task.priority = update.priority.unwrap_or(task.priority);
        task.status = update.status.unwrap_or(task.status);
        Ok(self.touch(at, stamp))
    }

    /// Deletes a task, and removes it from the dependencies of others.
    fn delete(&mut self, id: &str) -> Result<String, ChangeError> {
        let at = self.index_of(id)?;
        self.tasks.remove(at);
        for task in &mut self.tasks {
            task.dependencies.retain(|on| on != id);
        }
        Ok(json!({"deleted": id}).to_string())
    }

    fn add_dependency(&mut self, dependency: Dependency, stamp: &Stamp) -> Result<String, ChangeError> {
        let Dependency { task_id, depends_on_id } = dependency;
        let at = self.index_of(&task_id)?;
        self.known(vec![depends_on_id.clone()])?;
        if self.tasks[at].dependencies.contains(&depends_on_id) {
            return Err(ChangeError::AlreadyExists);
        }
        if self.depends_on(&depends_on_id, &task_id) {
            return Err(ChangeError::Cycle);
        }
        self.tasks[at].dependencies.push(depends_on_id);
        Ok(self.touch(at, stamp))
    }

    /// Notes the time of a change of a task; returns the task as JSON.
    fn touch(&mut self, at: usize, stamp: &Stamp) -> String {
        self.tasks[at].updated_at.clone_from(&stamp.now);
        to_json(&self.tasks[at])
    }

    /// These dependencies, each once.
    fn known(&self, dependencies: Vec<String>) -> Result<Vec<String>, ChangeError> {
        let mut seen = BTreeSet::new();
        let mut each_once = Vec::new();
        for on in dependencies {
            self.index_of(&on).map_err(|_| ChangeError::UnknownDependency(on.clone()))?;
            if seen.insert(on.clone()) {
                each_once.push(on);
            }
        }
        Ok(each_once)
    }

    /// One task.
    pub(super) fn get(&self, id: &str) -> Result<String, ChangeError> {
        Ok(to_json(&self.shown(&self.tasks[self.index_of(id)?])))
    }

    /// The matching tasks in order: those that are not blocked first, then by priority and age.
    pub(super) fn filtered(&self, filter: &Filter) -> String {
        let is_wanted = |shown: &Shown<'_>| {
            filter.status.is_none_or(|status| shown.effective_status == status)
                && filter.priority.is_none_or(|priority| shown.task.priority == priority)
        };
        to_json(&self.sorted().into_iter().filter(is_wanted).collect::<Vec<_>>())
    }

    /// The first task in order that is neither done nor blocked.
    pub(super) fn next(&self) -> String {
        let is_actionable =
            |shown: &Shown<'_>| matches!(shown.effective_status, Status::Pending | Status::InProgress);
        match self.sorted().into_iter().find(is_actionable) {
            Some(next) => to_json(&next),
            None => "No actionable tasks. Everything is either done or blocked.".to_owned(),
        }
    }

    fn sorted(&self) -> Vec<Shown<'_>> {
        let mut shown: Vec<Shown<'_>> = self.tasks.iter().map(|task| self.shown(task)).collect();
        shown.sort_by_key(|shown| {
            let task = shown.task;
            (shown.effective_status == Status::Blocked, task.priority, task.created_at.clone())
        });
        shown
    }

    fn index_of(&self, id: &str) -> Result<usize, ChangeError> {
        self.tasks.iter().position(|task| task.id == id).ok_or_else(|| ChangeError::Unknown(id.to_owned()))
    }

    /// The task with its effective status. Dependencies that no longer exist do not block it.
    fn shown<'t>(&self, task: &'t Task) -> Shown<'t> {
        let is_open = |on: &String| self.index_of(on).is_ok_and(|at| self.tasks[at].status != Status::Done);
        let is_blocked = task.status != Status::Done && task.dependencies.iter().any(is_open);
        Shown { task, effective_status: if is_blocked { Status::Blocked } else { task.status } }
    }

    /// Whether `from` is `to`, or depends on it directly or through other tasks. Terminates on circular lists too.
    fn depends_on(&self, from: &str, to: &str) -> bool {
        let mut seen = BTreeSet::new();
        let mut unvisited = vec![from];
        while let Some(id) = unvisited.pop() {
            if id == to {
                return true;
            }
            if seen.insert(id)
                && let Ok(at) = self.index_of(id)
            {
                unvisited.extend(self.tasks[at].dependencies.iter().map(String::as_str));
            }
        }
        false
    }
}

/// The JSON for the model.
fn to_json(value: &impl Serialize) -> String {
    // Maps with text keys always serialize.
    serde_json::to_string(value).unwrap_or_default()
}
