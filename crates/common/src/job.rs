//! A job: what was asked (`JobSpec`), and what is known of it (`Job`).

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use jiff::Timestamp;
use serde::Deserialize;
use serde::Serialize;
use thiserror::Error;

use crate::id::JobId;
use crate::id::SessionId;
use crate::id::WorkerId;
use crate::lifecycle::State;
use crate::trace::TraceParent;

/// The deepest a job may be nested below its session's root.
pub const MAX_DEPTH: u8 = 10;

/// The queue that a job goes to when nobody says otherwise.
pub const DEFAULT_QUEUE: &str = "default";

/// The name of a stored team: the SHA-256 of its canonical JSON, in hexadecimal.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TeamDigest(pub String);

/// Which lane of a queue a job waits in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Priority {
    /// Before all others.
    High,
    /// Where nothing else was asked for.
    #[default]
    Normal,
    /// When nothing else waits.
    Low,
}

impl Priority {
    /// Every priority, the most urgent first.
    pub const ALL: [Self; 3] = [Self::High, Self::Normal, Self::Low];

    /// The word on the command line, in JSON and in key names.
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

/// A word that names none of the choices of a setting.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("`{word}` is no {what}")]
pub struct UnknownWord {
    /// What was wanted.
    pub what: &'static str,
    /// What was given.
    pub word: String,
}

impl FromStr for Priority {
    type Err = UnknownWord;

    fn from_str(word: &str) -> Result<Self, UnknownWord> {
        Self::ALL
            .into_iter()
            .find(|priority| priority.as_str() == word)
            .ok_or_else(|| UnknownWord { what: "priority (high, normal, low)", word: word.to_owned() })
    }
}

/// Why a job ended other than completed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// Failed: the agent or one of its tools made going on impossible.
    AgentError,
    /// Failed: the model provider refused, or did not answer after all retries.
    ProviderError,
    /// Failed: the agent's `max_iterations` were used up.
    MaxIterations,
    /// Failed: the job's timeout passed.
    Deadline,
    /// Failed: the token budget was used up.
    Budget,
    /// Failed: its workers crashed too often in a row.
    WorkerLost,
    /// Failed: the team is bad, or no live worker can run it.
    Rejected,
    /// Stopped: by a dispatcher's tool.
    Tool,
    /// Stopped: by a person at the command line.
    Operator,
    /// Stopped: a job above it ended.
    Parent,
    /// Stopped: its session ended.
    SessionEnd,
}

impl Cause {
    /// Every cause.
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

    /// Whether another try of a failed job may end otherwise. Limits that hold over all attempts are used up for
    /// good, and a bad team stays bad.
    pub fn is_retryable(self) -> bool {
        matches!(self, Self::AgentError | Self::ProviderError)
    }

    /// The word in JSON and in Redis.
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
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Cause {
    type Err = UnknownWord;

    fn from_str(word: &str) -> Result<Self, UnknownWord> {
        Self::ALL
            .into_iter()
            .find(|cause| cause.as_str() == word)
            .ok_or_else(|| UnknownWord { what: "cause", word: word.to_owned() })
    }
}

/// What was asked: stored once, never changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobSpec {
    /// The agent of the team that does the work.
    pub agent: String,
    /// What it shall do, in words.
    pub task: String,
    /// What its answer should look like.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected_output: Option<String>,
    /// The stored team that `agent` belongs to.
    pub team: TeamDigest,
    /// The folder of the dispatcher, where a worker on the same machine runs the job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub working_dir: Option<String>,
    /// The idempotency key that it was dispatched with, as the caller wrote it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// The job that this one tries again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_of: Option<JobId>,
    /// Whether it begins anew instead of going on from the turns of `retry_of`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub fresh: bool,
    /// How many tokens its models may count, in and out, over all attempts; none: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<u64>,
    /// The trace of whoever dispatched it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<TraceParent>,
}

