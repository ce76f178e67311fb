//! Reaping, on Redis.

use std::time::Duration;

use async_trait::async_trait;
use legwork_common::id::JobId;
use legwork_common::lifecycle::State;

use crate::answer::Answer;
use crate::answer::next;
use crate::answer::unknown_word;
use crate::error::QueueError;
use crate::port::Cleared;
use crate::port::Finished;
use crate::port::Forgotten;
use crate::port::ReapReport;
use crate::port::Upkeep;
use crate::queue::Queue;
use crate::step;
use crate::step::Call;

/// Jobs of one round of each kind of work in one shard.
const PAGE: usize = 200;
/// For how long retention leaves a job alone that it had to spare, in milliseconds.
const SPARE_MS: u64 = 60_000;
/// What reading for the retention is called in messages.
const RETENTION: &str = "retention";

#[async_trait]
impl Upkeep for Queue {
    async fn reap(&self, alone: bool) -> Result<ReapReport, QueueError> {
        let mut report = ReapReport::default();
        for shard in 0..self.keys.shards() {
            // Who is alone leaves nobody to take the rest of a long page back.
            while self.reap_shard(shard, alone, &mut report).await? && alone {}
            self.retire(shard, &mut report).await?;
        }
        Ok(report)
    }

    async fn forget(&self, ids: &[JobId], force: bool) -> Result<Vec<Forgotten>, QueueError> {
        let mut all = Vec::with_capacity(ids.len());
        for id in ids {
            // What cannot be forgotten yet must keep its output.
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
            let until = self.ended_since(age).await?;
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
                        // What stays in the index is passed over by the next page.
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
    /// One page of each kind of work in a shard; answers whether any job was taken back.
    async fn reap_shard(&self, shard: u16, alone: bool, report: &mut ReapReport) -> Result<bool, QueueError> {
        let call = Call::on(self.keys.tag(shard)).arg(self.lease_ms()).arg(PAGE).arg(u8::from(alone));
        let answer = Answer::of("reap", step::call(&self.link, &step::REAP, &call).await?);
        let mut parts = answer.list()?.into_iter();
        let taken = next("reap", &mut parts)?.list()?;
        let orphans = next("reap", &mut parts)?.list()?;
        let roots = next("reap", &mut parts)?.list()?;
        report.due += next("reap", &mut parts)?.parse::<u32>()?;
        report.orphans += u32::try_from(orphans.len()).unwrap_or(u32::MAX);
        let before = report.requeued + report.ended;
        self.take_back(shard, taken, report).await?;
        let mut roots = roots.into_iter();
        while let (Some(root), Some(kind)) = (roots.next(), roots.next()) {
            self.sweep_tree(shard, root.parse()?, kind.text()? == "job").await?;
        }
        Ok(report.requeued + report.ended > before)
    }

    /// Seals the fences of jobs that were taken back, and decides what becomes of them.
    async fn take_back(
        &self,
        shard: u16,
        taken: Vec<Answer>,
        report: &mut ReapReport,
    ) -> Result<(), QueueError> {
        let mut taken = taken.into_iter();
        let mut jobs: Vec<(JobId, u32)> = Vec::new();
        while let (Some(id), Some(attempt)) = (taken.next(), taken.next()) {
            jobs.push((id.parse()?, attempt.parse()?));
        }
        if jobs.is_empty() {
            return Ok(());
        }
        let seals: Vec<Call> = jobs.iter().map(|(id, attempt)| self.own_call(*id).arg(attempt)).collect();
        let sealed = step::call_all(&self.link, &step::SEAL, &seals).await?;
        let mut call = Call::on(self.keys.tag(shard)).arg(self.settings.max_crashes);
        for ((id, attempt), value) in jobs.iter().zip(sealed) {
            let mut parts = Answer::of("seal", value).list()?.into_iter();
            call.push(id.uuid());
            call.push(attempt);
            call.push(next("seal", &mut parts)?.text()?);
            call.push(next("seal", &mut parts)?.text()?);
        }
        let answer = Answer::of("reaped", step::call(&self.link, &step::REAPED, &call).await?);
        for ((id, attempt), word) in jobs.iter().zip(answer.list()?) {
            let word = word.text()?;
            if word == "gone" {
                continue;
            }
            tracing::info!(job = %id, attempt, outcome = %word, "took back a job whose worker was lost");
            match self.finished(*id, &word).await? {
                Finished::Now(State::Queued) => report.requeued += 1,
                Finished::Now(_) => report.ended += 1,
                Finished::Lost => {}
            }
        }
        Ok(())
    }

    /// Drops what a job has outside its shard's tag: output, turns and fence, and before them its key of
    /// the namespace, where it has one.
    async fn forget_own(&self, id: JobId) -> Result<(), QueueError> {
        let step = "forget";
        let failed = |error| QueueError::from_redis(step, error);
        let mut read = redis::cmd("HGET");
        read.arg(self.keys.job(id)).arg("once");
        let once = Answer::of(step, self.link.command(&read).await.map_err(failed)?).text()?;
        if !once.is_empty() {
            let key = self.keys.namespace_idempotency_key(&once);
            let mut read = redis::cmd("GET");
            read.arg(&key);
            let reserved = Answer::of(step, self.link.command(&read).await.map_err(failed)?).text()?;
            if reserved.starts_with(&id.uuid().to_string()) {
                self.link.command(redis::cmd("UNLINK").arg(key)).await.map_err(failed)?;
            }
        }
        let mut drop_own = redis::cmd("UNLINK");
        drop_own.arg(self.keys.output(id)).arg(self.keys.turns(id)).arg(self.keys.fence(id));
        self.link.command(&drop_own).await.map(drop).map_err(failed)
    }

    /// Forgets a page of jobs that were kept long enough.
    async fn retire(&self, shard: u16, report: &mut ReapReport) -> Result<(), QueueError> {
        let failed = |error| QueueError::from_redis(RETENTION, error);
        let kept_since = self.ended_since(self.settings.retention).await?;
        let ids = self.ended(shard, kept_since, 0).await?;
        let forgotten = self.forget(&ids, false).await?;
        let count = forgotten.iter().filter(|verdict| **verdict == Forgotten::Forgotten).count();
        // What must be kept is looked at again later, so that it does not hide what follows it.
        let mut pipeline = redis::pipe();
        for (id, _) in ids.iter().zip(&forgotten).filter(|(_, verdict)| **verdict == Forgotten::Spared) {
            let key = self.keys.index_ended(shard);
            pipeline.cmd("ZADD").arg(key).arg("XX").arg(kept_since + SPARE_MS).arg(id.as_bytes());
        }
        if !pipeline.is_empty() {
            self.link.pipeline(&pipeline).await.map_err(failed)?;
        }
        report.forgotten += u32::try_from(count).unwrap_or(u32::MAX);
        Ok(())
    }

    /// The moment so long ago, by Redis' clock in milliseconds.
    async fn ended_since(&self, age: Duration) -> Result<u64, QueueError> {
        let age = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
        Ok(self.now_ms().await?.saturating_sub(age))
    }

    /// A page of the jobs of a shard that ended until then, the longest ended first.
    async fn ended(&self, shard: u16, until: u64, skip: u64) -> Result<Vec<JobId>, QueueError> {
        let mut command = redis::cmd("ZRANGE");
        command.arg(self.keys.index_ended(shard)).arg("-inf").arg(until);
        command.arg("BYSCORE").arg("LIMIT").arg(skip).arg(PAGE);
        let value = self.link.command(&command).await;
        let value = value.map_err(|error| QueueError::from_redis(RETENTION, error))?;
        let mut ids = Vec::new();
        for raw in Answer::of(RETENTION, value).list()? {
            ids.extend(raw.bytes()?.as_deref().and_then(JobId::from_slice));
        }
        Ok(ids)
    }

    /// Whether `forget` would drop this job; changes nothing.
    async fn may_forget(&self, id: JobId, force: bool) -> Result<Forgotten, QueueError> {
        self.forget_call(id, if force { "ask-forced" } else { "ask" }).await
    }

    async fn forget_record(&self, id: JobId, force: bool) -> Result<Forgotten, QueueError> {
        self.forget_call(id, if force { "forced" } else { "kept" }).await
    }

    async fn forget_call(&self, id: JobId, mode: &str) -> Result<Forgotten, QueueError> {
        let call = Call::on(self.keys.job_tag(id)).key(self.keys.job(id)).arg(mode).arg(id.uuid());
        let word = Answer::of("forget", step::call(&self.link, &step::FORGET, &call).await?).text()?;
        match word.as_str() {
            "forgotten" => Ok(Forgotten::Forgotten),
            "spared" => Ok(Forgotten::Spared),
            "live" => Ok(Forgotten::Live),
            "missing" => Ok(Forgotten::Missing),
            other => Err(unknown_word("forget", other)),
        }
    }
}
