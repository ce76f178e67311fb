//! Finds what an agent needs and the machine lacks, before the agent runs. Pure.

use legwork_common::team::Agent;
use legwork_common::team::RequiredKey;
use thiserror::Error;

use crate::environment::Environment;

/// Environment variables that an agent needs and that are not set.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("agent `{agent}` lacks {}", listed(missing))]
pub struct MissingKeys {
    /// The agent's name.
    pub agent: String,
    /// The missing keys, each with what needs it; never empty.
    pub missing: Vec<RequiredKey>,
}

/// Checks that every variable that `agent` requires is set.
///
/// # Errors
///
/// [`MissingKeys`] with all that are missing, not only the first.
pub fn preflight(agent: &Agent, environment: &Environment) -> Result<(), MissingKeys> {
    let is_set = |name: &String| environment.variable(name).is_some();
    let missing: Vec<RequiredKey> =
        agent.required_keys().into_iter().filter(|key| !key.any_of.iter().any(is_set)).collect();
    if missing.is_empty() { Ok(()) } else { Err(MissingKeys { agent: agent.name.clone(), missing }) }
}

/// `OPENAI_API_KEY (model openai/gpt-4o), A or B (…)`.
fn listed(missing: &[RequiredKey]) -> String {
    let each: Vec<String> =
        missing.iter().map(|key| format!("{} ({})", key.any_of.join(" or "), key.needed_by)).collect();
    each.join(", ")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use legwork_common::team::ModelSettings;
    use serde_json::json;

    use super::*;
    use crate::testing::team;

    #[test]
    fn names_all_missing_keys_at_once() {
        let models = ["openai/gpt-4o", "google/gemini", "ollama/llama"].map(|reference| {
            let (provider, model) = reference.split_once('/').unwrap();
            ModelSettings::inline(provider, model).unwrap()
        });
        let toolsets = json!([{"kind": {"type": "shell", "env": {"A": "${TOKEN}", "B": "${env.MAYBE}"}}}]);
        let team = team(&[("a", &[], json!({"kind": {"models": models}, "toolsets": toolsets}))]);
        let agent = team.agent("a").unwrap();
        let check = |names: &[&str]| {
            let set = names.iter().map(|&name| (name.to_owned(), "x".to_owned()));
            preflight(agent, &Environment::new(set.collect::<BTreeMap<_, _>>(), "/".into()))
        };
        assert_eq!(
            check(&[]).unwrap_err().to_string(),
            "agent `a` lacks GOOGLE_API_KEY or GEMINI_API_KEY (model google/gemini), OPENAI_API_KEY (model \
             openai/gpt-4o), TOKEN (toolset shell)"
        );
        assert_eq!(check(&["OPENAI_API_KEY", "GEMINI_API_KEY"]).unwrap_err().missing.len(), 1);
        assert_eq!(check(&["OPENAI_API_KEY", "GEMINI_API_KEY", "TOKEN"]), Ok(()));
    }
}
