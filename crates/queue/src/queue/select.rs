//! An operator's list, on Redis: which index fits a filter, and a walk over it until the page is full.

use std::collections::HashSet;

use jiff::Timestamp;
use legwork_common::id::JobId;
use legwork_common::lifecycle::State;

use crate::answer::Answer;
use crate::error::QueueError;
use crate::keys::JobIndex;
use crate::port::JobFilter;
use crate::port::JobPage;
use crate::port::PageCursor;
use crate::queue::Queue;
use crate::queue::facts::Facts;
use crate::queue::record::ASKED;

/// Places of each index that are read at once: a few pages of a terminal.
const CHUNK_SIZE: usize = 200;
/// The same while a filter excludes what it reads. Larger chunks cost fewer round trips, and still hold the server up
/// for about a millisecond only.
const SCAN_CHUNK_SIZE: usize = 2000;
/// Jobs of a small set that are read and sorted as a whole: 20,000 short reads take about 50 ms. A larger set is left,
/// and an index by creation is walked instead.
pub(super) const MAX_SET_SIZE: u64 = 20_000;

/// Where the jobs of a filter are found.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Source {
    /// Among the jobs of its session.
    Session,
    /// Among the leases: only workers hold jobs in its states.
    Leases,
    /// Among the scheduled jobs.
    Scheduled,
    /// In the indexes by creation.
    Indexes,
}

/// A filter, and where its jobs are found.
#[derive(Debug, Clone)]
struct Selection {
    /// With the states that the other fields imply.
    filter: JobFilter,
    source: Source,
    indexes: Vec<JobIndex>,
    /// Whether the indexes hold nothing else than what the filter selects.
    is_exact: bool,
}

impl Selection {
    fn of(filter: &JobFilter) -> Self {
        let mut filter = filter.clone();
        if filter.states.is_empty() && (filter.cause.is_some() || filter.without_retried) {
            filter.states = vec![State::Failed, State::Stopped];
        } else if filter.states.is_empty() && filter.worker.is_some() {
            filter.states = State::ALL.into_iter().filter(|state| is_leased(*state)).collect();
        }
        let wants = |state: &State| filter.states.is_empty() || filter.states.contains(state);
        let indexes: Vec<JobIndex> = JobIndex::ALL
            .into_iter()
            .filter(|index| {
                State::ALL.into_iter().any(|state| wants(&state) && JobIndex::of(state) == *index)
            })
            .collect();
        let has_whole_indexes =
            State::ALL.into_iter().all(|state| wants(&state) || !indexes.contains(&JobIndex::of(state)));
        let JobFilter { agent, session, queue, worker, cause, without_retried, .. } = &filter;
        let is_narrowed = agent.is_some()
            || session.is_some()
            || queue.is_some()
            || worker.is_some()
            || cause.is_some()
            || *without_retried;
        let source = if session.is_some() {
            Source::Session
        } else if !filter.states.is_empty() && filter.states.iter().all(|state| is_leased(*state)) {
            Source::Leases
        } else if filter.states == [State::Scheduled] {
            Source::Scheduled
        } else {
            Source::Indexes
        };
        Self { is_exact: has_whole_indexes && !is_narrowed, source, indexes, filter }
    }
}

impl JobFilter {
    /// Whether jobs may have to be read one by one, because no index holds just those that the filter selects.
    pub fn is_searched_for(&self) -> bool {
        let selection = Selection::of(self);
        selection.source == Source::Indexes && !selection.is_exact
    }
}

/// Whether jobs in a state are among the leases of their shard.
fn is_leased(state: State) -> bool {
    state.is_held() || state == State::Reaping
}

/// A place in the order of a list: creation time in milliseconds, then id.
type Place = (i64, JobId);

impl Queue {
    /// One page of an operator's list. It is short only at the end of the list, however many jobs the filter excludes.
    pub(super) async fn list_page(
        &self,
        filter: &JobFilter,
        limit: usize,
        after: Option<PageCursor>,
    ) -> Result<JobPage, QueueError> {
        let selection = Selection::of(filter);
        let oldest = self.oldest(&selection.filter).await?;
        let after = after.map(|after| (after.created.as_millisecond(), after.id));
        match self.small_set(&selection).await? {
            Some(facts) => self.page_of_set(&selection, facts, oldest, limit, after).await,
            None => self.page_of_indexes(&selection, oldest, limit, after).await,
        }
    }

