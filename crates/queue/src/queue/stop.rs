//! Stopping trees, on Redis: a durable mark, then a sweep of the records below it.

use std::collections::BTreeMap;

use futures::StreamExt as _;
use futures::stream;
use legwork_common::id::JobId;
use legwork_common::job::Cause;
use uuid::Uuid;

use crate::answer::Answer;
use crate::error::QueueError;
use crate::port::Asker;
use crate::port::StopOutcome;
use crate::port::StopRoot;
use crate::port::WaitingStop;
use crate::queue::Queue;
use crate::step;
use crate::step::Call;

/// Records of one page of a sweep: a job that it ends takes 20 us of the server's processor.
const SWEEP_PAGE_SIZE: usize = 100;
/// Trees that are walked at once: enough to hide the round trips of a few pages each.
const CONCURRENT_WALKS: usize = 16;

/// A sweep of the tree below a stop mark.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sweep {
    /// The shard of the tree.
    pub(super) shard: u16,
    /// The job or session that has the mark.
    pub(super) root: Uuid,
    /// Whether the root is itself a job to be stopped. Not for a session, nor for a job that failed.
    pub(super) includes_root: bool,
}

/// What one page of a sweep found.
#[derive(Debug)]
struct SweptPage {
    /// How many of its jobs live.
    live: u64,
    /// The sequence at which the next page begins, if there is one.
    following: Option<u64>,
    /// The latest stop request of the mark.
    request: String,
    /// Whether the whole tree was swept for this request before: then no job below can have become alive since.
    was_swept: bool,
}

/// The positions of ids by their shard.
pub(super) fn by_shard(ids: &[JobId], shards: u16) -> BTreeMap<u16, Vec<usize>> {
    let mut positions: BTreeMap<u16, Vec<usize>> = BTreeMap::new();
    for (at, id) in ids.iter().enumerate() {
        positions.entry(id.shard(shards)).or_default().push(at);
    }
    positions
}

impl Queue {
    /// The sweep of a tree that is to be stopped.
    pub(crate) fn sweep_of(&self, root: StopRoot) -> Sweep {
        let (shard, root, includes_root) = match root {
            StopRoot::Job(id) => (id.shard(self.keys.shards()), id.uuid(), true),
            StopRoot::Session { id, .. } => (id.shard(self.keys.shards()), id.uuid(), false),
        };
        Sweep { shard, root, includes_root }
    }

    /// Marks trees as being stopped, and sweeps each once: a few round trips for all of them, whose trees are then walked
    /// where they have any. Jobs that a worker holds are left to the worker, and the marks to the sweeps of `reap`. One
    /// outcome for each root.
    pub(crate) async fn mark_and_sweep(
        &self,
        roots: &[StopRoot],
        asker: Asker,
        why: Cause,
    ) -> Result<Vec<StopOutcome>, QueueError> {
        let askers = self.askers(roots, asker).await?;
        let calls = roots.iter().zip(&askers).map(|(root, asker)| self.stop_call(*root, asker, why));
        let answers = step::STOP.call_all(&self.link, &calls.collect::<Vec<_>>()).await?;
        let (mut outcomes, mut sweeps) = (Vec::with_capacity(roots.len()), Vec::new());
        for (root, answer) in roots.iter().zip(answers) {
            let (word, mut rest) = answer.tagged()?;
            outcomes.push(match word.as_str() {
                "marked" => {
                    sweeps.push(self.sweep_of(*root));
                    StopOutcome::Marked(Cause::from_stored(&rest.item()?.text()?))
                }
                "ended" => StopOutcome::AlreadyEnded(rest.item()?.parse()?),
                "missing" => StopOutcome::NotFound,
                _ => return Err(word.unknown()),
            });
        }
        self.sweep_all(&sweeps).await?;
        Ok(outcomes)
    }

    fn stop_call(&self, root: StopRoot, asker: &str, why: Cause) -> Call {
        let (kind, closes) = match root {
            StopRoot::Job(_) => ("job", false),
            StopRoot::Session { close, .. } => ("session", close),
        };
        let sweep = self.sweep_of(root);
        let call = Call::on(self.keys.tag(sweep.shard)).arg(sweep.root).arg(kind);
        call.arg(asker).arg(why).arg(u8::from(closes))
    }

    /// What the marks name as the requester: for the root of a session that session, which is read for a job.
    async fn askers(&self, roots: &[StopRoot], asker: Asker) -> Result<Vec<String>, QueueError> {
        let named = match asker {
            Asker::Operator => String::new(),
            Asker::Job(id) => id.uuid().to_string(),
            Asker::Root => {
                let mut askers = Vec::with_capacity(roots.len());
                for root in roots {
                    askers.push(match root {
                        StopRoot::Session { id, .. } => id.to_string(),
                        StopRoot::Job(id) => self.session_of(*id).await?,
                    });
                }
                return Ok(askers);
            }
        };
        Ok(vec![named; roots.len()])
    }

    /// The session of a job, or an empty text for a job that does not exist.
    async fn session_of(&self, id: JobId) -> Result<String, QueueError> {
        let sessions = self.sessions_of(&[id]).await?;
        Ok(sessions.first().map(ToString::to_string).unwrap_or_default())
    }

