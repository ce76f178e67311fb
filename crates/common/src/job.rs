//! A job: the immutable request (`JobSpec`), its scheduling options (`JobOptions`) and a snapshot of it (`Job`).

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use jiff::Timestamp;
use serde::Deserialize;
use serde::Deserializer;
use serde::Serialize;
use serde::Serializer;
use sha2::Digest as _;
use sha2::Sha256;
use thiserror::Error;

use crate::id::JobId;
use crate::id::SessionId;
use crate::id::WorkerId;
use crate::lifecycle::State;
use crate::money::Money;
use crate::money::SpendingLimit;
use crate::question::Approvals;
use crate::stored::LaterName;
use crate::team::SafetyMode;
use crate::trace::TraceParent;
use crate::waits_for::WaitsFor;
use crate::webhook::Notification;
use crate::webhook::WebhookUrl;

/// The maximum nesting depth: a job dispatched by the root has depth 0, so a job of depth 9 is the deepest.
///
/// Ten levels allow real delegation and still stop an agent that delegates to itself without end.
/// `enqueue.lua` stores one ancestor field for each level (`a1` to `a10`) and has to change with this number.
pub const MAX_DEPTH: u8 = 10;

/// The queue of a job whose dispatcher and policy name none.
pub const DEFAULT_QUEUE: &str = "default";

/// The key of a stored team: the SHA-256 of its canonical JSON, 64 lowercase hexadecimal digits.
///
/// Equal teams have equal digests, so jobs of the same agent file share one stored team.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TeamDigest(pub String);

impl TeamDigest {
    /// The digest of a team's canonical JSON, as it is stored.
    pub fn of(json: &str) -> Self {
        Self(Sha256::digest(json).iter().map(|byte| format!("{byte:02x}")).collect())
    }
}

/// The priority of a job within its queue. Workers take a job of a lower priority only when none of a higher
/// one waits, so a steady stream of urgent jobs can starve the others.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Priority {
    /// Taken before all other jobs of the queue.
    High,
    /// The default.
    #[default]
    Normal,
    /// Taken only when no other job of the queue is ready.
    Low,
}

impl Priority {
    /// Every priority, most urgent first: the order in which lanes are claimed.
    pub const ALL: [Self; 3] = [Self::High, Self::Normal, Self::Low];

    /// The name on the command line, in policy files and in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::High => "high",
            Self::Normal => "normal",
            Self::Low => "low",
        }
    }

    /// The number in stored records and key names: 0 for the most urgent. Jobs are claimed in ascending order.
    pub fn level(self) -> u8 {
        match self {
            Self::High => 0,
            Self::Normal => 1,
            Self::Low => 2,
        }
    }

    /// The priority with this [`level`](Self::level); `None` for a number that stands for none.
    pub fn at_level(level: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|priority| priority.level() == level)
    }
}

/// A value that is not one of the choices of a setting.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("`{value}` is not a {setting}")]
pub struct UnknownValue {
    /// The setting, for the message: `cause`.
    pub setting: &'static str,
    /// The rejected value.
    pub value: String,
}

impl FromStr for Priority {
    type Err = UnknownValue;

    fn from_str(value: &str) -> Result<Self, UnknownValue> {
        Self::ALL
            .into_iter()
            .find(|priority| priority.as_str() == value)
            .ok_or_else(|| UnknownValue { setting: "priority (high, normal, low)", value: value.to_owned() })
    }
}

