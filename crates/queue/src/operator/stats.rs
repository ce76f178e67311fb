//! What the fleet does: queues, agents, workers, and what ended lately, counted; in buckets of time in `history`.

mod history;

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::time::Duration;

use jiff::Timestamp;
use legwork_common::job::Usage;
use legwork_common::job::optional_rfc3339;
use legwork_common::job::rfc3339;
use legwork_common::lifecycle::State;
use legwork_common::money::Money;
use serde::Serialize;

pub use self::history::Buckets;
pub use self::history::History;
use crate::error::QueueError;
use crate::operator::Operator;
use crate::operator::models::AgentModel;
use crate::operator::workers::WorkerCondition;
use crate::port::Asking;
use crate::port::Questions as _;
use crate::port::WorkerRecord;
use crate::queue::JobFacts;
use crate::queue::Sample;

/// Live jobs that are counted, each with a short read: a bound on what one call costs.
const MAX_LIVE: usize = 200_000;
/// Ended jobs that are counted, the last ones: a busy fleet ends more in a day than anyone waits for.
const MAX_ENDED: usize = 50_000;
/// The times that ended jobs are counted for.
const WINDOWS: [Duration; 2] = [Duration::from_secs(3600), Duration::from_secs(24 * 3600)];

/// What the fleet does, as of one reading.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FleetStats {
    /// When it was read, by Redis' clock.
    #[serde(serialize_with = "rfc3339")]
    pub at: Timestamp,
    /// The queues that have jobs or workers or are paused, by name.
    pub queues: Vec<QueueStats>,
    /// The agents that have live jobs, by name.
    pub agents: Vec<AgentStats>,
    /// The workers.
    pub workers: WorkerStats,
    /// Jobs that have not ended.
    pub live: Counted,
    /// Those of them that wait for a person.
    pub asking: AskingStats,
    /// What ended within the last hour, and within the last day.
    pub ended: Vec<EndedStats>,
}

/// How many there are, and how many of them were read and counted; fewer only where there are very many.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counted {
    /// How many there are.
    pub total: u64,
    /// How many of them are in the numbers next to this.
    pub counted: u64,
}

/// One queue.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct QueueStats {
    /// Its name.
    pub queue: String,
    /// Jobs that wait for a worker, or for their session's cap.
    pub queued: u64,
    /// Jobs that are due later.
    pub scheduled: u64,
    /// Jobs that a worker runs.
    pub running: u64,
    /// Jobs that wait for others and hold no slot.
    pub waiting: u64,
    /// How long ago the oldest queued job was dispatched.
    pub oldest_queued_ms: Option<u64>,
    /// Workers that take jobs of this queue.
    pub workers: u64,
    /// Their slots; those of a worker of several queues count for each.
    pub slots: u64,
    /// Those of them in use.
    pub used: u64,
    /// Since when it is paused.
    #[serde(serialize_with = "optional_rfc3339")]
    pub paused_since: Option<Timestamp>,
}

/// The live jobs of one agent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct AgentStats {
    /// Its name.
    pub agent: String,
    /// Jobs that wait for a worker, a cap or their time.
    pub queued: u64,
    /// Jobs that a worker holds.
    pub running: u64,
}

/// The workers, by how they do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct WorkerStats {
    /// Those that take jobs.
    pub serving: u64,
    /// Those that end.
    pub draining: u64,
    /// Those without a heartbeat for a lease or longer.
    pub lost: u64,
    /// Those that give back all jobs.
    pub sick: u64,
    /// The slots of all that are not lost.
    pub slots: u64,
    /// Those of them in use.
    pub used: u64,
}

/// Jobs that wait for a person.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct AskingStats {
    /// How many.
    pub jobs: u64,
    /// How long the first of them has waited.
    pub oldest_ms: Option<u64>,
}

/// What ended within some time.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct EndedStats {
    /// The time, in milliseconds.
    pub within_ms: u64,
    /// How many ended.
    #[serde(flatten)]
    pub jobs: Counted,
    /// Those that completed.
    pub completed: u64,
    /// Those that failed.
    pub failed: u64,
    /// Those that were stopped.
    pub stopped: u64,
    /// Failed and stopped ones by cause.
    pub causes: BTreeMap<String, u64>,
    /// What they used together.
    pub usage: Usage,
    /// What those with a known price cost.
    pub cost_usd: Money,
    /// How many have none.
    pub unpriced: u64,
    /// The same by model, the most expensive first.
    pub models: Vec<SpentStats>,
    /// The same by agent, the most expensive first.
    pub agents: Vec<SpentStats>,
}

