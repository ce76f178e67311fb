//! `memory`: what an agent remembers between sessions, in a database on this machine.

mod store;

use std::sync::Arc;

use async_trait::async_trait;
use legwork_common::error::chain;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_json::json;
use tokio::task::spawn_blocking;

use self::store::Store;
use self::store::StoreError;
use super::Kit;
use super::fence;
use super::limited;
use super::schema;
use super::schema::Schema;
use crate::environment::Environment;
use crate::tool::Tool;
use crate::tool::ToolContext;
use crate::tool::ToolOutcome;
use crate::tool::ToolSpec;

/// What the model is told about the toolset.
const INSTRUCTION: &str = "You have a memory that outlives this conversation. Look into it before you begin, and keep in it \
                           what will help later: facts about the user, decisions, what worked. Do not speak about it, \
                           just use it.";

/// The toolset. `path` is as the file says it; `team` names the team on this machine.
///
/// # Errors
///
/// Why there is no such database, in words for the agent and the operator.
pub(crate) async fn kit(environment: &Environment, path: Option<&str>, team: &str) -> Result<Kit, String> {
    let place = match path {
        Some(path) => fence::confined(&environment.working_dir, path)?,
        None => {
            let state = environment.state_dir();
            let state = state.ok_or("no folder for its database: set HOME, or `path` in the file")?;
            state.join("memory").join(team).join("memory.db")
        }
    };
    let fence = path.map(|_| environment.working_dir.clone());
    let store = Arc::new(Store { path: place });
    let opened = Arc::clone(&store);
    spawn_blocking(move || opened.prepare(fence.as_deref()))
        .await
        .map_err(|_| "the database broke".to_owned())?
        .map_err(|error| chain(&error))?;
    let tool = |(action, spec)| Arc::new(Memory { spec, action, store: Arc::clone(&store) }) as Arc<dyn Tool>;
    Ok(Kit {
        tools: specs().into_iter().map(tool).collect(),
        instruction: Some(INSTRUCTION.to_owned()),
        ..Kit::default()
    })
}

/// Which of the tools.
#[derive(Debug, Clone, Copy)]
enum Action {
    Add,
    Get,
    Search,
    Update,
    Delete,
}

fn specs() -> [(Action, ToolSpec); 5] {
    let text = || json!({"type": "string"});
    let category = "What kind of memory it is, such as preference, fact or decision";
    let id = "Which memory";
    [
        (
            Action::Add,
            schema::writing(
                "add_memory",
                "Remember something",
                Schema::new().required("memory", text(), "What to remember").optional(
                    "category",
                    text(),
                    category,
                ),
            ),
        ),
        (Action::Get, schema::reading("get_memories", "Show everything that is remembered", Schema::new())),
        (
            Action::Search,
            schema::reading(
                "search_memories",
                "Find what is remembered",
                Schema::new().optional("query", text(), "Words that must all be in it").optional(
                    "category",
                    text(),
                    "Of this category only",
                ),
            ),
        ),
        (
            Action::Update,
            schema::repeatable(
                "update_memory",
                "Change something that is remembered",
                Schema::new()
                    .required("id", text(), id)
                    .required("memory", text(), "What to remember in its place")
                    .optional("category", text(), "Its new category"),
            ),
        ),
        (
            Action::Delete,
            schema::repeatable("delete_memory", "Forget something", Schema::new().required("id", text(), id)),
        ),
    ]
}

#[derive(Debug, Clone)]
struct Memory {
    spec: ToolSpec,
    action: Action,
    store: Arc<Store>,
}

#[derive(Deserialize)]
struct Add {
    memory: String,
    category: Option<String>,
}

#[derive(Deserialize)]
struct Search {
    query: Option<String>,
    category: Option<String>,
}

#[derive(Deserialize)]
struct Update {
    id: String,
    memory: String,
    category: Option<String>,
}

#[derive(Deserialize)]
struct Delete {
    id: String,
}

impl Memory {
    fn read<A: DeserializeOwned>(&self, arguments: Value) -> Result<A, ToolOutcome> {
        schema::read(&self.spec, arguments)
    }

    /// Does it on this thread.
    fn act(&self, arguments: Value) -> Result<String, ToolOutcome> {
        let failed = |error: StoreError| ToolOutcome::error(chain(&error));
        match self.action {
            Action::Add => {
                let Add { memory, category } = self.read(arguments)?;
                let id = self.store.add(&memory, category.as_deref()).map_err(failed)?;
                Ok(format!("Memory added successfully with ID: {id}"))
            }
            Action::Get => {
                let all = self.store.search("", None).map_err(failed)?;
                Ok(limited(store::listed(&all)))
            }
            Action::Search => {
                let Search { query, category } = self.read(arguments)?;
                let found =
                    self.store.search(&query.unwrap_or_default(), category.as_deref()).map_err(failed)?;
                Ok(limited(store::listed(&found)))
            }
            Action::Update => {
                let Update { id, memory, category } = self.read(arguments)?;
                self.store.update(&id, &memory, category.as_deref()).map_err(failed)?;
                Ok(format!("Memory with ID {id} updated successfully"))
            }
            Action::Delete => {
                let Delete { id } = self.read(arguments)?;
                self.store.delete(&id).map_err(failed)?;
                Ok(format!("Memory with ID {id} deleted successfully"))
            }
        }
    }
}

#[async_trait]
impl Tool for Memory {
    fn spec(&self) -> &ToolSpec {
        &self.spec
    }

    async fn call(&self, arguments: Value, _context: &ToolContext) -> ToolOutcome {
        let here = self.clone();
        match spawn_blocking(move || here.act(arguments)).await {
            Ok(Ok(text)) => ToolOutcome::ok(text),
            Ok(Err(outcome)) => outcome,
            Err(error) => ToolOutcome::error(format!("the tool broke: {error}")),
        }
    }
}

#[cfg(test)]
mod tests;
