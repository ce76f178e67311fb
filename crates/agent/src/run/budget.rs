//! Token budgets: a model call is made only where the job's own budget and that of its session hold it.

use std::sync::Arc;
use std::time::Duration;

use legwork_common::job::Cause;
use legwork_common::session_state::BudgetReservation;

use super::halt::Halt;
use super::state::RunState;
use crate::compaction;
use crate::journal::RunEvent;

/// Poll interval for the session's budget while other jobs have reserved the rest of it. Half a second: a model
/// call takes seconds, so little time is lost, and a hundred waiting jobs are no load for the store.
const BUDGET_POLL_INTERVAL: Duration = Duration::from_millis(500);
/// Tokens of a typical reply, reserved on top of the request: how many it will be is not known before. A longer
/// reply is counted when the reservation is settled.
const EXPECTED_REPLY_TOKENS: u64 = 500;

impl RunState<'_> {
    /// Reserves budget for the next turn's request; see [`reserve_tokens`](Self::reserve_tokens).
    pub(super) async fn reserve_budget(&mut self) -> Result<(), Halt> {
        self.reserve_tokens(self.request_tokens()).await
    }

    /// Reserves budget for a request of this many tokens and its reply. Waits while other jobs of the session hold
    /// what is left; ends the run where the budget is used up.
    pub(super) async fn reserve_tokens(&mut self, request: u64) -> Result<(), Halt> {
        let wanted = request.saturating_add(EXPECTED_REPLY_TOKENS);
        let used = self.used_tokens();
        if let Some(budget) = self.budget
            && used.saturating_add(wanted) > budget
        {
            return Err(used_up(&format!("the job used {used} of its {budget} tokens"), wanted));
        }
        if self.session_is_unlimited {
            return Ok(());
        }
        let mut waiting = false;
        loop {
            let session_state = Arc::clone(&self.ports.session_state);
            match self.retry_while_unavailable(|| session_state.reserve(used, wanted)).await? {
                BudgetReservation::Unlimited => self.session_is_unlimited = true,
                BudgetReservation::Granted => {}
                BudgetReservation::Exhausted { spent, budget } => {
                    return Err(used_up(&format!("the session used {spent} of its {budget} tokens"), wanted));
                }
                BudgetReservation::Wait(reserved) => {
                    if !waiting {
                        let why =
                            format!("other jobs have reserved {reserved} tokens of the session's budget");
                        self.ports.journal.note(RunEvent::BudgetWaiting { why: Some(why) });
                    }
                    waiting = true;
                    self.unless_cancelled(tokio::time::sleep(BUDGET_POLL_INTERVAL)).await?;
                    continue;
                }
            }
            if waiting {
                self.ports.journal.note(RunEvent::BudgetWaiting { why: None });
            }
            return Ok(());
        }
    }

    /// Returns the reservation and reports the tokens that were used instead.
    ///
    /// An error is only logged: each reservation reports the used tokens again, and what a dead attempt had
    /// reserved no longer counts.
    pub(super) async fn settle_budget(&mut self) {
        if self.session_is_unlimited {
            return;
        }
        // A cancelled run does not wait for the answer.
        if let Ok(Err(error)) =
            self.unless_cancelled(self.ports.session_state.reserve(self.used_tokens(), 0)).await
        {
            tracing::warn!(agent = %self.current.agent.name, %error, "could not report used tokens to the session's budget");
        }
    }

    /// Tokens that the models counted in all attempts of this run.
    pub(super) fn used_tokens(&self) -> u64 {
        let usage = self.transcript.usage();
        usage.input_tokens.saturating_add(usage.output_tokens)
    }

    /// The size of the next turn's request in tokens. The larger of two estimates, one from the bytes of the
    /// request and one from what the model counted for the last one: too high a figure compacts early, too low a
    /// one is refused.
    pub(super) fn request_tokens(&self) -> u64 {
        let estimated = compaction::estimate(&self.request_messages(), &self.current.offered_tools());
        self.transcript.counted_tokens().unwrap_or_default().max(estimated)
    }
}

/// The failure of a run that cannot afford its next model call.
fn used_up(used: &str, wanted: u64) -> Halt {
    let message = format!("{used}, and the next model call needs about {wanted}");
    Halt::Failed { cause: Cause::Budget, message }
}
