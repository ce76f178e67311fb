//! What keeps the promises when somebody died. Takes no input; runs on a tick and on a nudge.

use std::fmt::Debug;
use std::time::Duration;

use async_trait::async_trait;
use legwork_common::id::JobId;

use crate::error::QueueError;

/// What one round of reaping did in all shards.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ReapReport {
    /// Jobs put back for another attempt.
    pub requeued: u32,
    /// Jobs that ended failed or stopped.
    pub ended: u32,
    /// Sessions whose owner was gone.
    pub orphans: u32,
    /// Scheduled jobs whose time had come.
    pub due: u32,
    /// Jobs forgotten after their retention.
    pub forgotten: u32,
}

/// What became of a job that was to be forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forgotten {
    /// Nothing of it is left.
    Forgotten,
    /// Its dispatcher lives and may not have been told.
    Spared,
    /// It has not ended, or its tree is still being stopped.
    Live,
    /// There was no such job.
    Missing,
}

/// What clearing away ended jobs came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cleared {
    /// Jobs of which nothing is left.
    pub forgotten: u64,
    /// Jobs that were kept: their dispatcher lives, or their tree is still being stopped.
    pub kept: u64,
}

/// What any process that lives long does for all.
#[async_trait]
pub trait Upkeep: Debug + Send + Sync {
    /// One round: takes back jobs whose lease ran out, queues what is due, ends sessions without their
    /// owner, goes on with sweeps of dead stoppers, and forgets what was kept long enough. Every part
    /// may be repeated and may be cut off anywhere; several processes may do it at once.
    ///
    /// `alone` says that the caller knows that no worker lives: then nothing waits for its lease.
    async fn reap(&self, alone: bool) -> Result<ReapReport, QueueError>;

    /// Forgets ended jobs: first output, turns and fence, then the rest. `force` is an operator's wish;
    /// without it a job whose dispatcher lives is spared. A crash in between leaves a job without
    /// output, which the next call forgets.
    async fn forget(&self, ids: &[JobId], force: bool) -> Result<Vec<Forgotten>, QueueError>;

    /// Forgets all jobs that ended at least `age` ago, in pages, as [`Upkeep::forget`] does without `force`. A
    /// crash leaves the rest for a repeat.
    async fn clear(&self, age: Duration) -> Result<Cleared, QueueError>;
}
