//! `toon`: results that are JSON are given to the model in Token-Oriented Object Notation, which says the same in fewer
//! tokens (toonformat.dev).

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

/// Which tools of a toolset are meant.
#[derive(Debug, Default)]
pub(crate) struct Briefly {
    patterns: Vec<RegexMatcher>,
}

impl Briefly {
    /// Those whose names match one of these regular expressions, and what is wrong with the others.
    pub(crate) fn new(patterns: &[String]) -> (Self, Vec<String>) {
        let (mut good, mut wrong) = (Vec::new(), Vec::new());
        for pattern in patterns {
            match RegexMatcher::new(pattern) {
                Ok(matcher) => good.push(matcher),
                Err(error) => wrong.push(format!("toon `{pattern}` is no regular expression: {error}")),
            }
        }
        (Self { patterns: good }, wrong)
    }

    /// The tool, with brief results if it is meant.
    pub(crate) fn of(&self, tool: Arc<dyn Tool>) -> Arc<dyn Tool> {
        let name = tool.own_name().as_bytes();
        let meant = self.patterns.iter().any(|pattern| pattern.is_match(name).unwrap_or(false));
        if meant { Arc::new(Brief { inner: tool }) } else { tool }
    }
}

#[derive(Debug)]
struct Brief {
    inner: Arc<dyn Tool>,
}

#[async_trait]
impl Tool for Brief {
    fn spec(&self) -> &ToolSpec {
        self.inner.spec()
    }

    fn own_name(&self) -> &str {
        self.inner.own_name()
    }

    async fn call(&self, arguments: Value, context: &ToolContext) -> ToolOutcome {
        let outcome = self.inner.call(arguments, context).await;
        let text = brief(&outcome.text).unwrap_or(outcome.text);
        ToolOutcome { text, ..outcome }
    }

    fn replay(&self, arguments: &Value) {
        self.inner.replay(arguments);
    }
}

/// A list or an object in the notation; `None` for what is neither.
fn brief(text: &str) -> Option<String> {
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
    fn a_list_of_things_is_a_table() {
        let users = r#"{"users":[{"id":1,"name":"Ada"},{"id":2,"name":"Alan"}]}"#;
        assert_eq!(brief(users).unwrap(), "users[2]{id,name}:\n  1,Ada\n  2,Alan");
        for other in ["plain words", "7", "\"text\"", "{broken"] {
            assert_eq!(brief(other), None, "{other}");
        }
    }

    #[test]
    fn an_expression_that_is_none_is_told() {
        let (briefly, wrong) = Briefly::new(&["^list_".into(), "(".into()]);
        assert_eq!(briefly.patterns.len(), 1);
        assert!(wrong[0].starts_with("toon `(` is no regular expression: "), "{wrong:?}");
    }
}
