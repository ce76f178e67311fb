//! What keeps the promises when a process died: reaping, forgetting, clearing.

use std::fmt::Debug;
use std::time::Duration;

use async_trait::async_trait;
use legwork_common::id::JobId;

use crate::error::QueueError;

/// What one round of reaping did in all shards, and how large the fleet is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ReapReport {
    /// Jobs queued again for another attempt.
    pub requeued: u32,
    /// Jobs that ended failed or stopped.
    pub ended: u32,
    /// Sessions whose owner was gone.
    pub orphans: u32,
    /// Scheduled jobs whose time had come.
    pub due: u32,
    /// Jobs forgotten after their retention.
    pub forgotten: u32,
    /// Whether the round ended at the bound of its pages in some shard, so that more may be due.
    pub has_more: bool,
    /// Workers with a heartbeat of the last lease, in the shard that has the most.
    pub workers: u32,
}

impl ReapReport {
    /// Whether the round changed anything.
    pub fn has_changes(&self) -> bool {
        *self != Self { workers: self.workers, has_more: self.has_more, ..Self::default() }
    }
}

/// What became of a job that was to be forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forgotten {
    /// All of it is deleted.
    Forgotten,
    /// Kept: its dispatcher lives and may not have read of its end.
    Spared,
    /// Kept: it has not ended, or its tree is still being stopped.
    Live,
    /// The job does not exist, or was forgotten before.
    Missing,
}

/// The outcome of clearing ended jobs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cleared {
    /// Jobs that were deleted.
    pub forgotten: u64,
    /// Jobs that were kept: their dispatcher lives, or their tree is still being stopped.
    pub kept: u64,
}

/// What any long-lived process does for the whole fleet.
#[async_trait]
pub trait Upkeep: Debug + Send + Sync {
    /// One round in every shard: reclaims jobs whose lease ran out, queues what is due, ends sessions whose owner is
    /// gone, resumes the sweeps of stops whose caller died, and forgets jobs after their retention. Several steps; each
    /// may be repeated and cut off anywhere, and several processes may do it at once.
    ///
    /// `alone` states that the caller knows that no worker lives: then no lease is waited for.
    async fn reap(&self, alone: bool) -> Result<ReapReport, QueueError>;

    /// Deletes ended jobs: output, turns and fence first, then the record. Without `force` a job whose dispatcher lives
    /// is spared; `force` is an operator's request. A crash in between leaves a job without output, which the next call
    /// deletes.
    async fn forget(&self, ids: &[JobId], force: bool) -> Result<Vec<Forgotten>, QueueError>;

    /// Deletes all jobs that ended at least `age` ago, in pages, as [`Upkeep::forget`] does without `force`. A crash
    /// leaves the rest for a repeat.
    async fn clear(&self, age: Duration) -> Result<Cleared, QueueError>;
}
