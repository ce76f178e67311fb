//! The command line of `legwork`: commands, arguments and help texts, without any behaviour.

mod approve;
mod dispatch;
mod examples;
mod job_options;
mod keys;
mod limits;
mod reading;
mod schedule;
mod values;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use clap::Parser;
use clap::Subcommand;
use clap::ValueEnum;
use legwork_common::duration;
use legwork_common::job::Cause;
use legwork_common::job::parse_name;
use legwork_common::lifecycle::State;
use legwork_common::money::SpendingLimit;
use legwork_common::question::Approvals;
use legwork_common::variables;
use legwork_worker::options::CommonOptions;
use legwork_worker::options::command_line::COMMON_OPTIONS;

pub use self::approve::ApproveArgs;
pub use self::approve::DenyArgs;
pub use self::dispatch::DispatchArgs;
pub use self::job_options::JobOptionArgs;
pub use self::keys::KeysCommand;
pub use self::keys::NewKeyArgs;
pub use self::limits::SessionLimits;
pub use self::reading::Named;
pub use self::reading::documented;
pub use self::reading::read;
pub use self::schedule::ScheduleAddArgs;
pub use self::schedule::ScheduleCommand;

use crate::confirm::ConfirmArgs;

/// Run agents that dispatch background agents to a fleet of workers, and operate the fleet
#[derive(Debug, Parser)]
#[command(name = "legwork", version, max_term_width = 100)]
pub struct Cli {
    /// The options that both programs have. They have a heading of their own, so that a command's help lists the
    /// command's options first.
    #[command(flatten, next_help_heading = COMMON_OPTIONS)]
    pub common: CommonOptions,
    /// Print JSON, one object a line
    #[arg(long, global = true, help_heading = COMMON_OPTIONS)]
    pub json: bool,
    /// How long a command that waits asks again while Redis is away
    #[arg(long, env = variables::REDIS_TIMEOUT, value_name = "TIME", default_value = "1m", global = true,
          help_heading = COMMON_OPTIONS, value_parser = duration::parse)]
    pub redis_timeout: Duration,
    /// The command, with its arguments.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands, in the order in which the help lists them.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the root agent of an agent file on a prompt
    Run(RunArgs),
    /// Dispatch a background agent and print its id
    Dispatch(DispatchArgs),
    /// List jobs, newest first
    List(ListArgs),
    /// Show one job and its output
    View(ViewArgs),
    /// Explain why a job is in its state, and what would change it
    Explain(ExplainArgs),
    /// Wait until jobs have ended
    Wait(WaitArgs),
    /// Stop jobs and the whole tree below each
    Stop(StopArgs),
    /// Retry failed or stopped jobs, as new jobs that continue after the last recorded turn
    Retry(RetryArgs),
    /// Delete ended jobs and everything that they left in Redis
    Delete(DeleteArgs),
    /// Send a message to a job, delivered before its next model call
    Send(SendArgs),
    /// Approve a call that waits for a person, or answer a question; without an id, list what waits
    Approve(ApproveArgs),
    /// Deny a call that waits for a person, or decline to answer
    Deny(DenyArgs),
    /// Check agent files: what is wrong with them, and what they need that this machine lacks
    Check(CheckArgs),
    /// Check that this Redis is safe for jobs and that this machine can run these agent files
    Doctor(DoctorArgs),
    /// Count jobs and workers: what waits, what runs, what ended in the last hour and day
    Stats,
    /// Watch jobs, workers and output on a full screen; stop and retry from it
    Top,
    /// List the workers, those that were lost lately included, or ask one to end
    Workers(WorkersArgs),
    /// Pause a queue: nothing new starts from it, what runs continues
    Pause(QueueArgs),
    /// End the pause of a queue
    Unpause(QueueArgs),
    /// Dispatch jobs by cron expression and time zone
    #[command(subcommand)]
    Schedule(ScheduleCommand),
    /// Show what all programs of the namespace agree on, or change it
    Configure(ConfigureArgs),
    /// Make the keys that sign jobs, for workers that run signed jobs only
    #[command(subcommand)]
    Keys(KeysCommand),
    /// Serve the background-agent tools to other programs over the Model Context Protocol
    Mcp(McpArgs),
    /// Serve jobs, output, workers and metrics over HTTP
    Serve(ServeArgs),
    /// Manage the embedded server
    #[command(subcommand)]
    Local(LocalCommand),
    /// Measure this Redis and this build with no-op jobs
    Bench(BenchArgs),
    /// Print a script that completes commands and options in a shell
    Completions(CompletionsArgs),
    /// Print the manual page of this program, or of one of its commands
    Man(ManArgs),
}

