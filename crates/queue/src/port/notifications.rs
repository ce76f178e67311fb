//! Ends of jobs that are reported to a URL.

use std::fmt::Debug;
use std::time::Duration;

use async_trait::async_trait;
use legwork_common::id::JobId;
use legwork_common::webhook::Verdict;
use legwork_common::webhook::WebhookUrl;

use crate::error::QueueError;

/// A notification that its sender has a lease of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DueNotification {
    /// The job, which has ended.
    pub id: JobId,
    /// Where it is sent.
    pub url: WebhookUrl,
    /// The number of this attempt, from 1. Those that were cut off count too.
    pub attempt: u32,
    /// How long ago the job ended, by Redis' clock.
    pub age: Duration,
}

/// What a sender of notifications does.
#[async_trait]
pub trait Notifications: Debug + Send + Sync {
    /// Leases notifications that are due, at most `most` of each shard; one step for each shard. They are stored by the
    /// steps that end jobs. One that a sender does not [record](Self::record) within the lease, because it died, is due
    /// again: so each is sent at least once, and may be sent twice.
    async fn due(&self, most: usize, lease: Duration) -> Result<Vec<DueNotification>, QueueError>;

    /// Records what came of an attempt; `detail` is shown to operators, and only its first line is kept. False where the
    /// lease was over and another sender has the notification, or where it is decided or forgotten.
    async fn record(&self, of: &DueNotification, verdict: Verdict, detail: &str) -> Result<bool, QueueError>;
}
