//! What jobs that have not ended wait for, on Redis, and what those that run have used so far.
//!
//! Reasons are read for a batch of jobs at once: one round trip in each job's shard, for each 200 jobs, and one more for the
//! fleet where a job is queued.

use std::collections::BTreeMap;
use std::collections::HashMap;

use jiff::Timestamp;
use legwork_common::id::JobId;
use legwork_common::job::AttemptEnd;
use legwork_common::job::Job;
use legwork_common::job::Priority;
use legwork_common::job::Usage;
use legwork_common::lifecycle::State;
use legwork_common::question::AskedQuestion;
use legwork_common::waits_for::Postponed;
use legwork_common::waits_for::WaitsFor;
use redis::Pipeline;

use crate::answer::Items;
use crate::error::QueueError;
use crate::port::Watch as _;
use crate::port::WorkerRecord;
use crate::queue::Queue;
use crate::queue::questions::Numbers;
use crate::queue::questions::read_numbers;
use crate::queue::record::ASKED;
use crate::queue::record::Depth;
use crate::queue::record::Record;
use crate::queue::watch::BATCH_SIZE;

/// Admitted jobs that a reason names: enough to see what fills a cap, few enough for a line.
const NAMED_JOBS: usize = 5;
/// Questions that a reason has: those of one reply's calls, of which a model makes a few.
const SHOWN_QUESTIONS: usize = 20;

/// What decides whether a queued job is taken.
#[derive(Debug, Default)]
struct Fleet {
    workers: Vec<WorkerRecord>,
    paused: BTreeMap<String, Timestamp>,
}

impl Queue {
    /// Adds to jobs that have not ended what they wait for, and to those that run what they have used so far.
    pub(super) async fn add_waits(&self, records: &mut [Option<Record>]) -> Result<(), QueueError> {
        let is_queued = |record: &Record| record.job.status == State::Queued;
        let mut fleet = Fleet::default();
        if records.iter().flatten().any(is_queued) {
            fleet = Fleet { workers: self.workers().await?, paused: self.paused_queues().await? };
        }
        // Without a heartbeat for a lease a worker takes nothing, although its record is kept.
        fleet.workers.retain(|worker| worker.age < self.settings.lease);
        for batch in records.chunks_mut(BATCH_SIZE) {
            self.add_waits_to_batch(batch, &fleet).await?;
        }
        Ok(())
    }

    async fn add_waits_to_batch(
        &self,
        records: &mut [Option<Record>],
        fleet: &Fleet,
    ) -> Result<(), QueueError> {
        let mut pipeline = redis::pipe();
        for record in records.iter().flatten() {
            self.push_wait(&mut pipeline, record);
        }
        let mut answers = self.link.ask_all(ASKED, &pipeline).await?;
        let mut asking = Vec::new();
        for record in records.iter_mut().flatten() {
            if let Some(numbers) = read_wait(record, &mut answers, fleet)? {
                asking.push((record.job.id, numbers));
            }
        }
        let mut questions: HashMap<JobId, Vec<AskedQuestion>> =
            asking.iter().map(|(id, _)| *id).zip(self.open_among(&asking).await?).collect();
        for record in records.iter_mut().flatten() {
            // A parked job waits for a person, or else for the jobs that it dispatched: a person has to act.
            if let Some(mut questions) = questions.remove(&record.job.id).filter(|open| !open.is_empty()) {
                questions.truncate(SHOWN_QUESTIONS);
                record.job.waits_for = Some(WaitsFor::Answer { questions });
            }
        }
        Ok(())
    }

    /// Adds the same to jobs that were read before. A job that has changed its state since stays as it was read.
    pub(super) async fn add_waits_to_jobs(&self, jobs: &mut [Job]) -> Result<(), QueueError> {
        let live: Vec<JobId> =
            jobs.iter().filter(|job| !job.status.is_terminal()).map(|job| job.id).collect();
        let mut records = self.read_records(&live, Depth::Whole).await?;
        self.add_waits(&mut records).await?;
        let mut records = records.into_iter();
        for job in jobs.iter_mut().filter(|job| !job.status.is_terminal()) {
            let Some(record) = records.next().flatten() else { continue };
            if record.job.status == job.status {
                *job = record.job;
            }
        }
        Ok(())
    }

