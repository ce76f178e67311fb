//! The events of a streamed task, folded into the task as a poll would show it. Pure.

use serde_json::Value;
use serde_json::json;

use super::wire::Reply;
use super::wire::TaskRef;

/// What the events have shown so far.
#[derive(Debug, Default)]
pub(super) struct StreamedTask {
    /// In the form of a polled task; null before the first event.
    task: Value,
}

impl StreamedTask {
    /// Applies one event. Returns the reply that ends the stream: a message, or a task that has ended or needs input.
    ///
    /// # Errors
    ///
    /// The agent refused, or the event has no known form.
    pub(super) fn apply(&mut self, event: &Value) -> Result<Option<Reply>, String> {
        let result = &event["result"];
        if event.get("error").is_some_and(|error| !error.is_null()) || message_of(result).is_some() {
            return Reply::read(event).map(Some);
        }
        // Version 1.0 names the kind of an event by its key, 0.3 by its fields.
        let status =
            result.get("statusUpdate").or(Some(result).filter(|update| update["taskId"].is_string()));
        let artifact = result.get("artifactUpdate").or(status);
        if let Some(update) = artifact.filter(|update| update["artifact"].is_object()) {
            self.begin(update);
            self.add_artifact(&update["artifact"], update["append"] == true);
        } else if let Some(update) = status.filter(|update| update["status"].is_object()) {
            self.begin(update);
            self.set_status(&update["status"]);
        } else {
            self.task = result.get("task").unwrap_or(result).clone();
        }
        match Reply::read(&json!({"result": self.task}))? {
            Reply::Working(_) => Ok(None),
            reply => Ok(Some(reply)),
        }
    }

    /// The task, once an event has named it.
    pub(super) fn task_ref(&self) -> Option<TaskRef> {
        TaskRef::of(&self.task)
    }

    /// Begins the task with its first event, if that is an update.
    fn begin(&mut self, update: &Value) {
        if self.task.is_null() {
            let state = json!({"state": "working"});
            self.task = json!({"id": update["taskId"], "contextId": update["contextId"], "status": state});
        }
    }

    /// Replaces the status. A message in it is also kept in the history: some agents put their answer there, in updates
    /// before the last one.
    fn set_status(&mut self, status: &Value) {
        if status["message"].is_object() {
            push(&mut self.task["history"], status["message"].clone());
        }
        self.task["status"] = status.clone();
    }

    /// Adds an artifact, or the next chunk of one.
    fn add_artifact(&mut self, artifact: &Value, append: bool) {
        let known = self.task["artifacts"].as_array_mut().into_iter().flatten();
        let known = known.into_iter().find(|known| known["artifactId"] == artifact["artifactId"]);
        match known {
            Some(known) if append => {
                for part in artifact["parts"].as_array().into_iter().flatten() {
                    push(&mut known["parts"], part.clone());
                }
            }
            Some(known) => *known = artifact.clone(),
            None => push(&mut self.task["artifacts"], artifact.clone()),
        }
    }
}

/// Adds to a list; what is not a list becomes one.
fn push(list: &mut Value, item: Value) {
    match list {
        Value::Array(items) => items.push(item),
        other => *other = json!([item]),
    }
}

/// The message, where that is what an event carries.
fn message_of(result: &Value) -> Option<&Value> {
    result.get("message").or(Some(result)).filter(|message| message["parts"].is_array())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The reply that these events lead to, and how many were applied.
    fn applied(events: &[Value]) -> (Result<Option<Reply>, String>, usize) {
        let mut task = StreamedTask::default();
        for (at, event) in events.iter().enumerate() {
            match task.apply(event) {
                Ok(None) => {}
                ended => return (ended, at + 1),
            }
        }
        (Ok(None), events.len())
    }

    fn completed(text: &str) -> Result<Option<Reply>, String> {
        Ok(Some(Reply::Completed(text.to_owned())))
    }

    #[test]
    fn chunks_of_an_artifact_are_joined_in_both_versions() {
        let v1 = |update: Value| json!({"result": {"artifactUpdate": update}});
        let chunk = |id: &str, text: &str, append: bool| {
            json!({"taskId": "t", "contextId": "c", "append": append,
                "artifact": {"artifactId": id, "parts": [{"text": text}]}})
        };
        let done = json!({"taskId": "t", "contextId": "c", "status": {"state": "TASK_STATE_COMPLETED"}});
        let events = [
            json!({"result": {"task": {"id": "t", "contextId": "c", "status": {"state": "TASK_STATE_SUBMITTED"}}}}),
            v1(chunk("a", "Hel", false)),
            v1(chunk("a", "lo", true)),
            v1(chunk("b", "draft", false)),
            v1(chunk("b", "final", false)),
            json!({"result": {"statusUpdate": done}}),
        ];
        assert_eq!(applied(&events), (completed("Hello\nfinal"), 6));
        let mut done = done;
        done["status"]["state"] = json!("completed");
        let v0 = [
            json!({"result": chunk("a", "Hel", false)}),
            json!({"result": chunk("a", "lo", true)}),
            json!({"result": done}),
            json!({"result": "not read"}),
        ];
        assert_eq!(applied(&v0), (completed("Hello"), 3));
    }

    #[test]
    fn messages_questions_and_errors_end_a_stream() {
        let message = json!({"role": "agent", "parts": [{"text": "Sun"}]});
        assert_eq!(applied(&[json!({"result": message})]), (completed("Sun"), 1));
        assert_eq!(applied(&[json!({"result": {"message": message}})]), (completed("Sun"), 1));
        let status = |state: &str, message: &Value| json!({"taskId": "t", "status": {"state": state, "message": message}});
        let asked = applied(&[json!({"result": status("input-required", &message)})]);
        assert!(matches!(asked.0, Ok(Some(Reply::InputRequired(_, ref text))) if text == "Sun"), "{asked:?}");
        let updates = [
            json!({"result": status("working", &message)}),
            json!({"result": status("completed", &Value::Null)}),
        ];
        assert_eq!(applied(&updates), (completed("Sun"), 2));
        let refused = applied(&[json!({"error": {"code": -1, "message": "no"}})]);
        assert_eq!(refused.0, Err("the agent refused: no (code -1)".to_owned()));
        assert!(applied(&[json!({"result": {"odd": 1}})]).0.is_err());
    }
}
