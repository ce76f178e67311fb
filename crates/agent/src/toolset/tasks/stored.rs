//! The form of the file: docker-agent's map of tasks by id, and the list of Legwork's first files, which is read only.

use std::fmt;

use serde::Deserialize;
use serde::Deserializer;
use serde::Serialize;
use serde::Serializer;
use serde::de::MapAccess;
use serde::de::SeqAccess;
use serde::de::Visitor;
use serde_json::Map;
use serde_json::Value;

use super::list::Task;
use super::list::TaskList;

/// The file.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Stored {
    #[serde(default)]
    tasks: Tasks,
    /// The counter of ids in Legwork's first files. Ids are random now.
    #[serde(default, skip_serializing, rename = "last_id")]
    _last_id: Value,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

/// The tasks in their order, written as a map by id.
#[derive(Debug, Clone, Default)]
struct Tasks(Vec<Task>);

impl Serialize for Tasks {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|task| (&task.id, task)))
    }
}

impl<'de> Deserialize<'de> for Tasks {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TasksVisitor)
    }
}

/// Accepts a map, a list, and the null that docker-agent writes for no tasks.
struct TasksVisitor;

impl<'de> Visitor<'de> for TasksVisitor {
    type Value = Tasks;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map of ids to tasks")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Tasks, M::Error> {
        let mut tasks = Vec::new();
        while let Some((id, mut task)) = map.next_entry::<String, Task>()? {
            // docker-agent looks tasks up by their key.
            task.id = id;
            tasks.push(task);
        }
        Ok(Tasks(tasks))
    }

    fn visit_seq<S: SeqAccess<'de>>(self, mut list: S) -> Result<Tasks, S::Error> {
        let mut tasks = Vec::new();
        while let Some(task) = list.next_element()? {
            tasks.push(task);
        }
        Ok(Tasks(tasks))
    }

    fn visit_unit<E>(self) -> Result<Tasks, E> {
        Ok(Tasks::default())
    }
}

impl From<Stored> for TaskList {
    fn from(Stored { tasks, rest, .. }: Stored) -> Self {
        Self { tasks: tasks.0, rest }
    }
}

impl From<TaskList> for Stored {
    fn from(TaskList { tasks, rest }: TaskList) -> Self {
        Self { tasks: Tasks(tasks), _last_id: Value::Null, rest }
    }
}
