//! Lists of jobs, on Redis: an operator's pages over all shards, and a dispatcher's list of what is below it.

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

/// Queued and ended jobs that a dispatcher's list shows: it goes into the context of a model.
const SHOWN: usize = 50;
/// Jobs that a dispatcher's list reads. Those beyond are only counted.
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
        for shard in shards {
            let key = if only_unsuccessful {
                self.keys.index_unsuccessful(shard)
            } else {
                self.keys.index_all(shard)
            };
            let (chunk, is_last) = self.shard_chunk(&key, &newest, oldest, after).await?;
            found.extend(chunk);
            all_last &= is_last;
        }
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

    /// The jobs below a dispatcher, walked from the top.
    pub(super) async fn list_below(&self, session: SessionId, of: Dispatcher) -> Result<JobList, QueueError> {
        let mut walk = vec![of];
        let mut jobs: Vec<Job> = Vec::new();
        let mut unseen = 0;
        while let Some(dispatcher) = walk.pop() {
            let key = self.keys.children(session, dispatcher);
            let room = LIST_WINDOW.saturating_sub(jobs.len());
            let mut pipeline = redis::pipe();
            pipeline.cmd("ZRANGE").arg(&key).arg(0).arg(room.saturating_sub(1)).arg("REV");
            pipeline.cmd("ZCARD").arg(&key);
            let mut answers = self.link.ask_all(ASKED, &pipeline).await?;
            let newest = answers.item()?.items()?;
            let count: usize = answers.item()?.parse()?;
            let ids: Vec<JobId> = newest.take(room).map(Answer::parse).collect::<Result<_, _>>()?;
            // Jobs may be forgotten between the two reads.
            unseen += count.saturating_sub(ids.len());
            for record in self.records(&ids).await?.into_iter().flatten() {
                // Only a job that ran can have dispatched jobs.
                if record.job.attempt > 0 {
                    walk.push(Dispatcher::Job(record.job.id));
                }
                jobs.push(record.job);
            }
        }
        Ok(shorten(jobs, unseen as u64))
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

/// Keeps all that run, the next 50 that wait and the newest 50 that ended, oldest first.
fn shorten(mut jobs: Vec<Job>, unseen: u64) -> JobList {
    jobs.sort_by_key(|job| (job.created_at, job.id));
    let ended = jobs.iter().filter(|job| job.status.is_terminal()).count();
    let (mut skip_ended, mut queued) = (ended.saturating_sub(SHOWN), 0);
    // Jobs beyond the window are counted as ended: they are the oldest.
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
