//! The only place that spells key names and channels.
//!
//! A namespace has a fixed number of shards. All keys of a shard share the hash tag `{legwork:<ns>:<shard>}`, so one
//! script may touch them all; a job's output, turns and fence are below a tag of their own, so that a Cluster spreads
//! their traffic. The Lua steps take the same names from `LUA_KEYS`. `docs/redis.md` lists
//! every key with its type, its writers and what ends it.

use legwork_common::id::Dispatcher;
use legwork_common::id::JobId;
use legwork_common::id::SessionId;
use legwork_common::job::Priority;
use legwork_common::job::TeamDigest;
use legwork_common::lifecycle::State;

/// The names below a shard's tag for the Lua steps, where `T` is the tag; and the last level of a priority, which is a
/// part of a name. One definition a line, because a step takes only the lines whose names it uses.
pub(crate) const LUA_KEYS: &str = "
local T = KEYS[1]
local LEASE = T .. ':lease'
local SCHEDULED = T .. ':scheduled'
local STOPS = T .. ':stops'
local REAPED = T .. ':reaped'
local INDEX_LIVE = T .. ':index:live'
local INDEX_ENDED = T .. ':index:ended'
local WORKERS = T .. ':workers'
local PAUSED = T .. ':paused'
local QUARANTINE = T .. ':quarantine'
local ASKING = T .. ':asking'
local NOTIFICATIONS = T .. ':notifications'
local function index_key(state) return T .. ':index:' .. state end
local function job_key(id) return T .. ':job:' .. id end
local function lacks_key(id) return T .. ':lacks:' .. id end
local function spec_key(id) return T .. ':spec:' .. id end
local function questions_key(id) return T .. ':questions:' .. id end
local function result_key(id) return T .. ':result:' .. id end
local function children_key(dispatcher) return T .. ':children:' .. dispatcher end
local function mailbox_key(dispatcher) return T .. ':mailbox:' .. dispatcher end
local function stop_key(root) return T .. ':stop:' .. root end
local function session_key(sid) return T .. ':session:' .. sid end
local function admitted_key(sid, queue) return T .. ':session:' .. sid .. ':admitted:' .. queue end
local function backlog_key(sid, queue) return T .. ':session:' .. sid .. ':backlog:' .. queue end
local function todos_key(sid) return T .. ':session:' .. sid .. ':todos' end
local function budget_key(sid) return T .. ':session:' .. sid .. ':budget' end
local function pots_key(sid) return T .. ':session:' .. sid .. ':pots' end
local function ready_key(lane, priority) return T .. ':ready:' .. lane .. ':' .. priority end
local function wake_key(lane) return T .. ':wake:' .. lane end
local function team_key(digest) return T .. ':team:' .. digest end
local function worker_key(wid) return T .. ':worker:' .. wid end
local function idempotency_key(hash) return T .. ':key:' .. hash end
local function owner_member(sid) return 'session:' .. sid end
local function session_channel(sid) return T .. ':ended:' .. sid end
local STOP_CHANNEL = T .. ':stop-now'
local LOWEST_PRIORITY = 2
";

/// An index of jobs by creation. Every job is in exactly one: a job leaves the live ones in the step that ends it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobIndex {
    /// Jobs that have not ended.
    Live,
    /// Jobs that ended with a result.
    Completed,
    /// Jobs that failed.
    Failed,
    /// Jobs that were stopped.
    Stopped,
}

impl JobIndex {
    /// Every index, that of the live jobs first: a reader that reads them in this order finds a job that ends
    /// between two reads in the first or in a later one, or in both.
    pub const ALL: [Self; 4] = [Self::Live, Self::Completed, Self::Failed, Self::Stopped];

    /// The index of the jobs in a state.
    pub fn of(state: State) -> Self {
        match state {
            State::Completed => Self::Completed,
            State::Failed => Self::Failed,
            State::Stopped => Self::Stopped,
            State::Scheduled
            | State::Queued
            | State::Running
            | State::Waiting
            | State::Stopping
            | State::Reaping => Self::Live,
        }
    }
}

/// The key names of one namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keys {
    namespace: String,
    shards: u16,
}

