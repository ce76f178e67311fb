//! Reaping, on Redis.

use async_trait::async_trait;
use legwork_common::id::JobId;
use legwork_common::lifecycle::State;

use crate::answer::Answer;
use crate::answer::next;
use crate::answer::unknown_word;
use crate::error::QueueError;
use crate::port::Finished;
use crate::port::Forgotten;
use crate::port::ReapReport;
use crate::port::Upkeep;
use crate::queue::Queue;
use crate::step;
use crate::step::Call;

/// Jobs of one round of each kind of work in one shard.
const PAGE: usize = 200;

#[async_trait]
impl Upkeep for Queue {
    async fn reap(&self, alone: bool) -> Result<ReapReport, QueueError> {
        let mut report = ReapReport::default();
        for shard in 0..self.keys.shards() {
            self.reap_shard(shard, alone, &mut report).await?;
            self.retire(shard, &mut report).await?;
        }
        Ok(report)
    }

    async fn forget(&self, ids: &[JobId], force: bool) -> Result<Vec<Forgotten>, QueueError> {
        let mut all = Vec::with_capacity(ids.len());
        for piece in ids.chunks(PAGE) {
            // What cannot be forgotten yet must keep its output.
            let mut verdicts = self.forget_all(piece, if force { "ask-forced" } else { "ask" }).await?;
            let may = |verdict: &Forgotten| matches!(verdict, Forgotten::Forgotten | Forgotten::Missing);
            let gone: Vec<JobId> =
                piece.iter().zip(&verdicts).filter(|(_, verdict)| may(verdict)).map(|(id, _)| *id).collect();
            self.drop_own_keys(&gone).await?;
            let mut dropped =
                self.forget_all(&gone, if force { "forced" } else { "kept" }).await?.into_iter();
            for verdict in verdicts.iter_mut().filter(|verdict| may(verdict)) {
                *verdict = dropped.next().unwrap_or(Forgotten::Missing);
            }
            all.extend(verdicts);
        }
        Ok(all)
    }
}

impl Queue {
    async fn reap_shard(&self, shard: u16, alone: bool, report: &mut ReapReport) -> Result<(), QueueError> {
        let call = Call::on(self.keys.tag(shard)).arg(self.lease_ms()).arg(PAGE).arg(u8::from(alone));
        let answer = Answer::of("reap", step::call(&self.link, &step::REAP, &call).await?);
        let mut parts = answer.list()?.into_iter();
        let taken = next("reap", &mut parts)?.list()?;
        let orphans = next("reap", &mut parts)?.list()?;
        let roots = next("reap", &mut parts)?.list()?;
        report.due += next("reap", &mut parts)?.parse::<u32>()?;
        report.orphans += u32::try_from(orphans.len()).unwrap_or(u32::MAX);
        self.take_back(shard, taken, report).await?;
        let mut roots = roots.into_iter();
        while let (Some(root), Some(kind)) = (roots.next(), roots.next()) {
            self.sweep_tree(shard, root.parse()?, kind.text()? == "job").await?;
        }
        Ok(())
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

    /// Forgets a page of jobs that were kept long enough.
    async fn retire(&self, shard: u16, report: &mut ReapReport) -> Result<(), QueueError> {
        let step = "retention";
        let failed = |error| QueueError::from_redis(step, error);
        let time = self.link.command(&redis::cmd("TIME")).await.map_err(failed)?;
        let mut parts = Answer::of(step, time).list()?.into_iter();
        let now = next(step, &mut parts)?.parse::<u64>()? * 1000;
        let retention = u64::try_from(self.settings.retention.as_millis()).unwrap_or(u64::MAX);
        let mut command = redis::cmd("ZRANGE");
        command.arg(self.keys.index_ended(shard)).arg("-inf").arg(now.saturating_sub(retention));
        command.arg("BYSCORE").arg("LIMIT").arg(0).arg(PAGE);
        let value = self.link.command(&command).await.map_err(failed)?;
        let mut ids = Vec::new();
        for raw in Answer::of(step, value).list()? {
            ids.extend(raw.bytes()?.as_deref().and_then(JobId::from_slice));
        }
        let forgotten = self.forget(&ids, false).await?;
        let count = forgotten.iter().filter(|verdict| **verdict == Forgotten::Forgotten).count();
        report.forgotten += u32::try_from(count).unwrap_or(u32::MAX);
        Ok(())
    }

    /// Drops output, turns and fences, and before them the keys that hold in the whole namespace: a repeat
    /// of a forgotten request is a new one.
    async fn drop_own_keys(&self, ids: &[JobId]) -> Result<(), QueueError> {
        if ids.is_empty() {
            return Ok(());
        }
        let failed = |error| QueueError::from_redis("forget", error);
        let mut reads = redis::pipe();
        for id in ids {
            reads.cmd("HGET").arg(self.keys.job(*id)).arg("once");
        }
        let onces = self.link.pipeline(&reads).await.map_err(failed)?;
        let mut drops = redis::pipe();
        for (id, once) in ids.iter().zip(onces) {
            let once = Answer::of("forget", once).text()?;
            if !once.is_empty() {
                drops.cmd("UNLINK").arg(self.keys.namespace_once(&once));
            }
            drops.cmd("UNLINK").arg(self.keys.output(*id));
            drops.cmd("UNLINK").arg(self.keys.turns(*id));
            drops.cmd("UNLINK").arg(self.keys.fence(*id));
        }
        self.link.pipeline(&drops).await.map(drop).map_err(failed)
    }

    /// The step for several jobs in one round trip.
    async fn forget_all(&self, ids: &[JobId], mode: &str) -> Result<Vec<Forgotten>, QueueError> {
        let call =
            |id: &JobId| Call::on(self.keys.job_tag(*id)).key(self.keys.job(*id)).arg(mode).arg(id.uuid());
        let calls: Vec<Call> = ids.iter().map(call).collect();
        let answers = step::call_all(&self.link, &step::FORGET, &calls).await?;
        answers.into_iter().map(|value| read_forgotten(&Answer::of("forget", value).text()?)).collect()
    }
}

fn read_forgotten(word: &str) -> Result<Forgotten, QueueError> {
    match word {
        "forgotten" => Ok(Forgotten::Forgotten),
        "spared" => Ok(Forgotten::Spared),
        "live" => Ok(Forgotten::Live),
        "missing" => Ok(Forgotten::Missing),
        other => Err(unknown_word("forget", other)),
    }
}
