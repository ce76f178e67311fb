//! `todo`: a list of things to do, one list for each run.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;

use async_trait::async_trait;
use serde::Deserialize;
use serde::Serialize;
use serde_json::Value;
use serde_json::json;

use super::Kit;
use super::schema;
use super::schema::Schema;
use crate::tool::Tool;
use crate::tool::ToolContext;
use crate::tool::ToolOutcome;
use crate::tool::ToolSpec;

/// The toolset.
pub(crate) fn kit() -> Kit {
    let list = Arc::new(Mutex::default());
    let text = || json!({"type": "string"});
    let update = json!({
        "type": "object",
        "properties": {
            "id": {"type": "string", "description": "Which todo, such as todo_1"},
            "status": {
                "type": "string",
                "enum": ["pending", "in-progress", "completed"],
                "description": "Its new status",
            },
        },
        "required": ["id", "status"],
        "additionalProperties": false,
    });
    let tools = [
        (
            Action::CreateOne,
            schema::reading(
                "create_todo",
                "Add one thing to do to the list",
                Schema::new().required("description", text(), "What there is to do"),
            ),
        ),
        (
            Action::CreateMany,
            schema::reading(
                "create_todos",
                "Add several things to do to the list",
                Schema::new().required(
                    "descriptions",
                    json!({"type": "array", "items": text()}),
                    "What there is to do, in order",
                ),
            ),
        ),
        (
            Action::Update,
            schema::reading(
                "update_todos",
                "Set the status of things on the list",
                Schema::new().required("updates", json!({"type": "array", "items": update}), "The changes"),
            ),
        ),
        (Action::List, schema::reading("list_todos", "Show the list with each status", Schema::new())),
    ];
    let tool = |(action, spec)| Arc::new(Todos { spec, action, list: Arc::clone(&list) }) as Arc<dyn Tool>;
    Kit { tools: tools.into_iter().map(tool).collect(), ..Kit::default() }
}

#[derive(Debug, Clone, Copy)]
enum Action {
    CreateOne,
    CreateMany,
    Update,
    List,
}

#[derive(Debug, Clone, Serialize)]
struct Todo {
    id: String,
    description: String,
    status: String,
}

#[derive(Debug)]
struct Todos {
    spec: ToolSpec,
    action: Action,
    list: Arc<Mutex<Vec<Todo>>>,
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

impl Todos {
    fn act(&self, arguments: Value) -> Result<ToolOutcome, ToolOutcome> {
        let mut list = self.list.lock().unwrap_or_else(PoisonError::into_inner);
        match self.action {
            Action::CreateOne => {
                let CreateOne { description } = schema::read(&self.spec, arguments)?;
                let created = create(&mut list, description);
                Ok(answer(json!({"created": created}), "all_todos", &list))
            }
            Action::CreateMany => {
                let CreateMany { descriptions } = schema::read(&self.spec, arguments)?;
                let created: Vec<Todo> =
                    descriptions.into_iter().map(|description| create(&mut list, description)).collect();
                Ok(answer(json!({"created": created}), "all_todos", &list))
            }
            Action::Update => {
                let Update { updates } = schema::read(&self.spec, arguments)?;
                Ok(update(&mut list, updates))
            }
            Action::List => Ok(answer(json!({}), "todos", &list)),
        }
    }
}

fn create(list: &mut Vec<Todo>, description: String) -> Todo {
    let id = format!("todo_{}", list.len() + 1);
    let todo = Todo { id, description, status: "pending".to_owned() };
    list.push(todo.clone());
    todo
}

fn update(list: &mut [Todo], updates: Vec<Change>) -> ToolOutcome {
    let (mut updated, mut not_found) = (Vec::new(), Vec::new());
    for Change { id, status } in updates {
        match list.iter_mut().find(|todo| todo.id == id) {
            Some(todo) => {
                todo.status.clone_from(&status);
                updated.push(json!({"id": id, "status": status}));
            }
            None => not_found.push(id),
        }
    }
    let is_error = updated.is_empty() && !not_found.is_empty();
    let mut head = json!({});
    if !updated.is_empty() {
        head["updated"] = json!(updated);
    }
    if !not_found.is_empty() {
        head["not_found"] = json!(not_found);
    }
    ToolOutcome { is_error, ..answer(head, "all_todos", list) }
}

/// `head` with the whole list, and what is still open.
fn answer(mut head: Value, key: &str, list: &[Todo]) -> ToolOutcome {
    head[key] = json!(list);
    if let Some(reminder) = reminder(list) {
        head["reminder"] = json!(reminder);
    }
    ToolOutcome::ok(head.to_string())
}

fn reminder(list: &[Todo]) -> Option<String> {
    let open: String = ["in-progress", "pending"]
        .iter()
        .flat_map(|status| list.iter().filter(move |todo| todo.status == *status))
        .map(|todo| format!(" ({}) [{}] {}", todo.status, todo.id, todo.description))
        .collect();
    (!open.is_empty())
        .then(|| format!("The following todos are still incomplete and MUST be completed:{open}"))
}

#[async_trait]
impl Tool for Todos {
    fn spec(&self) -> &ToolSpec {
        &self.spec
    }

    async fn call(&self, arguments: Value, _context: &ToolContext) -> ToolOutcome {
        self.act(arguments).unwrap_or_else(|refused| refused)
    }

    fn replay(&self, arguments: &Value) {
        // A call that was refused then is refused now, and changes nothing either time.
        self.act(arguments.clone()).ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[tokio::test]
    async fn a_list_grows_and_reminds() {
        let kit = kit();
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
}