impl Keys {
    /// The names of `namespace`, which has `shards` shards. 0 counts as 1.
    pub fn new(namespace: impl Into<String>, shards: u16) -> Self {
        Self { namespace: namespace.into(), shards: shards.max(1) }
    }

    /// The namespace.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// How many shards the namespace has.
    pub fn shards(&self) -> u16 {
        self.shards
    }

    /// Settings of the namespace: a hash without a tag.
    pub fn meta(&self) -> String {
        format!("legwork:{}:meta", self.namespace)
    }

    /// The tag of a shard: `KEYS[1]` of every step.
    pub fn tag(&self, shard: u16) -> String {
        format!("{{legwork:{}:{shard}}}", self.namespace)
    }

    /// The tag of the shard that holds this session.
    pub fn session_tag(&self, session: SessionId) -> String {
        self.tag(session.shard(self.shards))
    }

    /// The tag of the shard that holds this job.
    pub fn job_tag(&self, job: JobId) -> String {
        self.tag(job.shard(self.shards))
    }

    /// The record of a job: a hash.
    pub fn job(&self, job: JobId) -> String {
        format!("{}:job:{}", self.job_tag(job), job.uuid())
    }

    /// The task and all else that was dispatched: a string of JSON.
    pub fn spec(&self, job: JobId) -> String {
        format!("{}:spec:{}", self.job_tag(job), job.uuid())
    }

    /// The result of a job, or its error: a string.
    pub fn result(&self, job: JobId) -> String {
        format!("{}:result:{}", self.job_tag(job), job.uuid())
    }

    /// What a job asks people, and their answers: a hash.
    pub fn questions(&self, job: JobId) -> String {
        format!("{}:questions:{}", self.job_tag(job), job.uuid())
    }

    /// Jobs with a question that has no answer, by the time of the oldest: a sorted set.
    pub fn asking(&self, shard: u16) -> String {
        format!("{}:asking", self.tag(shard))
    }

    /// Ended jobs whose end is still to be reported, by the time of the next attempt: a sorted set.
    pub fn notifications(&self, shard: u16) -> String {
        format!("{}:notifications", self.tag(shard))
    }

    /// The jobs of a dispatcher by age: a sorted set.
    pub fn children(&self, session: SessionId, dispatcher: Dispatcher) -> String {
        format!("{}:children:{}", self.session_tag(session), dispatcher.uuid())
    }

    /// Mail that a dispatcher has not acknowledged: a stream.
    pub fn mailbox(&self, session: SessionId, dispatcher: Dispatcher) -> String {
        format!("{}:mailbox:{}", self.session_tag(session), dispatcher.uuid())
    }

    /// The record of a session: a hash.
    pub fn session(&self, session: SessionId) -> String {
        format!("{}:session:{}", self.session_tag(session), session)
    }

    /// The jobs of a session that wait for admission: a sorted set.
    pub fn backlog(&self, session: SessionId, queue: &str) -> String {
        format!("{}:session:{session}:backlog:{queue}", self.session_tag(session))
    }

    /// The jobs of a session that are on a lane's stream or run: a sorted set.
    pub fn admitted(&self, session: SessionId, queue: &str) -> String {
        format!("{}:session:{session}:admitted:{queue}", self.session_tag(session))
    }

    /// The todo list that a session's agents share: a hash.
    pub fn todos(&self, session: SessionId) -> String {
        format!("{}:session:{session}:todos", self.session_tag(session))
    }

    /// The token budget of a session: a hash.
    pub fn budget(&self, session: SessionId) -> String {
        format!("{}:session:{session}:budget", self.session_tag(session))
    }

    /// What the runs of a session used of the budgets of their agent file: a hash.
    pub fn pots(&self, session: SessionId) -> String {
        format!("{}:session:{session}:pots", self.session_tag(session))
    }

    /// Admitted jobs of one priority of a lane, oldest first: a stream.
    pub fn ready(&self, shard: u16, lane: &str, priority: Priority) -> String {
        format!("{}:ready:{lane}:{}", self.tag(shard), priority.level())
    }

    /// Tokens that wake idle workers of a lane: a list.
    pub fn wake(&self, shard: u16, lane: &str) -> String {
        format!("{}:wake:{lane}", self.tag(shard))
    }

