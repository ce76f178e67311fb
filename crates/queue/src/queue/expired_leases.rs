//! Jobs whose worker is not heard of.

use std::time::Duration;

use legwork_common::id::JobId;

use crate::error::QueueError;
use crate::queue::Queue;

impl Queue {
    /// For how long the leases of these jobs were not renewed, where they are over.
    pub(super) async fn read_expired_leases(
        &self,
        ids: &[JobId],
    ) -> Result<Vec<Option<Duration>>, QueueError> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let now = self.now_ms().await?;
        let mut pipeline = redis::pipe();
        for id in ids {
            let key = self.keys.lease(id.shard(self.keys.shards()));
            pipeline.cmd("ZSCORE").arg(key).arg(id.uuid().to_string());
        }
        let mut silent = Vec::with_capacity(ids.len());
        for answer in self.read(&pipeline).await? {
            let ends: Option<f64> = answer.parse_optional()?;
            // Milliseconds are whole and far below what a double holds exactly.
            let over = ends.and_then(|ends| now.checked_sub(ends as u64)).filter(|over| *over > 0);
            silent.push(over.map(|over| Duration::from_millis(over) + self.settings.lease));
        }
        Ok(silent)
    }
}
