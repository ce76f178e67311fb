//! `memory`: facts that an agent remembers across sessions, in an SQLite database on this machine.

mod store;

use std::sync::Arc;

use async_trait::async_trait;
use legwork_common::error::chain;
use serde::Deserialize;
use serde_json::Value;

use self::store::MemoryError;
use self::store::MemoryStore;
use super::Kit;
use super::limited;
use super::schema;
use super::schema::Schema;
use super::shared_file::Lock;
use super::shared_file::SharedFile;
use crate::blocking::BlockingThreads;
use crate::environment::Environment;
use crate::tool::Tool;
use crate::tool::ToolContext;
use crate::tool::ToolOutcome;
use crate::tool::ToolSpec;

/// The system message of the toolset.
const INSTRUCTION: &str = "\
## Memory

You have a memory that outlives this conversation. Look for what is relevant before you act, and store what will help \
later: preferences of the user, corrections, decisions, conventions of the project. Do not talk about it, just use it.

- Search with words or a category in search_memories; get_memories returns everything.
- Change what is stored already with update_memory, and use add_memory for new facts only.
- Sort memories by category: preference, fact, project, decision.";

/// Opens the database and creates it if it does not exist. `path` comes from the agent file and must be below the
/// working folder. Without it, the database is in the user's state folder, one for each `team` identity.
///
/// # Errors
///
/// Why the database cannot be opened, for the agent and the operator.
pub(crate) async fn open(environment: &Environment, path: Option<&str>, team: &str) -> Result<Kit, String> {
    let store = match path {
        Some(path) => {
            let file = SharedFile::of_run(environment, path)?;
            match environment.confinement {
                Some(_) => MemoryStore::Confined(file),
                None => MemoryStore::Shared(file),
            }
        }
        None => {
            let state_dir = environment.state_dir();
            let state_dir =
                state_dir.ok_or("no folder for its database: set HOME, or `path` in the agent file")?;
            // The operator chooses the state folder, so links in it may lead anywhere.
            MemoryStore::Own { path: state_dir.join("memory").join(team).join("memory.db") }
        }
    };
    let store = Arc::new(store);
    let blocking = &environment.blocking;
    let made = Arc::clone(&store);
    let making = move || made.create_folder().map_err(|error| failed(&error));
    blocking.run(making).await.map_err(|error| error.text)?;
    let lock = store.lock(blocking, false).await.map_err(|error| chain(&error))?;
    let opened = Arc::clone(&store);
    blocking
        .run(move || opened.prepare(lock.as_ref()).map_err(|error| failed(&error)))
        .await
        .map_err(|error| error.text)?;
    let tool =
        |(action, spec)| MemoryTool { spec, action, store: Arc::clone(&store), blocking: blocking.clone() };
    Ok(Kit::new(specs().map(tool)).with_instruction(INSTRUCTION))
}

#[derive(Debug, Clone, Copy)]
enum Action {
    Add,
    Get,
    Search,
    Update,
    Delete,
}

fn specs() -> [(Action, ToolSpec); 5] {
    let id = || Schema::new().required("id", schema::string(), "The id of the memory");
    [
        (
            Action::Add,
            schema::writing(
                "add_memory",
                "Store a memory",
                Schema::new().required("memory", schema::string(), "What to remember").optional(
                    "category",
                    schema::string(),
                    "The kind of memory, such as preference, fact or decision",
                ),
            ),
        ),
        (Action::Get, schema::read_only("get_memories", "Show all memories", Schema::new())),
        (
            Action::Search,
            schema::read_only(
                "search_memories",
                "Find memories",
                Schema::new()
                    .optional("query", schema::string(), "Words that must all occur in a memory")
                    .optional("category", schema::string(), "Only memories of this category"),
            ),
        ),
        (
            Action::Update,
            schema::idempotent(
                "update_memory",
                "Change a memory",
                id().required("memory", schema::string(), "The new text").optional(
                    "category",
                    schema::string(),
                    "The new category",
                ),
            ),
        ),
        (Action::Delete, schema::idempotent("delete_memory", "Delete a memory", id())),
    ]
}

#[derive(Debug, Clone)]
struct MemoryTool {
    spec: ToolSpec,
    action: Action,
    store: Arc<MemoryStore>,
    blocking: BlockingThreads,
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

fn failed(error: &MemoryError) -> ToolOutcome {
    ToolOutcome::error(chain(error))
}

impl MemoryTool {
    /// Does the blocking work.
    fn act(&self, arguments: Value, lock: Option<&Lock>) -> Result<String, ToolOutcome> {
        let failed = |error: MemoryError| failed(&error);
        match self.action {
            Action::Add => {
                let Add { memory, category } = schema::parse(&self.spec, arguments)?;
                let id = self.store.add(lock, &memory, category.as_deref()).map_err(failed)?;
                Ok(format!("Memory added successfully with ID: {id}"))
            }
            Action::Get => {
                let all = self.store.search("", None).map_err(failed)?;
                Ok(limited(store::to_json(&all)))
            }
            Action::Search => {
                let Search { query, category } = schema::parse(&self.spec, arguments)?;
                let found =
                    self.store.search(&query.unwrap_or_default(), category.as_deref()).map_err(failed)?;
                Ok(limited(store::to_json(&found)))
            }
            Action::Update => {
                let Update { id, memory, category } = schema::parse(&self.spec, arguments)?;
                self.store.update(lock, &id, &memory, category.as_deref()).map_err(failed)?;
                Ok(format!("Memory with ID {id} updated successfully"))
            }
            Action::Delete => {
                let Delete { id } = schema::parse(&self.spec, arguments)?;
                self.store.delete(lock, &id).map_err(failed)?;
                Ok(format!("Memory with ID {id} deleted successfully"))
            }
        }
    }
}

#[async_trait]
impl Tool for MemoryTool {
    fn spec(&self) -> &ToolSpec {
        &self.spec
    }

    async fn call(&self, arguments: Value, _context: &ToolContext) -> ToolOutcome {
        let changes = !matches!(self.action, Action::Get | Action::Search);
        let lock = match self.store.lock(&self.blocking, changes).await {
            Ok(lock) => lock,
            Err(error) => return failed(&error),
        };
        let tool = self.clone();
        match self.blocking.run(move || tool.act(arguments, lock.as_ref())).await {
            Ok(text) => ToolOutcome::ok(text),
            Err(error) => error,
        }
    }
}

#[cfg(test)]
mod tests;