    /// A stored team: a hash of its JSON and the number of its jobs.
    pub fn team(&self, shard: u16, digest: &TeamDigest) -> String {
        format!("{}:team:{}", self.tag(shard), digest.0)
    }

    /// Jobs that are live, or that ended in one state, by creation: a sorted set of raw ids. Each job is in one of them.
    pub fn index(&self, shard: u16, index: JobIndex) -> String {
        match index {
            JobIndex::Live => format!("{}:index:live", self.tag(shard)),
            JobIndex::Completed => self.index_of(shard, State::Completed),
            JobIndex::Failed => self.index_of(shard, State::Failed),
            JobIndex::Stopped => self.index_of(shard, State::Stopped),
        }
    }

    fn index_of(&self, shard: u16, state: State) -> String {
        format!("{}:index:{state}", self.tag(shard))
    }

    /// Ended jobs by their end: a sorted set of raw ids.
    pub fn index_ended(&self, shard: u16) -> String {
        format!("{}:index:ended", self.tag(shard))
    }

    /// Roots of the trees that are being stopped, by the time of the first request: a sorted set.
    pub fn stops(&self, shard: u16) -> String {
        format!("{}:stops", self.tag(shard))
    }

    /// The stop mark of one tree, whose root is a job or a session: a hash.
    pub fn stop(&self, shard: u16, root: uuid::Uuid) -> String {
        format!("{}:stop:{root}", self.tag(shard))
    }

    /// Jobs that wait for a time, by that time: a sorted set.
    pub fn scheduled(&self, shard: u16) -> String {
        format!("{}:scheduled", self.tag(shard))
    }

    /// Leases of held jobs and of session owners, by expiry: a sorted set.
    pub fn lease(&self, shard: u16) -> String {
        format!("{}:lease", self.tag(shard))
    }

    /// Workers by their last heartbeat: a sorted set.
    pub fn workers(&self, shard: u16) -> String {
        format!("{}:workers", self.tag(shard))
    }

    /// The paused queues and when each was paused: a hash. Every shard has all of them.
    pub fn paused(&self, shard: u16) -> String {
        format!("{}:paused", self.tag(shard))
    }

    /// Queued jobs that run alone on their worker, by the time since when they wait: a sorted set.
    pub fn quarantine(&self, shard: u16) -> String {
        format!("{}:quarantine", self.tag(shard))
    }

    /// One worker's record: a hash.
    pub fn worker(&self, shard: u16, worker: &str) -> String {
        format!("{}:worker:{worker}", self.tag(shard))
    }

    /// The tag of a job's own keys.
    fn own_tag(&self, job: JobId) -> String {
        format!("{{legwork:{}:{}}}", self.namespace, job.uuid())
    }

    /// The message with which a host of the Model Context Protocol initialized its connection: a string.
    pub fn connection(&self, session: SessionId) -> String {
        format!("{{legwork:{}:{session}}}:connection", self.namespace)
    }

    /// The output of a job: a string that only grows.
    pub fn output(&self, job: JobId) -> String {
        format!("{}:output", self.own_tag(job))
    }

    /// The journal of a job's turns, a write-ahead log: a stream.
    pub fn turns(&self, job: JobId) -> String {
        format!("{}:turns", self.own_tag(job))
    }

    /// The fence of a job, which names the attempt that may append: a hash.
    pub fn fence(&self, job: JobId) -> String {
        format!("{}:fence", self.own_tag(job))
    }

    /// An idempotency key of the whole namespace, by its hash: a string below a tag of its own.
    pub fn namespace_idempotency_key(&self, hash: &str) -> String {
        format!("{{legwork:{}:key:{hash}}}", self.namespace)
    }

    /// A rate limit of a model provider, or of one of its models: a hash below a tag of its own.
    pub fn limit(&self, name: &str) -> String {
        format!("{{legwork:{}:limit:{name}}}", self.namespace)
    }

    /// The places of permit requests that wait in a limit's line, by their time: a sorted set.
    pub fn limit_line(&self, name: &str) -> String {
        format!("{}:line", self.limit(name))
    }

    /// Places in a limit's line that were given up, by their time: a sorted set.
    pub fn limit_free(&self, name: &str) -> String {
        format!("{}:free", self.limit(name))
    }

