//! What an attempt runs: an agent of a team, or in a benchmark nothing at all.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use legwork_agent::Assignment;
use legwork_agent::Environment;
use legwork_agent::Opening;
use legwork_agent::Outcome;
use legwork_agent::Ports;
use legwork_agent::journal::Journal as _;
use legwork_agent::journal::TurnEntry;
use legwork_agent::model::ModelPort;
use legwork_agent::preflight::preflight;
use legwork_agent::turn::Step;
use legwork_agent::turn::Transcript;
use legwork_common::job::Cause;
use legwork_common::job::Usage;
use legwork_common::team::Team;
use legwork_common::variables::MCP_TOKEN;
use legwork_common::variables::REDIS_URL;
use legwork_common::variables::TRACEPARENT;
use legwork_queue::port::Claimed;
use tokio_util::sync::CancellationToken;

use crate::guard::Guard;
use crate::journal::AttemptJournal;
use crate::parking::ParkingService;

/// What a runner is given.
#[derive(Debug)]
pub struct Run {
    /// The claimed job.
    pub claimed: Claimed,
    /// Its team; `None` where it is not stored any more.
    pub team: Option<Arc<Team>>,
    /// The turns of earlier attempts.
    pub recorded: Vec<TurnEntry>,
    /// Turns that are finished.
    pub finished_turns: u32,
    /// Whether this attempt ran before and was suspended.
    pub resumed: bool,
    /// Where it writes.
    pub journal: Arc<AttemptJournal>,
    /// What it dispatches and waits through.
    pub background: Arc<ParkingService>,
    /// The token that every await sees.
    pub cancel: CancellationToken,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RunEnd {
    /// The agent ran, and ended so.
    Ended(Outcome),
    /// This worker lacks what the job needs; another may have it.
    Lacks(String),
}

/// Runs attempts.
#[async_trait]
pub trait Runner: Debug + Send + Sync {
    /// Whether the runner wants the team and the recorded turns.
    fn wants_team(&self) -> bool {
        true
    }

    /// Runs one attempt to its end. After it returns nothing of the run lives.
    async fn run(&self, run: Run) -> RunEnd;
}

/// Where jobs run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WorkDir {
    /// In the working directory of their dispatcher: worker and dispatcher are on one machine.
    Dispatchers,
    /// Each in a folder of its own below this one.
    Own(PathBuf),
    /// All in this one folder.
    Shared(PathBuf),
}

/// Runs agents.
#[derive(Debug)]
pub struct AgentRunner {
    /// The models.
    pub models: Arc<dyn ModelPort>,
    /// The variables that agents get.
    pub variables: BTreeMap<String, String>,
    /// Where jobs run.
    pub work_dir: WorkDir,
    /// Whether the models need the keys of their providers; those of a script do not.
    pub needs_keys: bool,
    /// Who ends the jobs' commands if this program cannot.
    pub guard: Guard,
}

impl AgentRunner {
    fn environment(&self, claimed: &Claimed) -> Result<Environment, String> {
        let folder = match &self.work_dir {
            WorkDir::Shared(folder) => folder.clone(),
            WorkDir::Own(folder) => folder.join(claimed.lease.id.to_string()),
            WorkDir::Dispatchers => match &claimed.spec.working_dir {
                Some(folder) => PathBuf::from(folder),
                None => return Err("the job names no working directory".to_owned()),
            },
        };
        if matches!(self.work_dir, WorkDir::Own(_)) {
            std::fs::create_dir_all(&folder)
                .map_err(|error| format!("the folder {} cannot be made: {error}", folder.display()))?;
        }
        if !folder.is_dir() {
            return Err(format!("the working directory {} does not exist here", folder.display()));
        }
        let guard = self.guard.of_jobs();
        let mut variables = for_agents(&self.variables);
        // The worker's own trace, if it has one, is not the job's.
        variables.remove(TRACEPARENT);
        variables.extend(claimed.spec.trace.iter().map(|trace| (TRACEPARENT.to_owned(), trace.to_string())));
        Ok(Environment { guard, ..Environment::new(variables, folder) })
    }
}

/// The line between what was said before and what follows, where anything was.
fn continuation(attempt: u32, resumed: bool, turn: u32) -> Option<String> {
    match (attempt, resumed) {
        (_, true) => Some(format!("\n[attempt {attempt} was suspended and goes on from turn {turn}]\n")),
        (0 | 1, false) => None,
        (_, false) => Some(format!("\n[attempt {attempt} goes on from turn {turn}]\n")),
    }
}

