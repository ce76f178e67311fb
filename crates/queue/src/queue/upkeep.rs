//! Reaping, forgetting and clearing, on Redis.

use std::time::Duration;

use async_trait::async_trait;
use legwork_common::id::JobId;
use legwork_common::lifecycle::State;
use redis::Pipeline;
use redis::Value;

use crate::answer::Answer;
use crate::answer::Items;
use crate::error::QueueError;
use crate::port::Cleared;
use crate::port::Finished;
use crate::port::Forgotten;
use crate::port::ReapReport;
use crate::port::Upkeep;
use crate::queue::Queue;
use crate::queue::record;
use crate::queue::stop::Sweep;
use crate::queue::stop::by_shard;
use crate::step;
use crate::step::Call;

/// Jobs of each kind of work that one call of `reap` handles. A due job costs the server about 20 us and a reclaimed one
/// less, so a call with a full page of both stays below 5 ms, for which it holds up every other command.
const REAP_PAGE_SIZE: usize = 100;
/// Jobs of one page of the retention. The page bounds what is in memory and in one pipeline.
const PAGE_SIZE: usize = 200;
/// Jobs of one call of `forget`: about two milliseconds, for which the server is held up.
const FORGET_BATCH_SIZE: usize = 50;
/// Pages of a kind that one round handles in a shard, the next at once after a full one: 20,000 due jobs and 40,000 for
/// the retention. A round must end, so that the other shards and the stop marks get their turn.
const MAX_PAGES: u32 = 200;
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
            let mut pages = 0..MAX_PAGES;
            while self.reap_shard(shard, alone, &mut report).await? && (pages.next().is_some() || alone) {}
            report.has_more |= pages.is_empty();
            let mut pages = 0..MAX_PAGES;
            while self.forget_retired(shard, &mut report).await? && pages.next().is_some() {}
            report.has_more |= pages.is_empty();
        }
        Ok(report)
    }

    async fn forget(&self, ids: &[JobId], force: bool) -> Result<Vec<Forgotten>, QueueError> {
        let mut all = Vec::with_capacity(ids.len());
        for batch in ids.chunks(PAGE_SIZE) {
            all.extend(self.forget_batch(batch, force).await?);
        }
        Ok(all)
    }

    async fn clear(&self, age: Duration) -> Result<Cleared, QueueError> {
        let mut clearing = self.clearing(age).await?;
        while self.clear_page(&mut clearing).await? {}
        Ok(clearing.cleared)
    }
}

/// How far a clearing of ended jobs has come.
#[derive(Debug, Clone)]
pub(crate) struct Clearing {
    /// The latest end of a job that is deleted, by Redis' clock in milliseconds.
    until: u64,
    shard: u16,
    /// Jobs of this shard that stay in the index, so the next page skips them.
    skip: u64,
    /// What was done so far.
    pub(crate) cleared: Cleared,
}

impl Queue {
    /// The beginning of a clearing of all jobs that ended at least `age` ago.
    pub(crate) async fn clearing(&self, age: Duration) -> Result<Clearing, QueueError> {
        Ok(Clearing { until: self.ago_ms(age).await?, shard: 0, skip: 0, cleared: Cleared::default() })
    }

    /// How many jobs are left for a clearing.
    pub(crate) async fn left_to_clear(&self, clearing: &Clearing) -> Result<u64, QueueError> {
        let mut pipeline = redis::pipe();
        for shard in 0..self.keys.shards() {
            pipeline.cmd("ZCOUNT").arg(self.keys.index_ended(shard)).arg("-inf").arg(clearing.until);
        }
        self.link.ask_all(RETENTION, &pipeline).await?.map(Answer::parse::<u64>).sum()
    }

    /// Deletes the next page of a clearing. Returns whether there may be more.
    pub(crate) async fn clear_page(&self, clearing: &mut Clearing) -> Result<bool, QueueError> {
        if clearing.shard >= self.keys.shards() {
            return Ok(false);
        }
        let ids = self.ended(clearing.shard, clearing.until, clearing.skip).await?;
        if ids.is_empty() {
            clearing.shard += 1;
            clearing.skip = 0;
            return Ok(true);
        }
        for verdict in self.forget(&ids, false).await? {
            match verdict {
                Forgotten::Forgotten => clearing.cleared.forgotten += 1,
                Forgotten::Missing => {}
                Forgotten::Spared | Forgotten::Live => {
                    clearing.skip += 1;
                    clearing.cleared.kept += 1;
                }
            }
        }
        Ok(true)
    }

