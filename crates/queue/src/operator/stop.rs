//! Stopping trees of jobs: one, or many at once, and waiting until everything below has ended.

use std::collections::VecDeque;
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

/// Time until the jobs of trees that are being stopped are read for the first time: a worker that is idle otherwise ends
/// a job within a few milliseconds. It is doubled up to [`MAX_SWEEP_INTERVAL`] while none has ended.
const FIRST_SWEEP_INTERVAL: Duration = Duration::from_millis(2);
/// A worker confirms a stop once its tools have ended: five reads a second are cheap and feel immediate.
const MAX_SWEEP_INTERVAL: Duration = Duration::from_millis(200);

/// Trees that are stopped together: one step ends those that wait, one round trip of short scripts marks the others.
const PAGE_SIZE: usize = 200;

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

impl StopRoot {
    /// The job at the top, unless it is a session.
    fn job(&self) -> Option<JobId> {
        match self {
            Self::Job(id) => Some(*id),
            Self::Session { .. } => None,
        }
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
    /// The top of each tree to stop so that every live job that `filter` selects ends. The filter's own states do not
    /// count.
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
        let report = self.stop_page(&[root]).await?.pop();
        report.unwrap_or(Err(StopError::NotFound { root }))
    }

    /// Stops trees, many with each round trip; one result for each, in their order.
    pub fn stop_many(
        &self,
        roots: Vec<StopRoot>,
    ) -> impl Stream<Item = Result<StopReport, StopError>> + Send + '_ {
        let pages: Vec<Vec<StopRoot>> = roots.chunks(PAGE_SIZE).map(<[StopRoot]>::to_vec).collect();
        let stop = move |page: Vec<StopRoot>| async move {
            match self.stop_page(&page).await {
                Ok(reports) => reports,
                Err(error) => vec![Err(error.into())],
            }
        };
        stream::iter(pages).then(stop).flat_map(stream::iter)
    }

    /// Stops one page of trees.
    async fn stop_page(&self, roots: &[StopRoot]) -> Result<Vec<Result<StopReport, StopError>>, QueueError> {
        // Before the marks, because the sweep that follows them ends queued jobs at once. What is dispatched in between
        // is stopped too and is only missing from the report.
        let mut reports = self.stop_waiting(roots).await?;
        let trees: Vec<StopRoot> = roots
            .iter()
            .zip(&reports)
            .filter(|(_, report)| report.is_none())
            .map(|(root, _)| *root)
            .collect();
        let below = self.live_below(&trees).await?;
        let outcomes = self.queue().mark_and_sweep(&trees, Asker::Operator, Cause::Operator).await?;
        let mut marked = trees.into_iter().zip(outcomes).zip(below).map(report_of);
        for report in &mut reports {
            if report.is_none() {
                *report = marked.next();
            }
        }
        Ok(reports.into_iter().flatten().collect())
    }

    /// Ends the jobs that wait and have dispatched none, without a mark each; `None` for what needs a mark.
    async fn stop_waiting(
        &self,
        roots: &[StopRoot],
    ) -> Result<Vec<Option<Result<StopReport, StopError>>>, QueueError> {
        let ids: Vec<JobId> = roots.iter().filter_map(StopRoot::job).collect();
        let mut outcomes = self.queue().stop_waiting(&ids, Cause::Operator).await?.into_iter();
        let report = |root: &StopRoot| match root.job().and_then(|_| outcomes.next())? {
            WaitingStop::Stopped => Some(Ok(StopReport::of_top(*root, StopReply::Stopping, true))),
            WaitingStop::AlreadyEnded(state) => {
                Some(Ok(StopReport::of_top(*root, StopReply::AlreadyEnded(state), true)))
            }
            WaitingStop::NotFound => Some(Err(StopError::NotFound { root: *root })),
            WaitingStop::Tree => None,
        };
        Ok(roots.iter().map(report).collect())
    }

    /// Waits until no job below a stop mark lives, then drops the mark. Jobs of a dead worker live until they are
    /// reclaimed, so a reaper has to run alongside. Dropping the future leaves the mark, which reapers sweep.
    ///
    /// # Errors
    ///
    /// [`QueueError`] when Redis cannot be reached.
    pub async fn until_stopped(&self, root: StopRoot) -> Result<(), QueueError> {
        let report = StopReport::of_top(root, StopReply::Stopping, false);
        self.until_first_ended(&mut VecDeque::from([Awaited { has_ended: false, report }])).await
    }

    /// Waits for many trees together, as [`Operator::until_stopped`]; yields each report in turn once its tree has ended.
    pub fn until_all_stopped(
        &self,
        reports: Vec<StopReport>,
    ) -> impl Stream<Item = Result<StopReport, QueueError>> + Send + '_ {
        let awaited: VecDeque<Awaited> =
            reports.into_iter().map(|report| Awaited { has_ended: report.is_over, report }).collect();
        stream::try_unfold(awaited, move |mut awaited| async move {
            self.until_first_ended(&mut awaited).await?;
            Ok(awaited.pop_front().map(|first| (first.report, awaited)))
        })
    }

    /// Waits until the first of these trees has ended, and notes which of the others have.
    async fn until_first_ended(&self, awaited: &mut VecDeque<Awaited>) -> Result<(), QueueError> {
        let mut interval = FIRST_SWEEP_INTERVAL;
        while awaited.front().is_some_and(|first| !first.has_ended) {
            if self.note_ended(awaited).await? {
                interval = FIRST_SWEEP_INTERVAL;
            } else {
                tokio::time::sleep(interval).await;
                interval = (interval * 2).min(MAX_SWEEP_INTERVAL);
            }
        }
        Ok(())
    }

    /// Notes which trees have ended since the last time, and drops their marks; a few round trips for all. Returns whether
    /// any has.
    async fn note_ended(&self, awaited: &mut VecDeque<Awaited>) -> Result<bool, QueueError> {
        let open: Vec<usize> = (0..awaited.len()).filter(|at| !awaited[*at].has_ended).collect();
        let jobs = open.iter().filter_map(|at| awaited[*at].report.root.job());
        // A tree lives while its root does, which costs much less to read than a sweep.
        let mut states = self.queue().states(&jobs.collect::<Vec<_>>()).await?.into_iter();
        let may_have_ended = |at: &usize| match awaited[*at].report.root {
            StopRoot::Job(_) => states.next().flatten().is_none_or(State::is_terminal),
            StopRoot::Session { .. } => true,
        };
        let ended: Vec<usize> = open.into_iter().filter(may_have_ended).collect();
        let sweeps = ended.iter().map(|at| self.queue().sweep_of(awaited[*at].report.root));
        let live = self.queue().sweep_all(&sweeps.collect::<Vec<_>>()).await?;
        let mut any = false;
        for (at, live) in ended.into_iter().zip(live) {
            awaited[at].has_ended = live == 0;
            any |= live == 0;
        }
        Ok(any)
    }

    /// The jobs below each top that have not ended.
    async fn live_below(&self, roots: &[StopRoot]) -> Result<Vec<LiveBelow>, QueueError> {
        let jobs: Vec<JobId> = roots.iter().filter_map(StopRoot::job).collect();
        let mut dispatchers = self.queue().dispatchers(&jobs).await?.into_iter();
        let mut below = Vec::with_capacity(roots.len());
        for root in roots {
            let dispatcher = match root {
                StopRoot::Session { id, .. } => Some((*id, Dispatcher::Root(*id))),
                StopRoot::Job(_) => dispatchers.next().flatten(),
            };
            below.push(match dispatcher {
                None => LiveBelow::default(),
                Some((session, dispatcher)) => self.queue().live_below(session, dispatcher).await?,
            });
        }
        Ok(below)
    }
}

/// A tree whose end is waited for.
#[derive(Debug)]
struct Awaited {
    report: StopReport,
    has_ended: bool,
}

/// The report of a tree for which a mark was asked.
fn report_of(
    ((root, outcome), below): ((StopRoot, StopOutcome), LiveBelow),
) -> Result<StopReport, StopError> {
    let LiveBelow { shown: below, count: live_below } = below;
    match outcome {
        StopOutcome::Marked(_) => {
            Ok(StopReport { root, reply: StopReply::Stopping, below, live_below, is_over: false })
        }
        StopOutcome::AlreadyEnded(state) => {
            Ok(StopReport::of_top(root, StopReply::AlreadyEnded(state), true))
        }
        StopOutcome::NotFound => Err(StopError::NotFound { root }),
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
