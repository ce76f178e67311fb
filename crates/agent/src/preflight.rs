//! What an agent needs and the machine lacks, found before the agent runs. Pure.

use legwork_common::team::Agent;
use legwork_common::team::RequiredKey;
use thiserror::Error;

use crate::environment::Environment;

/// Environment variables that an agent needs and that are not set.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("agent `{agent}` lacks {}", listed(missing))]
pub struct MissingKeys {
    /// The agent.
    pub agent: String,
    /// What is missing; never empty.
    pub missing: Vec<RequiredKey>,
}

/// Checks that every variable that `agent` cannot do without is set.
///
/// # Errors
///
/// [`MissingKeys`] with all of them, so that they can be set at once.
pub fn preflight(agent: &Agent, environment: &Environment) -> Result<(), MissingKeys> {
    let set = |name: &String| environment.variable(name).is_some();
    let missing: Vec<RequiredKey> =
        agent.required_keys().into_iter().filter(|key| !key.any_of.iter().any(set)).collect();
    if missing.is_empty() { Ok(()) } else { Err(MissingKeys { agent: agent.name.clone(), missing }) }
}

/// `OPENAI_API_KEY (model openai/gpt-4o), A or B (…)`.
fn listed(missing: &[RequiredKey]) -> String {
    let each: Vec<String> =
        missing.iter().map(|key| format!("{} ({})", key.any_of.join(" or "), key.needed_by)).collect();
    each.join(", ")
}
