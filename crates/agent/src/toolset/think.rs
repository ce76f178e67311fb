//! `think`: a scratchpad for the model. It keeps the thoughts of a run and shows them again with each new one.

use std::sync::Mutex;
use std::sync::PoisonError;

use async_trait::async_trait;
use serde::Deserialize;
use serde_json::Value;

use super::Kit;
use super::schema;
use super::schema::Schema;
use crate::tool::Tool;
use crate::tool::ToolContext;
use crate::tool::ToolOutcome;
use crate::tool::ToolSpec;

/// The system message of the toolset.
const INSTRUCTION: &str = "\
## Thinking

Use think as a scratchpad before you act:
- to check which rules apply
- to see whether you have all the information that you need
- to test a plan before you carry it out
- to work through a problem with many steps";

/// The toolset, with no thoughts yet.
pub(crate) fn open() -> Kit {
    let schema = Schema::new().required("thought", schema::string(), "The thought");
    let spec = schema::read_only(
        "think",
        "Think about something. The thought is recorded and shown to you with your earlier thoughts; nothing else \
         happens. Use it to plan, to weigh results, and to check yourself before you act.",
        schema,
    );
    Kit::new([ThinkTool { spec, thoughts: Mutex::default() }]).with_instruction(INSTRUCTION)
}

#[derive(Debug)]
struct ThinkTool {
    spec: ToolSpec,
    /// In order, with the replayed ones of earlier attempts first.
    thoughts: Mutex<Vec<String>>,
}

#[derive(Deserialize)]
struct Arguments {
    thought: String,
}

impl ThinkTool {
    /// Adds a thought and returns all of them, one a line.
    fn add(&self, thought: String) -> String {
        let mut thoughts = self.thoughts.lock().unwrap_or_else(PoisonError::into_inner);
        thoughts.push(thought);
        thoughts.join("\n")
    }
}

#[async_trait]
impl Tool for ThinkTool {
    fn spec(&self) -> &ToolSpec {
        &self.spec
    }

    async fn call(&self, arguments: Value, _context: &ToolContext) -> ToolOutcome {
        match schema::parse::<Arguments>(&self.spec, arguments) {
            Ok(Arguments { thought }) => ToolOutcome::ok(format!("Thoughts:\n{}", self.add(thought))),
            Err(invalid) => invalid,
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
    use serde_json::json;

    use super::*;
    use crate::testing;

    #[tokio::test]
    async fn thoughts_accumulate_and_are_replayed() {
        let kit = open();
        let think = &kit.tools[0];
        think.replay(&json!({"thought": "before the crash"}));
        assert_eq!(
            testing::call(think, json!({"thought": "one"})).await,
            ToolOutcome::ok("Thoughts:\nbefore the crash\none")
        );
        let invalid = testing::call(think, json!({})).await;
        assert_eq!(invalid.text, "invalid arguments for think: missing field `thought`");
        assert!(invalid.is_error);
    }
}
