//! `think`: a place to think aloud.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;

use async_trait::async_trait;
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

/// The toolset.
pub(crate) fn kit() -> Kit {
    let schema = Schema::new().required("thought", json!({"type": "string"}), "What you think");
    let spec = schema::reading(
        "think",
        "Think about something: it is written down and shown back to you with your earlier thoughts, and nothing \
         else happens. Use it to plan, to weigh results, and to check yourself before you act.",
        schema,
    );
    Kit { tools: vec![Arc::new(Think { spec, thoughts: Mutex::default() })], ..Kit::default() }
}

#[derive(Debug)]
struct Think {
    spec: ToolSpec,
    thoughts: Mutex<Vec<String>>,
}

#[derive(Deserialize)]
struct Arguments {
    thought: String,
}

impl Think {
    /// Adds a thought; all of them.
    fn add(&self, thought: String) -> String {
        let mut thoughts = self.thoughts.lock().unwrap_or_else(PoisonError::into_inner);
        thoughts.push(thought);
        thoughts.join("\n")
    }
}

#[async_trait]
impl Tool for Think {
    fn spec(&self) -> &ToolSpec {
        &self.spec
    }

    async fn call(&self, arguments: Value, _context: &ToolContext) -> ToolOutcome {
        match schema::read::<Arguments>(&self.spec, arguments) {
            Ok(Arguments { thought }) => ToolOutcome::ok(format!("Thoughts:\n{}", self.add(thought))),
            Err(outcome) => outcome,
        }
    }

    fn replay(&self, arguments: &Value) {
        if let Ok(Arguments { thought }) = serde_json::from_value(arguments.clone()) {
            self.add(thought);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[tokio::test]
    async fn thoughts_pile_up_and_are_replayed() {
        let kit = kit();
        let think = &kit.tools[0];
        think.replay(&json!({"thought": "before the crash"}));
        assert_eq!(
            testing::call(think, json!({"thought": "one"})).await,
            ToolOutcome::ok("Thoughts:\nbefore the crash\none")
        );
        let wrong = testing::call(think, json!({})).await;
        assert_eq!(wrong.text, "invalid arguments for think: missing field `thought`");
        assert!(wrong.is_error);
    }
}
