//! `todo`: a todo list, one for each run or one that all agents of the session share.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;

use async_trait::async_trait;
use legwork_common::error::chain;
use legwork_common::service::CallIndex;
use legwork_common::session_state::SessionState;
use legwork_common::session_state::Todo;
use legwork_common::session_state::TodoChange;
use legwork_common::session_state::TodoList;
use serde::Deserialize;
use serde_json::Value;
use serde_json::json;

use super::Kit;
use super::schema;
use super::schema::Schema;
use crate::tool::Tool;
use crate::tool::ToolContext;
use crate::tool::ToolOutcome;
use crate::tool::ToolSpec;

/// The system message of the toolset.
const INSTRUCTION: &str = "\
## Todos

Keep track of your progress with todos:
- Before you begin larger work, create a todo for each main step, all with one call of create_todos.
- Set a todo to in-progress when you begin it, and to completed as soon as it is finished. Put several changes into one \
call of update_todos.
- Every todo MUST be completed before your final response. Do not end with todos that are pending or in-progress.";

/// The toolset. With `shared` the list is stored in the session, else it lives in memory as long as the run.
pub(crate) fn open(shared: Option<Arc<dyn SessionState>>) -> Kit {
    let list = shared.map_or_else(|| List::Own(Arc::default()), List::Shared);
    let tool = |(action, spec)| TodoTool { spec, action, list: list.clone() };
    Kit::new(specs().map(tool)).with_instruction(INSTRUCTION)
}

/// All of them count as read-only, as in docker-agent: a todo list changes nothing outside the session.
fn specs() -> [(Action, ToolSpec); 4] {
    let update = Schema::new()
        .required("id", schema::string(), "The id of the todo, such as todo_1")
        .required("status", schema::one_of(&["pending", "in-progress", "completed"]), "The new status")
        .build();
    [
        (
            Action::CreateOne,
            schema::read_only(
                "create_todo",
                "Add one todo to the list",
                Schema::new().required("description", schema::string(), "The todo"),
            ),
        ),
        (
            Action::CreateMany,
            schema::read_only(
                "create_todos",
                "Add several todos to the list",
                Schema::new().required(
                    "descriptions",
                    schema::list_of(schema::string()),
                    "The todos, in order",
                ),
            ),
        ),
        (
            Action::Update,
            schema::read_only(
                "update_todos",
                "Set the status of todos",
                Schema::new().required("updates", schema::list_of(update), "The changes"),
            ),
        ),
        (Action::List, schema::read_only("list_todos", "Show all todos with their status", Schema::new())),
    ]
}

#[derive(Debug, Clone, Copy)]
enum Action {
    CreateOne,
    CreateMany,
    Update,
    List,
}

#[derive(Debug, Clone)]
enum List {
    /// In memory. A new attempt rebuilds it by replaying the recorded calls.
    Own(Arc<Mutex<Vec<Todo>>>),
    /// In the session's stored state, which deduplicates repeated calls by their index.
    Shared(Arc<dyn SessionState>),
}

#[derive(Debug)]
struct TodoTool {
    spec: ToolSpec,
    action: Action,
    list: List,
}

#[derive(Deserialize)]
struct CreateOne {
    description: String,
}

#[derive(Deserialize)]
struct CreateMany {
    descriptions: Vec<String>,
}

#[derive(Deserialize)]
struct Update {
    updates: Vec<Change>,
}

#[derive(Deserialize)]
struct Change {
    id: String,
    status: String,
}

impl TodoTool {
    /// The change that a call asks for.
    fn change(&self, arguments: Value) -> Result<TodoChange, ToolOutcome> {
        Ok(match self.action {
            Action::CreateOne => {
                let CreateOne { description } = schema::parse(&self.spec, arguments)?;
                TodoChange::Add(vec![description])
            }
            Action::CreateMany => {
                let CreateMany { descriptions } = schema::parse(&self.spec, arguments)?;
                TodoChange::Add(descriptions)
            }
            Action::Update => {
                let Update { updates } = schema::parse(&self.spec, arguments)?;
                TodoChange::Update(updates.into_iter().map(|change| (change.id, change.status)).collect())
            }
            Action::List => TodoChange::Read,
        })
    }

    async fn act(&self, arguments: Value, call: CallIndex) -> Result<ToolOutcome, ToolOutcome> {
        let change = self.change(arguments)?;
        let list = match &self.list {
            List::Own(list) => apply(list, &change),
            List::Shared(session_state) => session_state
                .todos(change.clone(), Some(call))
                .await
                .map_err(|error| ToolOutcome::error(chain(&error)))?,
        };
        Ok(self.report(change, &list))
    }

    /// The outcome for the model: what changed, and the whole list.
    fn report(&self, change: TodoChange, list: &TodoList) -> ToolOutcome {
        let TodoList { todos, first_added } = list;
        match (self.action, change) {
            (_, TodoChange::Read) => list_outcome(json!({}), "todos", todos),
            (_, TodoChange::Update(updates)) => update_outcome(updates, todos),
            (action, TodoChange::Add(texts)) => {
                let created: Vec<&Todo> = todos.iter().skip(*first_added).take(texts.len()).collect();
                let created = match (action, &created[..]) {
                    (Action::CreateOne, [one]) => json!(one),
                    _ => json!(created),
                };
                list_outcome(json!({"created": created}), "all_todos", todos)
            }
        }
    }
}

