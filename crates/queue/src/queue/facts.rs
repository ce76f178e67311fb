//! What a filter needs of a job, on Redis: short fields of its record, without task and result.

use legwork_common::id::Dispatcher;
use legwork_common::id::JobId;
use legwork_common::id::SessionId;
use legwork_common::id::WorkerId;
use legwork_common::job::Cause;
use legwork_common::lifecycle::State;

use crate::answer::Answer;
use crate::error::QueueError;
use crate::port::JobFilter;
use crate::queue::Queue;
use crate::queue::record;
use crate::queue::record::ASKED;
use crate::queue::select::MAX_SET_SIZE;
use crate::stored;

/// Jobs of one pipelined read: short fields only, some 200 kB in all.
const BATCH_SIZE: usize = 1000;
/// Waiting jobs below a stopped tree that are named: two screens of a terminal.
const MAX_WAITING_SHOWN: usize = 50;
/// The fields of a record that are read, in this order.
const FIELDS: [&str; 5] = ["state", "worker", "cause", "retried_as", "dispatched"];

/// What a filter needs of a job.
#[derive(Debug, Clone)]
pub(super) struct Facts {
    pub(super) id: JobId,
    /// By Redis' clock, in milliseconds.
    pub(super) created: i64,
    pub(super) state: State,
    session: Option<SessionId>,
    agent: String,
    queue: String,
    worker: Option<WorkerId>,
    cause: Option<Cause>,
    is_retried: bool,
    /// Whether it dispatched jobs, some of which may still be stored.
    has_dispatched: bool,
}

impl Facts {
    /// Whether a filter selects the job, its age apart.
    pub(super) fn matches(&self, filter: &JobFilter) -> bool {
        (filter.states.is_empty() || filter.states.contains(&self.state))
            && filter.agent.as_ref().is_none_or(|agent| *agent == self.agent)
            && filter.session.is_none_or(|session| Some(session) == self.session)
            && filter.queue.as_ref().is_none_or(|queue| *queue == self.queue)
            && filter.worker.as_ref().is_none_or(|worker| Some(worker) == self.worker.as_ref())
            && filter.cause.is_none_or(|cause| Some(cause) == self.cause)
            && !(filter.without_retried && self.is_retried)
    }
}

/// The jobs below a dispatcher that have not ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct LiveBelow {
    /// All that a worker holds, and the oldest 50 of those that wait.
    pub(crate) shown: Vec<JobId>,
    /// How many there are.
    pub(crate) count: u64,
}

/// Selects the jobs that are shown, oldest first, and counts all.
fn live(mut facts: Vec<Facts>) -> LiveBelow {
    facts.retain(|facts| !facts.state.is_terminal());
    facts.sort_unstable_by_key(|facts| (facts.created, facts.id));
    let count = facts.len() as u64;
    let mut waiting = 0;
    facts.retain(|facts| {
        waiting += usize::from(!facts.state.is_held());
        facts.state.is_held() || waiting <= MAX_WAITING_SHOWN
    });
    LiveBelow { shown: facts.into_iter().map(|facts| facts.id).collect(), count }
}

impl Queue {
    /// The jobs below a dispatcher that have not ended, however many there are: one short read for each job below it.
    pub(crate) async fn live_below(
        &self,
        session: SessionId,
        of: Dispatcher,
    ) -> Result<LiveBelow, QueueError> {
        Ok(live(self.facts_below(session, of).await?))
    }

    /// Reads the facts of jobs, without those that are not stored.
    pub(super) async fn facts(&self, ids: &[JobId]) -> Result<Vec<Facts>, QueueError> {
        let mut facts = Vec::with_capacity(ids.len());
        for batch in ids.chunks(BATCH_SIZE) {
            let mut pipeline = redis::pipe();
            for id in batch {
                pipeline.cmd("HMGET").arg(self.keys.job(*id)).arg(&FIELDS);
                record::push_facts(&mut pipeline, self, *id);
            }
            let mut answers = self.link.ask_all(ASKED, &pipeline).await?;
            for id in batch {
                facts.extend(read(*id, answers.item()?, answers.item()?)?);
            }
        }
        Ok(facts)
    }

    /// The facts of all jobs of a session, from the root down; `None` for a session with more than 20,000.
    pub(super) async fn facts_of_session(
        &self,
        session: SessionId,
    ) -> Result<Option<Vec<Facts>>, QueueError> {
        let count = redis::cmd("HGET").arg(self.keys.session(session)).arg("jobs").to_owned();
        let count: Option<u64> = self.link.ask(ASKED, &count).await?.parse_optional()?;
        if count.unwrap_or(0) > MAX_SET_SIZE {
            return Ok(None);
        }
        self.facts_below(session, Dispatcher::Root(session)).await.map(Some)
    }

    /// The facts of all jobs below a dispatcher.
    pub(super) async fn facts_below(
        &self,
        session: SessionId,
        of: Dispatcher,
    ) -> Result<Vec<Facts>, QueueError> {
        let mut all = Vec::new();
        let mut walk = vec![of];
        while !walk.is_empty() {
            let mut pipeline = redis::pipe();
            for dispatcher in walk.drain(..) {
                pipeline.cmd("ZRANGE").arg(self.keys.children(session, dispatcher)).arg(0).arg(-1);
            }
            let mut ids: Vec<JobId> = Vec::new();
            for answer in self.link.ask_all(ASKED, &pipeline).await? {
                for id in answer.items()? {
                    ids.push(id.parse()?);
                }
            }
            let level = self.facts(&ids).await?;
            walk.extend(
                level.iter().filter(|facts| facts.has_dispatched).map(|facts| Dispatcher::Job(facts.id)),
            );
            all.extend(level);
        }
        Ok(all)
    }
}

/// Reads one job's facts; `None` for a job that is not stored. A state that this release does not know counts as
/// `running`, as in its record.
fn read(id: JobId, record: Answer, dispatched: Answer) -> Result<Option<Facts>, QueueError> {
    let mut fields = record.items()?;
    let mut text = || fields.item()?.optional_text().map(Option::unwrap_or_default);
    let state = text()?;
    let dispatched = dispatched.text()?;
    let facts = stored::facts::known(&dispatched).ok();
    let state = match (state.as_str(), &facts) {
        ("", None) => return Ok(None),
        ("", Some(facts)) => facts.first_state,
        (state, _) => state.parse().unwrap_or(State::Running),
    };
    Ok(Some(Facts {
        id,
        state,
        created: facts.as_ref().and_then(|facts| facts.created.try_into().ok()).unwrap_or(0),
        session: facts.as_ref().map(|facts| facts.session),
        agent: stored::request::agent(&dispatched).unwrap_or_default(),
        queue: facts.map(|facts| facts.queue).unwrap_or_default(),
        worker: Some(text()?).filter(|name| !name.is_empty()).map(WorkerId::from_stored),
        cause: Some(text()?).filter(|word| !word.is_empty()).map(|word| Cause::from_stored(&word)),
        is_retried: !text()?.is_empty(),
        has_dispatched: !text()?.is_empty(),
    }))
}
