//! Which requests to dispatch a job are accepted. Pure, so that callers can refuse before they connect.

use std::slice;

use legwork_common::contract;
use legwork_common::error::Coded;
use legwork_common::error::ExitStatus;
use legwork_common::service::RunRequest;
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
}

impl Coded for RequestError {
    fn code(&self) -> &'static str {
        match self {
            Self::Empty(_) | Self::EmptyKey | Self::Value(_) => "usage",
            Self::UnknownAgent { .. } => "not_found",
        }
    }

    fn exit(&self) -> ExitStatus {
        match self {
            Self::Empty(_) | Self::EmptyKey | Self::Value(_) => ExitStatus::Usage,
            Self::UnknownAgent { .. } => ExitStatus::NotFound,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Empty(_) | Self::EmptyKey | Self::Value(_) => None,
            Self::UnknownAgent { agents, .. } => Some(format!("this file has {}", agents.join(", "))),
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
}