/// Applies a change to a list of this run. Updates of unknown ids are ignored; the outcome reports them.
fn apply(list: &Mutex<Vec<Todo>>, change: &TodoChange) -> TodoList {
    let mut todos = list.lock().unwrap_or_else(PoisonError::into_inner);
    let first_added = todos.len();
    match change {
        TodoChange::Read => {}
        TodoChange::Add(texts) => {
            for description in texts.clone() {
                let id = Todo::id_at(todos.len());
                todos.push(Todo { id, description, status: "pending".to_owned() });
            }
        }
        TodoChange::Update(updates) => {
            for (id, status) in updates {
                if let Some(todo) = todos.iter_mut().find(|todo| todo.id == *id) {
                    todo.status.clone_from(status);
                }
            }
        }
    }
    TodoList { todos: todos.clone(), first_added }
}

/// The outcome of an update. It is an error only where no id is known.
fn update_outcome(updates: Vec<(String, String)>, list: &[Todo]) -> ToolOutcome {
    let is_known = |(id, _): &(String, String)| list.iter().any(|todo| todo.id == *id);
    let (updated, not_found): (Vec<_>, Vec<_>) = updates.into_iter().partition(is_known);
    let is_error = updated.is_empty() && !not_found.is_empty();
    let mut head = json!({});
    if !updated.is_empty() {
        let updated = updated.into_iter().map(|(id, status)| json!({"id": id, "status": status}));
        head["updated"] = updated.collect();
    }
    if !not_found.is_empty() {
        head["not_found"] = not_found.into_iter().map(|(id, _)| Value::String(id)).collect();
    }
    ToolOutcome { is_error, ..list_outcome(head, "all_todos", list) }
}

/// `head` with the whole list under `key`, and a reminder of the incomplete todos.
fn list_outcome(mut head: Value, key: &str, list: &[Todo]) -> ToolOutcome {
    head[key] = json!(list);
    if let Some(reminder) = reminder(list) {
        head["reminder"] = json!(reminder);
    }
    ToolOutcome::ok(head.to_string())
}

/// Lists the incomplete todos, those in progress first.
fn reminder(list: &[Todo]) -> Option<String> {
    let incomplete: String = ["in-progress", "pending"]
        .iter()
        .flat_map(|status| list.iter().filter(move |todo| todo.status == *status))
        .map(|todo| format!(" ({}) [{}] {}", todo.status, todo.id, todo.description))
        .collect();
    (!incomplete.is_empty())
        .then(|| format!("The following todos are still incomplete and MUST be completed:{incomplete}"))
}

#[async_trait]
impl Tool for TodoTool {
    fn spec(&self) -> &ToolSpec {
        &self.spec
    }

    async fn call(&self, arguments: Value, context: &ToolContext) -> ToolOutcome {
        self.act(arguments, context.call).await.unwrap_or_else(|error| error)
    }

    fn replay(&self, arguments: &Value) {
        // A call that was invalid then is invalid now and changes nothing. A shared list is stored, so it needs no
        // replay.
        if let (List::Own(list), Ok(change)) = (&self.list, self.change(arguments.clone())) {
            apply(list, &change);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[tokio::test]
    async fn a_list_grows_and_lists_incomplete_todos() {
        let kit = open(None);
        let [one, many, update, list] = [0, 1, 2, 3].map(|at: usize| &kit.tools[at]);
        testing::call(one, json!({"description": "read"})).await;
        testing::call(many, json!({"descriptions": ["write", "send"]})).await;
        let changes = json!({"updates": [{"id": "todo_1", "status": "completed"}, {"id": "todo_2", "status": "in-progress"}, {"id": "x", "status": "completed"}]});
        let updated: Value = serde_json::from_str(&testing::call(update, changes).await.text).unwrap();
        assert_eq!(updated["not_found"], json!(["x"]));
        assert_eq!(updated["updated"][0], json!({"id": "todo_1", "status": "completed"}));
        let listed: Value = serde_json::from_str(&testing::call(list, json!({})).await.text).unwrap();
        assert_eq!(
            listed["reminder"],
            "The following todos are still incomplete and MUST be completed: (in-progress) [todo_2] write (pending) [todo_3] send"
        );
        let unknown = testing::call(update, json!({"updates": [{"id": "y", "status": "completed"}]})).await;
        assert!(unknown.is_error);
    }

    #[tokio::test]
    async fn all_agents_see_a_shared_list_and_it_is_not_replayed() {
        let service = Arc::new(testing::FakeService::default());
        let (mine, yours) = (open(Some(service.clone())), open(Some(service.clone())));
        testing::call(&mine.tools[0], json!({"description": "read"})).await;
        let twice = testing::call(&yours.tools[1], json!({"descriptions": ["write", "send"]})).await;
        let created: Value = serde_json::from_str(&twice.text).unwrap();
        assert_eq!(created["created"][0]["id"], "todo_2", "{created}");
        let one = json!({"updates": [{"id": "todo_2", "status": "completed"}]});
        assert!(!testing::call(&mine.tools[2], one).await.is_error);
        mine.tools[0].replay(&json!({"description": "again"}));
        let listed = testing::call(&yours.tools[3], json!({})).await.text;
        let listed: Value = serde_json::from_str(&listed).unwrap();
        assert_eq!(listed["todos"].as_array().unwrap().len(), 3, "{listed}");
        assert_eq!(listed["todos"][1]["status"], "completed");
    }
}
