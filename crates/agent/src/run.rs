//! Runs one agent to its end: `turn` decides, this does.

mod ask;
mod command;
mod mail;
mod work;

use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use jiff::Zoned;
use legwork_common::job::Cause;
use legwork_common::job::Usage;
use legwork_common::service::ServiceError;
use legwork_common::team::Agent;
use legwork_common::team::Permissions;
use legwork_common::team::Runner;
use legwork_common::team::Team;
use legwork_common::team::ToolsetKind;
use tokio_util::sync::CancellationToken;

use self::command::Program;
use crate::assignment::Assignment;
use crate::assignment::Opening;
use crate::assignment::Outcome;
use crate::assignment::Ports;
use crate::environment::Environment;
use crate::journal::JournalError;
use crate::journal::RunEvent;
use crate::journal::TurnEntry;
use crate::message::Message;
use crate::prompt;
use crate::prompt::Surroundings;
use crate::toolset::Toolbox;
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
        Runner::Models(_) | Runner::Auto => run_model(&team, agent, assignment, ports, cancel).await,
        Runner::Command { program, args, env, working_dir } => {
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

/// Runs an agent that a model drives.
async fn run_model(
    team: &Team,
    agent: &Agent,
    assignment: Assignment,
    ports: Ports,
    cancel: CancellationToken,
) -> (Result<String, Halt>, Usage) {
    let mut toolbox = Toolbox::new(&ports.environment);
    let opening = toolbox.open(agent, &ports.environment, &ports.background);
    if cancel.run_until_cancelled(opening).await.is_none() {
        toolbox.close().await;
        return (Err(Halt::Stopped), Usage::default());
    }
    for warning in toolbox.warnings() {
        ports.journal.note(RunEvent::Warning(warning.clone()));
    }
    let Assignment { opening, recorded, .. } = assignment;
    let messages = opening_messages(team, agent, opening, &toolbox, &ports.environment);
    let transcript = Transcript::new(messages, &recorded);
    let mut running = Running {
        agent,
        permissions: team.permissions(),
        transcript,
        toolbox,
        ports,
        cancel,
        first_model_rests_until: None,
    };
    let end = running.drive(&recorded).await;
    running.toolbox.close().await;
    (end, running.transcript.usage())
}

/// The messages before the first turn.
fn opening_messages(
    team: &Team,
    agent: &Agent,
    opening: Opening,
    toolbox: &Toolbox,
    environment: &Environment,
) -> Vec<Message> {
    let around = Surroundings {
        date: Zoned::now().date().to_string(),
        working_dir: environment.working_dir.display().to_string(),
        is_git: environment.working_dir.ancestors().any(|folder| Path::new(folder).join(".git").exists()),
        system: std::env::consts::OS.to_owned(),
        architecture: std::env::consts::ARCH.to_owned(),
    };
    let about_tools: Vec<String> = toolbox.instructions().iter().cloned().chain(toolbox.notice()).collect();
    let mut messages = prompt::system_messages(team, agent, &about_tools, &around);
    match opening {
        Opening::Conversation { messages: said } => messages.extend(said),
        Opening::Delegated { task, expected_output } => {
            messages.extend(prompt::delegated(&task, expected_output.as_deref()));
        }
    }
    messages
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
    agent: &'team Agent,
    permissions: &'team Permissions,
    transcript: Transcript,
    toolbox: Toolbox,
    ports: Ports,
    cancel: CancellationToken,
    /// Another model takes the turns until then.
    first_model_rests_until: Option<Instant>,
}

impl Running<'_> {
    /// Takes step after step; the agent's last message.
    async fn drive(&mut self, recorded: &[TurnEntry]) -> Result<String, Halt> {
        self.take_up(recorded).await?;
        loop {
            match self.transcript.next(self.agent.max_iterations) {
                Step::Work { open } => self.work(open).await?,
                Step::Ask { turn } => {
                    self.gate().await?;
                    self.hear().await?;
                    self.ask(turn).await?;
                }
                Step::Rest { result } => {
                    if !self.rest().await? {
                        return Ok(result);
                    }
                }
                Step::Exhausted { turns } => {
                    let message = format!("the agent used up its {turns} iterations (max_iterations)");
                    return Err(Halt::Failed { cause: Cause::MaxIterations, message });
                }
            }
        }
    }

    /// Whether the agent may have dispatched jobs.
    fn dispatches(&self) -> bool {
        let background = |kind: &ToolsetKind| matches!(kind, ToolsetKind::BackgroundAgents);
        !self.agent.sub_agents.is_empty()
            || self.agent.toolsets.iter().any(|toolset| background(&toolset.kind))
    }

    /// Records an entry, and goes on from it.
    async fn record(&mut self, entry: TurnEntry) -> Result<(), Halt> {
        self.live(self.ports.journal.record(&entry)).await??;
        self.transcript.apply(&entry);
        Ok(())
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
        tracing::warn!(agent = %self.agent.name, "{warning}");
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