/// Arguments of `legwork run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// The agent file
    pub file: PathBuf,
    /// The prompt; `-` reads it from standard input, and without one prompts are read from the terminal
    pub prompt: Vec<String>,
    /// Run this agent instead of the file's root
    #[arg(long, value_name = "NAME")]
    pub agent: Option<String>,
    /// Stop the jobs that are still running when the root agent ends its turn
    #[arg(long, conflicts_with = "detach")]
    pub no_wait: bool,
    /// Leave the jobs running when the root agent ends its turn
    #[arg(long)]
    pub detach: bool,
    /// What a session that is new may have.
    #[command(flatten)]
    pub limits: SessionLimits,
    /// The budget of the whole session, tokens or money such as `$2.50`; when it is spent, its agents fail with cause
    /// `budget`
    #[arg(long, value_name = "LIMIT")]
    pub session_budget: Option<SpendingLimit>,
    /// What becomes of calls of its jobs that need a person's approval [default: the policy's, else deny]
    #[arg(long, value_name = "DECISION", value_parser = values::approvals())]
    pub approvals: Option<Approvals>,
    /// How long this program may be away, suspended or cut off from Redis, before its jobs are stopped
    #[arg(long, env = variables::OWNER_GRACE, value_name = "TIME", default_value = "5m", value_parser = duration::parse)]
    pub owner_grace: Duration,
    /// Take model replies from this script instead of from providers; tools are real
    #[arg(long, env = variables::SCRIPT, value_name = "FILE")]
    pub script: Option<PathBuf>,
    /// Record the model replies of this run and its jobs as a script for --script
    #[arg(long, value_name = "FILE", conflicts_with = "detach")]
    pub record: Option<PathBuf>,
}

/// What `legwork configure` does about options that others have too.
const CONFIGURE_HELP: &str = "\
`--lease TIME` on this command line changes the lease. `--shards N` counts only where this command creates the
namespace. Programs that run keep the settings that they started with.";

/// Arguments of `legwork list`.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// How to print the jobs; `page` is one JSON object with the jobs and the cursor [default: table]
    #[arg(short, long, value_name = "FORM")]
    pub output: Option<ListForm>,
    /// Only jobs with this status; may be repeated
    #[arg(long, value_name = "STATUS", value_parser = values::state())]
    pub status: Vec<State>,
    /// Only failed jobs that were not retried
    #[arg(long, conflicts_with = "status")]
    pub failed: bool,
    /// Only jobs that ended with this cause
    #[arg(long, value_name = "CAUSE", value_parser = values::cause())]
    pub cause: Option<Cause>,
    /// Only jobs of this agent
    #[arg(long, value_name = "NAME")]
    pub agent: Option<String>,
    /// Only jobs of this session; the beginning of its id is enough
    #[arg(long, value_name = "ID")]
    pub session: Option<String>,
    /// Only jobs in this queue
    #[arg(long, value_name = "NAME")]
    pub queue: Option<String>,
    /// Only jobs that this worker holds
    #[arg(long, value_name = "ID")]
    pub worker: Option<String>,
    /// Only jobs created within this time
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    pub since: Option<Duration>,
    /// The most jobs to show
    #[arg(long, value_name = "N", default_value_t = 50)]
    pub limit: usize,
    /// Continue after the page that ended with this cursor
    #[arg(long, value_name = "CURSOR")]
    pub after: Option<String>,
    /// Show each job below the job that dispatched it
    #[arg(long)]
    pub tree: bool,
    /// Print the list again whenever it changes, until Ctrl-C
    #[arg(long)]
    pub watch: bool,
}

