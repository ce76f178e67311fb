//! Runs one agent to its end: `turn` decides, this does.

mod ask;
mod command;
mod compact;
mod mail;
mod open_agent;
mod work;

use std::future::Future;
use std::sync::Arc;
use std::time::Instant;

use legwork_common::job::Cause;
use legwork_common::job::Usage;
use legwork_common::service::ServiceError;
use legwork_common::team::AgentKind;
use legwork_common::team::Permissions;
use legwork_common::team::Team;
use legwork_common::team::Toolset;
use legwork_common::team::ToolsetKind;
use tokio_util::sync::CancellationToken;

use self::command::Program;
use self::open_agent::OpenAgent;
use crate::active_agent::ActiveAgent;
use crate::assignment::Assignment;
use crate::assignment::Outcome;
use crate::assignment::Ports;
use crate::journal::JournalError;
use crate::journal::RunEvent;
use crate::journal::TurnEntry;
use crate::pruning;
use crate::turn::Step;
use crate::turn::Transcript;

/// Runs an agent from what is recorded to its end.
///
/// A cancelled token ends the model call and every tool, with the processes that they started, and the answer is
/// [`Outcome::Stopped`] within about two seconds. Dropping the future does the same without waiting for the
/// processes. A crash leaves the recorded turns, from which the next attempt goes on.
pub async fn run(assignment: Assignment, ports: Ports, cancel: CancellationToken) -> Outcome {
    let team = Arc::clone(&assignment.team);
    let Some(agent) = team.agent(&assignment.agent) else {
        let message = format!("the team has no agent `{}`", assignment.agent);
        return Outcome::Failed { cause: Cause::Rejected, message, usage: Usage::default() };
    };
    let (end, usage) = match &agent.runner {
        AgentKind::Models(_) | AgentKind::Auto => run_model(&team, assignment, ports, cancel).await,
        AgentKind::Command { program, args, env, working_dir } => {
            let program =
                Program { name: program, args, variables: env, working_dir: working_dir.as_deref() };
            let input = command::input(agent, &assignment.opening);
            (command::run(program, input, &ports, &cancel).await, Usage::default())
        }
    };
    match end {
        Ok(result) => Outcome::Completed { result, usage },
        Err(Halt::Failed { cause, message }) => Outcome::Failed { cause, message, usage },
        Err(Halt::Stopped) => Outcome::Stopped { usage },
        Err(Halt::Lost) => Outcome::Lost,
    }
}

/// Runs an agent that a model drives, and those that it hands the conversation to.
async fn run_model(
    team: &Arc<Team>,
    assignment: Assignment,
    ports: Ports,
    cancel: CancellationToken,
) -> (Result<String, Halt>, Usage) {
    let Assignment { agent: first, opening, mut recorded, budget, .. } = assignment;
    let transcript = Transcript::new(opening.messages(), &recorded);
    let mut active_agent = ActiveAgent::new(Arc::clone(team), &first, &recorded);
    // From now on only the calls are looked at, by tools that remember them.
    pruning::prune(&mut recorded);
    if let Step::Ask { .. } = transcript.next(None) {
        active_agent.pass();
    }
    let Some(agent) = team.agent(active_agent.holder()) else {
        let message = format!("the team has no agent `{}`", active_agent.holder());
        return (Err(Halt::Failed { cause: Cause::Rejected, message }), transcript.usage());
    };
    let current = match OpenAgent::open(team, agent, &ports, &cancel).await {
        Ok(current) => current,
        Err(halt) => return (Err(halt), transcript.usage()),
    };
    let mut running = Running {
        team,
        first,
        recorded,
        budget,
        session_is_unlimited: false,
        active_agent,
        current,
        inactive: Vec::new(),
        permissions: team.permissions(),
        transcript,
        ports,
        cancel,
        first_model_rests_until: None,
    };
    let end = running.drive().await;
    running.close().await;
    (end, running.transcript.usage())
}