    /// The ids of all jobs that a filter selects, newest first: without their records, where an index answers it.
    pub(crate) async fn selected_ids(&self, filter: &JobFilter) -> Result<Vec<JobId>, QueueError> {
        let selection = Selection::of(filter);
        let oldest = self.oldest(&selection.filter).await?;
        if let Some(facts) = self.small_set(&selection).await? {
            return Ok(places_of(&selection, &facts, oldest, None).into_iter().map(|(_, id)| id).collect());
        }
        let (mut ids, mut after) = (Vec::new(), None);
        loop {
            let (mut places, is_last) = self.index_chunk(&selection, oldest, after, SCAN_CHUNK_SIZE).await?;
            after = places.last().copied().or(after);
            if !selection.is_exact {
                places = self.selected(&selection.filter, places).await?;
            }
            ids.extend(places.into_iter().map(|(_, id)| id));
            if is_last {
                return Ok(ids);
            }
        }
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

    /// All jobs of the selection's source, in any order; `None` where an index by creation is to be walked.
    async fn small_set(&self, selection: &Selection) -> Result<Option<Vec<Facts>>, QueueError> {
        let ids = match (&selection.source, selection.filter.session) {
            (Source::Session, Some(session)) => return self.facts_of_session(session).await,
            (Source::Leases, _) => self.members(|shard| self.keys.lease(shard)).await?,
            (Source::Scheduled, _) => {
                if self.count_scheduled().await? > MAX_SET_SIZE {
                    return Ok(None);
                }
                self.members(|shard| self.keys.scheduled(shard)).await?
            }
            (Source::Session | Source::Indexes, _) => return Ok(None),
        };
        Ok(Some(self.facts(&ids).await?))
    }

    async fn count_scheduled(&self) -> Result<u64, QueueError> {
        let mut pipeline = redis::pipe();
        for shard in 0..self.keys.shards() {
            pipeline.cmd("ZCARD").arg(self.keys.scheduled(shard));
        }
        self.link.ask_all(ASKED, &pipeline).await?.map(Answer::parse::<u64>).sum()
    }

    /// The jobs among the members of a sorted set of each shard. Owners of sessions are leased too; they are not ids.
    async fn members(&self, key: impl Fn(u16) -> String) -> Result<Vec<JobId>, QueueError> {
        let mut pipeline = redis::pipe();
        for shard in 0..self.keys.shards() {
            pipeline.cmd("ZRANGE").arg(key(shard)).arg(0).arg(-1);
        }
        let mut ids = Vec::new();
        for answer in self.link.ask_all(ASKED, &pipeline).await? {
            ids.extend(answer.items()?.filter_map(|member| member.parse::<JobId>().ok()));
        }
        Ok(ids)
    }

    /// A page of jobs that are all known.
    async fn page_of_set(
        &self,
        selection: &Selection,
        facts: Vec<Facts>,
        oldest: u64,
        limit: usize,
        after: Option<Place>,
    ) -> Result<JobPage, QueueError> {
        let mut places = places_of(selection, &facts, oldest, after);
        let more = places.len() > limit;
        places.truncate(limit);
        let next = if more { places.last().copied().or(after) } else { None };
        let mut page = JobPage { next: next.map(cursor), ..JobPage::default() };
        self.add_records(&selection.filter, &places, &mut page).await?;
        Ok(page)
    }

    /// A page of the indexes by creation: walks them, newest first, until the page is full.
    async fn page_of_indexes(
        &self,
        selection: &Selection,
        oldest: u64,
        limit: usize,
        mut after: Option<Place>,
    ) -> Result<JobPage, QueueError> {
        let mut page = JobPage { next: after.map(cursor), ..JobPage::default() };
        let mut size = CHUNK_SIZE;
        while page.jobs.len() < limit {
            let (mut places, is_last) = self.index_chunk(selection, oldest, after, size).await?;
            let end = places.last().copied().or(after);
            if !selection.is_exact {
                page.searched += places.len() as u64;
                places = self.selected(&selection.filter, places).await?;
                size = SCAN_CHUNK_SIZE;
            }
            let room = limit - page.jobs.len();
            let is_full = places.len() > room;
            places.truncate(room);
            // Past jobs that were forgotten since the index was read, too: a page of nothing else must lead past them.
            after = if is_full { places.last().copied() } else { end };
            self.add_records(&selection.filter, &places, &mut page).await?;
            page.next = after.filter(|_| is_full || !is_last).map(cursor);
            if is_last && !is_full {
                break;
            }
        }
        Ok(page)
    }

    /// Those places whose jobs the filter selects.
    async fn selected(&self, filter: &JobFilter, places: Vec<Place>) -> Result<Vec<Place>, QueueError> {
        let ids: Vec<JobId> = places.iter().map(|(_, id)| *id).collect();
        let chosen: HashSet<JobId> = self
            .facts(&ids)
            .await?
            .iter()
            .filter(|facts| facts.matches(filter))
            .map(|facts| facts.id)
            .collect();
        Ok(places.into_iter().filter(|(_, id)| chosen.contains(id)).collect())
    }

    /// Adds the jobs at these places to a page. Those that were forgotten, or have another state by now, are left out.
    async fn add_records(
        &self,
        filter: &JobFilter,
        places: &[Place],
        page: &mut JobPage,
    ) -> Result<(), QueueError> {
        let ids: Vec<JobId> = places.iter().map(|(_, id)| *id).collect();
        let records = self.records(&ids).await?.into_iter().flatten();
        let jobs = records.map(|record| record.job);
        page.jobs.extend(jobs.filter(|job| filter.states.is_empty() || filter.states.contains(&job.status)));
        Ok(())
    }

    /// The next places of the indexes, newest first over all shards, strictly after a place; and whether none follow.
    async fn index_chunk(
        &self,
        selection: &Selection,
        oldest: u64,
        after: Option<Place>,
        size: usize,
    ) -> Result<(Vec<Place>, bool), QueueError> {
        let shards = match selection.filter.session {
            Some(session) => {
                let shard = session.shard(self.keys.shards());
                shard..shard + 1
            }
            None => 0..self.keys.shards(),
        };
        let keys: Vec<String> = shards
            .flat_map(|shard| selection.indexes.iter().map(move |index| (shard, *index)))
            .map(|(shard, index)| self.keys.index(shard, index))
            .collect();
        let mut pipeline = redis::pipe();
        for key in &keys {
            pipeline.add_command(range(key, after, oldest, 0, size));
        }
        let mut found: Vec<Place> = Vec::new();
        let (mut all_last, mut floor) = (true, None);
        for (key, answer) in keys.iter().zip(self.link.ask_all(ASKED, &pipeline).await?) {
            let first = read_scores(answer)?;
            let (chunk, is_last) = self.fresh_chunk(key, first, oldest, after, size).await?;
            if !is_last {
                // The index may have more that is newer than what another index's part reaches back to.
                floor = floor.max(chunk.last().copied());
            }
            found.extend(chunk);
            all_last &= is_last;
        }
        Ok(merged(found, floor, all_last, size))
    }

    /// One index's part of a chunk, and whether none follow. Jobs of the cursor's own millisecond that were shown are
    /// passed over, so the part may be shorter than a chunk although more follow; it is not empty then.
    async fn fresh_chunk(
        &self,
        key: &str,
        mut chunk: Vec<Place>,
        oldest: u64,
        after: Option<Place>,
        size: usize,
    ) -> Result<(Vec<Place>, bool), QueueError> {
        let mut offset = 0;
        loop {
            let is_full = chunk.len() == size;
            offset += chunk.len();
            chunk.retain(|found| after.is_none_or(|after| *found < after));
            if !chunk.is_empty() || !is_full {
                return Ok((chunk, !is_full));
            }
            chunk = read_scores(self.link.ask(ASKED, &range(key, after, oldest, offset, size)).await?)?;
        }
    }
}

/// The places of the jobs that a selection includes, newest first, strictly after a place.
fn places_of(selection: &Selection, facts: &[Facts], oldest: u64, after: Option<Place>) -> Vec<Place> {
    let oldest = i64::try_from(oldest).unwrap_or(i64::MAX);
    let mut places: Vec<Place> = facts
        .iter()
        .filter(|facts| facts.created >= oldest && facts.matches(&selection.filter))
        .map(|facts| (facts.created, facts.id))
        .filter(|place| after.is_none_or(|after| *place < after))
        .collect();
    places.sort_unstable_by(|a, b| b.cmp(a));
    places
}

/// Puts the parts of a chunk into one order. What is older than the `floor` is left to the next chunk.
fn merged(mut found: Vec<Place>, floor: Option<Place>, all_last: bool, size: usize) -> (Vec<Place>, bool) {
    found.retain(|place| floor.is_none_or(|floor| *place >= floor));
    found.sort_unstable_by(|a, b| b.cmp(a));
    // A job that ended between two reads is in two indexes.
    found.dedup();
    let is_last = all_last && found.len() <= size;
    found.truncate(size);
    (found, is_last)
}

/// The read of a part of an index, newest first.
fn range(key: &str, after: Option<Place>, oldest: u64, offset: usize, size: usize) -> redis::Cmd {
    let newest = after.map_or("+inf".to_owned(), |(created, _)| created.to_string());
    let mut command = redis::cmd("ZRANGE");
    command.arg(key).arg(newest).arg(oldest).arg("BYSCORE").arg("REV");
    command.arg("LIMIT").arg(offset).arg(size).arg("WITHSCORES");
    command
}

/// A place as a cursor.
fn cursor((created, id): Place) -> PageCursor {
    let created = Timestamp::from_millisecond(created).unwrap_or(Timestamp::UNIX_EPOCH);
    PageCursor { created, id }
}

/// Reads members and their scores: pairs, as RESP3 answers them.
fn read_scores(answer: Answer) -> Result<Vec<Place>, QueueError> {
    let mut found = Vec::new();
    for pair in answer.items()? {
        let mut parts = pair.items()?;
        let id = parts.item()?.raw_id()?;
        let score: f64 = parts.item()?.parse()?;
        found.extend(id.map(|id| (score as i64, id)));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use legwork_common::id::SessionId;
    use legwork_common::id::WorkerId;
    use legwork_common::job::Cause;

    use super::*;

    #[test]
    fn a_filter_walks_the_index_that_fits() {
        use JobIndex::Completed;
        use JobIndex::Failed;
        use JobIndex::Live;
        use JobIndex::Stopped;
        let any = JobFilter::default;
        let states = |states: &[State]| JobFilter { states: states.to_vec(), ..any() };
        let worker = || Some(WorkerId::from_stored("w".to_owned()));
        for (filter, source, indexes, is_exact) in [
            (any(), Source::Indexes, &JobIndex::ALL[..], true),
            (states(&[State::Failed]), Source::Indexes, &[Failed], true),
            (states(&[State::Completed, State::Stopped]), Source::Indexes, &[Completed, Stopped], true),
            (states(&[State::Running]), Source::Leases, &[Live], false),
            (states(&[State::Scheduled]), Source::Scheduled, &[Live], false),
            (states(&[State::Queued]), Source::Indexes, &[Live], false),
            (JobFilter { worker: worker(), ..any() }, Source::Leases, &[Live], false),
            (JobFilter { worker: worker(), ..states(&[State::Failed]) }, Source::Indexes, &[Failed], false),
            (JobFilter { cause: Some(Cause::Deadline), ..any() }, Source::Indexes, &[Failed, Stopped], false),
            (JobFilter { agent: Some("a".to_owned()), ..any() }, Source::Indexes, &JobIndex::ALL, false),
            (
                JobFilter { session: Some(SessionId::random()), ..any() },
                Source::Session,
                &JobIndex::ALL,
                false,
            ),
        ] {
            let selection = Selection::of(&filter);
            let found = (selection.source, selection.indexes.as_slice(), selection.is_exact);
            assert_eq!(found, (source, indexes, is_exact), "{filter:?}");
        }
    }

    #[test]
    fn parts_of_a_chunk_are_merged_down_to_the_floor() {
        let id = JobId::random_in(SessionId::random());
        let places = |created: &[i64]| created.iter().map(|created| (*created, id)).collect::<Vec<_>>();
        for (found, floor, all_last, expected) in [
            (&[5, 9, 7, 7][..], None, true, (&[9, 7, 5][..], true)),
            (&[5, 9, 7], Some(7), false, (&[9, 7], false)),
            (&[1, 2, 3, 4, 5], None, true, (&[5, 4, 3, 2], false)),
        ] {
            let floor = floor.map(|floor| (floor, id));
            let (expected, is_last) = expected;
            assert_eq!(merged(places(found), floor, all_last, 4), (places(expected), is_last), "{found:?}");
        }
    }
}
