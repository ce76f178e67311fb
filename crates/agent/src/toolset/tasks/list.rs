//! The list: what may follow from a change of it. Pure.

use std::collections::BTreeSet;

use serde::Deserialize;
use serde::Serialize;
use serde_json::Map;
use serde_json::Value;
use serde_json::json;
use thiserror::Error;

/// How far a task is. That it is blocked is not kept: it follows from its dependencies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Status {
    #[serde(alias = "blocked")]
    Pending,
    InProgress,
    Completed,
}

/// How urgent a task is, the least first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Priority {
    Low,
    #[default]
    Medium,
    High,
    Critical,
}

/// One task, as the file has it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Item {
    id: String,
    title: String,
    #[serde(default)]
    description: String,
    status: Status,
    #[serde(default)]
    priority: Priority,
    #[serde(default)]
    dependencies: Vec<String>,
    /// What others wrote into the file: it stays there.
    #[serde(flatten)]
    rest: Map<String, Value>,
}

/// The file's content.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct List {
    /// The highest number that an id was made of, so that none is given twice.
    #[serde(default)]
    last_id: u64,
    tasks: Vec<Item>,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

/// What a tool changes, with the arguments as the model gives them.
#[derive(Debug, Clone)]
pub(super) enum Change {
    Create(Create),
    Update(Update),
    Delete(Id),
    AddDependency(Dependency),
    RemoveDependency(Dependency),
}

/// The arguments of a new task.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Create {
    title: String,
    description: Option<String>,
    priority: Option<Priority>,
    dependencies: Option<Vec<String>>,
}

/// A task, and what becomes of it; what is absent stays.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Update {
    id: String,
    title: Option<String>,
    description: Option<String>,
    status: Option<Status>,
    priority: Option<Priority>,
}

/// Which task.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Id {
    pub(super) id: String,
}

/// Which task waits for which other.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Dependency {
    id: String,
    depends_on: String,
}

/// Which tasks are shown.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Filter {
    status: Option<String>,
    priority: Option<Priority>,
}

/// Why a change is not made.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(super) enum Refused {
    #[error("there is no task {0}")]
    Unknown(String),
    #[error("{id} is blocked by {}: complete those first", by.join(", "))]
    Blocked { id: String, by: Vec<String> },
    #[error("{id} cannot depend on {on}: {on} depends on {id}")]
    Cycle { id: String, on: String },
    #[error("a task needs a title")]
    Untitled,
}

impl List {
    /// An id that two tasks have, if there is one: such a list cannot be changed safely.
    pub(super) fn double(&self) -> Option<&str> {
        let mut seen = BTreeSet::new();
        self.tasks.iter().map(|item| item.id.as_str()).find(|id| !seen.insert(*id))
    }

    /// Makes the change, or leaves everything as it is; what the model is told.
    pub(super) fn apply(&mut self, change: Change) -> Result<Value, Refused> {
        match change {
            Change::Create(new) => self.create(new),
            Change::Update(update) => self.update(update),
            Change::Delete(Id { id }) => self.delete(&id),
            Change::AddDependency(Dependency { id, depends_on }) => {
                self.find(&depends_on)?;
                let at = self.place(&id)?;
                if self.needs(&depends_on, &id) {
                    return Err(Refused::Cycle { id, on: depends_on });
                }
                if !self.tasks[at].dependencies.contains(&depends_on) {
                    self.tasks[at].dependencies.push(depends_on);
                }
                Ok(json!({"updated": self.shown(&self.tasks[at])}))
            }
            Change::RemoveDependency(Dependency { id, depends_on }) => {
                let at = self.place(&id)?;
                self.tasks[at].dependencies.retain(|on| *on != depends_on);
                Ok(json!({"updated": self.shown(&self.tasks[at])}))
            }
        }
    }

    fn create(&mut self, new: Create) -> Result<Value, Refused> {
        if new.title.trim().is_empty() {
            return Err(Refused::Untitled);
        }
        let mut dependencies = new.dependencies.unwrap_or_default();
        for on in &dependencies {
            self.find(on)?;
        }
        let mut seen = BTreeSet::new();
        dependencies.retain(|on| seen.insert(on.clone()));
        // Somebody may have written ids by hand.
        let written = self.tasks.iter().filter_map(|item| item.id.strip_prefix("task_")?.parse().ok()).max();
        self.last_id = self.last_id.max(written.unwrap_or(0)).saturating_add(1);
        let item = Item {
            id: format!("task_{}", self.last_id),
            title: new.title,
            description: new.description.unwrap_or_default(),
            status: Status::Pending,
            priority: new.priority.unwrap_or_default(),
            dependencies,
            rest: Map::new(),
        };
        let shown = self.shown(&item);
        self.tasks.push(item);
        Ok(json!({"created": shown}))
    }

