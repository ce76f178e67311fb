//! Replacing the middle of a long conversation by a summary, before the model's window is full.

use std::sync::Arc;
use std::time::Duration;

use legwork_common::job::Cause;
use legwork_common::job::Usage;
use legwork_common::session_state::BudgetReservation;
use legwork_common::team::AgentKind;
use legwork_common::team::ModelSettings;

use super::Halt;
use super::Running;
use crate::compaction;
use crate::history;
use crate::journal::RunEvent;
use crate::journal::TurnEntry;
use crate::message::Message;
use crate::model::ModelRequest;
use crate::model::Purpose;

/// How often the session's budget is asked again while others hold what is left.
const LOOK_EVERY: Duration = Duration::from_millis(500);
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
            agent: self.current.agent.name.clone(),
            turn,
            messages: vec![Message::system(compaction::INSTRUCTION), Message::user(course)],
            tools: Vec::new(),
            form: None,
            purpose: Purpose::Summary,
        };
        self.afford(compaction::estimate(&request.messages, &[])).await?;
        let answered = self.answer(&request).await;
        let (reply, _) = match answered {
            Ok(answered) => answered,
            Err(halt) => {
                self.settle_budget().await;
                return Err(halt);
            }
        };
        let kept = u32::try_from(kept).unwrap_or(u32::MAX);
        // What it cost counts; a turn it is not.
        let usage = Usage { turns: 0, ..reply.usage };
        self.record(TurnEntry::Compacted { turn, kept, summary: reply.text, usage }).await?;
        self.settle_budget().await;
        Ok(())
    }

    /// Ends the run where its budget, or that of its session, does not hold the next request and a usual reply.
    pub(super) async fn check_budget(&mut self) -> Result<(), Halt> {
        self.afford(self.request_tokens()).await
    }

    /// The same for a request of this many tokens. Waits for what other jobs of the session have reserved.
    async fn afford(&mut self, request: u64) -> Result<(), Halt> {
        let next = request.saturating_add(USUAL_REPLY);
        let used = self.used();
        if let Some(budget) = self.budget
            && used.saturating_add(next) > budget
        {
            let had = format!("the job used {used} of its {budget} tokens");
            return Err(spent(&had, next));
        }
        if self.session_is_unlimited {
            return Ok(());
        }
        let mut said = false;
        loop {
            let session_state = Arc::clone(&self.ports.session_state);
            match self.retry_while_unavailable(|| session_state.reserve(used, next)).await? {
                BudgetReservation::Unlimited => self.session_is_unlimited = true,
                BudgetReservation::Granted => {}
                BudgetReservation::Spent { spent: all, budget } => {
                    return Err(spent(&format!("the session used {all} of its {budget} tokens"), next));
                }
                BudgetReservation::Wait(held) => {
                    if !said {
                        let why = format!("other jobs have reserved {held} tokens of the session's budget");
                        self.ports.journal.note(RunEvent::ModelWaits { why: Some(why) });
                    }
                    said = true;
                    self.live(tokio::time::sleep(LOOK_EVERY)).await?;
                    continue;
                }
            }
            if said {
                self.ports.journal.note(RunEvent::ModelWaits { why: None });
            }
            return Ok(());
        }
    }

    /// Gives back what was reserved of the session's budget, and says what was used instead. Trouble costs nothing: the next
    /// call says it too, and a dead attempt's reservation counts no more.
    pub(super) async fn settle_budget(&mut self) {
        if self.session_is_unlimited {
            return;
        }
        // A run that is cancelled does not wait for an answer.
        if let Ok(Err(error)) = self.live(self.ports.session_state.reserve(self.used(), 0)).await {
            tracing::warn!(agent = %self.current.agent.name, %error, "the session's budget was not told what was used");
        }
    }

    /// Tokens that the models of this run counted, in all its attempts.
    fn used(&self) -> u64 {
        let usage = self.transcript.usage();
        usage.input_tokens.saturating_add(usage.output_tokens)
    }

    /// About how many tokens the next request has.
    fn request_tokens(&self) -> u64 {
        let limit = self.current.agent.num_history_items;
        let mut messages = self.current.head.clone();
        messages.extend(history::latest(self.transcript.messages(), limit));
        let estimated = compaction::estimate(&messages, &self.current.offered());
        self.transcript.measured().unwrap_or_default().max(estimated)
    }

    /// The smallest window of the models that may be asked.
    fn window(&self) -> u64 {
        let drawn = self.models();
        let all: &[ModelSettings] = match &self.current.agent.runner {
            AgentKind::Models(models) => models,
            AgentKind::Auto | AgentKind::Command { .. } => &[],
        };
        all.iter().chain(&drawn).map(compaction::window).min().unwrap_or(u64::MAX)
    }
}

/// The end of a run that may not ask again.
fn spent(had: &str, next: u64) -> Halt {
    let message = format!("{had}, and the next model call needs about {next}");
    Halt::Failed { cause: Cause::Budget, message }
}
