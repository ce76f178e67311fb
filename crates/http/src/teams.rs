//! The agent files that jobs are dispatched with: those that the server was started with, or one that a request brings.

use std::collections::BTreeMap;
use std::sync::Arc;

use legwork_common::job::TeamDigest;
use legwork_common::team::Team;
use legwork_common::team::parse;

use crate::problem::Problem;

/// What the agent file of a request is called in messages.
const OF_REQUEST: &str = "agent_file";

/// A team that jobs may be dispatched with.
#[derive(Debug, Clone)]
pub struct ServedTeam {
    /// The team.
    pub team: Arc<Team>,
    /// The team as stored with the jobs.
    pub json: Arc<str>,
    /// The digest of `json`.
    pub digest: TeamDigest,
}

impl ServedTeam {
    /// A team that was read and checked.
    ///
    /// # Errors
    ///
    /// [`Problem`] when the team has no JSON form, which a parsed one always has.
    pub fn of(team: Team) -> Result<Self, Problem> {
        let failed = |error: &dyn std::error::Error| Problem::bad_request(error.to_string());
        let json = team.to_json().map_err(|error| failed(&error))?;
        let digest = team.sha256().map_err(|error| failed(&error))?;
        Ok(Self { team: Arc::new(team), json: Arc::from(json), digest: TeamDigest(digest) })
    }
}

/// The teams of a server, by name.
#[derive(Debug, Clone, Default)]
pub struct Teams(pub BTreeMap<String, ServedTeam>);

impl Teams {
    /// The team of a request: the one that it names, the only one that there is, or the file that it brings. A server
    /// that was started with files takes no others: its operator decided what may run.
    ///
    /// # Errors
    ///
    /// [`Problem`] where there is no such team, or the file is wrong.
    pub fn select(&self, name: Option<&str>, file: Option<&str>) -> Result<ServedTeam, Problem> {
        match (name, file) {
            (Some(_), Some(_)) => Err(Problem::bad_request("give `team` or `agent_file`, not both")),
            (Some(name), None) => self.0.get(name).cloned().ok_or_else(|| self.unknown(name)),
            (None, Some(_)) if !self.0.is_empty() => Err(Problem::bad_request(format!(
                "this server takes no other agent files than {}",
                self.names()
            ))),
            (None, Some(file)) => of_text(file),
            (None, None) if self.0.len() == 1 => {
                self.0.values().next().cloned().ok_or_else(|| self.unknown(""))
            }
            (None, None) if self.0.is_empty() => {
                Err(Problem::bad_request("`agent_file` is missing: the text of an agent file"))
            }
            (None, None) => {
                Err(Problem::bad_request(format!("`team` is missing; there are {}", self.names())))
            }
        }
    }

    /// Whether the server takes jobs for the team with this digest: any, or those of its own files.
    pub fn may_run(&self, digest: &TeamDigest) -> bool {
        self.0.is_empty() || self.0.values().any(|served| served.digest == *digest)
    }

    fn names(&self) -> String {
        self.0.keys().map(String::as_str).collect::<Vec<_>>().join(", ")
    }

    fn unknown(&self, name: &str) -> Problem {
        let mut problem =
            Problem::new(axum::http::StatusCode::NOT_FOUND, "not_found", format!("no such team: {name}"));
        problem.hint = Some(format!("this server has {}", self.names())).filter(|_| !self.0.is_empty());
        problem
    }
}

/// The team of a file's text. Files that it names are not read: they would be this machine's.
fn of_text(text: &str) -> Result<ServedTeam, Problem> {
    let parsed = parse(OF_REQUEST, text.as_bytes()).map_err(|errors| {
        let first = errors.iter().next();
        Problem {
            status: axum::http::StatusCode::UNPROCESSABLE_ENTITY,
            code: "agent_file",
            detail: first.map_or_else(|| errors.to_string(), ToString::to_string),
            hint: first.and_then(|error| error.hint().map(str::to_owned)),
        }
    })?;
    ServedTeam::of(parsed.team)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "agents: {root: {model: openai/test, instruction: i}}";

    #[test]
    fn a_request_names_a_team_or_brings_one_where_it_may() {
        let team = || of_text(FILE).unwrap();
        let none = Teams::default();
        let one = Teams([("a".to_owned(), team())].into());
        let two = Teams([("a".to_owned(), team()), ("b".to_owned(), team())].into());
        for (teams, name, file, expected) in [
            (&none, None, Some(FILE), Ok(())),
            (&none, None, None, Err("`agent_file` is missing: the text of an agent file")),
            (&none, Some("a"), None, Err("no such team: a")),
            (&one, None, None, Ok(())),
            (&one, Some("a"), None, Ok(())),
            (&one, None, Some(FILE), Err("this server takes no other agent files than a")),
            (&one, Some("a"), Some(FILE), Err("give `team` or `agent_file`, not both")),
            (&two, Some("b"), None, Ok(())),
            (&two, None, None, Err("`team` is missing; there are a, b")),
        ] {
            let found = teams.select(name, file).map(drop).map_err(|problem| problem.detail);
            assert_eq!(found, expected.map_err(str::to_owned), "{name:?} {}", file.is_some());
        }
        let known = team().digest;
        let other = TeamDigest("0".repeat(64));
        assert!(none.may_run(&other) && one.may_run(&known) && !one.may_run(&other));
        let broken = none.select(None, Some("agents: 1")).unwrap_err();
        assert_eq!((broken.status.as_u16(), broken.code), (422, "agent_file"));
    }
}
