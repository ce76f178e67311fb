//! Running jobs whose lease expired: their worker is dead or cut off, and no reaper has reclaimed them yet.

use std::time::Duration;

use legwork_common::id::JobId;
use legwork_common::job::Job;

use crate::error::QueueError;
use crate::operator::Operator;
use crate::operator::list::ListedJob;
use crate::port::Watch as _;

impl Operator {
    /// Adds to each job how long ago its lease was last renewed, where the lease has expired. Asks only about jobs that
    /// a worker holds: no other has a lease.
    ///
    /// # Errors
    ///
    /// [`QueueError`] when Redis cannot be reached.
    pub(super) async fn with_staleness(&self, jobs: Vec<Job>) -> Result<Vec<ListedJob>, QueueError> {
        let held: Vec<JobId> = jobs.iter().filter(|job| job.status.is_held()).map(|job| job.id).collect();
        let ages = self.queue().silent(&held).await?;
        Ok(pair(jobs, ages))
    }
}

/// Gives each held job its age; `ages` has one entry for each of them, in their order.
fn pair(jobs: Vec<Job>, ages: Vec<Option<Duration>>) -> Vec<ListedJob> {
    let mut ages = ages.into_iter();
    jobs.into_iter()
        .map(|mut job| {
            let stale_for = if job.status.is_held() { ages.next().flatten() } else { None };
            job.silent_ms = stale_for.map(milliseconds);
            ListedJob { job, stale_for }
        })
        .collect()
}

/// Whole milliseconds; beyond what fits, the largest number.
pub(super) fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use legwork_common::lifecycle::State;

    use super::*;
    use crate::operator::testing::job;

    #[test]
    fn ages_belong_to_the_jobs_that_a_worker_holds() {
        let [one, two] = [1, 2].map(|seconds| Some(Duration::from_secs(seconds)));
        let statuses = [State::Queued, State::Running, State::Completed, State::Waiting, State::Stopping];
        let jobs = statuses.map(|status| Job { status, ..job() }).to_vec();
        let stale: Vec<_> = pair(jobs, vec![one, None, two]).iter().map(|listed| listed.stale_for).collect();
        assert_eq!(stale, [None, one, None, None, two]);
    }
}