/// Why a job failed or was stopped. A completed job has no cause.
///
/// The first seven causes belong to `failed`, the next four to `stopped`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cause {
    /// Failed: the agent or one of its tools made it impossible to continue.
    AgentError,
    /// Failed: the model provider rejected the request, or still failed after all retries within the attempt.
    ProviderError,
    /// Failed: the agent used up its `max_iterations` model calls, counted over all attempts.
    MaxIterations,
    /// Failed: the job ran longer than its timeout, counted over all attempts.
    Deadline,
    /// Failed: the token budget of the job or of its session is used up.
    Budget,
    /// Failed: too many workers in a row crashed while running it, without a finished turn in between.
    WorkerLost,
    /// Failed: its team is invalid, or no live worker has what the job needs.
    Rejected,
    /// Stopped: its dispatcher called `stop_background_agent`.
    Tool,
    /// Stopped: an operator requested it.
    Operator,
    /// Stopped: one of its ancestors failed permanently or was stopped.
    Parent,
    /// Stopped: its session ended, or the lease of the session's owner expired.
    SessionEnd,
    /// A cause that a later release stored; this one only shows it.
    Later(LaterName),
}

impl Cause {
    /// Every cause that this release stores, those of failed jobs first.
    pub const ALL: [Self; 11] = [
        Self::AgentError,
        Self::ProviderError,
        Self::MaxIterations,
        Self::Deadline,
        Self::Budget,
        Self::WorkerLost,
        Self::Rejected,
        Self::Tool,
        Self::Operator,
        Self::Parent,
        Self::SessionEnd,
    ];

    /// Whether a retry of a failed job can succeed. Limits that hold over all attempts stay used up, and an
    /// invalid team stays invalid.
    pub fn is_retryable(self) -> bool {
        matches!(self, Self::AgentError | Self::ProviderError)
    }

    /// The name in JSON, in Redis and on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AgentError => "agent_error",
            Self::ProviderError => "provider_error",
            Self::MaxIterations => "max_iterations",
            Self::Deadline => "deadline",
            Self::Budget => "budget",
            Self::WorkerLost => "worker_lost",
            Self::Rejected => "rejected",
            Self::Tool => "tool",
            Self::Operator => "operator",
            Self::Parent => "parent",
            Self::SessionEnd => "session_end",
            Self::Later(name) => name.as_str(),
        }
    }

    /// The cause of a stored name. One that this release does not know keeps its name.
    pub fn from_stored(name: &str) -> Self {
        Self::ALL
            .into_iter()
            .find(|cause| cause.as_str() == name)
            .unwrap_or_else(|| Self::Later(LaterName::of(name)))
    }
}

impl Serialize for Cause {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Cause {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self::from_stored(&Cow::<str>::deserialize(deserializer)?))
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The request for a job. It is stored as JSON when the job is dispatched and never changes: every attempt
/// reads the same spec.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobSpec {
    /// The agent of `team` that runs the job.
    pub agent: String,
    /// The task, as text for the agent's model.
    pub task: String,
    /// A description of the expected answer, for the agent's model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected_output: Option<String>,
    /// The stored team that `agent` belongs to. Workers run this team and read no agent file.
    pub team: TeamDigest,
    /// The dispatcher's working directory. A worker on the same machine runs the job there; a worker of a
    /// fleet ignores it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub working_dir: Option<String>,
    /// The idempotency key, as the caller wrote it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// The failed or stopped job that this one retries.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_of: Option<JobId>,
    /// Whether a retry starts from the beginning instead of resuming after the recorded turns of `retry_of`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub fresh: bool,
    /// The budget in tokens or money, of all attempts. `None` means no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<SpendingLimit>,
    /// The trace context of the dispatcher.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<TraceParent>,
    /// The agent that the session's root runs; `None` where no agent does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root_agent: Option<String>,
    /// The safety mode of the dispatcher: that of the job can only be stricter. `None` for no mode.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub safety: Option<SafetyMode>,
    /// What becomes of its calls that need a person's approval, and of those below it; `None` for what the worker's
    /// policy says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approvals: Option<Approvals>,
    /// Where its end is reported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notify: Option<WebhookUrl>,
}

impl JobSpec {
    /// This task for this agent of a stored team, and nothing else asked for.
    pub fn new(agent: impl Into<String>, task: impl Into<String>, team: TeamDigest) -> Self {
        Self {
            agent: agent.into(),
            task: task.into(),
            expected_output: None,
            team,
            working_dir: None,
            key: None,
            retry_of: None,
            fresh: false,
            budget: None,
            trace: None,
            root_agent: None,
            safety: None,
            approvals: None,
            notify: None,
        }
    }
}

