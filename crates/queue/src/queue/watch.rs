//! Reading jobs, output and the fleet, on Redis.

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use legwork_common::id::Dispatcher;
use legwork_common::id::JobId;
use legwork_common::id::SessionId;
use legwork_common::id::WorkerId;
use legwork_common::job::Job;
use legwork_common::lifecycle::State;
use legwork_common::service::JobList;
use legwork_common::service::JobView;
use legwork_common::service::OutputSlice;
use legwork_common::service::QueuedReason;
use redis::Pipeline;
use redis::Value;

use crate::answer::Answer;
use crate::answer::next;
use crate::error::QueueError;
use crate::port::JobFilter;
use crate::port::JobPage;
use crate::port::Lane;
use crate::port::Original;
use crate::port::PageCursor;
use crate::port::Watch;
use crate::port::WorkerRecord;
use crate::queue::Queue;
use crate::queue::record;
use crate::queue::record::Record;
use crate::queue::slice::whole_characters;

const STEP: &str = "read jobs";
/// Queued and ended jobs that a tool's list shows.
const SHOWN: usize = 50;
/// Jobs that a tool's list looks at; what is beyond is counted only.
const LIST_WINDOW: usize = 2000;
/// Records that one page of an operator's list reads at most, in pieces.
const PAGE_WINDOW: usize = 2000;
/// Records of one pipelined read.
const PIECE: usize = 200;
/// The newest jobs of each shard that are found by a prefix.
const FIND_WINDOW: usize = 10_000;

#[async_trait]
impl Watch for Queue {
    async fn jobs(&self, ids: &[JobId]) -> Result<Vec<Option<Job>>, QueueError> {
        Ok(self.records(ids).await?.into_iter().map(|record| record.map(|record| record.job)).collect())
    }

    async fn original(&self, id: JobId) -> Result<Option<Original>, QueueError> {
        self.read_original(id).await
    }

    async fn states(&self, ids: &[JobId]) -> Result<Vec<Option<State>>, QueueError> {
        let mut states = Vec::with_capacity(ids.len());
        for piece in ids.chunks(PIECE) {
            let mut pipeline = redis::pipe();
            for id in piece {
                pipeline.cmd("HGET").arg(self.keys.job(*id)).arg("state");
            }
            for answer in self.read(&pipeline).await? {
                states.push(answer.parse_optional()?);
            }
        }
        Ok(states)
    }

    async fn silent(&self, ids: &[JobId]) -> Result<Vec<Option<Duration>>, QueueError> {
        self.read_expired_leases(ids).await
    }

    async fn view(&self, id: JobId, since: Option<u64>, most: usize) -> Result<Option<JobView>, QueueError> {
        let Some(record) = self.records(&[id]).await?.pop().flatten() else { return Ok(None) };
        let total = record.job.output_bytes;
        let offset = since.unwrap_or_else(|| total.saturating_sub(most as u64)).min(total);
        let mut output = if total == 0 {
            OutputSlice::default()
        } else {
            let room = usize::try_from(total - offset).unwrap_or(most).min(most);
            self.output(id, offset, room).await?
        };
        output.total = total;
        let queued = match record.job.status {
            State::Queued => Some(self.queued_reason(&record).await?),
            _ => None,
        };
        let starts_at = match record.job.status {
            State::Scheduled => self.starts_at(id).await?,
            _ => None,
        };
        let waits_for = match record.job.status {
            State::Running | State::Waiting => self.waits_for(id).await?,
            _ => None,
        };
        let truncated = total >= self.settings().output_cap;
        Ok(Some(JobView { job: record.job, output, truncated, queued, starts_at, waits_for, since }))
    }

    async fn output(&self, id: JobId, offset: u64, most: usize) -> Result<OutputSlice, QueueError> {
        // A few bytes more on both sides, to see whole characters at the edges.
        let from = offset.saturating_sub(3);
        let to = offset + most as u64 + 3;
        let mut pipeline = redis::pipe();
        pipeline.cmd("GETRANGE").arg(self.keys.output(id)).arg(from).arg(to.saturating_sub(1));
        pipeline.cmd("STRLEN").arg(self.keys.output(id));
        let mut answers = self.read(&pipeline).await?.into_iter();
        let bytes = next(STEP, &mut answers)?.bytes()?.unwrap_or_default();
        let total = next(STEP, &mut answers)?.parse()?;
        Ok(whole_characters(&bytes, from, offset, most, total))
    }