/// How `legwork list` prints jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ListForm {
    /// A table that fits the terminal
    Table,
    /// A table with the age, the wait, the worker and the model
    Wide,
    /// One JSON object a line
    Json,
    /// One JSON object: the jobs, and the cursor of the next page
    Page,
    /// One id a line
    Ids,
}

/// Arguments of `legwork explain`.
#[derive(Debug, Args)]
pub struct ExplainArgs {
    /// The job's id, or an unambiguous prefix of it of four characters or more
    pub id: String,
}

/// Arguments of `legwork view`.
#[derive(Debug, Args)]
pub struct ViewArgs {
    /// The job's id, or an unambiguous prefix of it of four characters or more
    pub id: String,
    /// Print output as it is written, until the job ends
    #[arg(long)]
    pub follow: bool,
    /// Show the output from this byte offset on; 0 shows all that a job wrote, where a completed one otherwise shows its
    /// result, the last message, only
    #[arg(long, value_name = "BYTES", conflicts_with = "tail")]
    pub since: Option<u64>,
    /// Show only this many bytes from the end of the output
    #[arg(long, value_name = "BYTES")]
    pub tail: Option<u64>,
    /// Show turns and tool calls
    #[arg(long, conflicts_with_all = ["follow", "since", "tail"])]
    pub transcript: bool,
}

/// Arguments of `legwork wait`.
#[derive(Debug, Args)]
pub struct WaitArgs {
    /// The jobs' ids, or unambiguous prefixes of four characters or more
    #[arg(required = true, value_name = "ID")]
    pub ids: Vec<String>,
    /// Wait only until the first has ended
    #[arg(long)]
    pub any: bool,
    /// The longest time to wait
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    pub timeout: Option<Duration>,
}

/// Arguments of `legwork stop`.
#[derive(Debug, Args)]
pub struct StopArgs {
    /// The jobs' ids, or unambiguous prefixes of four characters or more
    #[arg(required_unless_present_any = ["session", "agent", "all"], value_name = "ID")]
    pub ids: Vec<String>,
    /// All jobs of this session; the beginning of its id is enough
    #[arg(long, value_name = "ID")]
    pub session: Option<String>,
    /// All live jobs of this agent
    #[arg(long, value_name = "NAME")]
    pub agent: Option<String>,
    /// All live jobs
    #[arg(long)]
    pub all: bool,
    /// What to do about the question that `--all` asks.
    #[command(flatten)]
    pub confirm: ConfirmArgs,
    /// Return when the stop is durable, before the jobs have ended
    #[arg(long)]
    pub no_wait: bool,
}

/// Arguments of `legwork retry`.
#[derive(Debug, Args)]
pub struct RetryArgs {
    /// The jobs' ids, or unambiguous prefixes of four characters or more
    #[arg(required_unless_present = "failed", value_name = "ID")]
    pub ids: Vec<String>,
    /// All failed jobs that were not retried
    #[arg(long, conflicts_with_all = ["ids", "again"])]
    pub failed: bool,
    /// With --failed: only jobs of this agent
    #[arg(long, value_name = "NAME", requires = "failed")]
    pub agent: Option<String>,
    /// With --failed: only jobs of this session; the beginning of its id is enough
    #[arg(long, value_name = "ID", requires = "failed")]
    pub session: Option<String>,
    /// Retry even a job that was retried before
    #[arg(long)]
    pub again: bool,
    /// Start from the beginning instead of after the recorded turns
    #[arg(long)]
    pub fresh: bool,
    /// What to do about the question that `--failed` asks.
    #[command(flatten)]
    pub confirm: ConfirmArgs,
    /// Take model replies from this script instead of from providers; tools are real
    #[arg(long, env = variables::SCRIPT, value_name = "FILE")]
    pub script: Option<PathBuf>,
}