    /// Sweeps trees, and answers how many jobs live in each, as [`Self::sweep_tree`] does. Jobs that have dispatched none
    /// take two round trips together; the other trees are walked, several at once.
    pub(crate) async fn sweep_all(&self, sweeps: &[Sweep]) -> Result<Vec<u64>, QueueError> {
        let mut live = vec![0; sweeps.len()];
        let (jobs, mut trees): (Vec<usize>, Vec<usize>) =
            (0..sweeps.len()).partition(|at| sweeps[*at].includes_root);
        let calls: Vec<Call> = jobs.iter().map(|at| self.sweep_call(sweeps[*at], None)).collect();
        let mut swept = Vec::new();
        for (at, answer) in jobs.into_iter().zip(step::SWEEP.call_all(&self.link, &calls).await?) {
            let mut dispatched = Vec::new();
            match read_page(answer, &mut dispatched)? {
                // Another sweep has dropped the mark, because it found no job alive.
                None => {}
                Some(_) if !dispatched.is_empty() => trees.push(at),
                Some(page) => {
                    live[at] = page.live;
                    swept.push(self.unmark_call(sweeps[at], &page.request, page.live));
                }
            }
        }
        step::UNMARK.call_all(&self.link, &swept).await?;
        let mut walks =
            stream::iter(trees.into_iter().map(|at| async move { (at, self.sweep_tree(sweeps[at]).await) }))
                .buffer_unordered(CONCURRENT_WALKS);
        while let Some((at, walked)) = walks.next().await {
            live[at] = walked?;
        }
        Ok(live)
    }

    /// Stops the jobs of each shard that wait, a batch in one step.
    pub(super) async fn stop_waiting_in_batches(
        &self,
        ids: &[JobId],
        why: Cause,
    ) -> Result<Vec<WaitingStop>, QueueError> {
        let mut outcomes = vec![WaitingStop::NotFound; ids.len()];
        for (shard, positions) in by_shard(ids, self.keys.shards()) {
            for batch in positions.chunks(SWEEP_PAGE_SIZE) {
                let mut call = Call::on(self.keys.tag(shard)).arg(why);
                batch.iter().for_each(|at| call.push(ids[*at].uuid()));
                let words = step::STOP_WAITING.call(&self.link, &call).await?.items()?;
                for (at, word) in batch.iter().zip(words) {
                    let word = word.word()?;
                    outcomes[*at] = match word.as_str() {
                        "done" => WaitingStop::Stopped,
                        "tree" => WaitingStop::Tree,
                        "missing" => WaitingStop::NotFound,
                        _ => WaitingStop::AlreadyEnded(word.parse()?),
                    };
                }
            }
        }
        Ok(outcomes)
    }

    /// Walks the tree below a mark and ends its records in pages, parents before their children. Drops the mark if no
    /// job below it lives. Returns how many do; of a tree that was swept before only whether any does, because the sweep
    /// ends at the first page with one. May be cut off anywhere and started again.
    pub(super) async fn sweep_tree(&self, sweep: Sweep) -> Result<u64, QueueError> {
        let mut live = 0;
        // That of the first page: the mark is dropped only if no later request came while the sweep was under way.
        let mut request = None;
        let mut was_swept = false;
        let mut walk = vec![sweep.root];
        if sweep.includes_root {
            // Its children are walked below, so what it dispatched is not collected here.
            let Some(page) = self.sweep_page(sweep, None, &mut Vec::new()).await? else { return Ok(0) };
            live += page.live;
            request.get_or_insert(page.request);
            was_swept = page.was_swept;
        }
        while let Some(dispatcher) = walk.pop() {
            let mut first = Some(0);
            while let Some(sequence) = first.filter(|_| live == 0 || !was_swept) {
                let Some(page) = self.sweep_page(sweep, Some((dispatcher, sequence)), &mut walk).await?
                else {
                    return Ok(0);
                };
                live += page.live;
                first = page.following;
                request.get_or_insert(page.request);
                was_swept = page.was_swept;
            }
        }
        let call = self.unmark_call(sweep, &request.unwrap_or_default(), live);
        step::UNMARK.call(&self.link, &call).await?;
        Ok(live)
    }

    /// Sweeps the root itself, or one page of a dispatcher's children from a sequence on. Jobs of the page that
    /// dispatched jobs are added to `walk`. `None` where another sweep dropped the mark: then it had found no job
    /// alive.
    async fn sweep_page(
        &self,
        sweep: Sweep,
        children: Option<(Uuid, u64)>,
        walk: &mut Vec<Uuid>,
    ) -> Result<Option<SweptPage>, QueueError> {
        let answer = step::SWEEP.call(&self.link, &self.sweep_call(sweep, children)).await?;
        read_page(answer, walk)
    }

    fn sweep_call(&self, sweep: Sweep, children: Option<(Uuid, u64)>) -> Call {
        let (target, dispatcher, first) = match children {
            None => ("self", sweep.root, 0),
            Some((dispatcher, first)) => ("children", dispatcher, first),
        };
        let call = Call::on(self.keys.tag(sweep.shard)).arg(sweep.root).arg(target);
        call.arg(dispatcher).arg(first).arg(SWEEP_PAGE_SIZE)
    }

    fn unmark_call(&self, sweep: Sweep, request: &str, live: u64) -> Call {
        Call::on(self.keys.tag(sweep.shard)).arg(sweep.root).arg(request).arg(u8::from(live > 0))
    }
}

/// Reads what one page found; jobs that have dispatched some are added to `walk`. `None` without a mark.
fn read_page(answer: Answer, walk: &mut Vec<Uuid>) -> Result<Option<SweptPage>, QueueError> {
    let mut items = answer.items()?;
    let live: i64 = items.item()?.parse()?;
    let following: i64 = items.item()?.parse()?;
    let request = items.item()?.text()?;
    let was_swept = items.item()?.parse::<u8>()? == 1;
    for id in items {
        walk.push(id.parse()?);
    }
    let following = u64::try_from(following).ok();
    Ok(u64::try_from(live).ok().map(|live| SweptPage { live, following, request, was_swept }))
}
