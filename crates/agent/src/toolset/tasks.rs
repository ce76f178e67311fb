//! `tasks`: a task list with priorities and dependencies, in a JSON file below the working folder.

mod list;
mod store;

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use legwork_common::error::chain;
use serde_json::Value;

use self::list::Change;
use self::list::ChangeError;
use self::list::Filter;
use self::list::Id;
use self::store::TaskStore;
use super::Kit;
use super::confinement;
use super::limited;
use super::on_blocking_thread;
use super::schema;
use super::schema::Schema;
use crate::tool::Tool;
use crate::tool::ToolContext;
use crate::tool::ToolOutcome;
use crate::tool::ToolSpec;

/// The file's name where the agent file sets no path: docker-agent's.
const DEFAULT_FILE: &str = "tasks.json";

/// The system message of the toolset.
const INSTRUCTION: &str = "You have a task list that outlives this conversation. Split larger work into tasks, add \
                           dependencies where one task needs another, take the task that next_task names, and set its \
                           status to in-progress when you begin and to completed when it is done.";

/// The toolset. `path` comes from the agent file. The file is not read or created before the first call.
///
/// # Errors
///
/// The path is not below the working folder.
pub(crate) fn open(working_dir: &Path, path: Option<&str>) -> Result<Kit, String> {
    let path = confinement::confine(working_dir, path.unwrap_or(DEFAULT_FILE))?;
    let store = Arc::new(TaskStore { path, root: working_dir.to_owned() });
    let tool = |(action, spec)| TaskTool { spec, action, store: Arc::clone(&store) };
    Ok(Kit { instruction: Some(INSTRUCTION.to_owned()), ..Kit::new(specs().map(tool)) })
}

#[derive(Debug, Clone, Copy)]
enum Action {
    Create,
    Get,
    Update,
    Delete,
    List,
    Next,
    AddDependency,
    RemoveDependency,
}

fn specs() -> [(Action, ToolSpec); 8] {
    let text = schema::string;
    let priority = || schema::one_of(&["low", "medium", "high", "critical"]);
    let id = || Schema::new().required("id", text(), "The id of the task, such as task_1");
    let dependency =
        || id().required("depends_on", text(), "The id of the task that must be completed first");
    let new = Schema::new()
        .required("title", text(), "The task in a few words")
        .optional("description", text(), "Everything that is needed to do the task")
        .optional("priority", priority(), "The priority; medium by default")
        .optional("dependencies", schema::list_of(text()), "The ids of tasks that must be completed first");
    let changed = id()
        .optional("title", text(), "The new title")
        .optional("description", text(), "The new description")
        .optional("status", schema::one_of(&["pending", "in-progress", "completed"]), "The new status")
        .optional("priority", priority(), "The new priority");
    let statuses = ["pending", "in-progress", "completed", "blocked"];
    let filter = Schema::new()
        .optional("status", schema::one_of(&statuses), "Only tasks of this status")
        .optional("priority", priority(), "Only tasks of this priority");
    [
        (Action::Create, schema::writing("create_task", "Add a task to the list", new)),
        (Action::Get, schema::read_only("get_task", "Show a task with its description", id())),
        (Action::Update, schema::idempotent("update_task", "Change a task", changed)),
        (
            Action::Delete,
            schema::writing(
                "delete_task",
                "Delete a task, and remove it from the dependencies of others",
                id(),
            ),
        ),
        (Action::List, schema::read_only("list_tasks", "Show the tasks, without descriptions", filter)),
        (
            Action::Next,
            schema::read_only(
                "next_task",
                "Show the task to do next: of those that are pending and not blocked, the most urgent",
                Schema::new(),
            ),
        ),
        (
            Action::AddDependency,
            schema::idempotent("add_dependency", "Make a task depend on another", dependency()),
        ),
        (
            Action::RemoveDependency,
            schema::idempotent("remove_dependency", "Remove a dependency of a task", dependency()),
        ),
    ]
}

#[derive(Debug)]
struct TaskTool {
    spec: ToolSpec,
    action: Action,
    store: Arc<TaskStore>,
}

/// A call with its arguments parsed.
enum Request {
    Get(Id),
    List(Filter),
    Next,
    Change(Change),
}

impl TaskTool {
    fn parse(&self, arguments: Value) -> Result<Request, ToolOutcome> {
        let spec = &self.spec;
        Ok(match self.action {
            Action::Get => Request::Get(schema::parse(spec, arguments)?),
            Action::List => Request::List(schema::parse(spec, arguments)?),
            Action::Next => Request::Next,
            Action::Create => Request::Change(Change::Create(schema::parse(spec, arguments)?)),
            Action::Update => Request::Change(Change::Update(schema::parse(spec, arguments)?)),
            Action::Delete => Request::Change(Change::Delete(schema::parse(spec, arguments)?)),
            Action::AddDependency => Request::Change(Change::AddDependency(schema::parse(spec, arguments)?)),
            Action::RemoveDependency => {
                Request::Change(Change::RemoveDependency(schema::parse(spec, arguments)?))
            }
        })
    }

    /// Dropping the future leaves the list changed or unchanged, never in between. Only changes take the lock: the file
    /// is replaced atomically, so reads are consistent without it.
    async fn act(&self, arguments: Value) -> Result<Value, ToolOutcome> {
        let request = self.parse(arguments)?;
        let lock = match &request {
            Request::Change(_) => Some(self.store.lock().await.map_err(|error| failed(&error))?),
            Request::Get(_) | Request::List(_) | Request::Next => None,
        };
        let store = Arc::clone(&self.store);
        on_blocking_thread(move || {
            let mut list = store.read().map_err(|error| failed(&error))?;
            let refused = |error: ChangeError| failed(&error);
            match (request, lock) {
                (Request::Get(Id { id }), _) => list.get(&id).map_err(refused),
                (Request::List(filter), _) => Ok(list.filtered(&filter)),
                (Request::Change(change), Some(lock)) => {
                    let answer = list.apply(change).map_err(refused)?;
                    store.write(&list, &lock).map_err(|error| failed(&error))?;
                    Ok(answer)
                }
                (Request::Next | Request::Change(_), _) => Ok(list.next()),
            }
        })
        .await
    }
}

fn failed(error: &(dyn std::error::Error + 'static)) -> ToolOutcome {
    ToolOutcome::error(chain(error))
}

#[async_trait]
impl Tool for TaskTool {
    fn spec(&self) -> &ToolSpec {
        &self.spec
    }

    async fn call(&self, arguments: Value, _context: &ToolContext) -> ToolOutcome {
        match self.act(arguments).await {
            Ok(answer) => ToolOutcome::ok(limited(answer.to_string())),
            Err(error) => error,
        }
    }
}

#[cfg(test)]
mod tests;