/// Validates a name that becomes part of a Redis key: a namespace or a queue. 60 bytes keep key names short,
/// and the allowed characters need no escaping.
///
/// # Errors
///
/// A message with the allowed length and characters.
pub fn parse_name(text: &str) -> Result<String, String> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if text.is_empty() || text.len() > 60 || !text.chars().all(fits) {
        return Err("a name has 1 to 60 letters, digits, `-`, `_` and `.`".to_owned());
    }
    Ok(text.to_owned())
}

/// The delay before the first retry of a failed job whose dispatcher and policy set none.
pub const DEFAULT_RETRY_DELAY: Duration = Duration::from_secs(5);

/// The scheduling options of a job: where and when it runs, its limits, and how often it is retried.
///
/// Set at dispatch, by the dispatcher or else by the [`policy`](crate::policy), and fixed afterwards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobOptions {
    /// The queue whose workers may claim it.
    pub queue: String,
    /// The priority within the queue.
    pub priority: Priority,
    /// How long the job stays `scheduled` before it is queued; zero queues it at once.
    pub delay: Duration,
    /// The maximum running time of all attempts together, time in `waiting` included. `None` means no limit.
    /// A job that exceeds it fails with the cause `deadline`.
    pub timeout: Option<Duration>,
    /// How often a failure with a retryable cause is retried. Crashes of workers do not count.
    pub retries: u32,
    /// The delay before the first retry; doubled for each further one, up to ten minutes, with up to ten
    /// percent jitter.
    pub retry_delay: Duration,
    /// The budget in tokens or money, of all attempts. `None` means no limit. A job that exceeds it fails with the
    /// cause `budget`.
    pub budget: Option<SpendingLimit>,
    /// Where its end is reported. `None` reports it nowhere.
    pub notify: Option<WebhookUrl>,
}

impl Default for JobOptions {
    fn default() -> Self {
        Self {
            queue: DEFAULT_QUEUE.to_owned(),
            priority: Priority::default(),
            delay: Duration::ZERO,
            timeout: None,
            retries: 0,
            retry_delay: DEFAULT_RETRY_DELAY,
            budget: None,
            notify: None,
        }
    }
}

/// Tokens and model calls of a job, summed over all its attempts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Input tokens, including cached ones.
    pub input_tokens: u64,
    /// Those input tokens that the provider read from its prompt cache.
    #[serde(default)]
    pub cached_tokens: u64,
    /// Output tokens.
    pub output_tokens: u64,
    /// Completed model calls.
    pub turns: u64,
}

impl Usage {
    /// Adds `other` to each counter.
    pub fn add(&mut self, other: Self) {
        self.input_tokens += other.input_tokens;
        self.cached_tokens += other.cached_tokens;
        self.output_tokens += other.output_tokens;
        self.turns += other.turns;
    }

    /// The counters as the text in a job's record, while the job runs.
    pub fn stored(self) -> String {
        format!("{} {} {} {}", self.input_tokens, self.cached_tokens, self.output_tokens, self.turns)
    }

    /// Reads [`stored`](Self::stored); `None` for any other text.
    pub fn from_stored(text: &str) -> Option<Self> {
        let numbers: Vec<u64> = text.split(' ').map(str::parse).collect::<Result<_, _>>().ok()?;
        let [input_tokens, cached_tokens, output_tokens, turns] = <[u64; 4]>::try_from(numbers).ok()?;
        Some(Self { input_tokens, cached_tokens, output_tokens, turns })
    }
}

