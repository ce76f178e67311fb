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
use crate::queue::record;
use crate::stored::facts;
use crate::stored::record::UsageField;
use crate::stored::request;

/// What these reads are called in messages.
const ASKED: &str = "count jobs";
/// Jobs of one pipelined read: it holds the server up for some milliseconds.
const BATCH_SIZE: usize = 1000;
/// The fields of a record that are read, in this order.
const FIELDS: [&str; 4] = ["state", "finished", "cause", "usage"];

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
                record::push_facts(&mut pipeline, self, *id);
            }
            let mut answers = self.link.ask_all(ASKED, &pipeline).await?;
            for _ in batch {
                jobs.extend(read(answers.item()?, answers.item()?)?);
            }
        }
        Ok(Sample { jobs, total: counted?.into_iter().sum() })
    }
}

/// Reads one job's facts; `None` for a job that is not stored. A state that this release does not know counts as
/// `running`, as in its record.
fn read(record: Answer, dispatched: Answer) -> Result<Option<JobFacts>, QueueError> {
    let mut fields = record.items()?;
    let mut text = || fields.item()?.optional_text().map(Option::unwrap_or_default);
    let dispatched = dispatched.text()?;
    let Ok(facts) = facts::known(&dispatched) else { return Ok(None) };
    let state = text()?;
    let time = |ms: u64| i64::try_from(ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok());
    Ok(Some(JobFacts {
        state: if state.is_empty() { facts.first_state } else { state.parse().unwrap_or(State::Running) },
        queue: facts.queue,
        agent: request::agent(&dispatched).unwrap_or_default(),
        created: time(facts.created).unwrap_or(Timestamp::UNIX_EPOCH),
        finished: text()?.parse().ok().and_then(time),
        cause: Some(text()?).filter(|word| !word.is_empty()).map(|word| Cause::from_stored(&word)),
        session: Some(facts.session),
        team: facts.team,
        usage: UsageField::decode(&text()?).usage,
    }))
}
