//! Jobs by filter: a page with a cursor, or all pages one after the other.

use std::time::Duration;

use futures::Stream;
use futures::stream;
use legwork_common::job::Job;

use crate::error::QueueError;
use crate::operator::Operator;
use crate::port::JobFilter;
use crate::port::PageCursor;
use crate::port::Watch as _;

/// Jobs of one page of [`Operator::pages`]. A page is read in batches of 200 records, so a larger one saves nothing,
/// and a caller that shows progress hears often enough.
const PAGE_SIZE: usize = 500;

/// A job, and whether its worker still renews its lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedJob {
    /// The job.
    pub job: Job,
    /// How long ago the lease of a running job was last renewed, if it has expired: there was no heartbeat of its
    /// worker for so long. `None` while the lease holds, and for jobs that no worker holds.
    pub stale_for: Option<Duration>,
}

/// One page of a list, newest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listing {
    /// The jobs: as many as were asked for, or all that are left.
    pub jobs: Vec<ListedJob>,
    /// Where the next page begins; `None` after the last.
    pub next: Option<PageCursor>,
    /// How many jobs were read one by one because no index fits the filter.
    pub searched: u64,
}

impl Operator {
    /// One page of the jobs that `filter` selects, at most `limit`, those created before `after`.
    ///
    /// A cursor names a moment and an id, so jobs dispatched or deleted between two pages do not shift the others.
    ///
    /// # Errors
    ///
    /// [`QueueError`] when Redis cannot be reached.
    pub async fn list(
        &self,
        filter: &JobFilter,
        limit: usize,
        after: Option<PageCursor>,
    ) -> Result<Listing, QueueError> {
        let mut page = self.queue().list(filter, limit, after).await?;
        self.add_models(&mut page.jobs).await?;
        Ok(Listing { jobs: self.with_staleness(page.jobs).await?, next: page.next, searched: page.searched })
    }

    /// Every job that `filter` selects, newest first, in pages. After an error the stream ends.
    pub fn pages(&self, filter: JobFilter) -> impl Stream<Item = Result<Vec<Job>, QueueError>> + Send + '_ {
        // `None` is the beginning, `Some(None)` the end.
        let beginning: Option<Option<PageCursor>> = None;
        stream::try_unfold((filter, beginning), async move |(filter, place)| {
            let after = match place {
                None => None,
                Some(None) => return Ok(None),
                Some(after) => after,
            };
            let page = self.queue().list(&filter, PAGE_SIZE, after).await?;
            Ok(Some((page.jobs, (filter, Some(page.next)))))
        })
    }
}
