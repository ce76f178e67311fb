//! Reaping, forgetting and clearing, on Redis.

use std::time::Duration;

use async_trait::async_trait;
use legwork_common::id::JobId;
use legwork_common::lifecycle::State;

use crate::answer::Items;
use crate::error::QueueError;
use crate::port::Cleared;
use crate::port::Finished;
use crate::port::Forgotten;
use crate::port::ReapReport;
use crate::port::Upkeep;
use crate::queue::Queue;
use crate::queue::stop::Sweep;
use crate::step;
use crate::step::Call;

/// Jobs of each kind of work that one round handles in one shard. The step reads and writes all of them at once, so the
/// page bounds how long the server is held up; a longer queue takes more rounds.
const PAGE_SIZE: usize = 200;
/// For how long retention leaves a job alone that it had to spare: its dispatcher is asked for again a minute later,
/// and until then the page is free for jobs behind it.
const SPARED_FOR_MS: u64 = 60_000;
/// What reading for the retention is called in messages.
const RETENTION: &str = "retention";
/// What deleting a job is called in messages.
const FORGET: &str = "forget";

#[async_trait]
impl Upkeep for Queue {
    async fn reap(&self, alone: bool) -> Result<ReapReport, QueueError> {
        let mut report = ReapReport::default();
        for shard in 0..self.keys.shards() {
            // A process that is alone finishes all pages: no other process would reap the rest.
            while self.reap_shard(shard, alone, &mut report).await? && alone {}
            self.forget_retired(shard, &mut report).await?;
        }
        Ok(report)
    }

    async fn forget(&self, ids: &[JobId], force: bool) -> Result<Vec<Forgotten>, QueueError> {
        let mut all = Vec::with_capacity(ids.len());
        for id in ids {
            // Asked first, because a job that cannot be forgotten yet must keep its output.
            let verdict = self.may_forget(*id, force).await?;
            if verdict == Forgotten::Forgotten {
                self.forget_own(*id).await?;
            }
            all.push(match verdict {
                Forgotten::Forgotten | Forgotten::Missing => self.forget_record(*id, force).await?,
                kept => kept,
            });
        }
        Ok(all)
    }

    async fn clear(&self, age: Duration) -> Result<Cleared, QueueError> {
        let mut cleared = Cleared::default();
        for shard in 0..self.keys.shards() {
            let until = self.ago_ms(age).await?;
            let mut kept = 0;
            loop {
                let ids = self.ended(shard, until, kept).await?;
                if ids.is_empty() {
                    break;
                }
                for verdict in self.forget(&ids, false).await? {
                    match verdict {
                        Forgotten::Forgotten => cleared.forgotten += 1,
                        Forgotten::Missing => {}
                        // It stays in the index, so the next page skips it.
                        Forgotten::Spared | Forgotten::Live => kept += 1,
                    }
                }
            }
            cleared.kept += kept;
        }
        Ok(cleared)
    }
}

impl Queue {
    /// One page of each kind of work in a shard. Returns whether any job was taken back.
    async fn reap_shard(&self, shard: u16, alone: bool, report: &mut ReapReport) -> Result<bool, QueueError> {
        let call = Call::on(self.keys.tag(shard)).arg(self.lease_ms()).arg(PAGE_SIZE).arg(u8::from(alone));
        let mut parts = step::REAP.call(&self.link, &call).await?.items()?;
        let taken = parts.item()?.items()?;
        report.orphans += parts.item()?.parse::<u32>()?;
        let mut marks = parts.item()?.items()?;
        report.due += parts.item()?.parse::<u32>()?;
        let before = report.requeued + report.ended;
        self.take_back(shard, taken, report).await?;
        while let (Some(root), Some(kind)) = (marks.next(), marks.next()) {
            let (root, includes_root) = (root.parse()?, kind.text()? == "job");
            self.sweep_tree(Sweep { shard, root, includes_root }).await?;
        }
        Ok(report.requeued + report.ended > before)
    }

    /// Seals the fences of jobs that were taken back, and decides what becomes of them. The order matters: only once
    /// the fence is sealed can a worker that still lives append no more, and its output be counted.
    async fn take_back(
        &self,
        shard: u16,
        mut taken: Items,
        report: &mut ReapReport,
    ) -> Result<(), QueueError> {
        let mut jobs: Vec<(JobId, u32)> = Vec::new();
        while let (Some(id), Some(attempt)) = (taken.next(), taken.next()) {
            jobs.push((id.parse()?, attempt.parse()?));
        }
        if jobs.is_empty() {
            return Ok(());
        }
        let seals: Vec<Call> = jobs.iter().map(|(id, attempt)| self.own_call(*id).arg(attempt)).collect();
        let sealed = step::SEAL.call_all(&self.link, &seals).await?;
        let mut call = Call::on(self.keys.tag(shard)).arg(self.settings.max_crashes);
        for ((id, attempt), answer) in jobs.iter().zip(sealed) {
            let mut parts = answer.items()?;
            call.push(id.uuid());
            call.push(attempt);
            call.push(parts.item()?.text()?);
            call.push(parts.item()?.text()?);
        }
        let words = step::REAPED.call(&self.link, &call).await?.items()?;
        for ((id, attempt), word) in jobs.iter().zip(words) {
            let word = word.word()?;
            if word.as_str() == "gone" {
                continue;
            }
            tracing::info!(job = %id, attempt, outcome = word.as_str(), "reclaimed a job from a lost worker");
            match self.finished(*id, &word).await? {
                Finished::Now(State::Queued) => report.requeued += 1,
                Finished::Now(_) => report.ended += 1,
                Finished::Lost | Finished::Mail => {}
            }
        }
        Ok(())
    }

