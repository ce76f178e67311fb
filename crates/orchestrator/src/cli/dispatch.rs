//! The arguments of `legwork dispatch`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use legwork_common::duration;
use legwork_common::money::SpendingLimit;
use legwork_common::question::Approvals;
use legwork_common::variables;

use super::JobOptionArgs;
use super::SessionLimits;
use super::values;

/// The request of one line of a batch, as help describes it.
const BATCH_HELP: &str = "\
Each line of a --batch file is one JSON object:
  agent, task      the agent and its task (required)
  expected_output  what the answer should look like
  key              idempotency key
  queue            the queue's name
  priority         high, normal or low
  delay            time before the job is queued, such as \"90s\"
  timeout          the longest that the job may run
  retries          how often to retry after a failure
  retry_delay      time before the first retry
  budget           the job's budget: tokens, or money such as \"$2.50\"
  notify           the URL that the job's end is reported to
What a line leaves out is taken from the options, then from the policy.
An example of a line:
  {\"agent\": \"analyst\", \"task\": \"Read a.rs\", \"key\": \"a\", \"timeout\": \"10m\"}

Each line has a result in its place: an id, or why its job was not stored.
Where a line is not such an object, nothing is stored.";

/// Arguments of `legwork dispatch`.
#[derive(Debug, Args)]
#[command(after_help = BATCH_HELP)]
pub struct DispatchArgs {
    /// The agent file
    pub file: PathBuf,
    /// The agent to run
    #[arg(required_unless_present = "batch")]
    pub agent: Option<String>,
    /// The task
    #[arg(required_unless_present = "batch")]
    pub task: Vec<String>,
    /// What the answer should look like
    #[arg(long, value_name = "TEXT")]
    pub expected_output: Option<String>,
    /// Idempotency key: the same request with the same key returns the same id
    #[arg(long, value_name = "KEY")]
    pub key: Option<String>,
    /// The session to dispatch into, or the beginning of its id [default: a new one]
    #[arg(long, value_name = "ID")]
    pub session: Option<String>,
    /// Where the job runs, its limits, and how often it is retried
    #[command(flatten)]
    pub options: JobOptionArgs,
    /// Delay before the job is queued
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = duration::parse)]
    pub delay: Duration,
    /// The budget of the whole session, tokens or money such as `$2.50`; when it is spent, its agents fail with cause
    /// `budget`
    #[arg(long, value_name = "LIMIT", conflicts_with = "session")]
    pub session_budget: Option<SpendingLimit>,
    /// What becomes of calls that need a person's approval [default: the worker's policy, else deny]
    #[arg(long, value_name = "DECISION", value_parser = values::approvals())]
    pub approvals: Option<Approvals>,
    /// What a session that is new may have.
    #[command(flatten)]
    pub limits: SessionLimits,
    /// Wait until the job has ended and print its result
    #[arg(long)]
    pub wait: bool,
    /// Print the output while the job runs
    #[arg(long)]
    pub follow: bool,
    /// Dispatch each line of this file, a JSON request; `-` reads standard input
    #[arg(long, value_name = "FILE", conflicts_with_all = ["agent", "task", "expected_output", "key"])]
    pub batch: Option<PathBuf>,
    /// Take model replies from this script instead of from providers; tools are real
    #[arg(long, env = variables::SCRIPT, value_name = "FILE")]
    pub script: Option<PathBuf>,
}