/// Whether the agent has spoken its last word, for now: only its end is to be recorded, or its jobs are to be waited for.
fn rests(recorded: &[TurnEntry]) -> bool {
    matches!(Transcript::new(Vec::new(), recorded).next(None), Step::Rest { .. })
}

/// The environment that agents get: all of it but where Redis is and how to log in there or to our own server, which
/// their commands have no business with.
pub fn for_agents(variables: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let mut variables = variables.clone();
    variables.remove(REDIS_URL);
    variables.remove(MCP_TOKEN);
    variables
}

#[async_trait]
impl Runner for AgentRunner {
    async fn run(&self, run: Run) -> RunEnd {
        let usage = Usage::default();
        let rejected =
            |message: String| RunEnd::Ended(Outcome::Failed { cause: Cause::Rejected, message, usage });
        let Some(team) = run.team else {
            return rejected("the job's team is not stored any more".to_owned());
        };
        let spec = run.claimed.spec.clone();
        let Some(agent) = team.agent(&spec.agent) else {
            return rejected(format!("the team has no agent `{}`", spec.agent));
        };
        let environment = match self.environment(&run.claimed) {
            Ok(environment) => environment,
            Err(lack) => return RunEnd::Lacks(lack),
        };
        if self.needs_keys
            && let Err(missing) = preflight(agent, &environment)
        {
            return RunEnd::Lacks(missing.to_string());
        }
        if let Some(line) = continuation(run.claimed.attempt, run.resumed, run.finished_turns + 1) {
            if rests(&run.recorded) {
                run.journal.head_next_words(line);
            } else if run.journal.output(&line).await.is_err() {
                return RunEnd::Ended(Outcome::Lost);
            }
        }
        let assignment = Assignment {
            agent: spec.agent,
            team: Arc::clone(&team),
            opening: Opening::Delegated { task: spec.task, expected_output: spec.expected_output },
            recorded: run.recorded,
            budget: spec.budget,
        };
        let ports = Ports {
            models: Arc::clone(&self.models),
            journal: run.journal,
            background: Arc::clone(&run.background) as _,
            session_state: Arc::clone(&run.background) as _,
            mailbox: run.background,
            approval: None,
            environment: Arc::new(environment),
        };
        RunEnd::Ended(legwork_agent::run(assignment, ports, run.cancel).await)
    }
}

/// Runs nothing: a job completes as soon as it begins. For benchmarks of the queue itself.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoopRunner;

#[async_trait]
impl Runner for NoopRunner {
    fn wants_team(&self) -> bool {
        false
    }

    async fn run(&self, _run: Run) -> RunEnd {
        RunEnd::Ended(Outcome::Completed { result: String::new(), usage: Usage::default() })
    }
}

#[cfg(test)]
mod tests {
    use legwork_agent::message::AssistantMessage;
    use legwork_agent::message::ToolCall;

    use super::*;

    fn reply(calls: &[&str]) -> TurnEntry {
        let call = |name: &&str| ToolCall { id: "1".into(), name: (*name).into(), arguments: "{}".into() };
        let tool_calls = calls.iter().map(call).collect();
        let message =
            AssistantMessage { text: "words".to_owned(), tool_calls, ..AssistantMessage::default() };
        TurnEntry::Reply { turn: 1, message }
    }

    #[test]
    fn what_goes_on_is_set_apart_from_what_was_said() {
        assert_eq!(continuation(1, false, 1), None);
        assert_eq!(continuation(2, false, 1).as_deref(), Some("\n[attempt 2 goes on from turn 1]\n"));
        let resumed = continuation(1, true, 1);
        assert_eq!(resumed.as_deref(), Some("\n[attempt 1 was suspended and goes on from turn 1]\n"));
    }

    #[test]
    fn an_agent_rests_that_has_asked_for_nothing_more() {
        assert!(rests(&[reply(&[])]));
        assert!(!rests(&[reply(&["shell"])]));
        assert!(!rests(&[]));
        let told = TurnEntry::Delivered { turn: 2, mail: Vec::new(), text: "news".into() };
        assert!(!rests(&[reply(&[]), told]));
    }
}
