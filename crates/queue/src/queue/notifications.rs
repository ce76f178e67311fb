//! Notifications of jobs' ends, on Redis.

use std::time::Duration;

use async_trait::async_trait;
use legwork_common::webhook::NotificationState;
use legwork_common::webhook::Verdict;

use crate::error::QueueError;
use crate::port::DueNotification;
use crate::port::Notifications;
use crate::queue::Queue;
use crate::step;
use crate::step::Call;

/// The most characters of a detail that are stored with the job.
const DETAIL_CHARS: usize = 200;

impl Queue {
    /// Leases what is due in one shard, at most `most`.
    async fn due_in(
        &self,
        shard: u16,
        most: usize,
        lease: Duration,
    ) -> Result<Vec<DueNotification>, QueueError> {
        let call = Call::on(self.keys.tag(shard)).arg(most).arg(lease.as_millis());
        let mut fields = step::NOTIFY.call(&self.link, &call).await?.items()?;
        let mut due = Vec::new();
        while let Some(id) = fields.next() {
            let id = id.parse()?;
            let url = fields.item()?.parse();
            let attempt = fields.item()?.parse()?;
            let age = Duration::from_millis(fields.item()?.parse()?);
            match url {
                Ok(url) => due.push(DueNotification { id, url, attempt, age }),
                // It is leased again until its job is forgotten; the others must not wait for it.
                Err(error) => tracing::warn!(job = %id, %error, "cannot read where a job's end is reported"),
            }
        }
        Ok(due)
    }
}

#[async_trait]
impl Notifications for Queue {
    async fn due(&self, most: usize, lease: Duration) -> Result<Vec<DueNotification>, QueueError> {
        let mut due = Vec::new();
        let shards = self.keys.shards();
        // Not always from the first: one with many due must not hide the others.
        let first = rand::random::<u16>() % shards;
        for shard in (first..shards).chain(0..first) {
            let wanted = most.saturating_sub(due.len());
            if wanted == 0 {
                break;
            }
            // What other shards have leased is sent, whatever becomes of this one.
            match self.due_in(shard, wanted, lease).await {
                Ok(found) => due.extend(found),
                Err(error) if due.is_empty() && shards == 1 => return Err(error),
                Err(error) => tracing::warn!(shard, %error, "could not read which notifications are due"),
            }
        }
        Ok(due)
    }

    async fn record(&self, of: &DueNotification, verdict: Verdict, detail: &str) -> Result<bool, QueueError> {
        let (state, delay) = match verdict {
            Verdict::Delivered => (NotificationState::Delivered, Duration::ZERO),
            Verdict::Failed => (NotificationState::Failed, Duration::ZERO),
            Verdict::RetryIn(delay) => (NotificationState::Pending, delay),
        };
        let detail: String = detail.lines().next().unwrap_or_default().chars().take(DETAIL_CHARS).collect();
        let call = Call::on(self.keys.job_tag(of.id))
            .arg(of.id.uuid())
            .arg(of.attempt)
            .arg(state.as_str())
            .arg(delay.as_millis())
            .arg(detail);
        Ok(step::NOTIFIED.call(&self.link, &call).await?.parse::<u8>()? == 1)
    }
}
