//! The state of one run, and the few ways in which its steps touch the world.

use std::future::Future;
use std::sync::Arc;
use std::time::Instant;

use legwork_common::team::Permissions;
use legwork_common::team::SafetyMode;
use legwork_common::team::Team;
use tokio_util::sync::CancellationToken;

use super::halt::Halt;
use super::inner::InnerRuns;
use super::open_agent::OpenAgent;
use super::pots::Pots;
use crate::active_agent::ActiveAgent;
use crate::assignment::Ports;
use crate::history;
use crate::journal::RunEvent;
use crate::journal::TurnEntry;
use crate::message::Message;
use crate::redaction;
use crate::safety;
use crate::turn::Transcript;

/// One run of an agent that a model drives.
pub(super) struct RunState<'team> {
    pub(super) team: &'team Arc<Team>,
    /// The agent that the run began with.
    pub(super) first_agent: String,
    /// The turns of earlier attempts, pruned to their calls: an agent that is opened later replays its calls to
    /// tools that keep a state.
    pub(super) recorded: Vec<TurnEntry>,
    /// Tokens that this job may use over all its attempts; `None` for no limit.
    pub(super) budget: Option<u64>,
    /// What it used of the budgets of its agent file.
    pub(super) pots: Pots,
    /// What runs within this one share, of the calls that are being made.
    pub(super) inner_runs: Arc<InnerRuns>,
    /// Whether the session turned out to have no budget: it gets none later, so it is asked only once.
    pub(super) session_is_unlimited: bool,
    pub(super) active_agent: ActiveAgent,
    /// The tools and the prompt of the active agent.
    pub(super) current: OpenAgent<'team>,
    /// Agents that handed the conversation over. They stay open: a background command of theirs keeps running, and
    /// the conversation may come back to them.
    pub(super) inactive: Vec<OpenAgent<'team>>,
    pub(super) permissions: &'team Permissions,
    /// The safety mode of the dispatcher.
    pub(super) inherited_safety: Option<SafetyMode>,
    pub(super) transcript: Transcript,
    pub(super) ports: Box<Ports>,
    pub(super) cancel: CancellationToken,
    /// The message that the run was asked, in the form of the agent's `cache`, once that was looked up.
    pub(super) asked: Option<String>,
    /// How often the model was reminded to answer by the tool for it.
    pub(super) reminders: u32,
    /// What hooks added for the model: for the whole run, and for this turn.
    pub(super) context: Vec<String>,
    /// How many of those texts are for the whole run.
    pub(super) lasting_context: usize,
    /// The size of a request, in tokens, below which no summary is asked for: the last one freed too little.
    pub(super) next_summary_at: u64,
    /// Until then turns go to the fallback models, because the first model failed.
    pub(super) first_model_cooldown_until: Option<Instant>,
}

impl RunState<'_> {
    /// Records an entry and applies it.
    ///
    /// A cancellation may win against the record. The entry is then durable or not, and both are safe: the run ends
    /// without acting on it, and the next attempt resumes from what it finds recorded.
    pub(super) async fn record(&mut self, entry: TurnEntry) -> Result<(), Halt> {
        self.unless_cancelled(self.ports.journal.record(&entry)).await??;
        self.apply(&entry);
        Ok(())
    }

    /// Applies an entry that is recorded to the deciders.
    pub(super) fn apply(&mut self, entry: &TurnEntry) {
        self.transcript.apply(entry);
        self.active_agent.apply(entry);
    }

    /// Returns once the journal confirms that this attempt may still act.
    pub(super) async fn check_lease(&self) -> Result<(), Halt> {
        Ok(self.unless_cancelled(self.ports.journal.confirm_lease()).await??)
    }

    /// Waits for `work`; a cancellation drops it and ends the run.
    pub(super) async fn unless_cancelled<T>(&self, work: impl Future<Output = T>) -> Result<T, Halt> {
        self.cancel.run_until_cancelled(work).await.ok_or(Halt::Stopped)
    }

    /// The messages of the next request: the system messages of the active agent, and as much of the conversation as its
    /// limits leave.
    pub(super) fn request_messages(&self) -> Vec<Arc<Message>> {
        let OpenAgent { agent, head, .. } = &self.current;
        let conversation = history::latest(self.transcript.messages(), agent.num_history_items);
        let shown = history::with_old_calls_truncated(conversation, agent.limits.max_old_tool_call_tokens);
        let told = self.context.iter().map(Message::system).map(Arc::new);
        let messages = head.iter().cloned().chain(told).chain(shown);
        let mut messages: Vec<_> = if self.redacts() {
            messages.map(redaction::redacted_message).collect()
        } else {
            messages.collect()
        };
        // A request is held for as long as the model answers.
        messages.shrink_to_fit();
        messages
    }

    /// The safety mode of the active agent: that of the file, or the dispatcher's where that is stricter.
    pub(super) fn safety(&self) -> Option<SafetyMode> {
        safety::strictest(self.inherited_safety, self.current.agent.safety.or(self.team.safety()))
    }

    /// Whether secrets are removed from what the active agent's model and tools are given.
    pub(super) fn redacts(&self) -> bool {
        self.current.agent.redact_secrets.unwrap_or(true)
    }

    pub(super) fn warn(&self, warning: String) {
        tracing::warn!(agent = %self.current.agent.name, "{warning}");
        self.ports.journal.note(RunEvent::Warning(warning));
    }
}
