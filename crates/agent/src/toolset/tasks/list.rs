//! The task list: its changes, dependencies and order. Pure.

use std::collections::BTreeSet;

use serde::Deserialize;
use serde::Serialize;
use serde_json::Map;
use serde_json::Value;
use serde_json::json;
use thiserror::Error;

/// The stored status of a task. `blocked` is not stored: it follows from the dependencies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Status {
    // Other programs may store `blocked`.
    #[serde(alias = "blocked")]
    Pending,
    InProgress,
    Completed,
}

/// The priority of a task. The order of the variants is the order of urgency.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Priority {
    Low,
    #[default]
    Medium,
    High,
    Critical,
}

/// One task, as it is stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Task {
    id: String,
    title: String,
    #[serde(default)]
    description: String,
    status: Status,
    #[serde(default)]
    priority: Priority,
    #[serde(default)]
    dependencies: Vec<String>,
    /// Fields that other programs wrote. They are kept.
    #[serde(flatten)]
    rest: Map<String, Value>,
}

/// The content of the file.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct TaskList {
    /// The highest number that an id was made from, so that ids of deleted tasks are not reused.
    #[serde(default)]
    last_id: u64,
    tasks: Vec<Task>,
    #[serde(flatten)]
    rest: Map<String, Value>,
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
    description: Option<String>,
    priority: Option<Priority>,
    dependencies: Option<Vec<String>>,
}

/// The arguments of `update_task`. Absent fields stay as they are.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Update {
    id: String,
    title: Option<String>,
    description: Option<String>,
    status: Option<Status>,
    priority: Option<Priority>,
}

/// The argument of the tools that take one task.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Id {
    pub(super) id: String,
}

/// The arguments of `add_dependency` and `remove_dependency`.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Dependency {
    id: String,
    depends_on: String,
}

/// The arguments of `list_tasks`.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Filter {
    /// A string, because the shown status includes `blocked`.
    status: Option<String>,
    priority: Option<Priority>,
}