    /// Adds the reads for one job in its state; none for a job that has ended.
    fn push_wait(&self, pipeline: &mut Pipeline, record: &Record) {
        let job = &record.job;
        let (uuid, shard) = (job.id.uuid().to_string(), job.id.shard(self.keys.shards()));
        match job.status {
            State::Queued => {
                let admitted = self.keys.admitted(job.session, &job.queue);
                pipeline.cmd("ZRANK").arg(self.keys.backlog(job.session, &job.queue)).arg(uuid);
                pipeline.cmd("HMGET").arg(self.keys.session(job.session)).arg(&["cap", "lane"]);
                pipeline.cmd("ZCARD").arg(&admitted);
                pipeline.cmd("ZRANGE").arg(&admitted).arg(0).arg(NAMED_JOBS - 1);
                for priority in Priority::ALL {
                    pipeline.cmd("XLEN").arg(self.keys.ready(shard, &record.lane, priority));
                }
            }
            State::Scheduled => {
                pipeline.cmd("ZSCORE").arg(self.keys.scheduled(shard)).arg(uuid);
            }
            State::Running | State::Waiting | State::Stopping | State::Reaping => {
                pipeline.cmd("HMGET").arg(self.keys.fence(job.id)).arg(&["waits_for", "usage"]);
                if job.status == State::Waiting {
                    self.push_numbers(pipeline, job.id);
                }
            }
            State::Completed | State::Failed | State::Stopped => {}
        }
    }
}

/// Reads the answers to [`Queue::push_wait`] for one job. Returns the numbers of the questions among which the open ones of a
/// parked job are.
fn read_wait(record: &mut Record, answers: &mut Items, fleet: &Fleet) -> Result<Option<Numbers>, QueueError> {
    let mut numbers = None;
    record.job.waits_for = match record.job.status {
        State::Queued => Some(read_queued(record, answers, fleet)?),
        State::Scheduled => Some(read_scheduled(record, answers)?),
        State::Running | State::Waiting | State::Stopping | State::Reaping => {
            let mut fields = answers.item()?.items()?;
            let reason = WaitsFor::from_stored(&fields.item()?.text()?);
            if let Some(usage) = Usage::from_stored(&fields.item()?.text()?) {
                record.job.usage = usage;
            }
            match record.job.status {
                State::Waiting => {
                    numbers = Some(read_numbers(answers.item()?)?);
                    Some(WaitsFor::Children { live: record.live })
                }
                State::Running => reason,
                _ => None,
            }
        }
        State::Completed | State::Failed | State::Stopped => None,
    };
    Ok(numbers)
}

/// Why a queued job has not started.
fn read_queued(record: &Record, answers: &mut Items, fleet: &Fleet) -> Result<WaitsFor, QueueError> {
    let queue = record.job.queue.clone();
    let rank: Option<u64> = answers.item()?.parse_optional()?;
    let mut session = answers.item()?.items()?;
    let cap: u64 = session.item()?.parse_optional()?.unwrap_or(0);
    let session_lane = !session.item()?.text()?.is_empty();
    let admitted: u64 = answers.item()?.parse()?;
    let mut held_by = Vec::new();
    for id in answers.item()?.items()? {
        held_by.push(id.parse()?);
    }
    let mut queued = 0;
    for priority in Priority::ALL {
        let length: u64 = answers.item()?.parse()?;
        if priority <= record.job.priority {
            queued += length;
        }
    }
    // Whatever else it waits for, it does not start before this ends.
    if let Some(since) = fleet.paused.get(&queue) {
        return Ok(WaitsFor::Paused { queue, since: Some(*since) });
    }
    // A session has a backlog only while as many jobs as its cap are admitted.
    if let Some(rank) = rank {
        return Ok(WaitsFor::SessionCap { queue, cap, admitted, ahead: rank + admitted, held_by });
    }
    let serving = || fleet.workers.iter().filter(|worker| worker.lanes.contains(&record.lane));
    let draining = serving().filter(|worker| worker.draining).count() as u64;
    let taking = || serving().filter(|worker| !worker.draining);
    if taking().next().is_none() && record.admitted {
        return Ok(WaitsFor::NoWorker { queue, draining, session_lane });
    }
    if let Some(crashes) = record.job.quarantine {
        return Ok(WaitsFor::Quarantine { queue, crashes });
    }
    Ok(WaitsFor::Turn {
        queue,
        workers: taking().count() as u64,
        slots: taking().map(|worker| u64::from(worker.slots)).sum(),
        used: taking().map(|worker| u64::from(worker.used)).sum(),
        queued,
    })
}

/// When a scheduled job is due, and why so late.
fn read_scheduled(record: &Record, answers: &mut Items) -> Result<WaitsFor, QueueError> {
    // A score of milliseconds is whole and far below what a double holds exactly.
    let due: Option<f64> = answers.item()?.parse_optional()?;
    let at = due.and_then(|due| Timestamp::from_millisecond(due as i64).ok());
    let last = record.job.past_attempts.last();
    let why = match last.map(|past| past.end) {
        Some(AttemptEnd::GivenBack) => Postponed::GivenBack,
        Some(_) => Postponed::Retry,
        // Scheduled by an earlier release, which kept no attempts.
        None if record.failures > 0 => Postponed::Retry,
        None if record.lacks > 0 => Postponed::GivenBack,
        None => Postponed::Delay,
    };
    let detail = last.and_then(|past| past.detail.clone());
    Ok(WaitsFor::Schedule { at, why, detail })
}
