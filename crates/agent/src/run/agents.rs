//! The agents of a run: which one is active, and which ones have their tools open.

use legwork_common::service::MailId;
use legwork_common::team::Toolset;
use legwork_common::team::ToolsetKind;
use serde_json::json;

use super::halt::Halt;
use super::open_agent::OpenAgent;
use super::state::RunState;
use crate::active_agent::FORCE_HANDOFF;
use crate::hooks;
use crate::journal::TurnEntry;

impl RunState<'_> {
    /// Before a model call: completes a handoff, so that the next agent's prompt, tools and models are used.
    ///
    /// # Errors
    ///
    /// [`Halt::Stopped`] where the run is cancelled while the next agent's tools open.
    pub(super) async fn switch_agent(&mut self) -> Result<(), Halt> {
        self.active_agent.complete_handoff();
        let Some(agent) = self.team.agent(self.active_agent.name()) else { return Ok(()) };
        if agent.name == self.current.agent.name {
            return Ok(());
        }
        let known = self.inactive.iter().position(|opened| opened.agent.name == agent.name);
        let next = match known {
            Some(at) => self.inactive.swap_remove(at),
            None => {
                let opened = Box::pin(OpenAgent::open(self.team, agent, &self.ports, &self.cancel)).await?;
                opened.replay(self.team, &self.first_agent, &self.recorded);
                opened
            }
        };
        let details = json!({"from_agent": self.current.agent.name, "to_agent": agent.name});
        self.observe(hooks::ON_AGENT_SWITCH, details).await?;
        self.inactive.push(std::mem::replace(&mut self.current, next));
        // The cooldown was that of the previous agent's first model.
        self.first_model_cooldown_until = None;
        Ok(())
    }

    /// At the natural end of the active agent: passes the conversation on to the agent that its file names, if it names
    /// one. Whether it did; the next model call is then the other agent's.
    pub(super) async fn pass_on(&mut self) -> Result<bool, Halt> {
        let Some(next) = self.current.agent.force_handoff.clone() else { return Ok(false) };
        let turn = self.transcript.turn() + 1;
        let mail = vec![MailId(format!("{FORCE_HANDOFF}{turn}"))];
        let text = format!("The agent {} is done. You, {next}, continue from here.", self.current.agent.name);
        self.record(TurnEntry::Delivered { turn, mail, text }).await?;
        Ok(true)
    }

    /// Before a model call: lists the tools anew that changed during the last turn.
    ///
    /// # Errors
    ///
    /// [`Halt::Stopped`] where the run is cancelled during that.
    pub(super) async fn refresh_tools(&mut self) -> Result<(), Halt> {
        let refresh = self.current.toolbox.refresh();
        let warnings = self.cancel.run_until_cancelled(refresh).await.ok_or(Halt::Stopped)?;
        for warning in warnings {
            self.warn(warning);
        }
        Ok(())
    }

    /// Whether any agent of the run may have dispatched jobs. The run must wait for their ends even after the agent
    /// that dispatched them has handed over.
    pub(super) fn dispatches_jobs(&self) -> bool {
        let background = |toolset: &Toolset| matches!(toolset.kind, ToolsetKind::BackgroundAgents);
        self.active_agent
            .past_and_present()
            .any(|agent| !agent.sub_agents.is_empty() || agent.toolsets.iter().any(background))
    }

    /// Ends every process that the tools of any agent started, and returns when all are gone.
    pub(super) async fn close(&self) {
        let all = self.inactive.iter().chain([&self.current]);
        futures::future::join_all(all.map(|opened| opened.toolbox.close())).await;
    }
}