/// Why a change was refused. The list is unchanged.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(super) enum ChangeError {
    #[error("unknown task: {0}")]
    Unknown(String),
    #[error("{id} is blocked by {}: complete those first", by.join(", "))]
    Blocked { id: String, by: Vec<String> },
    #[error("{id} cannot depend on {on}: {on} depends on {id}")]
    Cycle { id: String, on: String },
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
    pub(super) fn apply(&mut self, change: Change) -> Result<Value, ChangeError> {
        match change {
            Change::Create(new) => self.create(new),
            Change::Update(update) => self.update(update),
            Change::Delete(Id { id }) => self.delete(&id),
            Change::AddDependency(Dependency { id, depends_on }) => {
                self.find(&depends_on)?;
                let at = self.index_of(&id)?;
                if self.depends_on(&depends_on, &id) {
                    return Err(ChangeError::Cycle { id, on: depends_on });
                }
                if !self.tasks[at].dependencies.contains(&depends_on) {
                    self.tasks[at].dependencies.push(depends_on);
                }
                Ok(json!({"updated": self.to_json(&self.tasks[at])}))
            }
            Change::RemoveDependency(Dependency { id, depends_on }) => {
                let at = self.index_of(&id)?;
                self.tasks[at].dependencies.retain(|on| *on != depends_on);
                Ok(json!({"updated": self.to_json(&self.tasks[at])}))
            }
        }
    }

    fn create(&mut self, new: Create) -> Result<Value, ChangeError> {
        if new.title.trim().is_empty() {
            return Err(ChangeError::Untitled);
        }
        let mut dependencies = new.dependencies.unwrap_or_default();
        for on in &dependencies {
            self.find(on)?;
        }
        let mut seen = BTreeSet::new();
        dependencies.retain(|on| seen.insert(on.clone()));
        // Tasks that were added by hand do not update `last_id`.
        let highest = self.tasks.iter().filter_map(|task| task.id.strip_prefix("task_")?.parse().ok()).max();
        self.last_id = self.last_id.max(highest.unwrap_or(0)).saturating_add(1);
        let task = Task {
            id: format!("task_{}", self.last_id),
            title: new.title,
            description: new.description.unwrap_or_default(),
            status: Status::Pending,
            priority: new.priority.unwrap_or_default(),
            dependencies,
            rest: Map::new(),
        };
        let created = self.to_json(&task);
        self.tasks.push(task);
        Ok(json!({"created": created}))
    }

    fn update(&mut self, update: Update) -> Result<Value, ChangeError> {
        let at = self.index_of(&update.id)?;
        if update.title.as_ref().is_some_and(|title| title.trim().is_empty()) {
            return Err(ChangeError::Untitled);
        }
        let by = self.open_dependencies(&self.tasks[at]);
        if update.status.is_some_and(|status| status != Status::Pending) && !by.is_empty() {
            return Err(ChangeError::Blocked { id: update.id, by });
        }
        let ready_before = self.ready();
        let task = &mut self.tasks[at];
        task.title = update.title.unwrap_or_else(|| task.title.clone());
        task.description = update.description.unwrap_or_else(|| task.description.clone());
        task.status = update.status.unwrap_or(task.status);
        task.priority = update.priority.unwrap_or(task.priority);
        let updated = self.to_json(&self.tasks[at]);
        Ok(json!({"updated": updated, "unblocked": self.unblocked(&ready_before, &update.id)}))
    }

    /// Deletes a task, and removes it from the dependencies of others.
    fn delete(&mut self, id: &str) -> Result<Value, ChangeError> {
        let at = self.index_of(id)?;
        let ready_before = self.ready();
        self.tasks.remove(at);
        for task in &mut self.tasks {
            task.dependencies.retain(|on| on != id);
        }
        Ok(json!({"deleted": id, "unblocked": self.unblocked(&ready_before, id)}))
    }

    /// One task with its description.
    pub(super) fn get(&self, id: &str) -> Result<Value, ChangeError> {
        Ok(json!({"task": self.to_json(self.find(id)?)}))
    }

    /// The matching tasks without their descriptions, oldest first.
    pub(super) fn filtered(&self, filter: &Filter) -> Value {
        let summary = |task| {
            let mut summary = self.to_json(task);
            if let Some(fields) = summary.as_object_mut() {
                fields.remove("description");
            }
            summary
        };
        let is_wanted = |task: &Value| {
            filter.status.as_ref().is_none_or(|status| task["status"] == **status)
                && filter.priority.is_none_or(|priority| task["priority"] == json!(priority))
        };
        json!({"tasks": self.tasks.iter().map(summary).filter(is_wanted).collect::<Vec<_>>()})
    }

    /// The task to do next: of those that are pending and not blocked the most urgent, and of several the oldest.
    /// `open` counts all tasks that are not completed.
    pub(super) fn next(&self) -> Value {
        // `max_by_key` returns the last of several equal ones, which is the oldest of the reversed list.
        let ready = self.tasks.iter().rev().filter(|task| self.is_ready(task));
        let next = ready.max_by_key(|task| task.priority);
        let open = self.tasks.iter().filter(|task| task.status != Status::Completed).count();
        json!({"task": next.map(|task| self.to_json(task)), "open": open})
    }

    fn index_of(&self, id: &str) -> Result<usize, ChangeError> {
        self.tasks.iter().position(|task| task.id == id).ok_or_else(|| ChangeError::Unknown(id.to_owned()))
    }

    fn find(&self, id: &str) -> Result<&Task, ChangeError> {
        Ok(&self.tasks[self.index_of(id)?])
    }

    /// The dependencies of a task that are not completed. Unknown ones do not block it.
    fn open_dependencies(&self, task: &Task) -> Vec<String> {
        let is_open = |on: &&String| self.find(on).is_ok_and(|on| on.status != Status::Completed);
        task.dependencies.iter().filter(is_open).cloned().collect()
    }

    fn is_ready(&self, task: &Task) -> bool {
        task.status == Status::Pending && self.open_dependencies(task).is_empty()
    }

    fn ready(&self) -> BTreeSet<String> {
        self.tasks.iter().filter(|task| self.is_ready(task)).map(|task| task.id.clone()).collect()
    }

    /// The tasks other than `id` that are ready now and were not before.
    fn unblocked(&self, ready_before: &BTreeSet<String>, id: &str) -> Vec<String> {
        self.ready().into_iter().filter(|ready| ready != id && !ready_before.contains(ready)).collect()
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
                && let Ok(task) = self.find(id)
            {
                unvisited.extend(task.dependencies.iter().map(String::as_str));
            }
        }
        false
    }

    /// The JSON for the model: the stored fields, with `blocked` as the status where it applies.
    fn to_json(&self, task: &Task) -> Value {
        let by = self.open_dependencies(task);
        let mut value = json!(task);
        if task.status != Status::Completed && !by.is_empty() {
            value["status"] = json!("blocked");
            value["blocked_by"] = json!(by);
        }
        value
    }
}
