//! `tasks`: a task list with priorities and dependencies, in a JSON file below the working folder. Tools, texts and file
//! are docker-agent's, so both can work on one list.

mod list;
mod store;
mod stored;

use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use serde_json::Value;
use uuid::Builder;

use self::list::Change;
use self::list::ChangeError;
use self::list::Filter;
use self::list::Id;
use self::list::Stamp;
use self::store::TaskStore;
use super::Kit;
use super::failed;
use super::outcome_of;
use super::schema;
use super::schema::Schema;
use super::shared_file::SharedFile;
use crate::environment::Environment;
use crate::files::hidden::Hidden;
use crate::tool::Tool;
use crate::tool::ToolContext;
use crate::tool::ToolOutcome;
use crate::tool::ToolSpec;

/// The file's name where the agent file sets no path: docker-agent's.
const DEFAULT_FILE: &str = "tasks.json";

/// The system message of the toolset.
const INSTRUCTION: &str = "\
## Tasks

You have a task list that outlives this conversation. Each task has a priority (critical, high, medium or low), a status \
(pending, in_progress, done or blocked) and dependencies.

- A task with a dependency that is not done counts as blocked without being set so.
- next_task names the most urgent task that can be worked on. Set its status to in_progress when you begin, and to done \
when it is finished.";

/// The toolset. `path` comes from the agent file. Reads `.agentsignore`, for which it waits for the disk; the list itself is
/// not read or created before the first call.
///
/// # Errors
///
/// The path is not below the working folder, or `.agentsignore` cannot be used.
pub(crate) fn open(environment: &Arc<Environment>, path: Option<&str>) -> Result<Kit, String> {
    let file = SharedFile::of_run(environment, path.unwrap_or(DEFAULT_FILE))?;
    let hidden = Hidden::of(environment)?;
    let store = Arc::new(TaskStore { file, hidden, environment: Arc::clone(environment) });
    let tool = |(action, spec)| TaskTool { spec, action, store: Arc::clone(&store) };
    Ok(Kit::new(specs().map(tool)).with_instruction(INSTRUCTION))
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

/// The statuses and priorities that a model may write.
const STATUSES: [&str; 4] = ["pending", "in_progress", "done", "blocked"];
const PRIORITIES: [&str; 4] = ["critical", "high", "medium", "low"];

fn specs() -> impl Iterator<Item = (Action, ToolSpec)> {
    task_specs().into_iter().chain(list_specs())
}

/// The tools for single tasks.
fn task_specs() -> [(Action, ToolSpec); 4] {
    let text = schema::string;
    let id = || Schema::new().required("id", text(), "The id of the task");
    [
        (
            Action::Create,
            schema::writing(
                "create_task",
                "Add a task to the list, with a description or with a file whose content becomes the description",
                described(Schema::new().required("title", text(), "The task in a few words"), "medium by default")
                    .optional(
                        "dependencies",
                        schema::list_of(text()),
                        "The ids of tasks that must be done before this one",
                    ),
            ),
        ),
        (
            Action::Get,
            schema::read_only("get_task", "Show a task with its description and its effective status", id()),
        ),
        (
            Action::Update,
            schema::idempotent(
                "update_task",
                "Change fields of a task",
                described(id().optional("title", text(), "The new title"), "the new one")
                    .optional("status", schema::one_of(&STATUSES), "The new status")
                    .optional(
                        "dependencies",
                        schema::list_of(text()),
                        "The ids of all tasks that must be done before this one, in place of the present ones",
                    ),
            ),
        ),
        (
            Action::Delete,
            schema::writing("delete_task", "Delete a task, also from the dependencies of other tasks", id()),
        ),
    ]
}

/// The tools for the list as a whole, and for what its tasks have to do with each other.
fn list_specs() -> [(Action, ToolSpec); 4] {
    let filter = Schema::new()
        .optional("status", schema::one_of(&STATUSES), "Only tasks of this effective status")
        .optional("priority", schema::one_of(&PRIORITIES), "Only tasks of this priority");
    [
        (
            Action::List,
            schema::read_only(
                "list_tasks",
                "Show the tasks, most urgent first and blocked ones last",
                filter,
            ),
        ),
        (
            Action::Next,
            schema::read_only(
                "next_task",
                "Show the task to work on next: the most urgent one that is neither done nor blocked",
                Schema::new(),
            ),
        ),
        (
            Action::AddDependency,
            schema::idempotent("add_dependency", "Block a task until another one is done", dependency()),
        ),
        (
            Action::RemoveDependency,
            schema::idempotent("remove_dependency", "Remove a dependency of a task", dependency()),
        ),
    ]
}

/// Adds the fields that a new task and a changed one share.
fn described(schema: Schema, which_priority: &str) -> Schema {
    schema
        .optional("description", schema::string(), "Everything that is needed to do the task")
        .optional(
            "path",
            schema::string(),
            "A text file next to the list, or in a folder below, whose content becomes the description",
        )
        .optional("priority", schema::one_of(&PRIORITIES), &format!("The priority; {which_priority}"))
}

fn dependency() -> Schema {
    Schema::new().required("taskId", schema::string(), "The id of the task that depends on another").required(
        "dependsOnId",
        schema::string(),
        "The id of the task that must be done first",
    )
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
    async fn act(&self, arguments: Value) -> Result<String, ToolOutcome> {
        let request = self.parse(arguments)?;
        let lock = match &request {
            Request::Change(_) => Some(self.store.lock().await.map_err(|error| failed(&error))?),
            Request::Get(_) | Request::List(_) | Request::Next => None,
        };
        let store = Arc::clone(&self.store);
        self.store
            .environment
            .blocking
            .run(move || {
                let mut list = store.read().map_err(|error| failed(&error))?;
                let refused = |error: ChangeError| failed(&error);
                match (request, lock) {
                    (Request::Get(Id { id }), _) => list.get(&id).map_err(refused),
                    (Request::List(filter), _) => Ok(list.filtered(&filter)),
                    (Request::Change(mut change), Some(lock)) => {
                        store.describe(&mut change).map_err(|error| failed(&error))?;
                        let answer = list.apply(change, &stamp()).map_err(refused)?;
                        store.write(&list, &lock).map_err(|error| failed(&error))?;
                        Ok(answer)
                    }
                    (Request::Next | Request::Change(_), _) => Ok(list.next()),
                }
            })
            .await
    }
}

/// A new id, as docker-agent makes them, and the time.
fn stamp() -> Stamp {
    let now = Timestamp::now();
    // Whole seconds, as docker-agent writes them.
    let now = Timestamp::from_second(now.as_second()).unwrap_or(now);
    let id = Builder::from_random_bytes(rand::random()).into_uuid();
    Stamp { id: id.to_string(), now: now.to_string() }
}

#[async_trait]
impl Tool for TaskTool {
    fn spec(&self) -> &ToolSpec {
        &self.spec
    }

    async fn call(&self, arguments: Value, _context: &ToolContext) -> ToolOutcome {
        outcome_of(self.act(arguments).await)
    }
}

#[cfg(test)]
mod tests;
