//! Reading jobs, output and the fleet, on Redis.

use std::collections::BTreeSet;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use legwork_common::id::Dispatcher;
use legwork_common::id::JobId;
use legwork_common::id::SessionId;
use legwork_common::id::WorkerId;
use legwork_common::job::Job;
use legwork_common::job::Priority;
use legwork_common::lifecycle::State;
use legwork_common::service::JobList;
use legwork_common::service::JobView;
use legwork_common::service::OutputSlice;
use legwork_common::stored;

use crate::answer::Answer;
use crate::error::QueueError;
use crate::keys::JobIndex;
use crate::port::JobFilter;
use crate::port::JobPage;
use crate::port::Lane;
use crate::port::Original;
use crate::port::PageCursor;
use crate::port::Watch;
use crate::port::WorkerRecord;
use crate::queue::Queue;
use crate::queue::record;
use crate::queue::record::ASKED;
use crate::queue::record::Place;
use crate::queue::record::Record;
use crate::queue::record::Results;
use crate::queue::slice::SLICE_MARGIN;
use crate::queue::slice::whole_characters;

/// Jobs of one pipelined read. Specs and results are read with them, so a batch of large ones is some megabytes.
const BATCH_SIZE: usize = 200;
/// Places of one pipelined read: facts and short fields only, a megabyte in all at most.
const PLACES_BATCH_SIZE: usize = 1000;
/// The newest jobs of each index of a shard that are found by a prefix of their ids: reads of 160 kB at most.
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
        Ok(self.places(ids).await?.into_iter().map(|place| place.map(|place| place.state)).collect())
    }

    async fn silent(&self, ids: &[JobId]) -> Result<Vec<Option<Duration>>, QueueError> {
        self.read_expired_leases(ids).await
    }

    async fn view(&self, id: JobId, since: Option<u64>, most: usize) -> Result<Option<JobView>, QueueError> {
        let Some(record) = self.records(&[id]).await?.pop().flatten() else { return Ok(None) };
        self.view_record(record, since, most).await.map(Some)
    }

    async fn output(&self, id: JobId, offset: u64, most: usize) -> Result<OutputSlice, QueueError> {
        let from = offset.saturating_sub(SLICE_MARGIN);
        let to = offset + most as u64 + SLICE_MARGIN;
        let mut pipeline = redis::pipe();
        pipeline.cmd("GETRANGE").arg(self.keys.output(id)).arg(from).arg(to.saturating_sub(1));
        pipeline.cmd("STRLEN").arg(self.keys.output(id));
        let mut answers = self.link.ask_all(ASKED, &pipeline).await?;
        let bytes = answers.item()?.bytes()?.unwrap_or_default();
        let total = answers.item()?.parse()?;
        Ok(whole_characters(&bytes, from, offset, most, total))
    }

    async fn is_below(&self, id: JobId, session: SessionId, of: Dispatcher) -> Result<bool, QueueError> {
        Ok(self.below(&[id], session, of).await? == [true])
    }

    async fn children(&self, session: SessionId, of: Dispatcher) -> Result<JobList, QueueError> {
        self.list_below(session, of).await
    }

    async fn live_children(&self, _session: SessionId, of: Dispatcher) -> Result<u64, QueueError> {
        let key = match of {
            Dispatcher::Root(session) => self.keys.session(session),
            Dispatcher::Job(id) => self.keys.job(id),
        };
        let live = self.link.ask(ASKED, redis::cmd("HGET").arg(key).arg("live")).await?;
        Ok(live.parse_optional()?.unwrap_or(0))
    }

    async fn list(
        &self,
        filter: &JobFilter,
        limit: usize,
        after: Option<PageCursor>,
    ) -> Result<JobPage, QueueError> {
        self.list_page(filter, limit, after).await
    }

    async fn find(&self, prefix: &str, most: usize) -> Result<Vec<JobId>, QueueError> {
        let prefix = prefix.to_ascii_lowercase();
        // A job that ended between two reads is found twice.
        let mut found = BTreeSet::new();
        for shard in 0..self.keys.shards() {
            let mut pipeline = redis::pipe();
            for index in JobIndex::ALL {
                pipeline
                    .cmd("ZRANGE")
                    .arg(self.keys.index(shard, index))
                    .arg(0)
                    .arg(FIND_WINDOW - 1)
                    .arg("REV");
            }
            for ids in self.link.ask_all(ASKED, &pipeline).await? {
                for raw in ids.items()? {
                    found.extend(raw.raw_id()?.filter(|id| id.uuid().to_string().starts_with(&prefix)));
                }
            }
        }
        Ok(found.into_iter().take(most).collect())
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
            pipeline.cmd("ZCARD").arg(self.keys.index(shard, JobIndex::Live));
        }
        self.link.ask_all(ASKED, &pipeline).await?.map(Answer::parse::<u64>).sum()
    }

    async fn workers(&self) -> Result<Vec<WorkerRecord>, QueueError> {
        // A heartbeat reaches every shard, so the first one has the whole fleet.
        let mut command = redis::cmd("ZRANGE");
        command.arg(self.keys.workers(0)).arg(0).arg(-1);
        let names = self.link.ask(ASKED, &command).await?.items()?;
        let ids: Vec<WorkerId> =
            names.map(|name| name.text().map(WorkerId::from_stored)).collect::<Result<_, _>>()?;
        let mut pipeline = redis::pipe();
        for id in &ids {
            pipeline.cmd("HGETALL").arg(self.keys.worker(0, id.as_str()));
        }
        let records = self.link.ask_all(ASKED, &pipeline).await?;
        let read = ids.into_iter().zip(records).map(|(id, record)| read_worker(id, record));
        Ok(read.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect())
    }
}