    async fn is_below(&self, id: JobId, session: SessionId, of: Dispatcher) -> Result<bool, QueueError> {
        let Some(record) = self.records(&[id]).await?.pop().flatten() else { return Ok(false) };
        Ok(record.job.session == session
            && match of {
                Dispatcher::Root(_) => true,
                Dispatcher::Job(above) => record.ancestors.contains(&above),
            })
    }

    async fn children(&self, session: SessionId, of: Dispatcher) -> Result<JobList, QueueError> {
        let mut walk = vec![of];
        let mut jobs: Vec<Job> = Vec::new();
        let mut unseen = 0;
        while let Some(dispatcher) = walk.pop() {
            let key = self.keys.children(session, dispatcher);
            let room = LIST_WINDOW.saturating_sub(jobs.len());
            let mut pipeline = redis::pipe();
            pipeline.cmd("ZRANGE").arg(&key).arg(0).arg(room.saturating_sub(1)).arg("REV");
            pipeline.cmd("ZCARD").arg(&key);
            let mut answers = self.read(&pipeline).await?.into_iter();
            let newest = next(STEP, &mut answers)?.list()?;
            let count: usize = next(STEP, &mut answers)?.parse()?;
            let ids = if room == 0 { Vec::new() } else { parse_all(newest)? };
            // Jobs may be forgotten between the two reads.
            unseen += count.saturating_sub(ids.len());
            for record in self.records(&ids).await?.into_iter().flatten() {
                // Whatever ran may have dispatched jobs of its own.
                if record.job.attempt > 0 {
                    walk.push(Dispatcher::Job(record.job.id));
                }
                jobs.push(record.job);
            }
        }
        Ok(shorten(jobs, unseen as u64))
    }

    async fn live_children(&self, _session: SessionId, of: Dispatcher) -> Result<u64, QueueError> {
        let key = match of {
            Dispatcher::Root(session) => self.keys.session(session),
            Dispatcher::Job(id) => self.keys.job(id),
        };
        let mut pipeline = redis::pipe();
        pipeline.cmd("HGET").arg(key).arg("live");
        let live: Option<u64> = self.read_one(&pipeline).await?.parse_optional()?;
        Ok(live.unwrap_or(0))
    }

    async fn list(
        &self,
        filter: &JobFilter,
        limit: usize,
        after: Option<PageCursor>,
    ) -> Result<JobPage, QueueError> {
        let oldest = self.oldest(filter).await?;
        let mut page = JobPage { jobs: Vec::new(), next: after };
        let mut seen = 0;
        while page.jobs.len() < limit && seen < PAGE_WINDOW {
            let (places, last_piece) = self.index_page(filter, oldest, page.next).await?;
            seen += places.len();
            let ids: Vec<JobId> = places.iter().map(|place| place.id).collect();
            for (place, record) in places.into_iter().zip(self.records(&ids).await?) {
                if page.jobs.len() == limit {
                    return Ok(page);
                }
                // Also past one that was forgotten meanwhile: a page of nothing else must not repeat itself.
                page.next = Some(place);
                let Some(record) = record else { continue };
                if matches(filter, &record.job) {
                    page.jobs.push(record.job);
                }
            }
            if last_piece {
                page.next = None;
                return Ok(page);
            }
        }
        Ok(page)
    }

    async fn find(&self, prefix: &str, most: usize) -> Result<Vec<JobId>, QueueError> {
        let prefix = prefix.to_ascii_lowercase();
        let mut found = Vec::new();
        for shard in 0..self.keys.shards() {
            let mut pipeline = redis::pipe();
            pipeline.cmd("ZRANGE").arg(self.keys.index_all(shard)).arg(0).arg(FIND_WINDOW - 1).arg("REV");
            for raw in self.read_one(&pipeline).await?.list()? {
                let id = raw.bytes()?.as_deref().and_then(JobId::from_slice);
                found.extend(id.filter(|id| id.uuid().to_string().starts_with(&prefix)));
            }
        }
        found.truncate(most);
        Ok(found)
    }

