//! The parts of a conversation that a script's placeholders, such as `{{task}}`, stand for.

use std::sync::Arc;

use legwork_common::id::JOB_ID_PREFIX;
use legwork_common::id::JobId;
use serde_json::Value;

use crate::message::Message;
use crate::message::ToolResult;

/// The placeholder that stands for two opening braces, so that a script can contain them.
pub(super) const OPEN: &str = "open";

/// The values of the placeholders in one conversation.
#[derive(Debug, Default)]
pub(super) struct Placeholders<'m> {
    task: &'m str,
    last_user: &'m str,
    /// All tool results, oldest first.
    results: Vec<&'m ToolResult>,
    /// How many of them are older than the last reply.
    older: usize,
    /// The ids of jobs that results name, in the order of their first mention.
    jobs: Vec<String>,
}

impl<'m> Placeholders<'m> {
    pub(super) fn of(messages: &'m [Arc<Message>]) -> Self {
        let mut placeholders = Self::default();
        for message in messages {
            match &**message {
                Message::System { text } => {
                    if let Some(task) = between(text, "<task>\n", "\n</task>") {
                        placeholders.task = task;
                    }
                }
                Message::User { text } => {
                    if placeholders.task.is_empty() {
                        placeholders.task = text;
                    }
                    placeholders.last_user = text;
                }
                Message::Assistant(_) => placeholders.older = placeholders.results.len(),
                Message::ToolResult(result) => {
                    placeholders.results.push(result);
                    placeholders.note_jobs(&result.text);
                }
            }
        }
        placeholders
    }

    /// Adds the ids of jobs that `text` names, each once.
    fn note_jobs(&mut self, text: &str) {
        for id in pieces(text).filter_map(|(_, id)| id) {
            let id = id.to_string();
            if !self.jobs.contains(&id) {
                self.jobs.push(id);
            }
        }
    }

    /// The agent's task; in a conversation the user's first prompt.
    pub(super) fn task(&self) -> &'m str {
        self.task
    }

    /// The placeholder for a job of the conversation; `None` for one that no tool result names.
    pub(super) fn placeholder(&self, id: JobId) -> Option<String> {
        let id = id.to_string();
        let number = self.jobs.iter().position(|job| *job == id)?;
        Some(format!("{{{{job:{number}}}}}"))
    }

    /// `text` with every placeholder filled. What is filled in is not scanned again.
    ///
    /// # Errors
    ///
    /// A sentence that names the first placeholder without a value.
    pub(super) fn filled(&self, text: &str) -> Result<String, String> {
        let mut filled = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("{{") {
            let Some((name, remaining)) = after.split_once("}}") else { break };
            filled.push_str(before);
            filled.push_str(&self.value_of(name.trim())?);
            rest = remaining;
        }
        filled.push_str(rest);
        Ok(filled)
    }

    /// `value` with the placeholders in all its strings filled.
    pub(super) fn filled_value(&self, value: &Value) -> Result<Value, String> {
        Ok(match value {
            Value::String(text) => Value::String(self.filled(text)?),
            Value::Array(items) => {
                let mut filled = Vec::new();
                for item in items {
                    if item == "{{jobs}}" {
                        filled.extend(self.jobs.iter().cloned().map(Value::String));
                    } else {
                        filled.push(self.filled_value(item)?);
                    }
                }
                Value::Array(filled)
            }
            Value::Object(entries) => entries
                .iter()
                .map(|(key, value)| Ok((key.clone(), self.filled_value(value)?)))
                .collect::<Result<_, String>>()?,
            Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
        })
    }

    /// The value of a placeholder.
    fn value_of(&self, name: &str) -> Result<String, String> {
        let recent = &self.results[self.older.min(self.results.len())..];
        let missing = || format!("the script uses {{{{{name}}}}}, which has no value in this conversation");
        match name.split_once(':') {
            None if name == OPEN => Ok("{{".to_owned()),
            None if name == "task" => Ok(self.task.to_owned()),
            None if name == "last_user" => Ok(self.last_user.to_owned()),
            None if name == "results" => {
                let texts: Vec<&str> = recent.iter().map(|result| result.text.as_str()).collect();
                Ok(texts.join("\n\n"))
            }
            Some(("job", number)) => {
                let index: usize = number.parse().map_err(|_| missing())?;
                self.jobs.get(index).cloned().ok_or_else(missing)
            }
            Some(("result", which)) => {
                let found = match which.parse::<usize>() {
                    Ok(index) => recent.get(index),
                    Err(_) => self.results.iter().rfind(|result| result.name == which),
                };
                found.map(|result| result.text.clone()).ok_or_else(missing)
            }
            None | Some(_) => Err(missing()),
        }
    }
}

/// Splits `text` before and after each job id. The pieces joined are the text; a piece that is an id comes with it.
pub(super) fn pieces(text: &str) -> impl Iterator<Item = (&str, Option<JobId>)> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let (length, id) = first_id(rest)?;
        let piece = &rest[..length];
        rest = &rest[length..];
        Some((piece, id))
    })
}

/// The length of the first piece, and the id if it is one; `None` at the end of the text.
fn first_id(text: &str) -> Option<(usize, Option<JobId>)> {
    for (at, _) in text.match_indices(JOB_ID_PREFIX) {
        let rest = &text[at + JOB_ID_PREFIX.len()..];
        let end = rest.find(|c: char| !c.is_ascii_hexdigit() && c != '-').unwrap_or(rest.len());
        match rest[..end].parse() {
            Ok(_) if at > 0 => return Some((at, None)),
            Ok(id) => return Some((JOB_ID_PREFIX.len() + end, Some(id))),
            Err(_) => {}
        }
    }
    (!text.is_empty()).then_some((text.len(), None))
}

/// The text between the first `open` and the last `close`.
fn between<'t>(text: &'t str, open: &str, close: &str) -> Option<&'t str> {
    let (_, after) = text.split_once(open)?;
    after.rsplit_once(close).map(|(inner, _)| inner)
}
