//! `open_url`: an address of the agent file, for the user. A worker has no browser, so nothing is opened: the agent is told
//! the address.

use std::sync::Arc;

use async_trait::async_trait;
use reqwest::Url;
use serde_json::Value;

use super::Kit;
use super::schema;
use super::schema::Schema;
use crate::environment::Environment;
use crate::tool::Tool;
use crate::tool::ToolContext;
use crate::tool::ToolOutcome;
use crate::tool::ToolSpec;

/// The tool's name where the file has none: docker-agent's.
const DEFAULT_NAME: &str = "open_url";

/// The toolset.
///
/// # Errors
///
/// A variable of the address is not set, or it is not an address.
pub(crate) fn open(environment: &Environment, name: Option<&str>, url: &str) -> Result<Kit, String> {
    let url = environment.address(url).map_err(|missing| missing.to_string())?;
    Url::parse(&url).map_err(|error| format!("the URL is not valid: {error}"))?;
    let name = schema::provider_safe_name(name.unwrap_or(DEFAULT_NAME));
    let description = "Get a web address that the user is to open in a browser. Give it to the user.";
    let spec = schema::read_only(&name, description, Schema::new());
    Ok(Kit::new([OpenUrl { spec, url: Arc::from(url) }]))
}

#[derive(Debug)]
struct OpenUrl {
    spec: ToolSpec,
    url: Arc<str>,
}

#[async_trait]
impl Tool for OpenUrl {
    fn spec(&self) -> &ToolSpec {
        &self.spec
    }

    async fn call(&self, _arguments: Value, _context: &ToolContext) -> ToolOutcome {
        ToolOutcome::ok(format!(
            "No browser was opened: this machine has none. Give this address to the user: {}",
            self.url
        ))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing;

    #[tokio::test]
    async fn the_address_is_given_to_the_agent() {
        let mut environment = testing::environment("/");
        environment.variables.insert("PART".into(), "docs".into());
        let url = "https://example.com/${env.PART}";
        let kit = open(&environment, Some("open docs"), url).unwrap();
        assert_eq!((&*kit.tools[0].spec().name, kit.tools[0].spec().read_only), ("open_docs", true));
        let answer = testing::call(&kit.tools[0], json!({})).await;
        assert!(answer.text.ends_with("to the user: https://example.com/docs"), "{answer:?}");
        assert_eq!(open(&environment, None, url).unwrap().tools[0].spec().name, "open_url");
        assert!(open(&environment, None, "https://${env.NOWHERE}/").unwrap_err().contains("NOWHERE"));
        assert!(open(&environment, None, "no scheme").is_err());
    }
}