    async fn is_idle(&self, lanes: &[Lane]) -> Result<bool, QueueError> {
        for lane in lanes {
            let waiting = match lane {
                Lane::Session(session) => self.live_children(*session, Dispatcher::Root(*session)).await?,
                Lane::Queue(queue) => self.waiting(queue).await?,
            };
            if waiting > 0 {
                return Ok(false);
            }
        }
        Ok(true)
    }

    async fn unfinished(&self) -> Result<u64, QueueError> {
        let mut pipeline = redis::pipe();
        for shard in 0..self.keys.shards() {
            pipeline.cmd("ZCARD").arg(self.keys.index_all(shard));
            pipeline.cmd("ZCARD").arg(self.keys.index_ended(shard));
        }
        let counts: Vec<u64> =
            self.read(&pipeline).await?.into_iter().map(Answer::parse).collect::<Result<_, _>>()?;
        Ok(counts.chunks_exact(2).map(|pair| pair[0].saturating_sub(pair[1])).sum())
    }

    async fn workers(&self) -> Result<Vec<WorkerRecord>, QueueError> {
        // Every worker says in every shard that it lives; the first shard is enough to read.
        let mut pipeline = redis::pipe();
        pipeline.cmd("ZRANGE").arg(self.keys.workers(0)).arg(0).arg(-1);
        let names = self.read_one(&pipeline).await?.list()?;
        let mut workers = Vec::new();
        for name in names {
            let id = WorkerId::from_stored(name.text()?);
            let mut pipeline = redis::pipe();
            pipeline.cmd("HGETALL").arg(self.keys.worker(0, id.as_str()));
            workers.extend(read_worker(id, self.read_one(&pipeline).await?)?);
        }
        Ok(workers)
    }
}

impl Queue {
    pub(super) async fn read(&self, pipeline: &Pipeline) -> Result<Vec<Answer>, QueueError> {
        let failed = |error| QueueError::from_redis(STEP, error);
        let answers = self.link.pipeline(pipeline).await.map_err(failed)?;
        answers
            .into_iter()
            .map(|value| value.extract_error().map(|value| Answer::of(STEP, value)).map_err(failed))
            .collect()
    }

    async fn read_one(&self, pipeline: &Pipeline) -> Result<Answer, QueueError> {
        Ok(self.read(pipeline).await?.pop().unwrap_or(Answer::of(STEP, Value::Nil)))
    }

    /// How many jobs are admitted to a queue's shared lane, or scheduled at all.
    async fn waiting(&self, queue: &str) -> Result<u64, QueueError> {
        let mut pipeline = redis::pipe();
        for shard in 0..self.keys.shards() {
            for priority in 0..3 {
                pipeline.cmd("XLEN").arg(self.keys.ready(shard, queue, priority));
            }
            pipeline.cmd("ZCARD").arg(self.keys.scheduled(shard));
        }
        self.read(&pipeline).await?.into_iter().map(Answer::parse::<u64>).sum()
    }

    /// Redis' clock in milliseconds.
    pub(super) async fn now_ms(&self) -> Result<u64, QueueError> {
        let mut pipeline = redis::pipe();
        pipeline.cmd("TIME");
        let mut parts = self.read_one(&pipeline).await?.list()?.into_iter();
        let seconds: u64 = next("TIME", &mut parts)?.parse()?;
        let micros: u64 = next("TIME", &mut parts)?.parse()?;
        Ok(seconds * 1000 + micros / 1000)
    }

    pub(super) async fn records(&self, ids: &[JobId]) -> Result<Vec<Option<Record>>, QueueError> {
        let mut records = Vec::with_capacity(ids.len());
        if ids.is_empty() {
            return Ok(records);
        }
        let now_ms = self.now_ms().await?;
        for piece in ids.chunks(PIECE) {
            let mut pipeline = redis::pipe();
            for id in piece {
                record::push_reads(&mut pipeline, self, *id);
            }
            let mut answers = self.read(&pipeline).await?.into_iter();
            for id in piece {
                let own = answers.by_ref().take(record::READS).collect();
                records.push(record::read(*id, own, now_ms)?);
            }
        }
        Ok(records)
    }

