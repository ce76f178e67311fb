//! `tasks`: a list of tasks that wait for each other, in a JSON file of the working folder.

mod list;
mod store;

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use legwork_common::error::chain;
use serde_json::Value;
use serde_json::json;
use tokio::task::spawn_blocking;

use self::list::Change;
use self::list::Filter;
use self::list::Id;
use self::list::Refused;
use self::store::Store;
use super::Kit;
use super::fence;
use super::limited;
use super::schema;
use super::schema::Schema;
use crate::tool::Tool;
use crate::tool::ToolContext;
use crate::tool::ToolOutcome;
use crate::tool::ToolSpec;

/// The file, where the team's file names none.
const FILE: &str = "tasks.json";

/// What the model is told about the toolset.
const INSTRUCTION: &str = "You have a list of tasks that outlives this conversation. Split larger work into tasks, give them \
                           dependencies where one needs another, take the one that next_task names, and set its status to \
                           in-progress when you begin and to completed when it is done.";

/// The toolset. `path` is as the file says it. Nothing is read or made before the first call.
///
/// # Errors
///
/// That the path is not below the working folder.
pub(crate) fn kit(working_dir: &Path, path: Option<&str>) -> Result<Kit, String> {
    let path = fence::confined(working_dir, path.unwrap_or(FILE))?;
    let store = Arc::new(Store { path, fence: working_dir.to_owned() });
    let tool = |(action, spec)| Arc::new(Tasks { spec, action, store: Arc::clone(&store) }) as Arc<dyn Tool>;
    Ok(Kit {
        tools: specs().into_iter().map(tool).collect(),
        instruction: Some(INSTRUCTION.to_owned()),
        ..Kit::default()
    })
}

/// Which of the tools.
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
    let text = || json!({"type": "string"});
    let words = |words: &[&str]| json!({"type": "string", "enum": words});
    let priority = || words(&["low", "medium", "high", "critical"]);
    let id = || Schema::new().required("id", text(), "Which task, such as task_1");
    let dependency = || id().required("depends_on", text(), "The task that it waits for");
    let new = Schema::new()
        .required("title", text(), "What there is to do, in a few words")
        .optional("description", text(), "All that whoever does it needs to know")
        .optional("priority", priority(), "How urgent it is; medium if absent")
        .optional("dependencies", json!({"type": "array", "items": text()}), "Tasks to complete before it");
    let changed = id()
        .optional("title", text(), "Its new title")
        .optional("description", text(), "Its new description")
        .optional("status", words(&["pending", "in-progress", "completed"]), "Its new status")
        .optional("priority", priority(), "Its new priority");
    let filter = Schema::new()
        .optional("status", words(&["pending", "in-progress", "completed", "blocked"]), "Of this status only")
        .optional("priority", priority(), "Of this priority only");
    [
        (Action::Create, schema::writing("create_task", "Add a task to the list", new)),
        (Action::Get, schema::reading("get_task", "Show a task with its description", id())),
        (Action::Update, schema::repeatable("update_task", "Change a task", changed)),
        (
            Action::Delete,
            schema::writing("delete_task", "Take a task out of the list; none waits for it then", id()),
        ),
        (Action::List, schema::reading("list_tasks", "Show the tasks, without descriptions", filter)),
        (
            Action::Next,
            schema::reading(
                "next_task",
                "Show the most urgent task that can be begun: pending, and not blocked",
                Schema::new(),
            ),
        ),
        (
            Action::AddDependency,
            schema::repeatable("add_dependency", "Let a task wait for another", dependency()),
        ),
        (
            Action::RemoveDependency,
            schema::repeatable("remove_dependency", "Let a task wait for another no more", dependency()),
        ),
    ]
}

#[derive(Debug)]
struct Tasks {
    spec: ToolSpec,
    action: Action,
    store: Arc<Store>,
}

/// What a call is, its arguments read.
enum Asked {
    Get(Id),
    List(Filter),
    Next,
    Change(Change),
}

impl Tasks {
    fn asked(&self, arguments: Value) -> Result<Asked, ToolOutcome> {
        let spec = &self.spec;
        Ok(match self.action {
            Action::Get => Asked::Get(schema::read(spec, arguments)?),
            Action::List => Asked::List(schema::read(spec, arguments)?),
            Action::Next => Asked::Next,
            Action::Create => Asked::Change(Change::Create(schema::read(spec, arguments)?)),
            Action::Update => Asked::Change(Change::Update(schema::read(spec, arguments)?)),
            Action::Delete => Asked::Change(Change::Delete(schema::read(spec, arguments)?)),
            Action::AddDependency => Asked::Change(Change::AddDependency(schema::read(spec, arguments)?)),
            Action::RemoveDependency => {
                Asked::Change(Change::RemoveDependency(schema::read(spec, arguments)?))
            }
        })
    }

    /// Dropping the future leaves the list as it was or changed, never half of it.
    async fn act(&self, arguments: Value) -> Result<Value, ToolOutcome> {
        let asked = self.asked(arguments)?;
        let lock = match &asked {
            Asked::Change(_) => Some(self.store.lock().await.map_err(|error| failed(&error))?),
            Asked::Get(_) | Asked::List(_) | Asked::Next => None,
        };
        let store = Arc::clone(&self.store);
        let work = move || {
            let mut list = store.read().map_err(|error| failed(&error))?;
            let refused = |refused: Refused| failed(&refused);
            match (asked, lock) {
                (Asked::Get(Id { id }), _) => list.get(&id).map_err(refused),
                (Asked::List(filter), _) => Ok(list.listed(&filter)),
                (Asked::Change(change), Some(lock)) => {
                    let told = list.apply(change).map_err(refused)?;
                    store.write(&list, &lock).map_err(|error| failed(&error))?;
                    Ok(told)
                }
                (Asked::Next | Asked::Change(_), _) => Ok(list.next()),
            }
        };
        spawn_blocking(work)
            .await
            .unwrap_or_else(|error| Err(ToolOutcome::error(format!("the tool broke: {error}"))))
    }
}

fn failed(error: &(dyn std::error::Error + 'static)) -> ToolOutcome {
    ToolOutcome::error(chain(error))
}

#[async_trait]
impl Tool for Tasks {
    fn spec(&self) -> &ToolSpec {
        &self.spec
    }

    async fn call(&self, arguments: Value, _context: &ToolContext) -> ToolOutcome {
        match self.act(arguments).await {
            Ok(told) => ToolOutcome::ok(limited(told.to_string())),
            Err(outcome) => outcome,
        }
    }
}

#[cfg(test)]
mod tests;