/// A name that may stand in a key: a namespace or a queue.
///
/// # Errors
///
/// What is wrong with it, in words.
pub fn parse_name(text: &str) -> Result<String, String> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if text.is_empty() || text.len() > 60 || !text.chars().all(fits) {
        return Err("a name has 1 to 60 letters, digits, `-`, `_` and `.`".to_owned());
    }
    Ok(text.to_owned())
}

/// The pause before the first retry of a failure when nobody says otherwise.
pub const DEFAULT_RETRY_DELAY: Duration = Duration::from_secs(5);

/// Where, when and how often a job runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placement {
    /// The queue whose workers may take it.
    pub queue: String,
    /// The lane within the queue.
    pub priority: Priority,
    /// How long it waits before it is queued.
    pub delay: Duration,
    /// How long it may run over all attempts; `None` for as long as it takes.
    pub timeout: Option<Duration>,
    /// How many times a failure is tried again.
    pub retries: u32,
    /// The pause before the first of these; doubled for each further one, up to ten minutes.
    pub retry_delay: Duration,
    /// How many tokens its models may count, in and out, over all attempts; `None` for no limit.
    pub budget: Option<u64>,
}

impl Default for Placement {
    fn default() -> Self {
        Self {
            queue: DEFAULT_QUEUE.to_owned(),
            priority: Priority::default(),
            delay: Duration::ZERO,
            timeout: None,
            retries: 0,
            retry_delay: DEFAULT_RETRY_DELAY,
            budget: None,
        }
    }
}

/// Tokens that the models of a job counted, over all its attempts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Tokens read by the models, cached ones included.
    pub input_tokens: u64,
    /// Of the input tokens, how many the provider had cached.
    #[serde(default)]
    pub cached_tokens: u64,
    /// Tokens written by the models.
    pub output_tokens: u64,
    /// Finished model calls.
    pub turns: u64,
}

impl Usage {
    /// Adds `other` to this count.
    pub fn add(&mut self, other: Self) {
        self.input_tokens += other.input_tokens;
        self.cached_tokens += other.cached_tokens;
        self.output_tokens += other.output_tokens;
        self.turns += other.turns;
    }
}

/// A job as it is known at one moment. Its JSON is the job object of the command line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// Its id.
    pub id: JobId,
    /// The session it belongs to.
    pub session: SessionId,
    /// The job that dispatched it; `None` for a session's root.
    pub parent: Option<JobId>,
    /// 0 for a job of the root, one more for each level below.
    pub depth: u8,
    /// The queue it waits or waited in.
    pub queue: String,
    /// The agent that does the work.
    pub agent: String,
    /// What it was asked to do.
    pub task: String,
    /// Where it is in its life, as people see it.
    pub status: State,
    /// Why it ended, when it failed or was stopped.
    pub cause: Option<Cause>,
    /// What went wrong, in words, when it failed.
    pub error: Option<String>,
    /// The number of the current or last attempt; 0 before the first.
    pub attempt: u32,
    /// The worker that holds it.
    pub worker: Option<WorkerId>,
    /// The idempotency key it was dispatched with.
    pub key: Option<String>,
    /// The job that it tries again.
    pub retry_of: Option<JobId>,
    /// When it was stored.
    pub created_at: Timestamp,
    /// When its first attempt began.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
    /// Milliseconds from its start to its end, or to now.
    pub runtime_ms: u64,
    /// Bytes of output that are stored.
    pub output_bytes: u64,
    /// The last message of the agent, when completed.
    pub result: Option<String>,
    /// What its models counted.
    pub usage: Usage,
}

impl Job {
    /// How long it has run, or ran.
    pub fn runtime(&self) -> Duration {
        Duration::from_millis(self.runtime_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_into_keys() {
        assert!(parse_name("code-review_2.x").is_ok());
        for bad in ["", "a b", "a:b", "{x}", "ä", &"x".repeat(61)] {
            assert!(parse_name(bad).is_err(), "{bad}");
        }
    }
}
