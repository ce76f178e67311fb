//! One agent of a run: its tools, and the messages that only its model sees.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use jiff::Zoned;
use legwork_common::team::Agent;
use legwork_common::team::Team;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::Halt;
use super::Running;
use super::work;
use crate::active_agent::ActiveAgent;
use crate::assignment::Ports;
use crate::environment::Environment;
use crate::journal::RunEvent;
use crate::journal::TurnEntry;
use crate::message::Message;
use crate::message::ToolCall;
use crate::prompt;
use crate::prompt::Surroundings;
use crate::prompt_files;
use crate::tool::ToolSpec;
use crate::toolset::Toolbox;
use crate::toolset::call_description;

/// An agent that has, or had, the active_agent.
pub(super) struct OpenAgent<'team> {
    pub(super) agent: &'team Agent,
    pub(super) toolbox: Toolbox,
    /// Its system messages.
    pub(super) head: Vec<Message>,
}

impl<'team> OpenAgent<'team> {
    /// Opens the agent's tools.
    ///
    /// # Errors
    ///
    /// [`Halt::Stopped`] when the run is cancelled meanwhile; then nothing of the tools is left.
    pub(super) async fn open(
        team: &Team,
        agent: &'team Agent,
        ports: &Ports,
        cancel: &CancellationToken,
    ) -> Result<Self, Halt> {
        let mut toolbox = Toolbox::new(&ports.environment);
        let opening = toolbox.open(team, agent, &ports.environment, &ports.background, &ports.session_state);
        if cancel.run_until_cancelled(opening).await.is_none() {
            toolbox.close().await;
            return Err(Halt::Stopped);
        }
        for warning in toolbox.warnings() {
            ports.journal.note(RunEvent::Warning(warning.clone()));
        }
        let found = prompt_files::find(&agent.add_prompt_files, &ports.environment);
        for warning in found.warnings {
            ports.journal.note(RunEvent::Warning(warning));
        }
        let mut head = head(team, agent, &toolbox, &ports.environment);
        head.extend(found.texts.into_iter().map(Message::system));
        Ok(Self { agent, toolbox, head })
    }

    /// The tools as its model is offered them.
    pub(super) fn offered(&self) -> Vec<ToolSpec> {
        let specs = self.toolbox.specs();
        if self.agent.add_description_parameter {
            return specs.into_iter().map(call_description::offered).collect();
        }
        specs
    }

    /// Tells the tools what they were asked in an earlier attempt, for those that remember.
    pub(super) fn replay(&self, team: &Arc<Team>, first: &str, recorded: &[TurnEntry]) {
        let mut active_agent = ActiveAgent::new(Arc::clone(team), first, &[]);
        let mut calls: HashMap<(u32, u32), &ToolCall> = HashMap::new();
        for entry in recorded {
            active_agent.apply(entry);
            match entry {
                TurnEntry::Reply { turn, message } if active_agent.holder() == self.agent.name => {
                    calls.extend((0..).zip(&message.tool_calls).map(|(index, call)| ((*turn, index), call)));
                }
                TurnEntry::Result { turn, index, .. } => {
                    let Some(call) = calls.remove(&(*turn, *index)) else { continue };
                    let tool = self.toolbox.get(&call.name);
                    if let (Some(tool), Ok(mut arguments)) = (tool, work::arguments(call)) {
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
                | TurnEntry::Retried { .. } => {}
            }
        }
    }
}

/// The system messages of an agent.
pub(super) fn head(team: &Team, agent: &Agent, toolbox: &Toolbox, environment: &Environment) -> Vec<Message> {
    let around = Surroundings {
        date: Zoned::now().date().to_string(),
        working_dir: environment.working_dir.display().to_string(),
        is_git: environment.working_dir.ancestors().any(|folder| Path::new(folder).join(".git").exists()),
        system: std::env::consts::OS.to_owned(),
        architecture: std::env::consts::ARCH.to_owned(),
    };
    let about_tools: Vec<String> = toolbox.instructions().iter().cloned().chain(toolbox.notice()).collect();
    prompt::system_messages(team, agent, &about_tools, &around)
}

impl Running<'_> {
    /// Before a model call: lets whoever was named take the active_agent. The tools of the others stay open.
    pub(super) async fn switch_agent(&mut self) -> Result<(), Halt> {
        self.active_agent.pass();
        let Some(agent) = self.team.agent(self.active_agent.holder()) else { return Ok(()) };
        if agent.name == self.current.agent.name {
            return Ok(());
        }
        let known = self.inactive.iter().position(|opened| opened.agent.name == agent.name);
        let opened = match known {
            Some(at) => self.inactive.swap_remove(at),
            None => {
                let opened = OpenAgent::open(self.team, agent, &self.ports, &self.cancel).await?;
                opened.replay(self.team, &self.first, &self.recorded);
                opened
            }
        };
        self.inactive.push(std::mem::replace(&mut self.current, opened));
        self.first_model_rests_until = None;
        Ok(())
    }

    /// Ends what the tools of every agent started.
    pub(super) async fn close(&self) {
        let all = self.inactive.iter().chain([&self.current]);
        futures::future::join_all(all.map(|opened| opened.toolbox.close())).await;
    }
}
