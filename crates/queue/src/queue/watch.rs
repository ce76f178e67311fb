//! Reading jobs, output and the fleet, on Redis.

use std::collections::BTreeSet;
use std::ops::Range;
use std::time::Duration;

use async_trait::async_trait;
use legwork_common::id::Dispatcher;
use legwork_common::id::JobId;
use legwork_common::id::SessionId;
use legwork_common::job::Job;
use legwork_common::job::Priority;
use legwork_common::lifecycle::State;
use legwork_common::service::JobList;
use legwork_common::service::JobView;
use legwork_common::service::OutputSlice;

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
use crate::queue::record::Depth;
use crate::queue::record::Place;
use crate::queue::record::Record;
use crate::queue::slice::SLICE_MARGIN;
use crate::queue::slice::whole_characters;
use crate::stored::request;

/// Jobs of one pipelined read. Specs and results are read with them, so a batch of large ones is some megabytes.
pub(super) const BATCH_SIZE: usize = 200;
/// Places of one pipelined read: facts and short fields only, a megabyte in all at most.
const PLACES_BATCH_SIZE: usize = 1000;
/// The newest jobs of each index of a shard that are found by a prefix of their ids: reads of 160 kB at most.
const FIND_WINDOW: usize = 10_000;

#[async_trait]
impl Watch for Queue {
    async fn jobs(&self, ids: &[JobId]) -> Result<Vec<Option<Job>>, QueueError> {
        Ok(self.records(ids).await?.into_iter().map(|record| record.map(|record| record.job)).collect())
    }

    async fn jobs_with_waits(&self, ids: &[JobId]) -> Result<Vec<Option<Job>>, QueueError> {
        let mut records = self.records(ids).await?;
        self.add_waits(&mut records).await?;
        Ok(records.into_iter().map(|record| record.map(|record| record.job)).collect())
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
        let mut records = self.records(&[id]).await?;
        self.add_waits(&mut records).await?;
        let Some(record) = records.pop().flatten() else { return Ok(None) };
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
        let mut page = self.list_page(filter, limit, after).await?;
        self.add_waits_to_jobs(&mut page.jobs).await?;
        Ok(page)
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
        self.read_workers().await
    }
}

impl Queue {
    /// How many jobs are on a queue's shared lane, or scheduled or in quarantine for any lane.
    async fn waiting(&self, queue: &str) -> Result<u64, QueueError> {
        let mut pipeline = redis::pipe();
        for shard in 0..self.keys.shards() {
            for priority in Priority::ALL {
                pipeline.cmd("XLEN").arg(self.keys.ready(shard, queue, priority));
            }
            pipeline.cmd("ZCARD").arg(self.keys.scheduled(shard));
            pipeline.cmd("ZCARD").arg(self.keys.quarantine(shard));
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

    /// The agents of the jobs above a job, the uppermost first, and its own. Those whose records have expired are left out.
    pub(crate) async fn agents_down_to(&self, id: JobId) -> Result<Vec<String>, QueueError> {
        let Some(place) = self.places(&[id]).await?.pop().flatten() else { return Ok(Vec::new()) };
        let way: Vec<JobId> = place.ancestors().iter().rev().copied().chain([id]).collect();
        let mut pipeline = redis::pipe();
        for id in &way {
            record::push_facts(&mut pipeline, self, *id);
        }
        let mut agents = Vec::with_capacity(way.len());
        for answer in self.link.ask_all(ASKED, &pipeline).await? {
            agents.extend(request::agent(&answer.text()?));
        }
        Ok(agents)
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

    /// Jobs in outline, those of one session or all; those that are not stored are left out.
    pub(crate) async fn outlines_in(
        &self,
        ids: &[JobId],
        session: Option<SessionId>,
    ) -> Result<Vec<Job>, QueueError> {
        let mut ids = ids.to_vec();
        if let Some(session) = session {
            let places = self.places(&ids).await?;
            ids = places
                .into_iter()
                .flatten()
                .filter(|place| place.session == Some(session))
                .map(|place| place.id)
                .collect();
        }
        let records = self.read_records(&ids, Depth::Outline).await?;
        Ok(records.into_iter().flatten().map(|record| record.job).collect())
    }

    /// Reads the records of jobs, in pipelines.
    pub(super) async fn records(&self, ids: &[JobId]) -> Result<Vec<Option<Record>>, QueueError> {
        self.read_records(ids, Depth::Whole).await
    }

    /// Reads the records of jobs, whole or in outline, in pipelines.
    pub(super) async fn read_records(
        &self,
        ids: &[JobId],
        depth: Depth,
    ) -> Result<Vec<Option<Record>>, QueueError> {
        let mut records = Vec::with_capacity(ids.len());
        if ids.is_empty() {
            return Ok(records);
        }
        let now_ms = self.now_ms().await?;
        for batch in ids.chunks(BATCH_SIZE) {
            let mut pipeline = redis::pipe();
            for id in batch {
                record::push_reads(&mut pipeline, self, *id, depth);
            }
            let mut answers = self.link.ask_all(ASKED, &pipeline).await?;
            let first = records.len();
            for id in batch {
                records.push(record::read(*id, &mut answers, now_ms, depth)?);
            }
            if depth == Depth::Whole {
                self.add_results(&mut records[first..]).await?;
            }
        }
        Ok(records)
    }

    /// Reads results that the outputs of their jobs hold. One that is not there whole is of a job that is being forgotten,
    /// or was lost with the output.
    async fn add_results(&self, records: &mut [Option<Record>]) -> Result<(), QueueError> {
        let mut referring: Vec<(&mut Record, Range<u64>)> = records
            .iter_mut()
            .flatten()
            .filter_map(|record| record.result_in_output().map(|range| (record, range)))
            .collect();
        if referring.is_empty() {
            return Ok(());
        }
        let mut pipeline = redis::pipe();
        for (record, range) in &referring {
            let key = self.keys.output(record.job.id);
            pipeline.cmd("GETRANGE").arg(key).arg(range.start).arg(range.end.saturating_sub(1));
        }
        let answers = self.link.ask_all(ASKED, &pipeline).await?;
        for ((record, range), answer) in referring.iter_mut().zip(answers) {
            let text = answer.text()?;
            record.job.result = Some(text).filter(|text| text.len() as u64 == range.end - range.start);
        }
        Ok(())
    }
}
