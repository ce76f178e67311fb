//! Which requests to dispatch a job are accepted. Pure, so that callers can refuse before they connect.

use std::slice;

use legwork_common::contract;
use legwork_common::error::Coded;
use legwork_common::error::ExitStatus;
use legwork_common::money::SpendingLimit;
use legwork_common::policy::Policy;
use legwork_common::service::RunRequest;
use legwork_common::team::AgentKind;
use legwork_common::team::ModelSettings;
use legwork_common::team::Team;
use thiserror::Error;

/// Why a request was refused before anything was stored.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RequestError {
    /// The agent's name or the task is empty, in the words of the tools' contract.
    #[error("{0}")]
    Empty(String),
    /// The idempotency key is empty: mostly an unset variable of a shell, and all such requests would count as one.
    #[error("the key must not be empty")]
    EmptyKey,
    /// A value cannot be read, such as a duration.
    #[error("{0}")]
    Value(String),
    /// The team has no such agent.
    #[error("no such agent: {name}")]
    UnknownAgent {
        /// The agent asked for.
        name: String,
        /// The agents of the team.
        agents: Vec<String>,
    },
    /// There is a limit in money, which could not be kept.
    #[error("the price of {model} is not known, so a budget in money cannot be kept")]
    Unpriced {
        /// The model of the agent, as `provider/model`.
        model: String,
    },
}

impl Coded for RequestError {
    fn code(&self) -> &'static str {
        match self {
            Self::Empty(_) | Self::EmptyKey | Self::Value(_) | Self::Unpriced { .. } => "usage",
            Self::UnknownAgent { .. } => "not_found",
        }
    }

    fn exit(&self) -> ExitStatus {
        match self {
            Self::Empty(_) | Self::EmptyKey | Self::Value(_) | Self::Unpriced { .. } => ExitStatus::Usage,
            Self::UnknownAgent { .. } => ExitStatus::NotFound,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Empty(_) | Self::EmptyKey | Self::Value(_) => None,
            Self::UnknownAgent { agents, .. } => Some(format!("this file has {}", agents.join(", "))),
            Self::Unpriced { .. } => {
                Some("set `cost` of the model in the agent file, or `prices` in the policy file".to_owned())
            }
        }
    }
}

/// Checks a request in the order of the tools' contract: agent and task, then the key, then whether the team has the
/// agent.
///
/// # Errors
///
/// [`RequestError`] for the first thing that is wrong.
pub fn check_request(request: &RunRequest, team: &Team) -> Result<(), RequestError> {
    // An operator may dispatch to every agent of the team: for the contract, a caller that has this one.
    let allowed = slice::from_ref(&request.agent);
    if let Some(refusal) = contract::refusal(&request.agent, &request.task, allowed) {
        return Err(RequestError::Empty(refusal));
    }
    if request.key.as_deref().is_some_and(str::is_empty) {
        return Err(RequestError::EmptyKey);
    }
    check_agent(&request.agent, team)
}

/// Checks that a team has an agent of this name.
///
/// # Errors
///
/// [`RequestError::UnknownAgent`], which names the agents that it has.
pub fn check_agent(name: &str, team: &Team) -> Result<(), RequestError> {
    if team.agent(name).is_some() {
        return Ok(());
    }
    let agents = team.agents().iter().map(|agent| agent.name.clone()).collect();
    Err(RequestError::UnknownAgent { name: name.to_owned(), agents })
}

/// Refuses an agent with a model whose price is not known, where a limit in money holds. Models that a variable names are
/// checked when they run, and so are the agents below.
///
/// # Errors
///
/// [`RequestError::Unpriced`] with the first such model.
pub fn check_prices(
    agent: &str,
    team: &Team,
    policy: &Policy,
    limits: [Option<SpendingLimit>; 2],
) -> Result<(), RequestError> {
    let is_in_money = limits.into_iter().flatten().any(|limit| limit.money().is_some());
    let models = match team.agent(agent).map(|agent| &agent.kind) {
        Some(AgentKind::Models(models)) if is_in_money => models.as_slice(),
        _ => &[],
    };
    let prices = policy.prices();
    let is_priced = |model: &ModelSettings| {
        let reference = model.reference();
        reference.contains("${") || model.cost.or_else(|| prices.of(&reference)).is_some()
    };
    let unpriced = models.iter().find(|model| !is_priced(model)).map(ModelSettings::reference);
    unpriced.map_or(Ok(()), |model| Err(RequestError::Unpriced { model }))
}

#[cfg(test)]
mod tests {
    use legwork_common::team::parse;

    use super::*;

    #[test]
    fn the_first_mistake_of_a_request_is_reported() {
        let file = b"agents: {root: {model: auto, instruction: i}, coder: {model: auto, instruction: i}}";
        let team = parse("team.yaml", file).unwrap().team;
        for (agent, task, key, expected) in [
            ("coder", "go", None, None),
            ("coder", "go", Some("k"), None),
            (" ", "", Some(""), Some("agent name must not be empty")),
            ("ghost", " \n", Some(""), Some("task must not be empty")),
            ("ghost", "go", Some(""), Some("the key must not be empty")),
            ("ghost", "go", None, Some("no such agent: ghost")),
        ] {
            let request = RunRequest {
                safety: None,
                agent: agent.to_owned(),
                task: task.to_owned(),
                expected_output: None,
                call: None,
                key: key.map(str::to_owned),
                job_options: None,
            };
            let found = check_request(&request, &team).err().map(|error| error.to_string());
            assert_eq!(found.as_deref(), expected, "{agent:?} {task:?} {key:?}");
        }
        let hint = check_agent("ghost", &team).unwrap_err().hint();
        assert_eq!(hint.as_deref(), Some("this file has root, coder"));
    }

    #[test]
    fn a_limit_in_money_needs_prices_of_models_that_are_known() {
        let file =
            b"agents: {a: {model: openai/unpriced}, b: {model: 'openai/${env.MODEL}'}, c: {model: auto}}";
        let team = parse("team.yaml", file).unwrap().team;
        let check = |agent: &str, limit: &str| {
            let limits = [None, Some(limit.parse().unwrap())];
            check_prices(agent, &team, &Policy::default(), limits).err().map(|error| error.to_string())
        };
        let unpriced = "the price of openai/unpriced is not known, so a budget in money cannot be kept";
        assert_eq!(check("a", "$1").as_deref(), Some(unpriced));
        for (agent, limit) in [("a", "1000"), ("b", "$1"), ("c", "$1")] {
            assert_eq!(check(agent, limit), None, "{agent} {limit}");
        }
    }
}
