//! Stopping trees of jobs: one, or many at once, and waiting until everything below has ended.

use std::fmt;
use std::time::Duration;

use futures::Stream;
use futures::StreamExt as _;
use futures::stream;
use legwork_common::error::Coded;
use legwork_common::error::ExitStatus;
use legwork_common::id::Dispatcher;
use legwork_common::id::JobId;
use legwork_common::job::Cause;
use legwork_common::job::Job;
use legwork_common::lifecycle::State;
use legwork_common::service::StopReply;
use thiserror::Error;

use crate::error::QueueError;
use crate::operator::Operator;
use crate::operator::SEE_LIST;
use crate::port::Asker;
use crate::port::Dispatch as _;
use crate::port::JobFilter;
use crate::port::StopOutcome;
use crate::port::StopRoot;
use crate::port::WaitingStop;
use crate::port::Watch as _;
use crate::queue::LiveBelow;

/// How often a tree that is being stopped is swept until nothing below lives. A sweep is a round trip for each page of
/// records, and a worker confirms a stop once its tools have ended: five sweeps a second are cheap and feel immediate.
const SWEEP_INTERVAL: Duration = Duration::from_millis(200);

/// Trees that are marked, or waited for, at once. Their calls share the connections, so a thousand stops cost a few dozen
/// round trips in a row; more at once would only wait for the server.
const CONCURRENT_STOPS: usize = 64;

/// Trees of one step that ends those that wait.
const CHUNK_SIZE: usize = 200;

/// Why a tree was not stopped.
#[derive(Debug, Error)]
pub enum StopError {
    /// The job or the session is not stored.
    #[error("{} not found: {root}", kind(*root))]
    NotFound {
        /// The top of the tree.
        root: StopRoot,
    },
    /// Redis could not be asked; the stop mark may or may not be written, and the call may be repeated.
    #[error(transparent)]
    Queue(#[from] QueueError),
}

impl Coded for StopError {
    fn code(&self) -> &'static str {
        match self {
            Self::NotFound { .. } => "not_found",
            Self::Queue(error) => error.code(),
        }
    }

    fn exit(&self) -> ExitStatus {
        match self {
            Self::NotFound { .. } => ExitStatus::NotFound,
            Self::Queue(error) => error.exit(),
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::NotFound { .. } => Some(SEE_LIST.to_owned()),
            Self::Queue(error) => error.hint(),
        }
    }
}

/// What a stop's top is called in messages.
fn kind(root: StopRoot) -> &'static str {
    match root {
        StopRoot::Job(_) => "task",
        StopRoot::Session { .. } => "session",
    }
}

/// Writes the id of the job or of the session.
impl fmt::Display for StopRoot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Job(id) => id.fmt(f),
            Self::Session { id, .. } => id.fmt(f),
        }
    }
}

/// How the stop of one tree was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StopReport {
    /// The top of the tree.
    pub root: StopRoot,
    /// Whether its stop mark is written, or the job had ended before.
    pub reply: StopReply,
    /// The jobs below the top that had not ended when the mark was written: those that this stop ends. Of more than 50
    /// that wait the oldest 50.
    pub below: Vec<JobId>,
    /// How many jobs below the top had not ended.
    pub live_below: u64,
    /// Whether the top waited and has ended: there is nothing to wait for.
    pub is_over: bool,
}

impl StopReport {
    /// The report of a job with nothing below that this stop ends.
    fn of_top(root: StopRoot, reply: StopReply, is_over: bool) -> Self {
        Self { root, reply, below: Vec::new(), live_below: 0, is_over }
    }

    /// How many jobs this stop ends, the top included.
    pub fn count(&self) -> u64 {
        let is_job = matches!(self.root, StopRoot::Job(_)) && self.reply == StopReply::Stopping;
        self.live_below + u64::from(is_job)
    }
}

impl Operator {
    /// The top of each tree to stop so that every live job that `filter` selects ends. The filter's own states are not
    /// looked at.
    ///
    /// # Errors
    ///
    /// [`QueueError`] when Redis cannot be reached.
    pub async fn live_trees(&self, filter: JobFilter) -> Result<Vec<StopRoot>, QueueError> {
        let live = State::ALL.into_iter().filter(|state| !state.is_terminal()).collect();
        let ids = self.queue().selected_ids(&JobFilter { states: live, ..filter }).await?;
        Ok(ids.into_iter().map(StopRoot::Job).collect())
    }

