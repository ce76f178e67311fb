//! `environment`: the operating system and the shell of the worker.

use std::path::Path;

use async_trait::async_trait;
use serde_json::Value;
use serde_json::json;

use super::Kit;
use super::schema;
use super::schema::Schema;
use crate::environment::Environment;
use crate::tool::Tool;
use crate::tool::ToolContext;
use crate::tool::ToolOutcome;
use crate::tool::ToolSpec;

/// The toolset.
pub(crate) fn open(environment: &Environment) -> Kit {
    let shell = environment.variable("SHELL").unwrap_or("/bin/sh");
    let shell = Path::new(shell).file_name().unwrap_or_default().to_string_lossy().into_owned();
    let spec = schema::read_only(
        "get_environment_info",
        "Get the operating system and the shell of the machine that commands run on",
        Schema::new(),
    );
    Kit::new([EnvironmentInfo {
        spec,
        answer: json!({"os": std::env::consts::OS, "shell": shell}).to_string(),
    }])
}

#[derive(Debug)]
struct EnvironmentInfo {
    spec: ToolSpec,
    answer: String,
}

#[async_trait]
impl Tool for EnvironmentInfo {
    fn spec(&self) -> &ToolSpec {
        &self.spec
    }

    async fn call(&self, _arguments: Value, _context: &ToolContext) -> ToolOutcome {
        ToolOutcome::ok(self.answer.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;
    use crate::toolset::tests::call;

    #[tokio::test]
    async fn the_shell_is_named_without_its_folder() {
        let mut environment = testing::environment("/");
        environment.variables.insert("SHELL".into(), "/usr/bin/zsh".into());
        let outcome = call(&open(&environment).tools, "get_environment_info", json!({})).await;
        let answer: Value = serde_json::from_str(&outcome.text).unwrap();
        assert_eq!(answer, json!({"os": std::env::consts::OS, "shell": "zsh"}));
    }
}