/// What the ended jobs of one model, or of one agent, used and cost.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct SpentStats {
    /// The model or the agent.
    pub name: String,
    /// How many jobs.
    pub jobs: u64,
    /// What they used together.
    pub usage: Usage,
    /// What they cost; `None` without a known price.
    pub cost_usd: Option<Money>,
}

/// The model of a job and what it cost, where these are known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Spent {
    model: Option<String>,
    cost: Option<Money>,
}

impl Operator {
    /// Counts jobs, workers and what ended lately. Reads short facts of at most 200,000 live jobs and of the last 50,000
    /// that ended within a day; the numbers say where there were more.
    ///
    /// # Errors
    ///
    /// [`QueueError`] when Redis cannot be reached.
    pub async fn stats(&self) -> Result<FleetStats, QueueError> {
        Ok(self.read_fleet().await?.stats())
    }

    /// The same with what was dispatched and what ended over time; it reads no more.
    ///
    /// # Errors
    ///
    /// [`QueueError`] when Redis cannot be reached.
    pub async fn stats_and_history(&self) -> Result<(FleetStats, History), QueueError> {
        let read = self.read_fleet().await?;
        let history = History::of(&read.live.jobs, &read.ended.jobs, &read.spent, read.at);
        Ok((read.stats(), history))
    }

    async fn read_fleet(&self) -> Result<Reading, QueueError> {
        let queue = self.queue();
        let at = queue.now().await?;
        let live = queue.live_facts(MAX_LIVE).await?;
        let ended = queue.ended_facts(WINDOWS[1], MAX_ENDED).await?;
        let workers = self.workers().await?;
        let workers: Vec<(WorkerRecord, WorkerCondition)> = workers
            .into_iter()
            .map(|worker| {
                let condition = self.condition(&worker);
                (worker, condition)
            })
            .collect();
        let paused = self.paused().await?;
        let spent = self.spent(&ended.jobs).await?;
        let asking = queue.asking(1).await?;
        Ok(Reading { at, live, ended, spent, workers, paused, asking })
    }
}

/// What one reading of the fleet found.
#[derive(Debug)]
struct Reading {
    at: Timestamp,
    live: Sample,
    ended: Sample,
    /// One for each ended job.
    spent: Vec<Spent>,
    workers: Vec<(WorkerRecord, WorkerCondition)>,
    paused: BTreeMap<String, Timestamp>,
    asking: Asking,
}

impl Reading {
    fn stats(&self) -> FleetStats {
        let Self { at, live, ended, spent, workers, paused, asking } = self;
        let now_ms = u64::try_from(at.as_millisecond()).unwrap_or(0);
        FleetStats {
            at: *at,
            queues: queues(&live.jobs, workers, paused, *at),
            agents: agents(&live.jobs),
            workers: fleet(workers),
            asking: AskingStats {
                jobs: asking.total,
                oldest_ms: asking.since.map(|since| now_ms.saturating_sub(since)),
            },
            live: Counted { total: live.total, counted: live.jobs.len() as u64 },
            ended: WINDOWS.iter().map(|within| ended_within(ended, spent, *within, *at)).collect(),
        }
    }
}

impl Operator {
    /// What each of these jobs cost. Each team is read once.
    async fn spent(&self, jobs: &[JobFacts]) -> Result<Vec<Spent>, QueueError> {
        // By team and agent, of which there are few.
        let mut known: HashMap<(&str, &str), Option<AgentModel>> = HashMap::new();
        let mut spent = Vec::with_capacity(jobs.len());
        for job in jobs {
            let key = (job.team.0.as_str(), job.agent.as_str());
            let model = match (known.get(&key), job.session) {
                (Some(model), _) => model.clone(),
                (None, Some(session)) => {
                    let model = self.model_of(session, &job.team, &job.agent).await?;
                    known.insert(key, model.clone());
                    model
                }
                (None, None) => None,
            };
            let cost = model.as_ref().and_then(|model| self.price_of(model)).map(|price| price.of(job.usage));
            spent.push(Spent { model: model.and_then(|model| model.names), cost });
        }
        Ok(spent)
    }
}