/// Arguments of `legwork delete`.
#[derive(Debug, Args)]
pub struct DeleteArgs {
    /// The ids of ended jobs, or unambiguous prefixes of four characters or more
    #[arg(required_unless_present = "ended_before", value_name = "ID")]
    pub ids: Vec<String>,
    /// All jobs that ended at least this long ago, instead of ids
    #[arg(long, value_name = "TIME", value_parser = duration::parse, conflicts_with = "ids")]
    pub ended_before: Option<Duration>,
    /// What to do about the question that `--ended-before` asks.
    #[command(flatten)]
    pub confirm: ConfirmArgs,
}

/// Arguments of `legwork send`.
#[derive(Debug, Args)]
pub struct SendArgs {
    /// The job's id, or an unambiguous prefix of it of four characters or more
    pub id: String,
    /// The message; `-` reads it from standard input
    #[arg(required = true)]
    pub message: Vec<String>,
}

/// Arguments of `legwork check`.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// The agent files
    #[arg(required_unless_present = "explain", value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Say what happens with this key of an agent file
    #[arg(long, value_name = "KEY")]
    pub explain: Option<String>,
}

/// Arguments of `legwork doctor`.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// Agent files to check for variables, keys and programs that this machine lacks
    #[arg(value_name = "FILE")]
    pub files: Vec<PathBuf>,
}

/// Arguments of `legwork workers`.
#[derive(Debug, Args)]
pub struct WorkersArgs {
    /// What to do instead of listing them.
    #[command(subcommand)]
    pub command: Option<WorkersCommand>,
}

/// Commands of `legwork workers`.
#[derive(Debug, Subcommand)]
pub enum WorkersCommand {
    /// Ask a worker to take no new jobs, to give those that it has its drain timeout, and to exit
    Drain {
        /// The worker's id, or an unambiguous beginning of it
        id: String,
    },
}

/// Arguments of `legwork pause` and `legwork unpause`.
#[derive(Debug, Args)]
pub struct QueueArgs {
    /// The queue
    #[arg(value_parser = parse_name)]
    pub queue: String,
}

/// Arguments of `legwork configure`.
#[derive(Debug, Args)]
#[command(after_help = CONFIGURE_HELP)]
pub struct ConfigureArgs {
    /// The new lease: the common option `--lease`, where it is on the command line.
    #[arg(skip)]
    pub lease: Option<Duration>,
    /// How long ended jobs are kept
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    pub retention: Option<Duration>,
    /// After how many crashes in a row, with no finished turn between them, a job fails
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub max_crashes: Option<u32>,
    /// How many bytes of output a job keeps
    #[arg(long, value_name = "BYTES")]
    pub output_cap: Option<u64>,
    /// How many jobs of a new session are admitted at once for each queue; 0 for no cap
    #[arg(long, value_name = "N")]
    pub session_cap: Option<u32>,
    /// How many jobs of a new session may be unfinished at once; 0 for no limit
    #[arg(long, value_name = "N")]
    pub session_jobs: Option<u32>,
}

/// Arguments of `legwork completions`.
#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// The shell
    pub shell: clap_complete::Shell,
}

/// Arguments of `legwork man`.
#[derive(Debug, Args)]
pub struct ManArgs {
    /// The words of a command, such as `local reset`
    pub command: Vec<String>,
}

