//! Jobs whose lease ran out while no process reaps.

use std::time::Duration;

use legwork_common::id::JobId;

use crate::error::QueueError;
use crate::queue::Queue;
use crate::queue::record::ASKED;

/// Leases of one pipelined read: a number each.
const BATCH_SIZE: usize = 1000;

impl Queue {
    /// How long ago the leases of jobs were last renewed, where they ran out.
    pub(super) async fn read_expired_leases(
        &self,
        ids: &[JobId],
    ) -> Result<Vec<Option<Duration>>, QueueError> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let now = self.now_ms().await?;
        let mut expired = Vec::with_capacity(ids.len());
        for batch in ids.chunks(BATCH_SIZE) {
            let mut pipeline = redis::pipe();
            for id in batch {
                let key = self.keys.lease(id.shard(self.keys.shards()));
                pipeline.cmd("ZSCORE").arg(key).arg(id.uuid().to_string());
            }
            for answer in self.link.ask_all(ASKED, &pipeline).await? {
                let expiry: Option<f64> = answer.parse_optional()?;
                // Milliseconds are whole and far below what a double holds exactly.
                let over = expiry.and_then(|expiry| now.checked_sub(expiry as u64)).filter(|over| *over > 0);
                // A lease is set at its last renewal, so that was one lease before it ran out.
                expired.push(over.map(|over| Duration::from_millis(over) + self.settings.lease));
            }
        }
        Ok(expired)
    }
}