    async fn queued_reason(&self, record: &Record) -> Result<QueuedReason, QueueError> {
        let job = &record.job;
        let backlog = self.keys.backlog(job.session, &job.queue);
        let mut pipeline = redis::pipe();
        pipeline.cmd("ZRANK").arg(backlog).arg(job.id.uuid().to_string());
        pipeline.cmd("HGET").arg(self.keys.session(job.session)).arg("cap");
        let mut answers = self.read(&pipeline).await?.into_iter();
        let rank: Option<u64> = next(STEP, &mut answers)?.parse_optional()?;
        let cap: Option<u64> = next(STEP, &mut answers)?.parse_optional()?;
        // A session has a backlog only while as many as its cap are admitted.
        if let Some(rank) = rank {
            return Ok(QueuedReason::Behind(rank + cap.unwrap_or(0)));
        }
        let served = self.workers().await?.iter().any(|worker| worker.lanes.contains(&record.lane));
        Ok(if served || !record.admitted { QueuedReason::Next } else { QueuedReason::NoWorker })
    }

    /// What a running job's attempt waits for, in words.
    async fn waits_for(&self, id: JobId) -> Result<Option<String>, QueueError> {
        let mut pipeline = redis::pipe();
        pipeline.cmd("HGET").arg(self.keys.fence(id)).arg("waits");
        Ok(Some(self.read_one(&pipeline).await?.text()?).filter(|words| !words.is_empty()))
    }

    async fn starts_at(&self, id: JobId) -> Result<Option<Timestamp>, QueueError> {
        let mut pipeline = redis::pipe();
        let key = self.keys.scheduled(id.shard(self.keys.shards()));
        pipeline.cmd("ZSCORE").arg(key).arg(id.uuid().to_string());
        let due: Option<f64> = self.read_one(&pipeline).await?.parse_optional()?;
        // A score of milliseconds is whole and far below what a double holds exactly.
        Ok(due.and_then(|due| Timestamp::from_millisecond(due as i64).ok()))
    }

    /// The creation time in milliseconds below which a filter wants nothing.
    async fn oldest(&self, filter: &JobFilter) -> Result<u64, QueueError> {
        match filter.since {
            None => Ok(0),
            Some(since) => {
                let since = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
                Ok(self.now_ms().await?.saturating_sub(since))
            }
        }
    }

    /// The next piece of jobs, newest first over all shards, strictly after the cursor; and whether nothing follows.
    async fn index_page(
        &self,
        filter: &JobFilter,
        oldest: u64,
        after: Option<PageCursor>,
    ) -> Result<(Vec<PageCursor>, bool), QueueError> {
        let shards = match filter.session {
            Some(session) => {
                let shard = session.shard(self.keys.shards());
                shard..shard + 1
            }
            None => 0..self.keys.shards(),
        };
        let unlucky = !filter.states.is_empty()
            && filter.states.iter().all(|state| matches!(state, State::Failed | State::Stopped));
        let newest = after.map_or("+inf".to_owned(), |after| after.created.as_millisecond().to_string());
        let mut found: Vec<(i64, JobId)> = Vec::new();
        let mut all_last = true;
        for shard in shards {
            let key = if unlucky { self.keys.index_unsuccessful(shard) } else { self.keys.index_all(shard) };
            let (piece, last) = self.index_piece(&key, &newest, oldest, after).await?;
            found.extend(piece);
            all_last &= last;
        }
        found.sort_unstable_by(|a, b| b.cmp(a));
        let last = all_last && found.len() <= PIECE;
        found.truncate(PIECE);
        let place = |(created, id)| {
            let created = Timestamp::from_millisecond(created).unwrap_or(Timestamp::UNIX_EPOCH);
            PageCursor { created, id }
        };
        Ok((found.into_iter().map(place).collect(), last))
    }

