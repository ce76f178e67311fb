//! `defer`: tools that are not offered to the model until it adds them, so that a large toolset costs few tokens.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

use async_trait::async_trait;
use serde::Deserialize;
use serde_json::Value;

use super::limited;
use super::schema;
use super::schema::Schema;
use crate::tool::Tool;
use crate::tool::ToolContext;
use crate::tool::ToolOutcome;
use crate::tool::ToolSpec;

/// The system message of the deferred tools.
pub(crate) const INSTRUCTION: &str = "\
## More tools

You have tools that are not listed yet. Find them with search_tool, by words such as read, write or remote, and make one \
available with add_tool before you call it.";

/// The tools of a run that are not offered yet. Clones share one list.
#[derive(Debug, Clone, Default)]
pub(crate) struct DeferredTools {
    /// Descriptions by name. A std mutex, because it is never held across an await.
    tools: Arc<Mutex<BTreeMap<String, String>>>,
}

impl DeferredTools {
    fn tools(&self) -> MutexGuard<'_, BTreeMap<String, String>> {
        self.tools.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Withholds a tool from the model until `add_tool` names it.
    pub(crate) fn defer(&self, spec: &ToolSpec) {
        self.tools().insert(spec.name.clone(), spec.description.clone());
    }

    /// Stops withholding a tool; returns whether it was withheld.
    pub(crate) fn forget(&self, name: &str) -> bool {
        self.tools().remove(name).is_some()
    }

    /// Whether the tool is still withheld.
    pub(crate) fn contains(&self, name: &str) -> bool {
        self.tools().contains_key(name)
    }

    /// `search_tool` and `add_tool`, with which the model finds and adds the withheld tools.
    pub(crate) fn finder_tools(&self) -> [Arc<dyn Tool>; 2] {
        let search = schema::read_only(
            "search_tool",
            "Search for more tools by words of their names and descriptions. To use one of them, add it with add_tool.",
            Schema::new().required(
                "query",
                schema::string(),
                "Words to search for; an empty query lists all tools",
            ),
        );
        let add = schema::read_only(
            "add_tool",
            "Add a tool that search_tool found. You can call it from your next step on.",
            Schema::new().required("name", schema::string(), "The name of the tool"),
        );
        [
            Arc::new(SearchTool { spec: search, deferred: self.clone() }),
            Arc::new(AddTool { spec: add, deferred: self.clone() }),
        ]
    }
}

#[derive(Debug)]
struct SearchTool {
    spec: ToolSpec,
    deferred: DeferredTools,
}

#[derive(Deserialize)]
struct Query {
    query: String,
}

impl SearchTool {
    /// Lists the tools that contain any of the words, with the first line of their descriptions.
    fn search(&self, query: &str) -> ToolOutcome {
        let words: Vec<String> = query.split_whitespace().map(str::to_lowercase).collect();
        let mut found = String::new();
        for (name, description) in &*self.deferred.tools() {
            let text = format!("{name} {description}").to_lowercase();
            if words.is_empty() || words.iter().any(|word| text.contains(word.as_str())) {
                let _ = writeln!(found, "{name}: {}", description.lines().next().unwrap_or_default());
            }
        }
        ToolOutcome::ok(if found.is_empty() { "No tools found.".to_owned() } else { limited(found) })
    }
}

#[async_trait]
impl Tool for SearchTool {
    fn spec(&self) -> &ToolSpec {
        &self.spec
    }

    async fn call(&self, arguments: Value, _context: &ToolContext) -> ToolOutcome {
        match schema::parse(&self.spec, arguments) {
            Ok(Query { query }) => self.search(&query),
            Err(invalid) => invalid,
        }
    }
}

#[derive(Debug)]
struct AddTool {
    spec: ToolSpec,
    deferred: DeferredTools,
}

#[derive(Deserialize)]
struct Name {
    name: String,
}

impl AddTool {
    fn add(&self, name: &str) -> ToolOutcome {
        match self.deferred.tools().remove(name) {
            Some(description) => ToolOutcome::ok(format!("Added the tool {name}: {description}")),
            None => ToolOutcome::error(format!("no tool named {name} can be added; search_tool lists them")),
        }
    }
}

#[async_trait]
impl Tool for AddTool {
    fn spec(&self) -> &ToolSpec {
        &self.spec
    }

    async fn call(&self, arguments: Value, _context: &ToolContext) -> ToolOutcome {
        match schema::parse(&self.spec, arguments) {
            Ok(Name { name }) => self.add(&name),
            Err(invalid) => invalid,
        }
    }

    fn replay(&self, arguments: &Value) {
        if let Ok(Name { name }) = serde_json::from_value(arguments.clone()) {
            self.add(&name);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing;

    fn deferred() -> DeferredTools {
        let deferred = DeferredTools::default();
        for (name, description) in [("sky", "Observes the stars\nand more"), ("sea", "Measures tides")] {
            deferred.defer(&schema::read_only(name, description, Schema::new()));
        }
        deferred
    }

    #[tokio::test]
    async fn a_tool_is_found_and_added() {
        let deferred = deferred();
        let [search, add] = deferred.finder_tools();
        let found = |query: &str| testing::call(&search, json!({"query": query}));
        assert_eq!(found("").await, ToolOutcome::ok("sea: Measures tides\nsky: Observes the stars\n"));
        assert_eq!(found("STARS moon").await, ToolOutcome::ok("sky: Observes the stars\n"));
        assert_eq!(found("bread").await, ToolOutcome::ok("No tools found."));

        let added = testing::call(&add, json!({"name": "sky"})).await;
        assert_eq!(added, ToolOutcome::ok("Added the tool sky: Observes the stars\nand more"));
        assert!(!deferred.contains("sky") && deferred.contains("sea"));
        let again = testing::call(&add, json!({"name": "sky"})).await;
        assert!(again.is_error && again.text.contains("search_tool lists them"), "{again:?}");
    }

    #[test]
    fn a_tool_that_an_earlier_attempt_added_is_offered_again() {
        let deferred = deferred();
        let [_, add] = deferred.finder_tools();
        add.replay(&json!({"name": "sea"}));
        assert!(!deferred.contains("sea"));
    }
}
