//! `toon`: JSON results are re-encoded in Token-Oriented Object Notation (toonformat.dev), which needs fewer tokens.

use std::sync::Arc;

use async_trait::async_trait;
use grep_matcher::Matcher as _;
use grep_regex::RegexMatcher;
use serde_json::Value;
use toon_format::encode_default;

use crate::tool::Tool;
use crate::tool::ToolContext;
use crate::tool::ToolOutcome;
use crate::tool::ToolSpec;

/// The tools of a toolset whose results are re-encoded.
#[derive(Debug, Default)]
pub(crate) struct ToonSelection {
    patterns: Vec<RegexMatcher>,
}

impl ToonSelection {
    /// Selects tools whose names match any of the regular expressions. The strings are warnings, one for each invalid
    /// expression.
    pub(crate) fn new(patterns: &[String]) -> (Self, Vec<String>) {
        let (mut valid, mut warnings) = (Vec::new(), Vec::new());
        for pattern in patterns {
            match RegexMatcher::new(pattern) {
                Ok(matcher) => valid.push(matcher),
                Err(error) => warnings.push(format!("toon `{pattern}` is not a regular expression: {error}")),
            }
        }
        (Self { patterns: valid }, warnings)
    }

    /// Wraps a selected tool; another one is returned as it is.
    pub(crate) fn apply(&self, tool: Arc<dyn Tool>) -> Arc<dyn Tool> {
        let name = tool.own_name().as_bytes();
        let is_selected = self.patterns.iter().any(|pattern| pattern.is_match(name).unwrap_or(false));
        if is_selected { Arc::new(ToonTool { inner: tool }) } else { tool }
    }
}

#[derive(Debug)]
struct ToonTool {
    inner: Arc<dyn Tool>,
}

#[async_trait]
impl Tool for ToonTool {
    fn spec(&self) -> &ToolSpec {
        self.inner.spec()
    }

    fn own_name(&self) -> &str {
        self.inner.own_name()
    }

    async fn call(&self, arguments: Value, context: &ToolContext) -> ToolOutcome {
        let outcome = self.inner.call(arguments, context).await;
        let text = encode(&outcome.text).unwrap_or(outcome.text);
        ToolOutcome { text, ..outcome }
    }

    fn is_overview(&self) -> bool {
        self.inner.is_overview()
    }

    fn replay(&self, arguments: &Value) {
        self.inner.replay(arguments);
    }
}

/// Re-encodes a JSON array or object; `None` for any other text.
fn encode(text: &str) -> Option<String> {
    let value: Value = serde_json::from_str(text).ok()?;
    if !(value.is_array() || value.is_object()) {
        return None;
    }
    encode_default(&value).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_objects_becomes_a_table() {
        let users = r#"{"users":[{"id":1,"name":"Ada"},{"id":2,"name":"Alan"}]}"#;
        assert_eq!(encode(users).unwrap(), "users[2]{id,name}:\n  1,Ada\n  2,Alan");
        for other in ["plain words", "7", "\"text\"", "{broken"] {
            assert_eq!(encode(other), None, "{other}");
        }
    }

    #[test]
    fn an_invalid_expression_is_a_warning() {
        let (selection, warnings) = ToonSelection::new(&["^list_".into(), "(".into()]);
        assert_eq!(selection.patterns.len(), 1);
        assert!(warnings[0].starts_with("toon `(` is not a regular expression: "), "{warnings:?}");
    }
}