    /// One shard's part of a page, and whether nothing follows. Jobs of the cursor's own millisecond that were
    /// shown are passed over, so the part may be short of a whole piece although more follow.
    async fn index_piece(
        &self,
        key: &str,
        newest: &str,
        oldest: u64,
        after: Option<PageCursor>,
    ) -> Result<(Vec<(i64, JobId)>, bool), QueueError> {
        let mut offset = 0;
        loop {
            let mut pipeline = redis::pipe();
            pipeline.cmd("ZRANGE").arg(key).arg(newest).arg(oldest).arg("BYSCORE").arg("REV");
            pipeline.arg("LIMIT").arg(offset).arg(PIECE).arg("WITHSCORES");
            let piece = read_scores(self.read_one(&pipeline).await?)?;
            let full = piece.len() == PIECE;
            offset += piece.len();
            let fresh: Vec<_> = piece
                .into_iter()
                .filter(|found| after.is_none_or(|after| *found < (after.created.as_millisecond(), after.id)))
                .collect();
            if !fresh.is_empty() || !full {
                return Ok((fresh, !full));
            }
        }
    }
}

/// Reads members and scores, in pairs (RESP3) or flat (RESP2).
fn read_scores(answer: Answer) -> Result<Vec<(i64, JobId)>, QueueError> {
    let mut found = Vec::new();
    for pair in answer.list()? {
        let mut parts = pair.list()?.into_iter();
        let id = next(STEP, &mut parts)?.bytes()?.as_deref().and_then(JobId::from_slice);
        let score: f64 = next(STEP, &mut parts)?.parse()?;
        found.extend(id.map(|id| (score as i64, id)));
    }
    Ok(found)
}

fn parse_all(items: Vec<Answer>) -> Result<Vec<JobId>, QueueError> {
    items.into_iter().map(Answer::parse).collect()
}

fn read_worker(id: WorkerId, answer: Answer) -> Result<Option<WorkerRecord>, QueueError> {
    let mut record = WorkerRecord {
        id,
        host: String::new(),
        lanes: Vec::new(),
        slots: 0,
        used: 0,
        jobs: 0,
        seen: Timestamp::UNIX_EPOCH,
        draining: false,
    };
    let mut alive = false;
    for (field, value) in answer.pairs()? {
        match field.as_str() {
            "host" => record.host = value.text()?,
            "lanes" => record.lanes = value.text()?.split_whitespace().map(str::to_owned).collect(),
            "slots" => record.slots = value.parse()?,
            "used" => record.used = value.parse()?,
            "jobs" => record.jobs = value.parse()?,
            "draining" => record.draining = value.text()? == "1",
            "seen" => {
                alive = true;
                record.seen = Timestamp::from_millisecond(value.parse()?).unwrap_or(Timestamp::UNIX_EPOCH);
            }
            // What claim remembers is no part of the record that people see.
            _ => {}
        }
    }
    Ok(alive.then_some(record))
}

fn matches(filter: &JobFilter, job: &Job) -> bool {
    (filter.states.is_empty() || filter.states.contains(&job.status))
        && filter.agent.as_ref().is_none_or(|agent| *agent == job.agent)
        && filter.session.is_none_or(|session| session == job.session)
        && filter.queue.as_ref().is_none_or(|queue| *queue == job.queue)
        && filter.worker.as_ref().is_none_or(|worker| Some(worker) == job.worker.as_ref())
}

/// Keeps all that run, the next 50 that wait and the newest 50 that ended, oldest first.
fn shorten(mut jobs: Vec<Job>, unseen: u64) -> JobList {
    jobs.sort_by_key(|job| (job.created_at, job.id));
    let ended = jobs.iter().filter(|job| job.status.is_terminal()).count();
    let (mut skip_ended, mut queued) = (ended.saturating_sub(SHOWN), 0);
    let mut list = JobList { jobs: Vec::new(), more_queued: 0, more_ended: unseen };
    for job in jobs {
        let waits = matches!(job.status, State::Queued | State::Scheduled);
        if waits && queued >= SHOWN {
            list.more_queued += 1;
        } else if job.status.is_terminal() && skip_ended > 0 {
            skip_ended -= 1;
            list.more_ended += 1;
        } else {
            queued += usize::from(waits);
            list.jobs.push(job);
        }
    }
    list
}
