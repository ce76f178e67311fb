//! Replaces the middle of a long conversation by a summary, before the model's window is full.

use legwork_common::job::Usage;
use legwork_common::team::AgentKind;
use legwork_common::team::ModelSettings;

use super::halt::Halt;
use super::state::RunState;
use crate::compaction;
use crate::journal::TurnEntry;
use crate::message::Message;
use crate::model::ModelReply;
use crate::model::ModelRequest;
use crate::model::Purpose;

impl RunState<'_> {
    /// Asks for a summary where the next request would fill too much of the window, and records it.
    ///
    /// A crash before the record leaves the conversation as it was, and the next attempt pays for a summary of its
    /// own. A crash after it costs nothing.
    pub(super) async fn compact(&mut self, turn: u32) -> Result<(), Halt> {
        if compaction::is_due(self.request_tokens(), self.smallest_window()) {
            self.summarize(turn).await?;
        }
        Ok(())
    }

    /// Asks for a summary and records it. Whether there was anything to replace.
    pub(super) async fn summarize(&mut self, turn: u32) -> Result<bool, Halt> {
        let window = self.smallest_window();
        let (messages, task) = (self.transcript.messages(), self.transcript.task());
        let Some(kept) = compaction::kept(messages, task.len(), window) else { return Ok(false) };
        let replaced = &messages[task.len()..messages.len() - kept];
        let history = compaction::history_text(task, replaced, window);
        let request = ModelRequest {
            agent: self.current.agent.name.clone(),
            turn,
            messages: vec![Message::system(compaction::INSTRUCTION), Message::user(history)],
            tools: Vec::new(),
            form: None,
            purpose: Purpose::Summary,
            waits_for_pauses: true,
        };
        self.reserve_tokens(compaction::estimate(&request.messages, &[])).await?;
        let recorded = self.record_summary(&request, kept).await;
        self.settle_budget().await;
        recorded.map(|()| true)
    }

    async fn record_summary(&mut self, request: &ModelRequest, kept: usize) -> Result<(), Halt> {
        let (ModelReply { message: reply, .. }, _) = self.call_with_fallback(request, "").await??;
        let kept = u32::try_from(kept).unwrap_or(u32::MAX);
        // Its tokens count as usage, but it is not a turn.
        let usage = Usage { turns: 0, ..reply.usage };
        self.record(TurnEntry::Compacted { turn: request.turn, kept, summary: reply.text, usage }).await
    }

    /// The smallest window, in tokens, of all models that may answer: which one will is drawn anew for each call.
    fn smallest_window(&self) -> u64 {
        let candidates = self.candidate_models();
        let listed: &[ModelSettings] = match &self.current.agent.kind {
            AgentKind::Models(models) => models,
            AgentKind::Auto | AgentKind::Command { .. } => &[],
        };
        listed.iter().chain(&candidates).map(compaction::window).min().unwrap_or(u64::MAX)
    }
}