    /// One page of each kind of work in a shard. Returns whether there may be more: a page was full, or, where no worker
    /// lives, any job was taken back.
    async fn reap_shard(&self, shard: u16, alone: bool, report: &mut ReapReport) -> Result<bool, QueueError> {
        let call =
            Call::on(self.keys.tag(shard)).arg(self.lease_ms()).arg(REAP_PAGE_SIZE).arg(u8::from(alone));
        let mut parts = step::REAP.call(&self.link, &call).await?.items()?;
        let taken = parts.item()?.items()?;
        report.orphans += parts.item()?.parse::<u32>()?;
        let mut marks = parts.item()?.items()?;
        let due = parts.item()?.parse::<u32>()?;
        let is_shifting = parts.item()?.parse::<u8>()? == 1;
        report.workers = report.workers.max(parts.item()?.parse()?);
        report.due += due;
        let before = report.requeued + report.ended;
        let taken = self.take_back(shard, taken, report).await?;
        while let (Some(root), Some(kind)) = (marks.next(), marks.next()) {
            let (root, includes_root) = (root.parse()?, kind.text()? == "job");
            self.sweep_tree(Sweep { shard, root, includes_root }).await?;
        }
        let is_full = is_shifting || due as usize == REAP_PAGE_SIZE || taken == REAP_PAGE_SIZE;
        Ok(is_full || (alone && report.requeued + report.ended > before))
    }

