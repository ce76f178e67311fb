//! The agents of a run: which one is active, and which ones have their tools open.

use legwork_common::team::Toolset;
use legwork_common::team::ToolsetKind;

use super::halt::Halt;
use super::open_agent::OpenAgent;
use super::state::RunState;

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
                let opened = OpenAgent::open(self.team, agent, &self.ports, &self.cancel).await?;
                opened.replay(self.team, &self.first_agent, &self.recorded);
                opened
            }
        };
        self.inactive.push(std::mem::replace(&mut self.current, next));
        // The cooldown was that of the previous agent's first model.
        self.first_model_cooldown_until = None;
        Ok(())
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