/// A snapshot of a job. Its JSON is the job object of the command line, so fields may be added but never renamed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// The id; it never changes and is never reused.
    pub id: JobId,
    /// The session that it belongs to.
    pub session: SessionId,
    /// The job that dispatched it; `None` for a job of the session's root agent.
    pub parent: Option<JobId>,
    /// The nesting depth: 0 for a job of the root agent, one more for each level below.
    pub depth: u8,
    /// The queue that it was dispatched to.
    pub queue: String,
    /// The agent that runs it.
    pub agent: String,
    /// The task, as text for the agent's model.
    pub task: String,
    /// The state. [`contract::visible_state`](crate::contract::visible_state) replaces `reaping` before it is displayed.
    pub status: State,
    /// Why it failed or was stopped; `None` in every other state.
    pub cause: Option<Cause>,
    /// The error message of a failed job, or of the last failed attempt of a job that is still being retried.
    pub error: Option<String>,
    /// The number of the current or last attempt; 0 before the first claim. Every claim counts, after a crash too.
    pub attempt: u32,
    /// The worker of the current attempt; after the end, that of the last one.
    pub worker: Option<WorkerId>,
    /// The idempotency key that it was dispatched with, if any.
    pub key: Option<String>,
    /// The job that it retries, if any.
    pub retry_of: Option<JobId>,
    /// The stored team that its agent belongs to; `None` where its request cannot be read.
    pub team: Option<TeamDigest>,
    /// The models that its agent is configured with, each as `provider/model`; `None` where its team is not stored
    /// any more, was not read, or its agent is a program.
    pub model: Option<String>,
    /// The priority within its queue.
    pub priority: Priority,
    /// The longest that all attempts together may run; `None` for no limit.
    pub timeout_ms: Option<u64>,
    /// How often a failure with a retryable cause is retried, as dispatched.
    pub retries: u32,
    /// Those retries that are left.
    pub retries_left: u32,
    /// What it waits for; `None` where it runs or has ended, and where that was not read.
    pub waits_for: Option<WaitsFor>,
    /// Milliseconds since the last renewal of its lease, where the lease has expired and no process has reclaimed the
    /// job; `None` while the lease holds, and where that was not read.
    pub silent_ms: Option<u64>,
    /// In quarantine, the workers in a row that were lost while running it: its next attempt runs alone on its worker, until
    /// it has finished a turn or waits for its own jobs. `None` outside of quarantine.
    #[serde(default)]
    pub quarantine: Option<u32>,
    /// Attempts that ended and were followed by another or by a wait for one, oldest first; of many only the last.
    pub past_attempts: Vec<PastAttempt>,
    /// When it was stored, by the clock of Redis, like the other times.
    #[serde(serialize_with = "rfc3339")]
    pub created_at: Timestamp,
    /// When its first attempt started.
    #[serde(serialize_with = "optional_rfc3339")]
    pub started_at: Option<Timestamp>,
    /// When its current or last attempt started.
    #[serde(serialize_with = "optional_rfc3339")]
    pub attempt_started_at: Option<Timestamp>,
    /// When it reached its terminal state.
    #[serde(serialize_with = "optional_rfc3339")]
    pub finished_at: Option<Timestamp>,
    /// Milliseconds that it ran in all attempts together; 0 before the first. The time between attempts does not count.
    pub runtime_ms: u64,
    /// Bytes of stored output.
    pub output_bytes: u64,
    /// The last message of the agent, once completed.
    pub result: Option<String>,
    /// Tokens and model calls of all attempts, as of the last finished turn where that was read, else of the last
    /// finished attempt.
    pub usage: Usage,
    /// What that cost in dollars, at the price of its agent's first model; `None` where that is not known.
    #[serde(rename = "cost_usd", default)]
    pub cost: Option<Money>,
    /// How the report of its end stands; `None` where none was asked for, and where that was not read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notification: Option<Notification>,
}

/// An attempt that is over although its job was not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PastAttempt {
    /// Its number, counted from 1.
    pub attempt: u32,
    /// The worker that ran it.
    pub worker: Option<WorkerId>,
    /// When the worker claimed the job.
    #[serde(serialize_with = "optional_rfc3339")]
    pub started_at: Option<Timestamp>,
    /// How long it ran, in milliseconds; one whose worker was lost counts until that was noticed.
    pub runtime_ms: u64,
    /// How it ended.
    pub end: AttemptEnd,
    /// The error, or what the worker lacks; of a long text only the beginning.
    pub detail: Option<String>,
}

