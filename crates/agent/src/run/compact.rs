//! Replacing the middle of a long conversation by a summary, before the model's window is full.

use legwork_common::job::Cause;
use legwork_common::job::Usage;
use legwork_common::team::ModelSettings;
use legwork_common::team::Runner;

use super::Halt;
use super::Running;
use crate::compaction;
use crate::history;
use crate::journal::TurnEntry;
use crate::message::Message;
use crate::model::ModelRequest;
use crate::model::Purpose;

/// Tokens that a reply is expected to have.
const USUAL_REPLY: u64 = 500;

impl Running<'_> {
    /// Asks for a summary where the next request would be too large, and records it.
    ///
    /// A crash before the record leaves the conversation as it was: the next attempt asks again. After it, nobody does.
    pub(super) async fn compact(&mut self, turn: u32) -> Result<(), Halt> {
        let window = self.window();
        if !compaction::is_due(self.request_tokens(), window) {
            return Ok(());
        }
        let (messages, task) = (self.transcript.messages(), self.transcript.task());
        let Some(kept) = compaction::kept(messages, task.len(), window) else { return Ok(()) };
        let replaced = &messages[task.len()..messages.len() - kept];
        let course = compaction::course(task, replaced, window);
        let request = ModelRequest {
            agent: self.part.agent.name.clone(),
            turn,
            messages: vec![Message::system(compaction::INSTRUCTION), Message::user(course)],
            tools: Vec::new(),
            form: None,
            purpose: Purpose::Summary,
        };
        self.afford(compaction::estimate(&request.messages, &[]))?;
        let (reply, _) = self.answer(&request).await?;
        let kept = u32::try_from(kept).unwrap_or(u32::MAX);
        // What it cost counts; a turn it is not.
        let usage = Usage { turns: 0, ..reply.usage };
        self.record(TurnEntry::Compacted { turn, kept, summary: reply.text, usage }).await
    }

    /// Ends the run where its budget does not hold the next request and a usual reply.
    pub(super) fn check_budget(&self) -> Result<(), Halt> {
        self.afford(self.request_tokens())
    }

    /// The same for a request of this many tokens.
    fn afford(&self, request: u64) -> Result<(), Halt> {
        let Some(budget) = self.budget else { return Ok(()) };
        let usage = self.transcript.usage();
        let used = usage.input_tokens.saturating_add(usage.output_tokens);
        let next = request.saturating_add(USUAL_REPLY);
        if used.saturating_add(next) <= budget {
            return Ok(());
        }
        let message =
            format!("the job used {used} of its {budget} tokens, and the next model call needs about {next}");
        Err(Halt::Failed { cause: Cause::Budget, message })
    }

    /// About how many tokens the next request has.
    fn request_tokens(&self) -> u64 {
        let limit = self.part.agent.num_history_items;
        let mut messages = self.part.head.clone();
        messages.extend(history::latest(self.transcript.messages(), limit));
        let estimated = compaction::estimate(&messages, &self.part.offered());
        self.transcript.measured().unwrap_or_default().max(estimated)
    }

    /// The smallest window of the models that may be asked.
    fn window(&self) -> u64 {
        let drawn = self.models();
        let all: &[ModelSettings] = match &self.part.agent.runner {
            Runner::Models(models) => models,
            Runner::Auto | Runner::Command { .. } => &[],
        };
        all.iter().chain(&drawn).map(compaction::window).min().unwrap_or(u64::MAX)
    }
}
