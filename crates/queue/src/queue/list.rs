//! Lists of jobs, on Redis: an operator's pages over all shards, and a dispatcher's list of what is below it.

use std::collections::HashSet;

use jiff::Timestamp;
use legwork_common::id::Dispatcher;
use legwork_common::id::JobId;
use legwork_common::id::SessionId;
use legwork_common::job::Job;
use legwork_common::lifecycle::State;
use legwork_common::service::JobList;

use crate::answer::Answer;
use crate::error::QueueError;
use crate::port::JobFilter;
use crate::port::JobPage;
use crate::port::PageCursor;
use crate::queue::Queue;
use crate::queue::record::ASKED;
use crate::queue::record::Place;
use crate::queue::record::Results;

/// Queued and ended jobs that a dispatcher's list shows: it goes into the context of a model.
const SHOWN: usize = 50;
/// Queued and ended jobs that a dispatcher's list considers. Those beyond are only counted.
const LIST_WINDOW: usize = 2000;
/// Records that one page of an operator's list reads at most. A filter that excludes nearly all jobs gets short pages
/// instead of a slow one.
const PAGE_WINDOW: usize = 2000;
/// Places in the index that are read at once.
const CHUNK_SIZE: usize = 200;

impl Queue {
    /// One page of an operator's list.
    pub(super) async fn list_page(
        &self,
        filter: &JobFilter,
        limit: usize,
        after: Option<PageCursor>,
    ) -> Result<JobPage, QueueError> {
        let oldest = self.oldest(filter).await?;
        let mut page = JobPage { jobs: Vec::new(), next: after };
        let mut seen = 0;
        while page.jobs.len() < limit && seen < PAGE_WINDOW {
            let (places, is_last) = self.index_chunk(filter, oldest, page.next).await?;
            seen += places.len();
            let ids: Vec<JobId> = places.iter().map(|place| place.id).collect();
            for (place, record) in places.into_iter().zip(self.records(&ids).await?) {
                if page.jobs.len() == limit {
                    return Ok(page);
                }
                // Past a job that was forgotten since the index was read, too: a page of nothing else must
                // lead past them.
                page.next = Some(place);
                let Some(record) = record else { continue };
                if matches(filter, &record.job) {
                    page.jobs.push(record.job);
                }
            }
            if is_last {
                page.next = None;
                return Ok(page);
            }
        }
        Ok(page)
    }

    /// The creation time in milliseconds of the oldest job that a filter can include.
    async fn oldest(&self, filter: &JobFilter) -> Result<u64, QueueError> {
        match filter.since {
            None => Ok(0),
            Some(since) => {
                let since = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
                Ok(self.now_ms().await?.saturating_sub(since))
            }
        }
    }

    /// The next places of the index, newest first over all shards, strictly after the cursor; and whether none follow.
    async fn index_chunk(
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
        let only_unsuccessful = !filter.states.is_empty()
            && filter.states.iter().all(|state| matches!(state, State::Failed | State::Stopped));
        let newest = after.map_or("+inf".to_owned(), |after| after.created.as_millisecond().to_string());
        let mut found: Vec<(i64, JobId)> = Vec::new();
        let mut all_last = true;
        let mut floor = None;
        for shard in shards {
            let key = if only_unsuccessful {
                self.keys.index_unsuccessful(shard)
            } else {
                self.keys.index_all(shard)
            };
            let (chunk, is_last) = self.shard_chunk(&key, &newest, oldest, after).await?;
            if !is_last {
                // The shard may have more that is newer than what another shard's part reaches back to.
                floor = floor.max(chunk.last().copied());
            }
            found.extend(chunk);
            all_last &= is_last;
        }
        found.retain(|place| floor.is_none_or(|floor| *place >= floor));
        found.sort_unstable_by(|a, b| b.cmp(a));
        let is_last = all_last && found.len() <= CHUNK_SIZE;
        found.truncate(CHUNK_SIZE);
        let place = |(created, id)| {
            let created = Timestamp::from_millisecond(created).unwrap_or(Timestamp::UNIX_EPOCH);
            PageCursor { created, id }
        };
        Ok((found.into_iter().map(place).collect(), is_last))
    }

    /// One shard's part of a chunk, and whether none follow. Jobs of the cursor's own millisecond that were shown are
    /// passed over, so the part may be shorter than a chunk although more follow.
    async fn shard_chunk(
        &self,
        key: &str,
        newest: &str,
        oldest: u64,
        after: Option<PageCursor>,
    ) -> Result<(Vec<(i64, JobId)>, bool), QueueError> {
        let mut offset = 0;
        loop {
            let mut command = redis::cmd("ZRANGE");
            command.arg(key).arg(newest).arg(oldest).arg("BYSCORE").arg("REV");
            command.arg("LIMIT").arg(offset).arg(CHUNK_SIZE).arg("WITHSCORES");
            let chunk = read_scores(self.link.ask(ASKED, &command).await?)?;
            let is_full = chunk.len() == CHUNK_SIZE;
            offset += chunk.len();
            let fresh: Vec<_> = chunk
                .into_iter()
                .filter(|found| after.is_none_or(|after| *found < (after.created.as_millisecond(), after.id)))
                .collect();
            if !fresh.is_empty() || !is_full {
                return Ok((fresh, !is_full));
            }
        }
    }

