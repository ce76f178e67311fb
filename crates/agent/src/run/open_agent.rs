//! One agent of a run with its tools open, and the system messages that only its model sees.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use jiff::Zoned;
use legwork_common::team::Agent;
use legwork_common::team::Team;
use serde_json::Value;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::halt::Halt;
use super::hooks::HookRunner;
use crate::active_agent::ActiveAgent;
use crate::assignment::Ports;
use crate::environment::Environment;
use crate::hooks;
use crate::journal::RunEvent;
use crate::journal::TurnEntry;
use crate::message::Message;
use crate::message::ToolCall;
use crate::prompt;
use crate::prompt::EnvironmentInfo;
use crate::prompt_files;
use crate::prompt_files::Found;
use crate::tool::ToolOutcome;
use crate::tool::ToolSpec;
use crate::toolset::Toolbox;
use crate::toolset::call_description;

/// An agent that is active or was active before a handoff.
pub(super) struct OpenAgent<'team> {
    pub(super) agent: &'team Agent,
    pub(super) toolbox: Toolbox,
    /// The system messages that begin each of its requests.
    pub(super) head: Vec<Arc<Message>>,
}

impl<'team> OpenAgent<'team> {
    /// Opens the agent's toolsets and reads its prompt files. What cannot be opened or read is a warning.
    ///
    /// # Errors
    ///
    /// [`Halt::Stopped`] where the run is cancelled during that; processes that were started have ended by then.
    pub(super) async fn open(
        team: &Team,
        agent: &'team Agent,
        ports: &Ports,
        cancel: &CancellationToken,
    ) -> Result<Self, Halt> {
        let mut toolbox = Toolbox::new(&ports.environment);
        let opening = async {
            let found = prompt_files_of(agent, &ports.environment).await;
            toolbox.open(team, agent, &ports.environment, &ports.background, &ports.session_state).await;
            found
        };
        let Some(found) = cancel.run_until_cancelled(Box::pin(opening)).await else {
            toolbox.close().await;
            return Err(Halt::Stopped);
        };
        for warning in toolbox.warnings() {
            ports.journal.note(RunEvent::Warning(warning.clone()));
        }
        for warning in found.warnings {
            ports.journal.note(RunEvent::Warning(warning));
        }
        let mut head = head(team, agent, &toolbox, &ports.environment);
        head.extend(found.texts.into_iter().map(Message::system));
        if let Some(depth) = agent.add_prompt_files_depth {
            head.extend(files_below(agent, depth, &ports.environment).await.map(Message::system));
        }
        let hooks = HookRunner {
            agent,
            environment: &ports.environment,
            nursery: toolbox.nursery(),
            models: ports.models.as_ref(),
            cancel,
        };
        match hooks.fire(hooks::SESSION_START, None, json!({"source": "startup"})).await {
            Ok(started) => {
                for warning in started.warnings {
                    ports.journal.note(RunEvent::Warning(warning));
                }
                head.extend(started.context.into_iter().map(Message::system));
            }
            Err(halt) => {
                toolbox.close().await;
                return Err(halt);
            }
        }
        let mut head: Vec<_> = head.into_iter().map(Arc::new).collect();
        // Collected in the room of the messages themselves.
        head.shrink_to_fit();
        Ok(Self { agent, toolbox, head })
    }

    /// The tools as they are offered to the agent's model.
    pub(super) fn offered_tools(&self) -> Vec<ToolSpec> {
        let specs = self.toolbox.specs();
        if self.agent.add_description_parameter {
            return specs.into_iter().map(call_description::offered).collect();
        }
        specs
    }

    /// Replays this agent's finished calls of earlier attempts, so that tools that keep a state rebuild it. Calls
    /// without a result are left out: those run again or are reported as interrupted.
    pub(super) fn replay(&self, team: &Arc<Team>, first_agent: &str, recorded: &[TurnEntry]) {
        let mut active_agent = ActiveAgent::new(Arc::clone(team), first_agent, &[]);
        let mut calls: HashMap<(u32, u32), &ToolCall> = HashMap::new();
        for entry in recorded {
            active_agent.apply(entry);
            match entry {
                TurnEntry::Reply { turn, message } if active_agent.name() == self.agent.name => {
                    calls.extend((0..).zip(&message.tool_calls).map(|(index, call)| ((*turn, index), call)));
                }
                TurnEntry::Result { turn, index, .. } => {
                    let Some(call) = calls.remove(&(*turn, *index)) else { continue };
                    let tool = self.toolbox.get(&call.name);
                    if let (Some(tool), Ok(mut arguments)) = (tool, call.parsed_arguments()) {
                        if self.agent.add_description_parameter {
                            call_description::strip(tool.spec(), &mut arguments);
                        }
                        tool.replay(&Value::Object(arguments));
                    }
                }
                TurnEntry::Reply { .. }
                | TurnEntry::Delivered { .. }
                | TurnEntry::Compacted { .. }
                | TurnEntry::Stderr { .. }
                | TurnEntry::Asked { .. }
                | TurnEntry::Decided { .. }
                | TurnEntry::Retried { .. } => {}
            }
        }
    }
}

/// The prompt files of an agent. First of all, on a thread that may block: a working directory whose file system hangs is
/// found out here, where the run can still be stopped.
async fn prompt_files_of(agent: &Agent, environment: &Arc<Environment>) -> Found {
    let (names, blocking, environment) =
        (agent.add_prompt_files.clone(), environment.blocking.clone(), Arc::clone(environment));
    let finding = move || {
        // An error is that of the toolset that needs the folder.
        let _exists = environment.working_dir.is_dir();
        Ok(prompt_files::find(&names, &environment))
    };
    let unread = |failed: ToolOutcome| Found { warnings: vec![failed.text], ..Found::default() };
    blocking.run(finding).await.unwrap_or_else(unread)
}

/// The list of prompt files below the working directory. A file system that hangs costs the list, not the run.
async fn files_below(agent: &Agent, depth: u32, environment: &Arc<Environment>) -> Option<String> {
    let (names, environment) = (agent.add_prompt_files.clone(), Arc::clone(environment));
    let blocking = environment.blocking.clone();
    blocking.run(move || Ok(prompt_files::listed(&names, depth, &environment))).await.ok().flatten()
}

fn head(team: &Team, agent: &Agent, toolbox: &Toolbox, environment: &Environment) -> Vec<Message> {
    let info = EnvironmentInfo {
        date: Zoned::now().date().to_string(),
        working_dir: environment.working_dir.display().to_string(),
        is_git: environment.working_dir.ancestors().any(|folder| Path::new(folder).join(".git").exists()),
        system: std::env::consts::OS.to_owned(),
        architecture: std::env::consts::ARCH.to_owned(),
    };
    let about_tools: Vec<String> = toolbox.instructions().iter().cloned().chain(toolbox.notice()).collect();
    let instruction = environment.expanded(&agent.instruction);
    prompt::system_messages(team, agent, &instruction, &about_tools, &info)
}
