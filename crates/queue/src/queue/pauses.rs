//! Paused queues, on Redis.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::answer::Answer;
use crate::error::QueueError;
use crate::queue::Queue;

/// What these commands are called in messages.
const ASKED: &str = "pause a queue";

impl Queue {
    /// Pauses a queue in every shard: no claim that begins after this takes a job of it. False where it was paused
    /// before, and the time of that stays. A crash in between leaves some shards paused; a repeat completes it.
    pub(crate) async fn pause_queue(&self, queue: &str) -> Result<bool, QueueError> {
        let now_ms = self.now_ms().await?;
        let mut pipeline = redis::pipe();
        for shard in 0..self.keys.shards() {
            pipeline.cmd("HSETNX").arg(self.keys.paused(shard)).arg(queue).arg(now_ms);
        }
        self.count(&pipeline).await.map(|new| new > 0)
    }

    /// Ends a pause in every shard. False for a queue that was not paused. Idle workers claim again within two seconds.
    pub(crate) async fn unpause_queue(&self, queue: &str) -> Result<bool, QueueError> {
        let mut pipeline = redis::pipe();
        for shard in 0..self.keys.shards() {
            pipeline.cmd("HDEL").arg(self.keys.paused(shard)).arg(queue);
        }
        self.count(&pipeline).await.map(|ended| ended > 0)
    }

    /// The paused queues, each with the time since when it is paused.
    pub(crate) async fn paused_queues(&self) -> Result<BTreeMap<String, Timestamp>, QueueError> {
        let mut pipeline = redis::pipe();
        for shard in 0..self.keys.shards() {
            pipeline.cmd("HGETALL").arg(self.keys.paused(shard));
        }
        let mut paused = BTreeMap::new();
        for answer in self.link.ask_all(ASKED, &pipeline).await? {
            for (queue, since) in answer.pairs()? {
                let since = Timestamp::from_millisecond(since.parse()?).unwrap_or(Timestamp::UNIX_EPOCH);
                paused.entry(queue).or_insert(since);
            }
        }
        Ok(paused)
    }

    /// The sum of numbers that the commands of a pipeline answer.
    async fn count(&self, pipeline: &redis::Pipeline) -> Result<u64, QueueError> {
        self.link.ask_all(ASKED, pipeline).await?.map(Answer::parse::<u64>).sum()
    }
}