/// Arguments of `legwork mcp`.
#[derive(Debug, Args)]
pub struct McpArgs {
    /// The agent file
    pub file: PathBuf,
    /// The agents to offer [default: the sub-agents of the file's root, else all agents but the root]
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub agents: Vec<String>,
    /// The session of all requests, or the beginning of its id [default: over standard streams that of the file and the
    /// folder, over HTTP one for each connection]
    #[arg(long, value_name = "ID")]
    pub session: Option<String>,
    /// Begin a new session instead of returning to that of the file and the folder
    #[arg(long, conflicts_with = "session")]
    pub new_session: bool,
    /// Serve streamable HTTP at this address instead of standard input and output
    #[arg(long, value_name = "ADDR")]
    pub http: Option<SocketAddr>,
    /// A file with the bearer token that HTTP requests must carry; or set LEGWORK_MCP_TOKEN to the token
    #[arg(long, value_name = "FILE", requires = "http")]
    pub token_file: Option<PathBuf>,
    /// Serve HTTP on a loopback address without a token: every user of this machine can then run agents with your rights
    #[arg(long, requires = "http", conflicts_with = "token_file")]
    pub no_token: bool,
    /// A web origin whose pages may connect, in addition to this machine's own; may be repeated
    #[arg(long, value_name = "ORIGIN", requires = "http")]
    pub allow_origin: Vec<String>,
    /// The longest that a call may block; most hosts give up after 60 seconds or more
    #[arg(long, value_name = "TIME", default_value = "45s", value_parser = duration::parse)]
    pub answer_within: Duration,
    /// The budget of each session, tokens or money such as `$2.50`; when it is spent, its agents fail with cause `budget`
    #[arg(long, value_name = "LIMIT", conflicts_with = "session")]
    pub session_budget: Option<SpendingLimit>,
    /// What a session that is new may have.
    #[command(flatten)]
    pub limits: SessionLimits,
    /// Take model replies from this script instead of from providers; tools are real
    #[arg(long, env = variables::SCRIPT, value_name = "FILE")]
    pub script: Option<PathBuf>,
}

/// Arguments of `legwork serve`.
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// Agent files that jobs are dispatched with, each named by its name without extension; without any, requests bring
    /// their own
    pub files: Vec<PathBuf>,
    /// The address; port 0 takes a free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:7878")]
    pub listen: SocketAddr,
    /// A file of bearer tokens: a name, roles (viewer, dispatcher, operator) and a token in each line; or set LEGWORK_TOKEN
    /// to one with all roles
    #[arg(long, value_name = "FILE")]
    pub tokens: Option<PathBuf>,
    /// Take model replies from this script instead of from providers; tools are real
    #[arg(long, env = variables::SCRIPT, value_name = "FILE")]
    pub script: Option<PathBuf>,
}

/// Commands of `legwork local`.
#[derive(Debug, Clone, Copy, Subcommand)]
pub enum LocalCommand {
    /// Show where the server is, which programs use it, and its log
    Status,
    /// Shut the server down; its data stay
    Stop,
    /// Shut the server down and delete its data
    Reset {
        /// Delete even while programs use it
        #[arg(long)]
        force: bool,
        /// What to do about the question.
        #[command(flatten)]
        confirm: ConfirmArgs,
    },
}

/// Arguments of `legwork bench`.
#[derive(Debug, Args)]
pub struct BenchArgs {
    /// The number of jobs
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    pub jobs: u32,
    /// What to measure: no-op jobs, agents with a scripted model, streamed output, stops; repeat it for several
    #[arg(long = "section", value_name = "SECTION", value_enum, default_value = "no-op")]
    pub sections: Vec<BenchSection>,
}

/// A section of `legwork bench`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum BenchSection {
    /// Jobs that do nothing: the queue alone.
    NoOp,
    /// Jobs of one scripted turn, and the memory that they take in Redis.
    Agents,
    /// Scripted agents that stream words.
    Streaming,
    /// Jobs that stream words, each with a follower: how late the words are.
    Followers,
    /// Scripted agents that wait for their models: the memory of a worker.
    Running,
    /// Stopping one running job, and all.
    Cancel,
    /// Jobs that do nothing, in growing numbers; then 80,000, for growing numbers of sessions and of workers.
    Growth,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