    fn update(&mut self, update: Update) -> Result<Value, Refused> {
        let at = self.place(&update.id)?;
        if update.title.as_ref().is_some_and(|title| title.trim().is_empty()) {
            return Err(Refused::Untitled);
        }
        let by = self.open(&self.tasks[at]);
        if update.status.is_some_and(|status| status != Status::Pending) && !by.is_empty() {
            return Err(Refused::Blocked { id: update.id, by });
        }
        let before = self.ready();
        let item = &mut self.tasks[at];
        item.title = update.title.unwrap_or_else(|| item.title.clone());
        item.description = update.description.unwrap_or_else(|| item.description.clone());
        item.status = update.status.unwrap_or(item.status);
        item.priority = update.priority.unwrap_or(item.priority);
        let shown = self.shown(&self.tasks[at]);
        Ok(json!({"updated": shown, "unblocked": self.unblocked(&before, &update.id)}))
    }

    /// Takes a task out, from the dependencies of others too.
    fn delete(&mut self, id: &str) -> Result<Value, Refused> {
        let at = self.place(id)?;
        let before = self.ready();
        self.tasks.remove(at);
        for item in &mut self.tasks {
            item.dependencies.retain(|on| on != id);
        }
        Ok(json!({"deleted": id, "unblocked": self.unblocked(&before, id)}))
    }

    /// One task, whole.
    pub(super) fn get(&self, id: &str) -> Result<Value, Refused> {
        Ok(json!({"task": self.shown(self.find(id)?)}))
    }

    /// The tasks in the order in which they were made, without their descriptions.
    pub(super) fn listed(&self, filter: &Filter) -> Value {
        let brief = |item| {
            let mut shown = self.shown(item);
            if let Some(fields) = shown.as_object_mut() {
                fields.remove("description");
            }
            shown
        };
        let wanted = |shown: &Value| {
            filter.status.as_ref().is_none_or(|status| shown["status"] == **status)
                && filter.priority.is_none_or(|priority| shown["priority"] == json!(priority))
        };
        json!({"tasks": self.tasks.iter().map(brief).filter(wanted).collect::<Vec<_>>()})
    }

    /// The task to do next: of those that are not begun and not blocked the most urgent, the oldest of them.
    pub(super) fn next(&self) -> Value {
        let ready = self.tasks.iter().rev().filter(|item| self.is_ready(item));
        let next = ready.max_by_key(|item| item.priority);
        let open = self.tasks.iter().filter(|item| item.status != Status::Completed).count();
        json!({"task": next.map(|item| self.shown(item)), "open": open})
    }

    fn place(&self, id: &str) -> Result<usize, Refused> {
        self.tasks.iter().position(|item| item.id == id).ok_or_else(|| Refused::Unknown(id.to_owned()))
    }

    fn find(&self, id: &str) -> Result<&Item, Refused> {
        Ok(&self.tasks[self.place(id)?])
    }

    /// The dependencies of a task that are not completed. One that is not in the list holds nothing up.
    fn open(&self, item: &Item) -> Vec<String> {
        let is_open = |on: &&String| self.find(on).is_ok_and(|on| on.status != Status::Completed);
        item.dependencies.iter().filter(is_open).cloned().collect()
    }

    fn is_ready(&self, item: &Item) -> bool {
        item.status == Status::Pending && self.open(item).is_empty()
    }

    fn ready(&self) -> BTreeSet<String> {
        self.tasks.iter().filter(|item| self.is_ready(item)).map(|item| item.id.clone()).collect()
    }

    /// The tasks other than `id` that can begin now and could not before.
    fn unblocked(&self, before: &BTreeSet<String>, id: &str) -> Vec<String> {
        self.ready().into_iter().filter(|ready| ready != id && !before.contains(ready)).collect()
    }

    /// Whether `from` is `to` or waits for it, by however many steps.
    fn needs(&self, from: &str, to: &str) -> bool {
        let mut seen = BTreeSet::new();
        let mut left = vec![from];
        while let Some(id) = left.pop() {
            if id == to {
                return true;
            }
            if seen.insert(id)
                && let Ok(item) = self.find(id)
            {
                left.extend(item.dependencies.iter().map(String::as_str));
            }
        }
        false
    }

    /// As the model reads it.
    fn shown(&self, item: &Item) -> Value {
        let by = self.open(item);
        let mut shown = json!(item);
        if item.status != Status::Completed && !by.is_empty() {
            shown["status"] = json!("blocked");
            shown["blocked_by"] = json!(by);
        }
        shown
    }
}