    /// Deletes what a job has outside its shard: output, turns and fence, and before them its idempotency key of the
    /// namespace, as long as the key stands for this job.
    async fn forget_own(&self, id: JobId) -> Result<(), QueueError> {
        let hash =
            self.link.ask(FORGET, redis::cmd("HGET").arg(self.keys.job(id)).arg("idempotency_key")).await?;
        if let Some(hash) = hash.optional_text()? {
            let key = self.keys.namespace_idempotency_key(&hash);
            let reservation = self.link.ask(FORGET, redis::cmd("GET").arg(&key)).await?.text()?;
            if reservation.starts_with(&id.uuid().to_string()) {
                self.link.ask(FORGET, redis::cmd("UNLINK").arg(key)).await?;
            }
        }
        let mut unlink = redis::cmd("UNLINK");
        unlink.arg(self.keys.output(id)).arg(self.keys.turns(id)).arg(self.keys.fence(id));
        self.link.ask(FORGET, &unlink).await.map(drop)
    }

    /// Forgets a page of jobs whose retention is over.
    async fn forget_retired(&self, shard: u16, report: &mut ReapReport) -> Result<(), QueueError> {
        let kept_since = self.ago_ms(self.settings.retention).await?;
        let ids = self.ended(shard, kept_since, 0).await?;
        let forgotten = self.forget(&ids, false).await?;
        let count = forgotten.iter().filter(|verdict| **verdict == Forgotten::Forgotten).count();
        report.forgotten += u32::try_from(count).unwrap_or(u32::MAX);
        // Spared jobs move back in the index, so that they do not hide the jobs behind them.
        let mut pipeline = redis::pipe();
        for (id, _) in ids.iter().zip(&forgotten).filter(|(_, verdict)| **verdict == Forgotten::Spared) {
            let key = self.keys.index_ended(shard);
            pipeline.cmd("ZADD").arg(key).arg("XX").arg(kept_since + SPARED_FOR_MS).arg(id.as_bytes());
        }
        if !pipeline.is_empty() {
            // A full server refuses each of these, which must not fail the round: the jobs are only asked for sooner.
            let moved = self.link.pipeline(&pipeline).await;
            moved.map_err(|error| QueueError::from_redis(RETENTION, error))?;
        }
        Ok(())
    }

    /// The time `age` ago, by Redis' clock in milliseconds.
    async fn ago_ms(&self, age: Duration) -> Result<u64, QueueError> {
        let age = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
        Ok(self.now_ms().await?.saturating_sub(age))
    }

    /// A page of the jobs of a shard that ended no later than `until`, the first ended first.
    async fn ended(&self, shard: u16, until: u64, skip: u64) -> Result<Vec<JobId>, QueueError> {
        let mut command = redis::cmd("ZRANGE");
        command.arg(self.keys.index_ended(shard)).arg("-inf").arg(until);
        command.arg("BYSCORE").arg("LIMIT").arg(skip).arg(PAGE_SIZE);
        let mut ids = Vec::new();
        for raw in self.link.ask(RETENTION, &command).await?.items()? {
            ids.extend(raw.raw_id()?);
        }
        Ok(ids)
    }

    /// Whether [`Queue::forget_record`] would delete a job. Changes nothing.
    async fn may_forget(&self, id: JobId, force: bool) -> Result<Forgotten, QueueError> {
        self.forget_call(id, if force { "ask-forced" } else { "ask" }).await
    }

    /// Deletes a job's record, and what depends on it.
    async fn forget_record(&self, id: JobId, force: bool) -> Result<Forgotten, QueueError> {
        self.forget_call(id, if force { "forced" } else { "kept" }).await
    }

    async fn forget_call(&self, id: JobId, mode: &str) -> Result<Forgotten, QueueError> {
        let call = Call::on(self.keys.job_tag(id)).key(self.keys.job(id)).arg(mode).arg(id.uuid());
        let word = step::FORGET.call(&self.link, &call).await?.word()?;
        match word.as_str() {
            "forgotten" => Ok(Forgotten::Forgotten),
            "spared" => Ok(Forgotten::Spared),
            "live" => Ok(Forgotten::Live),
            "missing" => Ok(Forgotten::Missing),
            _ => Err(word.unknown()),
        }
    }
}
