//! What the runs within a run share while the calls of one reply are made: the tokens that are left, and the time that
//! they count themselves.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;
use std::time::Instant;

use legwork_common::session_state::BudgetReservation;

/// What one of the runs used and has reserved.
#[derive(Debug, Default)]
struct Share {
    used: u64,
    reserved: u64,
    /// Why it got nothing more of the job's budget.
    refusal: Option<String>,
}

/// When any of the runs was active.
#[derive(Debug, Default)]
struct Clock {
    active: usize,
    since: Option<Instant>,
    total: Duration,
}

/// The runs of one batch of calls.
#[derive(Debug, Default)]
pub(in crate::run) struct InnerRuns {
    /// What the job used before.
    used_before: u64,
    /// The job's budget.
    budget: Option<u64>,
    // Std mutexes: never held over an await.
    shares: Mutex<Vec<Share>>,
    clock: Mutex<Clock>,
}

/// What the job as a whole used and has reserved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Totals {
    pub(super) used: u64,
    pub(super) reserved: u64,
}

/// Counts time for its runs until it is dropped.
#[derive(Debug)]
pub(super) struct Timed(Arc<InnerRuns>);

impl Drop for Timed {
    fn drop(&mut self) {
        let mut clock = self.0.clock();
        clock.active = clock.active.saturating_sub(1);
        if clock.active == 0 {
            let more = clock.since.take().map_or(Duration::ZERO, |since| since.elapsed());
            clock.total += more;
        }
    }
}

impl InnerRuns {
    /// Of a job that used so many tokens of its budget.
    pub(in crate::run) fn new(used_before: u64, budget: Option<u64>) -> Self {
        Self { used_before, budget, ..Self::default() }
    }

    fn shares(&self) -> MutexGuard<'_, Vec<Share>> {
        self.shares.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn clock(&self) -> MutexGuard<'_, Clock> {
        self.clock.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a run, and returns its number.
    pub(super) fn begin(&self) -> usize {
        let mut shares = self.shares();
        shares.push(Share::default());
        shares.len() - 1
    }

    /// Whether the job has a budget.
    pub(super) fn has_limit(&self) -> bool {
        self.budget.is_some()
    }

    /// Counts the time of a run until the guard is dropped.
    pub(super) fn timed(self: &Arc<Self>) -> Timed {
        let mut clock = self.clock();
        clock.active += 1;
        clock.since.get_or_insert_with(Instant::now);
        drop(clock);
        Timed(Arc::clone(self))
    }

    /// For how long any of the runs was active.
    pub(in crate::run) fn time(&self) -> Duration {
        self.clock().total
    }

    /// Notes what a run used and reserves `wanted` tokens for it in place of what it had reserved. Tokens that another run
    /// has reserved are not used twice.
    ///
    /// # Errors
    ///
    /// What the run is told where the job's budget does not hold it. Nothing is reserved then.
    pub(super) fn reserve(&self, number: usize, used: u64, wanted: u64) -> Result<Totals, BudgetReservation> {
        let mut shares = self.shares();
        let Some(share) = shares.get_mut(number) else { return Ok(Totals { used, reserved: wanted }) };
        (share.used, share.reserved) = (used, 0);
        let sum = |of: fn(&Share) -> u64| shares.iter().map(of).fold(0_u64, u64::saturating_add);
        let spent = self.used_before.saturating_add(sum(|share| share.used));
        let by_others = sum(|share| share.reserved);
        if let Some(budget) = self.budget.filter(|_| wanted > 0) {
            if spent.saturating_add(wanted) > budget {
                let refusal = format!(
                    "the job used {spent} of its {budget} tokens, and the next model call needs about {wanted}"
                );
                if let Some(share) = shares.get_mut(number) {
                    share.refusal = Some(refusal);
                }
                return Err(BudgetReservation::Exhausted { spent, budget });
            }
            if spent.saturating_add(by_others).saturating_add(wanted) > budget {
                return Err(BudgetReservation::Wait(by_others));
            }
        }
        if let Some(share) = shares.get_mut(number) {
            share.reserved = wanted;
        }
        Ok(Totals { used: spent, reserved: by_others.saturating_add(wanted) })
    }

    /// Gives back what a run has reserved.
    pub(super) fn release(&self, number: usize) {
        if let Some(share) = self.shares().get_mut(number) {
            share.reserved = 0;
        }
    }

    /// Why a run got nothing more of the job's budget.
    pub(super) fn refusal(&self, number: usize) -> Option<String> {
        self.shares().get(number)?.refusal.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_share_what_is_left_of_the_budget() {
        let runs = InnerRuns::new(100, Some(1000));
        let (one, other) = (runs.begin(), runs.begin());
        assert_eq!(runs.reserve(one, 0, 600), Ok(Totals { used: 100, reserved: 600 }));
        assert_eq!(runs.reserve(other, 0, 600), Err(BudgetReservation::Wait(600)));
        assert_eq!(runs.reserve(other, 0, 300), Ok(Totals { used: 100, reserved: 900 }));
        assert_eq!(runs.reserve(one, 500, 0), Ok(Totals { used: 600, reserved: 300 }));
        assert_eq!(runs.reserve(other, 200, 0), Ok(Totals { used: 800, reserved: 0 }));
        let exhausted = BudgetReservation::Exhausted { spent: 800, budget: 1000 };
        assert_eq!(runs.reserve(other, 200, 300), Err(exhausted));
        assert!(runs.refusal(other).unwrap().starts_with("the job used 800 of its 1000 tokens"));
        assert_eq!(runs.refusal(one), None);
        // Without a budget of the job the totals are the session's matter.
        let runs = InnerRuns::new(100, None);
        assert_eq!(runs.reserve(runs.begin(), 7, 9000), Ok(Totals { used: 107, reserved: 9000 }));
    }
}