/// The queues with their jobs, workers and pauses.
fn queues(
    live: &[JobFacts],
    workers: &[(WorkerRecord, WorkerCondition)],
    paused: &BTreeMap<String, Timestamp>,
    now: Timestamp,
) -> Vec<QueueStats> {
    let mut queues: BTreeMap<String, QueueStats> = BTreeMap::new();
    for job in live {
        let queue = queues.entry(job.queue.clone()).or_default();
        match job.state {
            State::Queued => {
                queue.queued += 1;
                let age = milliseconds_between(job.created, now);
                queue.oldest_queued_ms = queue.oldest_queued_ms.max(Some(age));
            }
            State::Scheduled => queue.scheduled += 1,
            State::Waiting => queue.waiting += 1,
            State::Running | State::Stopping | State::Reaping => queue.running += 1,
            State::Completed | State::Failed | State::Stopped => {}
        }
    }
    for (worker, condition) in workers {
        let takes = matches!(condition, WorkerCondition::Serving | WorkerCondition::Sick(_));
        // A session's own lane is not a queue.
        for lane in worker.lanes.iter().filter(|lane| takes && !lane.starts_with('@')) {
            let queue = queues.entry(lane.clone()).or_default();
            queue.workers += 1;
            queue.slots += u64::from(worker.slots);
            queue.used += u64::from(worker.used);
        }
    }
    for (name, since) in paused {
        queues.entry(name.clone()).or_default().paused_since = Some(*since);
    }
    queues.into_iter().map(|(queue, stats)| QueueStats { queue, ..stats }).collect()
}

fn agents(live: &[JobFacts]) -> Vec<AgentStats> {
    let mut agents: BTreeMap<&str, AgentStats> = BTreeMap::new();
    for job in live {
        let agent = agents.entry(&job.agent).or_default();
        if job.state.is_held() || job.state == State::Reaping {
            agent.running += 1;
        } else {
            agent.queued += 1;
        }
    }
    agents.into_iter().map(|(agent, stats)| AgentStats { agent: agent.to_owned(), ..stats }).collect()
}

fn fleet(workers: &[(WorkerRecord, WorkerCondition)]) -> WorkerStats {
    let mut stats = WorkerStats::default();
    for (worker, condition) in workers {
        match condition {
            WorkerCondition::Serving => stats.serving += 1,
            WorkerCondition::Draining => stats.draining += 1,
            WorkerCondition::Lost(_) => stats.lost += 1,
            WorkerCondition::Sick(_) => stats.sick += 1,
        }
        if !matches!(condition, WorkerCondition::Lost(_)) {
            stats.slots += u64::from(worker.slots);
            stats.used += u64::from(worker.used);
        }
    }
    stats
}

fn ended_within(ended: &Sample, spent: &[Spent], within: Duration, now: Timestamp) -> EndedStats {
    let within_ms = u64::try_from(within.as_millis()).unwrap_or(u64::MAX);
    let mut stats = EndedStats { within_ms, ..EndedStats::default() };
    let (mut models, mut agents) = (BTreeMap::new(), BTreeMap::new());
    for (job, spent) in ended.jobs.iter().zip(spent) {
        if job.finished.is_none_or(|finished| milliseconds_between(finished, now) > within_ms) {
            continue;
        }
        stats.jobs.counted += 1;
        match job.state {
            State::Completed => stats.completed += 1,
            State::Failed => stats.failed += 1,
            State::Stopped => stats.stopped += 1,
            _ => {}
        }
        if let Some(cause) = job.cause {
            *stats.causes.entry(cause.to_string()).or_default() += 1;
        }
        stats.usage.add(job.usage);
        stats.cost_usd = stats.cost_usd.plus(spent.cost.unwrap_or_default());
        stats.unpriced += u64::from(spent.cost.is_none());
        let model = spent.model.as_deref().unwrap_or("-");
        add(models.entry(model).or_default(), job.usage, spent.cost);
        add(agents.entry(job.agent.as_str()).or_default(), job.usage, spent.cost);
    }
    (stats.models, stats.agents) = (by_cost(models), by_cost(agents));
    // All were read, or the read ended within this window.
    let is_partial = (ended.jobs.len() as u64) < ended.total && stats.jobs.counted == ended.jobs.len() as u64;
    stats.jobs.total = if is_partial { ended.total } else { stats.jobs.counted };
    stats
}

/// Counts one job more.
fn add(stats: &mut SpentStats, usage: Usage, cost: Option<Money>) {
    stats.jobs += 1;
    stats.usage.add(usage);
    stats.cost_usd = match (stats.cost_usd, cost) {
        (Some(sum), Some(cost)) => Some(sum.plus(cost)),
        (sum, cost) => sum.or(cost),
    };
}

/// The most expensive first.
fn by_cost(stats: BTreeMap<&str, SpentStats>) -> Vec<SpentStats> {
    let mut stats: Vec<SpentStats> =
        stats.into_iter().map(|(name, stats)| SpentStats { name: name.to_owned(), ..stats }).collect();
    stats.sort_by_key(|stats| std::cmp::Reverse((stats.cost_usd, stats.jobs)));
    stats
}

/// Whole milliseconds from one moment to another; zero where the second is before the first.
fn milliseconds_between(then: Timestamp, now: Timestamp) -> u64 {
    u64::try_from(now.as_millisecond().saturating_sub(then.as_millisecond())).unwrap_or(0)
}