impl Queue {
    /// How many jobs are on a queue's shared lane, or scheduled for any lane.
    async fn waiting(&self, queue: &str) -> Result<u64, QueueError> {
        let mut pipeline = redis::pipe();
        for shard in 0..self.keys.shards() {
            for priority in Priority::ALL {
                pipeline.cmd("XLEN").arg(self.keys.ready(shard, queue, priority));
            }
            pipeline.cmd("ZCARD").arg(self.keys.scheduled(shard));
        }
        self.link.ask_all(ASKED, &pipeline).await?.map(Answer::parse::<u64>).sum()
    }

    /// Redis' clock in milliseconds.
    pub(super) async fn now_ms(&self) -> Result<u64, QueueError> {
        let mut parts = self.link.ask("TIME", &redis::cmd("TIME")).await?.items()?;
        let seconds: u64 = parts.item()?.parse()?;
        let micros: u64 = parts.item()?.parse()?;
        Ok(seconds * 1000 + micros / 1000)
    }

    /// Reads where jobs stand: one round trip, without specs and results.
    pub(super) async fn places(&self, ids: &[JobId]) -> Result<Vec<Option<Place>>, QueueError> {
        let mut places = Vec::with_capacity(ids.len());
        for batch in ids.chunks(PLACES_BATCH_SIZE) {
            let mut pipeline = redis::pipe();
            for id in batch {
                record::push_place(&mut pipeline, self, *id);
            }
            let mut answers = self.link.ask_all(ASKED, &pipeline).await?;
            for id in batch {
                places.push(record::read_place(*id, &mut answers)?);
            }
        }
        Ok(places)
    }

    /// Which jobs are below a dispatcher: one answer for each id.
    pub(crate) async fn below(
        &self,
        ids: &[JobId],
        session: SessionId,
        of: Dispatcher,
    ) -> Result<Vec<bool>, QueueError> {
        let places = self.places(ids).await?;
        Ok(places.into_iter().map(|place| place.is_some_and(|place| place.is_below(session, of))).collect())
    }

    /// Jobs that have dispatched jobs, as dispatchers with their session; `None` for each of the others.
    pub(crate) async fn dispatchers(
        &self,
        ids: &[JobId],
    ) -> Result<Vec<Option<(SessionId, Dispatcher)>>, QueueError> {
        let dispatcher = |place: Option<Place>| {
            let place = place.filter(|place| place.has_dispatched)?;
            Some((place.session?, Dispatcher::Job(place.id)))
        };
        Ok(self.places(ids).await?.into_iter().map(dispatcher).collect())
    }

    /// The sessions of jobs, each once.
    pub(crate) async fn sessions_of(&self, ids: &[JobId]) -> Result<BTreeSet<SessionId>, QueueError> {
        let places = self.places(ids).await?;
        Ok(places.into_iter().flatten().filter_map(|place| place.session).collect())
    }

    /// Reads the records of jobs, in pipelines.
    pub(super) async fn records(&self, ids: &[JobId]) -> Result<Vec<Option<Record>>, QueueError> {
        self.read_records(ids, Results::Read).await
    }

    /// Reads the records of jobs, with or without their results, in pipelines.
    pub(super) async fn read_records(
        &self,
        ids: &[JobId],
        results: Results,
    ) -> Result<Vec<Option<Record>>, QueueError> {
        let mut records = Vec::with_capacity(ids.len());
        if ids.is_empty() {
            return Ok(records);
        }
        let now_ms = self.now_ms().await?;
        for batch in ids.chunks(BATCH_SIZE) {
            let mut pipeline = redis::pipe();
            for id in batch {
                record::push_reads(&mut pipeline, self, *id, results);
            }
            let mut answers = self.link.ask_all(ASKED, &pipeline).await?;
            for id in batch {
                records.push(record::read(*id, &mut answers, now_ms, results)?);
            }
        }
        Ok(records)
    }
}

/// Reads a worker's record; `None` for one without a heartbeat, such as a worker that has only claimed.
fn read_worker(id: WorkerId, answer: Answer) -> Result<Option<WorkerRecord>, QueueError> {
    let mut record = WorkerRecord {
        id,
        host: String::new(),
        process: None,
        lanes: Vec::new(),
        slots: 0,
        used: 0,
        jobs: 0,
        seen: Timestamp::UNIX_EPOCH,
        draining: false,
        unreadable: None,
    };
    let mut alive = false;
    for (field, value) in answer.pairs()? {
        match field.as_str() {
            "v" => {
                record.unreadable =
                    stored::HEARTBEAT.check(&value.text()?).err().map(|error| error.to_string())
            }
            "host" => record.host = value.text()?,
            "process" => record.process = value.parse().ok(),
            "lanes" => record.lanes = value.text()?.split_whitespace().map(str::to_owned).collect(),
            "slots" => record.slots = value.parse().unwrap_or(0),
            "used" => record.used = value.parse().unwrap_or(0),
            "jobs" => record.jobs = value.parse().unwrap_or(0),
            "draining" => record.draining = value.text()? == "1",
            "seen" => {
                alive = true;
                record.seen = Timestamp::from_millisecond(value.parse().unwrap_or(0)).unwrap_or_default();
            }
            // What `claim` remembers here for its repeat is not shown.
            _ => {}
        }
    }
    Ok(alive.then_some(record))
}