    /// The jobs below a dispatcher. Those that a worker holds come from the leases, so they are listed however many
    /// others there are; queued and ended ones from a walk over the newest, from the top.
    pub(super) async fn list_below(&self, session: SessionId, of: Dispatcher) -> Result<JobList, QueueError> {
        let mut places = self.held_below(session, of).await?;
        let mut unmet: HashSet<JobId> = places.iter().map(|place| place.id).collect();
        let mut walk = vec![of];
        walk.extend(
            places.iter().filter(|place| place.has_dispatched).map(|place| Dispatcher::Job(place.id)),
        );
        let (mut walked, mut unseen) = (0, 0);
        let held = unmet.clone();
        while let Some(dispatcher) = walk.pop() {
            let key = self.keys.children(session, dispatcher);
            let room = LIST_WINDOW.saturating_sub(walked);
            let mut pipeline = redis::pipe();
            pipeline.cmd("ZRANGE").arg(&key).arg(0).arg(room.saturating_sub(1)).arg("REV");
            pipeline.cmd("ZCARD").arg(&key);
            let mut answers = self.link.ask_all(ASKED, &pipeline).await?;
            let newest = answers.item()?.items()?;
            let count: usize = answers.item()?.parse()?;
            let ids: Vec<JobId> = newest.take(room).map(Answer::parse).collect::<Result<_, _>>()?;
            walked += ids.len();
            // Jobs may be forgotten between the two reads.
            unseen += count.saturating_sub(ids.len());
            for place in self.places(&ids).await?.into_iter().flatten() {
                unmet.remove(&place.id);
                if held.contains(&place.id) {
                    continue;
                }
                if place.has_dispatched {
                    walk.push(Dispatcher::Job(place.id));
                }
                places.push(place);
            }
        }
        // Held jobs beyond the window are listed, so they are not among the rest.
        let (shown, mut list) = select(places, unseen.saturating_sub(unmet.len()) as u64);
        let records = self.read_records(&shown, Results::Skip).await?;
        list.jobs = records.into_iter().flatten().map(|record| record.job).collect();
        Ok(list)
    }

    /// The jobs below a dispatcher that a worker holds: those with a lease.
    async fn held_below(&self, session: SessionId, of: Dispatcher) -> Result<Vec<Place>, QueueError> {
        let mut command = redis::cmd("ZRANGE");
        command.arg(self.keys.lease(session.shard(self.keys.shards()))).arg(0).arg(-1);
        let members = self.link.ask(ASKED, &command).await?.items()?;
        // Owners of sessions are leased too; their members are not ids.
        let ids: Vec<JobId> = members.filter_map(|member| member.parse().ok()).collect();
        let places = self.places(&ids).await?.into_iter().flatten();
        Ok(places.filter(|place| !place.state.is_terminal() && place.is_below(session, of)).collect())
    }
}

/// Reads members and their scores: pairs, as RESP3 answers them.
fn read_scores(answer: Answer) -> Result<Vec<(i64, JobId)>, QueueError> {
    let mut found = Vec::new();
    for pair in answer.items()? {
        let mut parts = pair.items()?;
        let id = parts.item()?.raw_id()?;
        let score: f64 = parts.item()?.parse()?;
        found.extend(id.map(|id| (score as i64, id)));
    }
    Ok(found)
}

fn matches(filter: &JobFilter, job: &Job) -> bool {
    (filter.states.is_empty() || filter.states.contains(&job.status))
        && filter.agent.as_ref().is_none_or(|agent| *agent == job.agent)
        && filter.session.is_none_or(|session| session == job.session)
        && filter.queue.as_ref().is_none_or(|queue| *queue == job.queue)
        && filter.worker.as_ref().is_none_or(|worker| Some(worker) == job.worker.as_ref())
}

/// Selects all that run, the next 50 that wait and the newest 50 that ended, oldest first, and counts the others.
fn select(mut places: Vec<Place>, unseen: u64) -> (Vec<JobId>, JobList) {
    places.sort_by_key(|place| (place.created, place.id));
    let ended = places.iter().filter(|place| place.state.is_terminal()).count();
    let (mut skip_ended, mut queued) = (ended.saturating_sub(SHOWN), 0);
    // Jobs beyond the window are counted as ended: they are the oldest.
    let mut list = JobList { jobs: Vec::new(), more_queued: 0, more_ended: unseen };
    let mut shown = Vec::new();
    for place in places {
        let waits = matches!(place.state, State::Queued | State::Scheduled);
        if waits && queued >= SHOWN {
            list.more_queued += 1;
        } else if place.state.is_terminal() && skip_ended > 0 {
            skip_ended -= 1;
            list.more_ended += 1;
        } else {
            queued += usize::from(waits);
            shown.push(place.id);
        }
    }
    (shown, list)
}