    /// Seals the fences of jobs that were taken back, and decides what becomes of them. The order matters: only once
    /// the fence is sealed can a worker that still lives append no more, and its output be counted. Returns how many jobs
    /// there were.
    async fn take_back(
        &self,
        shard: u16,
        mut taken: Items,
        report: &mut ReapReport,
    ) -> Result<usize, QueueError> {
        let mut jobs: Vec<(JobId, u32)> = Vec::new();
        while let (Some(id), Some(attempt)) = (taken.next(), taken.next()) {
            jobs.push((id.parse()?, attempt.parse()?));
        }
        if jobs.is_empty() {
            return Ok(0);
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
        Ok(jobs.len())
    }

    /// Forgets jobs in a few round trips for all of them.
    async fn forget_batch(&self, ids: &[JobId], force: bool) -> Result<Vec<Forgotten>, QueueError> {
        // Asked first, because a job that cannot be forgotten yet must keep its output.
        let mut verdicts = self.forget_calls(ids, if force { "ask-forced" } else { "ask" }).await?;
        let agreed: Vec<JobId> = ids
            .iter()
            .zip(&verdicts)
            .filter(|(_, verdict)| **verdict == Forgotten::Forgotten)
            .map(|(id, _)| *id)
            .collect();
        self.forget_own(&agreed).await?;
        let is_due = |verdict: &Forgotten| matches!(verdict, Forgotten::Forgotten | Forgotten::Missing);
        let positions: Vec<usize> = (0..ids.len()).filter(|at| is_due(&verdicts[*at])).collect();
        let doomed: Vec<JobId> = positions.iter().map(|at| ids[*at]).collect();
        let outcomes = self.forget_calls(&doomed, if force { "forced" } else { "kept" }).await?;
        for (at, outcome) in positions.into_iter().zip(outcomes) {
            verdicts[at] = outcome;
        }
        Ok(verdicts)
    }

    /// Deletes what jobs have outside their shards: output, turns and fence, and before them each one's idempotency key
    /// of the namespace, as long as the key stands for this job.
    async fn forget_own(&self, ids: &[JobId]) -> Result<(), QueueError> {
        if ids.is_empty() {
            return Ok(());
        }
        for (id, hash) in ids.iter().zip(self.key_hashes(ids).await?) {
            if let Some(hash) = hash {
                self.forget_reservation(*id, &hash).await?;
            }
        }
        let mut unlinks = redis::pipe();
        for id in ids {
            let keys = [self.keys.output(*id), self.keys.turns(*id), self.keys.fence(*id)];
            unlinks.cmd("UNLINK").arg(&keys);
        }
        self.forget_pipeline(&unlinks).await.map(drop)
    }

    /// The hashes of the idempotency keys of jobs.
    async fn key_hashes(&self, ids: &[JobId]) -> Result<Vec<Option<String>>, QueueError> {
        let mut reads = redis::pipe();
        for id in ids {
            record::push_facts(&mut reads, self, *id);
        }
        let answers = self.link.ask_all(FORGET, &reads).await?;
        answers.map(|answer| Ok(record::read_facts(answer)?.and_then(|facts| facts.key))).collect()
    }

    async fn forget_reservation(&self, id: JobId, hash: &str) -> Result<(), QueueError> {
        let key = self.keys.namespace_idempotency_key(hash);
        let reservation = self.link.ask(FORGET, redis::cmd("GET").arg(&key)).await?.text()?;
        if reservation.starts_with(&id.uuid().to_string()) {
            self.link.ask(FORGET, redis::cmd("UNLINK").arg(key)).await?;
        }
        Ok(())
    }

    /// Sends commands of a deletion; the first error among the answers counts.
    async fn forget_pipeline(&self, pipeline: &Pipeline) -> Result<Vec<Value>, QueueError> {
        let failed = |error| QueueError::from_redis(FORGET, error);
        let answers = self.link.pipeline(pipeline).await.map_err(failed)?;
        answers.into_iter().map(|answer| answer.extract_error().map_err(failed)).collect()
    }

    /// Forgets a page of jobs whose retention is over. Returns whether there may be more: the page was full, and some of
    /// it left the page.
    async fn forget_retired(&self, shard: u16, report: &mut ReapReport) -> Result<bool, QueueError> {
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
        let left = count > 0 || !pipeline.is_empty();
        if !pipeline.is_empty() {
            // A full server refuses each of these, which must not fail the round: the jobs are only asked for sooner.
            let moved = self.link.pipeline(&pipeline).await;
            moved.map_err(|error| QueueError::from_redis(RETENTION, error))?;
        }
        Ok(ids.len() == PAGE_SIZE && left)
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

    /// Calls `forget` for the jobs of each shard, and again for those whose children did not all fit into one call. The
    /// `ask` modes change nothing.
    async fn forget_calls(&self, ids: &[JobId], mode: &str) -> Result<Vec<Forgotten>, QueueError> {
        let mut verdicts = vec![Forgotten::Missing; ids.len()];
        for (shard, mut positions) in by_shard(ids, self.keys.shards()) {
            while !positions.is_empty() {
                positions = self.forget_some(shard, ids, positions, mode, &mut verdicts).await?;
            }
        }
        Ok(verdicts)
    }

    /// One pipeline of calls of `forget` for jobs of a shard. Returns the positions of those that are to be called again.
    async fn forget_some(
        &self,
        shard: u16,
        ids: &[JobId],
        positions: Vec<usize>,
        mode: &str,
        verdicts: &mut [Forgotten],
    ) -> Result<Vec<usize>, QueueError> {
        let batches: Vec<&[usize]> = positions.chunks(FORGET_BATCH_SIZE).collect();
        let call = |batch: &&[usize]| {
            let mut call = Call::on(self.keys.tag(shard)).arg(mode);
            batch.iter().for_each(|at| call.push(ids[*at].uuid()));
            call
        };
        let calls: Vec<Call> = batches.iter().map(call).collect();
        let mut unfinished = Vec::new();
        for (batch, words) in batches.iter().zip(step::FORGET.call_all(&self.link, &calls).await?) {
            for (at, word) in batch.iter().zip(words.items()?) {
                let word = word.word()?;
                match word.as_str() {
                    "forgotten" => verdicts[*at] = Forgotten::Forgotten,
                    "spared" => verdicts[*at] = Forgotten::Spared,
                    "live" => verdicts[*at] = Forgotten::Live,
                    "missing" => verdicts[*at] = Forgotten::Missing,
                    "more" => unfinished.push(*at),
                    _ => return Err(word.unknown()),
                }
            }
        }
        Ok(unfinished)
    }
}