/// Why an attempt ended before its job did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AttemptEnd {
    /// It failed, and the job is retried.
    Failed,
    /// Its worker drained and gave the job back.
    Drained,
    /// Its worker gave the job back because it lacks what the job needs.
    GivenBack,
    /// Its worker did not renew the lease: it died or was cut off.
    WorkerLost,
}

impl AttemptEnd {
    /// The end in words, for people.
    pub fn phrase(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Drained => "given back by a draining worker",
            Self::GivenBack => "given back",
            Self::WorkerLost => "worker lost",
        }
    }
}

/// Writes a time in UTC with three digits of a second, so that times sort as text.
///
/// # Errors
///
/// Those of the serializer.
pub fn rfc3339<S: Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{time:.3}"))
}

/// As [`rfc3339`], for a time that may be missing.
///
/// # Errors
///
/// Those of the serializer.
pub fn optional_rfc3339<S: Serializer>(time: &Option<Timestamp>, serializer: S) -> Result<S::Ok, S::Error> {
    match time {
        Some(time) => rfc3339(time, serializer),
        None => serializer.serialize_none(),
    }
}

impl Job {
    /// A queued job of which nothing else is known: what readers of records and tests start from.
    pub fn queued(id: JobId, session: SessionId) -> Self {
        Self {
            id,
            session,
            parent: None,
            depth: 0,
            queue: DEFAULT_QUEUE.to_owned(),
            agent: String::new(),
            task: String::new(),
            status: State::Queued,
            cause: None,
            error: None,
            attempt: 0,
            worker: None,
            key: None,
            retry_of: None,
            team: None,
            model: None,
            priority: Priority::default(),
            timeout_ms: None,
            retries: 0,
            retries_left: 0,
            waits_for: None,
            silent_ms: None,
            quarantine: None,
            past_attempts: Vec::new(),
            created_at: Timestamp::UNIX_EPOCH,
            started_at: None,
            attempt_started_at: None,
            finished_at: None,
            runtime_ms: 0,
            output_bytes: 0,
            result: None,
            usage: Usage::default(),
            cost: None,
            notification: None,
        }
    }

    /// [`runtime_ms`](Self::runtime_ms) as a duration.
    pub fn runtime(&self) -> Duration {
        Duration::from_millis(self.runtime_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usage_survives_its_record() {
        let usage = Usage { input_tokens: 4, cached_tokens: 3, output_tokens: 2, turns: 1 };
        assert_eq!(Usage::from_stored(&usage.stored()), Some(usage));
        for text in ["", "1 2 3", "1 2 3 x", "1 2 3 4 5"] {
            assert_eq!(Usage::from_stored(text), None, "{text}");
        }
    }

    #[test]
    fn times_have_three_digits_and_sort_as_text() {
        let session = SessionId::random();
        let mut job = Job::queued(JobId::random_in(session), session);
        for (ms, text) in [(0, "1970-01-01T00:00:00.000Z"), (1_700, "1970-01-01T00:00:01.700Z")] {
            job.created_at = Timestamp::from_millisecond(ms).unwrap();
            job.finished_at = Some(job.created_at);
            let object = serde_json::to_value(&job).unwrap();
            assert_eq!(
                (object["created_at"].as_str(), object["finished_at"].as_str()),
                (Some(text), Some(text))
            );
            assert_eq!(serde_json::from_value::<Job>(object).unwrap(), job);
        }
    }

    #[test]
    fn names_with_unsafe_characters_are_rejected() {
        assert!(parse_name("code-review_2.x").is_ok());
        for bad in ["", "a b", "a:b", "{x}", "ä", &"x".repeat(61)] {
            assert!(parse_name(bad).is_err(), "{bad}");
        }
    }
}