/// Why a run ends other than completed.
#[derive(Debug)]
enum Halt {
    Stopped,
    Lost,
    Failed { cause: Cause, message: String },
}

impl From<JournalError> for Halt {
    fn from(error: JournalError) -> Self {
        match error {
            JournalError::Lost => Self::Lost,
            JournalError::Refused(_) => {
                Self::Failed { cause: Cause::AgentError, message: legwork_common::error::chain(&error) }
            }
        }
    }
}

/// One run.
struct Running<'team> {
    team: &'team Arc<Team>,
    /// The agent that began.
    first: String,
    /// The turns of earlier attempts.
    recorded: Vec<TurnEntry>,
    budget: Option<u64>,
    /// Whether the session turned out to have no budget.
    session_is_unlimited: bool,
    active_agent: ActiveAgent,
    /// The agent that has the active_agent.
    current: OpenAgent<'team>,
    /// Those that had it.
    inactive: Vec<OpenAgent<'team>>,
    permissions: &'team Permissions,
    transcript: Transcript,
    ports: Ports,
    cancel: CancellationToken,
    /// Another model takes the turns until then.
    first_model_rests_until: Option<Instant>,
}

impl Running<'_> {
    /// Takes step after step; the agent's last message.
    async fn drive(&mut self) -> Result<String, Halt> {
        self.take_up().await?;
        loop {
            match self.transcript.next(self.active_agent.limit()) {
                Step::Work { open } => self.work(open).await?,
                Step::Ask { turn } => {
                    self.gate().await?;
                    self.switch_agent().await?;
                    self.hear().await?;
                    self.compact(turn).await?;
                    self.check_budget().await?;
                    let asked = self.ask(turn).await;
                    self.settle_budget().await;
                    asked?;
                }
                Step::Rest { result } => {
                    if !self.rest().await? {
                        return Ok(result);
                    }
                }
                Step::Exhausted { turns } => {
                    self.active_agent.pass();
                    let had = turns.saturating_sub(self.active_agent.since());
                    let message = format!("the agent used up its {had} iterations (max_iterations)");
                    return Err(Halt::Failed { cause: Cause::MaxIterations, message });
                }
            }
        }
    }

    /// Whether any agent of the run may have dispatched jobs.
    fn dispatches(&self) -> bool {
        let background = |toolset: &Toolset| matches!(toolset.kind, ToolsetKind::BackgroundAgents);
        self.active_agent
            .seen()
            .any(|agent| !agent.sub_agents.is_empty() || agent.toolsets.iter().any(background))
    }

    /// Records an entry, and goes on from it.
    async fn record(&mut self, entry: TurnEntry) -> Result<(), Halt> {
        self.live(self.ports.journal.record(&entry)).await??;
        self.take_in(&entry);
        Ok(())
    }

    /// Goes on from an entry that is recorded.
    fn take_in(&mut self, entry: &TurnEntry) {
        self.transcript.apply(entry);
        self.active_agent.apply(entry);
    }

    /// Whether this attempt may still act.
    async fn gate(&self) -> Result<(), Halt> {
        Ok(self.live(self.ports.journal.gate()).await??)
    }

    /// Does `work` unless the run is cancelled.
    async fn live<T>(&self, work: impl Future<Output = T>) -> Result<T, Halt> {
        self.cancel.run_until_cancelled(work).await.ok_or(Halt::Stopped)
    }

    fn warn(&self, warning: String) {
        tracing::warn!(agent = %self.current.agent.name, "{warning}");
        self.ports.journal.note(RunEvent::Warning(warning));
    }
}

/// A lost lease ends the run; anything else is the caller's to handle.
fn unless_lost<T>(answer: Result<T, ServiceError>) -> Result<Result<T, ServiceError>, Halt> {
    match answer {
        Err(ServiceError::LeaseLost) => Err(Halt::Lost),
        other => Ok(other),
    }
}

#[cfg(test)]
mod tests;