    /// Stops a tree, cause `operator`: no job below starts from now on, and what runs is asked to end.
    ///
    /// The stop mark is durable when this answers. If the caller dies before the records below are ended, reapers
    /// continue from the mark.
    ///
    /// # Errors
    ///
    /// [`StopError`] when the job or session is not stored, or when Redis cannot be reached.
    pub async fn stop(&self, root: StopRoot) -> Result<StopReport, StopError> {
        // Before the mark, because the sweep that follows it ends queued jobs at once. What is dispatched in between
        // is stopped too and is only missing from the report.
        let LiveBelow { shown: below, count: live_below } = self.live_below(root).await?;
        match self.observer().stop(root, Asker::Operator, Cause::Operator).await? {
            StopOutcome::Marked(_) => {
                Ok(StopReport { root, reply: StopReply::Stopping, below, live_below, is_over: false })
            }
            StopOutcome::AlreadyEnded(state) => {
                Ok(StopReport::of_top(root, StopReply::AlreadyEnded(state), true))
            }
            StopOutcome::NotFound => Err(StopError::NotFound { root }),
        }
    }

    /// Stops trees, many at once; one result for each, in their order. Jobs that wait and dispatched none are ended 200
    /// at a time, without a mark each.
    pub fn stop_many(
        &self,
        roots: Vec<StopRoot>,
    ) -> impl Stream<Item = Result<StopReport, StopError>> + Send + '_ {
        let chunks: Vec<Vec<StopRoot>> = roots.chunks(CHUNK_SIZE).map(<[StopRoot]>::to_vec).collect();
        stream::iter(chunks).then(move |chunk| self.stop_chunk(chunk)).flat_map(stream::iter)
    }

    /// Stops some trees: first all jobs that wait, then the others, each with a mark.
    async fn stop_chunk(&self, roots: Vec<StopRoot>) -> Vec<Result<StopReport, StopError>> {
        let ids: Vec<JobId> = roots.iter().filter_map(|root| job_of(*root)).collect();
        let mut outcomes = match self.queue().stop_waiting(&ids, Cause::Operator).await {
            Ok(outcomes) => outcomes.into_iter(),
            Err(error) => return vec![Err(error.into())],
        };
        let decided: Vec<_> = roots
            .into_iter()
            .map(|root| {
                let outcome = job_of(root).and_then(|_| outcomes.next()).unwrap_or(WaitingStop::Tree);
                (root, outcome)
            })
            .collect();
        let stop = move |(root, outcome)| async move {
            match outcome {
                WaitingStop::Stopped => Ok(StopReport::of_top(root, StopReply::Stopping, true)),
                WaitingStop::AlreadyEnded(state) => {
                    Ok(StopReport::of_top(root, StopReply::AlreadyEnded(state), true))
                }
                WaitingStop::NotFound => Err(StopError::NotFound { root }),
                WaitingStop::Tree => self.stop(root).await,
            }
        };
        stream::iter(decided).map(stop).buffered(CONCURRENT_STOPS).collect().await
    }

    /// Waits until no job below a stop mark lives, then drops the mark. Jobs of a dead worker live until they are
    /// reclaimed, so a reaper has to run alongside. Dropping the future leaves the mark, which reapers sweep.
    ///
    /// # Errors
    ///
    /// [`QueueError`] when Redis cannot be reached.
    pub async fn until_stopped(&self, root: StopRoot) -> Result<(), QueueError> {
        while self.queue().sweep(root).await? > 0 {
            tokio::time::sleep(SWEEP_INTERVAL).await;
        }
        Ok(())
    }

    /// Waits for many trees at once, as [`Operator::until_stopped`]; yields each report in turn once its tree has ended.
    pub fn until_all_stopped(
        &self,
        reports: Vec<StopReport>,
    ) -> impl Stream<Item = Result<StopReport, QueueError>> + Send + '_ {
        let wait = move |report: StopReport| async move {
            if !report.is_over {
                self.until_stopped(report.root).await?;
            }
            Ok(report)
        };
        stream::iter(reports).map(wait).buffered(CONCURRENT_STOPS)
    }

    /// The jobs below the top that have not ended.
    async fn live_below(&self, root: StopRoot) -> Result<LiveBelow, QueueError> {
        let (session, dispatcher) = match root {
            StopRoot::Session { id, .. } => (id, Dispatcher::Root(id)),
            StopRoot::Job(id) => match self.queue().jobs(&[id]).await?.pop().flatten() {
                Some(Job { session, .. }) => (session, Dispatcher::Job(id)),
                None => return Ok(LiveBelow::default()),
            },
        };
        self.queue().live_below(session, dispatcher).await
    }
}

/// The job at the top of a tree; `None` for a session.
fn job_of(root: StopRoot) -> Option<JobId> {
    match root {
        StopRoot::Job(id) => Some(id),
        StopRoot::Session { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use legwork_common::id::SessionId;

    use super::*;

    #[test]
    fn a_missing_tree_is_named_by_its_kind() {
        let session = SessionId::random();
        let job = JobId::random_in(session);
        for (root, message) in [
            (StopRoot::Job(job), format!("task not found: {job}")),
            (StopRoot::Session { id: session, close: true }, format!("session not found: {session}")),
        ] {
            assert_eq!(StopError::NotFound { root }.to_string(), message);
        }
    }
}