    /// Permits of calls that are in flight against a limit, by their expiry: a sorted set.
    pub fn limit_calls(&self, name: &str) -> String {
        format!("{}:calls", self.limit(name))
    }

    /// The bare stream that `legwork bench` compares with.
    pub(crate) fn bench_stream(&self) -> String {
        format!("legwork:{}:bench", self.namespace)
    }

    /// The schedules by name: a hash of JSON below a tag of its own.
    pub fn schedules(&self) -> String {
        format!("{{legwork:{}:schedules}}", self.namespace)
    }

    /// When each schedule is due: a sorted set. A paused one is not in it.
    pub fn schedules_due(&self) -> String {
        format!("{}:due", self.schedules())
    }

    /// The last instant that each schedule fired for, with its job: a hash.
    pub fn schedules_last(&self) -> String {
        format!("{}:last", self.schedules())
    }

    /// A pattern that every key of the namespace matches.
    pub(crate) fn all_pattern(&self) -> String {
        format!("*legwork:{}:*", self.namespace)
    }

    /// Hints with new output of a job.
    pub fn job_channel(&self, job: JobId) -> String {
        format!("{}:changed", self.own_tag(job))
    }

    /// Hints that a job of this session ended.
    pub fn session_channel(&self, session: SessionId) -> String {
        format!("{}:ended:{session}", self.session_tag(session))
    }

    /// Hints that a tree of this shard is being stopped.
    pub fn stop_channel(&self, shard: u16) -> String {
        format!("{}:stop-now", self.tag(shard))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_a_job_share_its_sessions_tag() {
        let keys = Keys::new("default", 16);
        let session = SessionId::random();
        let job = JobId::random_in(session);
        let tag = keys.session_tag(session);
        assert_eq!(keys.job_tag(job), tag);
        assert!(keys.job(job).starts_with(&tag));
        assert!(keys.mailbox(session, Dispatcher::Job(job)).starts_with(&tag));
        assert!(!keys.output(job).starts_with(&tag));
    }

    #[test]
    fn lua_spells_the_same_names() {
        let keys = Keys::new("default", 1);
        let session = SessionId::random();
        let job = JobId::random_in(session);
        let tag = keys.tag(0);
        for (rust, piece) in [
            (keys.job(job), ":job:"),
            (keys.spec(job), ":spec:"),
            (keys.result(job), ":result:"),
            (keys.questions(job), ":questions:"),
            (keys.asking(0), ":asking"),
            (keys.notifications(0), ":notifications"),
            (keys.children(session, Dispatcher::Job(job)), ":children:"),
            (keys.mailbox(session, Dispatcher::Job(job)), ":mailbox:"),
            (keys.session(session), ":session:"),
            (keys.backlog(session, "q"), ":backlog:"),
            (keys.admitted(session, "q"), ":admitted:"),
            (keys.todos(session), ":todos"),
            (keys.budget(session), ":budget"),
            (keys.pots(session), ":pots"),
            (keys.ready(0, "q", Priority::Normal), ":ready:"),
            (keys.wake(0, "q"), ":wake:"),
            (keys.worker(0, "w"), ":worker:"),
            (keys.stop(0, job.uuid()), ":stop:"),
            (keys.lease(0), ":lease"),
            (keys.scheduled(0), ":scheduled"),
            (keys.stops(0), ":stops"),
            (keys.workers(0), ":workers"),
            (keys.paused(0), ":paused"),
            (keys.quarantine(0), ":quarantine"),
            (keys.index(0, JobIndex::Live), ":index:live"),
            (keys.index(0, JobIndex::Failed), ":index:"),
            (keys.index_ended(0), ":index:ended"),
            (keys.stop_channel(0), ":stop-now"),
            (keys.session_channel(session), ":ended:"),
        ] {
            assert!(rust.starts_with(&tag) && rust.contains(piece), "{rust}");
            assert!(LUA_KEYS.contains(&format!("'{piece}")), "{piece}");
        }
        let lowest = Priority::ALL.map(Priority::level).into_iter().max().unwrap();
        assert!(LUA_KEYS.contains(&format!("LOWEST_PRIORITY = {lowest}\n")));
    }
}
