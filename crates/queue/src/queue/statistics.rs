//! Short facts of many jobs, for counting them, on Redis: all that live, and the last that ended.

use std::time::Duration;

use jiff::Timestamp;
use legwork_common::id::JobId;
use legwork_common::id::SessionId;
use legwork_common::job::Cause;
use legwork_common::job::TeamDigest;
use legwork_common::job::Usage;
use legwork_common::lifecycle::State;

use crate::answer::Answer;
use crate::error::QueueError;
use crate::keys::JobIndex;
use crate::queue::Queue;

/// What these reads are called in messages.
const ASKED: &str = "count jobs";
/// Jobs of one pipelined read: it holds the server up for some milliseconds.
const BATCH_SIZE: usize = 2000;
/// The fields of a record that are read, in this order.
const FIELDS: [&str; 12] = [
    "state",
    "queue",
    "agent",
    "created",
    "finished",
    "cause",
    "session",
    "team",
    "input_tokens",
    "cached_tokens",
    "output_tokens",
    "turns",
];

/// What counting needs of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct JobFacts {
    pub(crate) state: State,
    pub(crate) queue: String,
    pub(crate) agent: String,
    pub(crate) created: Timestamp,
    /// `None` for one that has not ended.
    pub(crate) finished: Option<Timestamp>,
    pub(crate) cause: Option<Cause>,
    /// `None` where it cannot be read.
    pub(crate) session: Option<SessionId>,
    pub(crate) team: TeamDigest,
    pub(crate) usage: Usage,
}

/// Jobs that were read, and how many there are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Sample {
    pub(crate) jobs: Vec<JobFacts>,
    pub(crate) total: u64,
}

impl Queue {
    /// The jobs that have not ended, the oldest first in each shard; at most `most`.
    pub(crate) async fn live_facts(&self, most: usize) -> Result<Sample, QueueError> {
        let mut counts = redis::pipe();
        let mut ids = redis::pipe();
        for shard in 0..self.keys.shards() {
            let index = self.keys.index(shard, JobIndex::Live);
            counts.cmd("ZCARD").arg(&index);
            ids.cmd("ZRANGE").arg(&index).arg(0).arg(most.saturating_sub(1));
        }
        self.sample(&counts, &ids, most).await
    }

    /// The jobs that ended within this time, the last first in each shard; at most `most`. Some more may be counted than
    /// ended then: a job that is retried counts as ended again.
    pub(crate) async fn ended_facts(&self, within: Duration, most: usize) -> Result<Sample, QueueError> {
        let within = u64::try_from(within.as_millis()).unwrap_or(u64::MAX);
        let since = self.now_ms().await?.saturating_sub(within);
        let mut counts = redis::pipe();
        let mut ids = redis::pipe();
        for shard in 0..self.keys.shards() {
            let index = self.keys.index_ended(shard);
            counts.cmd("ZCOUNT").arg(&index).arg(since).arg("+inf");
            ids.cmd("ZRANGE").arg(&index).arg("+inf").arg(since).arg(&["BYSCORE", "REV", "LIMIT"]);
            ids.arg(0).arg(most);
        }
        self.sample(&counts, &ids, most).await
    }

    /// Redis' clock.
    pub(crate) async fn now(&self) -> Result<Timestamp, QueueError> {
        let ms = i64::try_from(self.now_ms().await?).unwrap_or(i64::MAX);
        Ok(Timestamp::from_millisecond(ms).unwrap_or(Timestamp::MAX))
    }

    async fn sample(
        &self,
        counts: &redis::Pipeline,
        ids: &redis::Pipeline,
        most: usize,
    ) -> Result<Sample, QueueError> {
        let counted: Result<Vec<u64>, QueueError> =
            self.link.ask_all(ASKED, counts).await?.map(Answer::parse::<u64>).collect();
        // Each shard gives its part, so that none hides the others.
        let shards = usize::from(self.keys.shards());
        let mut found: Vec<JobId> = Vec::new();
        for answer in self.link.ask_all(ASKED, ids).await? {
            for raw in answer.items()?.take(most.div_ceil(shards)) {
                found.extend(raw.raw_id()?);
            }
        }
        let mut jobs = Vec::with_capacity(found.len());
        for batch in found.chunks(BATCH_SIZE) {
            let mut pipeline = redis::pipe();
            for id in batch {
                pipeline.cmd("HMGET").arg(self.keys.job(*id)).arg(&FIELDS);
            }
            for answer in self.link.ask_all(ASKED, &pipeline).await? {
                jobs.extend(read(answer)?);
            }
        }
        Ok(Sample { jobs, total: counted?.into_iter().sum() })
    }
}

/// Reads one job's facts; `None` for a job that is not stored. A state that this release does not know counts as
/// `running`, as in its record.
fn read(answer: Answer) -> Result<Option<JobFacts>, QueueError> {
    let mut fields = answer.items()?;
    let mut text = || fields.item()?.optional_text().map(Option::unwrap_or_default);
    let state = text()?;
    if state.is_empty() {
        return Ok(None);
    }
    let time = |text: String| text.parse().ok().and_then(|ms| Timestamp::from_millisecond(ms).ok());
    Ok(Some(JobFacts {
        state: state.parse().unwrap_or(State::Running),
        queue: text()?,
        agent: text()?,
        created: time(text()?).unwrap_or(Timestamp::UNIX_EPOCH),
        finished: time(text()?),
        cause: Some(text()?).filter(|word| !word.is_empty()).map(|word| Cause::from_stored(&word)),
        session: text()?.parse().ok(),
        team: TeamDigest(text()?),
        usage: Usage {
            input_tokens: text()?.parse().unwrap_or(0),
            cached_tokens: text()?.parse().unwrap_or(0),
            output_tokens: text()?.parse().unwrap_or(0),
            turns: text()?.parse().unwrap_or(0),
        },
    }))
}
