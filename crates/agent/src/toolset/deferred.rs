//! `defer`: tools that a model is not offered until it has searched for them, so that many cost little.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

use async_trait::async_trait;
use serde::Deserialize;
use serde_json::Value;
use serde_json::json;

use super::schema;
use super::schema::Schema;
use crate::tool::Tool;
use crate::tool::ToolContext;
use crate::tool::ToolOutcome;
use crate::tool::ToolSpec;

/// The tools of a run that are hidden now, by name with what they do. Cheap to clone; all clones are one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Hidden {
    // A std mutex: never held over an await.
    tools: Arc<Mutex<BTreeMap<String, String>>>,
}

impl Hidden {
    fn tools(&self) -> MutexGuard<'_, BTreeMap<String, String>> {
        self.tools.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hides a tool.
    pub(crate) fn hide(&self, spec: &ToolSpec) {
        self.tools().insert(spec.name.clone(), spec.description.clone());
    }

    /// Whether a tool of this name is hidden.
    pub(crate) fn hides(&self, name: &str) -> bool {
        self.tools().contains_key(name)
    }

    /// The tools by which a model gets at the hidden ones.
    pub(crate) fn finders(&self) -> [Arc<dyn Tool>; 2] {
        let text = || json!({"type": "string"});
        let search = schema::reading(
            "search_tool",
            "Search for further tools that you can use, by words of their names and descriptions. add_tool then \
             makes one of them yours.",
            Schema::new().required("query", text(), "Words to look for; nothing lists all"),
        );
        let add = schema::reading(
            "add_tool",
            "Make a tool that search_tool found one of your tools, from your next step on.",
            Schema::new().required("name", text(), "The name of the tool"),
        );
        [
            Arc::new(SearchTool { spec: search, hidden: self.clone() }),
            Arc::new(AddTool { spec: add, hidden: self.clone() }),
        ]
    }
}

#[derive(Debug)]
struct SearchTool {
    spec: ToolSpec,
    hidden: Hidden,
}

#[derive(Deserialize)]
struct Query {
    query: String,
}

#[async_trait]
impl Tool for SearchTool {
    fn spec(&self) -> &ToolSpec {
        &self.spec
    }

    async fn call(&self, arguments: Value, _context: &ToolContext) -> ToolOutcome {
        let Query { query } = match schema::read(&self.spec, arguments) {
            Ok(query) => query,
            Err(outcome) => return outcome,
        };
        let wanted: Vec<String> = query.split_whitespace().map(str::to_lowercase).collect();
        let mut found = String::new();
        for (name, description) in &*self.hidden.tools() {
            let said = format!("{name} {description}").to_lowercase();
            if wanted.is_empty() || wanted.iter().any(|word| said.contains(word.as_str())) {
                let _ = writeln!(found, "{name}: {}", description.lines().next().unwrap_or_default());
            }
        }
        ToolOutcome::ok(if found.is_empty() { "No tools found.".to_owned() } else { super::limited(found) })
    }
}

#[derive(Debug)]
struct AddTool {
    spec: ToolSpec,
    hidden: Hidden,
}

#[derive(Deserialize)]
struct Name {
    name: String,
}

#[async_trait]
impl Tool for AddTool {
    fn spec(&self) -> &ToolSpec {
        &self.spec
    }

    async fn call(&self, arguments: Value, _context: &ToolContext) -> ToolOutcome {
        let Name { name } = match schema::read(&self.spec, arguments) {
            Ok(name) => name,
            Err(outcome) => return outcome,
        };
        match self.hidden.tools().remove(&name) {
            Some(description) => ToolOutcome::ok(format!("{name} is one of your tools now: {description}")),
            None => {
                ToolOutcome::error(format!("no tool to be added has the name {name}; search_tool lists them"))
            }
        }
    }

    fn replay(&self, arguments: &Value) {
        if let Ok(Name { name }) = serde_json::from_value(arguments.clone()) {
            self.hidden.tools().remove(&name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    fn hidden() -> Hidden {
        let hidden = Hidden::default();
        for (name, description) in [("sky", "Looks at the stars\nand more"), ("sea", "Measures tides")] {
            hidden.hide(&schema::reading(name, description, Schema::new()));
        }
        hidden
    }

    #[tokio::test]
    async fn a_tool_is_searched_for_and_added() {
        let hidden = hidden();
        let [search, add] = hidden.finders();
        let found = |query: &str| testing::call(&search, json!({"query": query}));
        assert_eq!(found("").await, ToolOutcome::ok("sea: Measures tides\nsky: Looks at the stars\n"));
        assert_eq!(found("STARS moon").await, ToolOutcome::ok("sky: Looks at the stars\n"));
        assert_eq!(found("bread").await, ToolOutcome::ok("No tools found."));

        let added = testing::call(&add, json!({"name": "sky"})).await;
        assert_eq!(added, ToolOutcome::ok("sky is one of your tools now: Looks at the stars\nand more"));
        assert!(!hidden.hides("sky") && hidden.hides("sea"));
        let again = testing::call(&add, json!({"name": "sky"})).await;
        assert!(again.is_error && again.text.contains("search_tool lists them"), "{again:?}");
    }

    #[test]
    fn what_an_earlier_attempt_added_is_there_again() {
        let hidden = hidden();
        let [_, add] = hidden.finders();
        add.replay(&json!({"name": "sea"}));
        assert!(!hidden.hides("sea"));
    }
}
