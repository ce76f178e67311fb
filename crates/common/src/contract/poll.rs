//! Counts views of a live job that show nothing new, so that a model notices that it polls.

use std::collections::HashMap;

use crate::id::JobId;
use crate::lifecycle::State;
use crate::service::JobView;

/// The jobs that a counter remembers. Beyond it the counter starts over: a count that is lost only leaves a notice out.
const MAX_REMEMBERED: usize = 1024;

/// The views of one caller. It is kept in memory only, so a new attempt counts from the beginning.
#[derive(Debug, Clone, Default)]
pub struct PollCounter {
    /// The output's size in the last view, and the views in a row that showed this size.
    seen: HashMap<JobId, (u64, u32)>,
}

impl PollCounter {
    /// Counts one view. Returns the number of views in a row that showed the same output, from 2; `None` when there is
    /// new output, at the first view, and for a job that has not started or has ended.
    pub fn count(&mut self, view: &JobView) -> Option<u32> {
        let id = view.job.id;
        let live =
            matches!(view.job.status, State::Running | State::Reaping | State::Waiting | State::Stopping);
        if !live {
            self.seen.remove(&id);
            return None;
        }
        if self.seen.len() >= MAX_REMEMBERED && !self.seen.contains_key(&id) {
            self.seen.clear();
        }
        let (total, polls) = self.seen.entry(id).or_insert((view.output.total, 0));
        if *total == view.output.total {
            *polls = polls.saturating_add(1);
        } else {
            (*total, *polls) = (view.output.total, 1);
        }
        (*polls > 1).then_some(*polls)
    }
}
