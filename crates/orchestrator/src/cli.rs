//! The command line of `legwork`: its words, nothing else.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use clap::Parser;
use clap::Subcommand;
use legwork_common::duration;
use legwork_common::id::SessionId;
use legwork_common::job::Priority;
use legwork_common::job::parse_name;
use legwork_common::lifecycle::State;
use legwork_common::variables;
use legwork_worker::options::CommonOptions;

/// Runs agents that dispatch background agents onto a fleet of workers, and operates the fleet.
#[derive(Debug, Parser)]
#[command(name = "legwork", version, about, max_term_width = 100)]
pub struct Cli {
    /// What both programs share.
    #[command(flatten)]
    pub common: CommonOptions,
    /// Print JSON: one object a line
    #[arg(long, global = true)]
    pub json: bool,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
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
    /// Wait until jobs have ended
    Wait(WaitArgs),
    /// Stop jobs and the whole tree below each
    Stop(StopArgs),
    /// Try failed or stopped jobs again, each as a new job that goes on from its last turn
    Retry(RetryArgs),
    /// Forget ended jobs and all that they left in Redis
    Delete(DeleteArgs),
    /// Send a message to a running job, delivered before its next model call
    Send(SendArgs),
    /// Say what is wrong with agent files
    Check(CheckArgs),
    /// Say whether this Redis is safe for jobs, and whether this machine can run these agent files
    Doctor(DoctorArgs),
    /// List the live workers
    Workers,
    /// Offer the background agents' tools to other programs, as a server of the Model Context Protocol
    Mcp(McpArgs),
    /// Manage the embedded server
    #[command(subcommand)]
    Local(LocalCommand),
    /// Measure this Redis and this build with jobs that do nothing
    Bench(BenchArgs),
}

/// `legwork run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// The agent file
    pub file: PathBuf,
    /// What to ask; `-` reads it from standard input
    pub prompt: Vec<String>,
    /// The agent to run instead of the file's root
    #[arg(long, value_name = "NAME")]
    pub agent: Option<String>,
    /// Stop jobs that still run when the root agent ends its turn
    #[arg(long, conflicts_with = "detach")]
    pub no_wait: bool,
    /// Leave jobs that still run when the root agent ends its turn
    #[arg(long)]
    pub detach: bool,
    /// How many jobs of this session are admitted at once; 0 for no cap
    #[arg(long, value_name = "N")]
    pub cap: Option<u32>,
    /// How many tokens the models of the whole session may count, in and out; then its agents fail, cause `budget`
    #[arg(long, value_name = "TOKENS", value_parser = clap::value_parser!(u64).range(1..))]
    pub session_budget: Option<u64>,
    /// Take model replies from this script instead of asking providers; tools are real
    #[arg(long, env = variables::SCRIPT, value_name = "FILE")]
    pub script: Option<PathBuf>,
    /// Write what the models answered, in this run and its jobs, as a script for --script
    #[arg(long, value_name = "FILE", conflicts_with = "detach")]
    pub record: Option<PathBuf>,
}

/// `legwork dispatch`.
#[derive(Debug, Args)]
pub struct DispatchArgs {
    /// The agent file
    pub file: PathBuf,
    /// The agent that does the work
    #[arg(required_unless_present = "batch")]
    pub agent: Option<String>,
    /// What it shall do
    #[arg(required_unless_present = "batch")]
    pub task: Vec<String>,
    /// What its answer should look like
    #[arg(long, value_name = "TEXT")]
    pub expected_output: Option<String>,
    /// The same key and the same request give the same id
    #[arg(long, value_name = "KEY")]
    pub key: Option<String>,
    /// The session it belongs to; a new one if none is given
    #[arg(long, value_name = "ID")]
    pub session: Option<SessionId>,
    /// The queue it goes to; by default what the policy says, else `default`
    #[arg(long, value_name = "NAME", value_parser = parse_name)]
    pub queue: Option<String>,
    /// high, normal (the default) or low
    #[arg(long, value_name = "PRIORITY")]
    pub priority: Option<Priority>,
    /// How long it waits before it is queued
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = duration::parse)]
    pub delay: Duration,
    /// How long it may run
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    pub timeout: Option<Duration>,
    /// How many times a failure is tried again (0)
    #[arg(long, value_name = "N")]
    pub retries: Option<u32>,
    /// The pause before the first retry (5s); doubled for each further one, up to ten minutes
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    pub retry_delay: Option<Duration>,
    /// How many tokens its models may count, in and out, over all attempts; then it fails, cause `budget`
    #[arg(long, value_name = "TOKENS", value_parser = clap::value_parser!(u64).range(1..))]
    pub budget: Option<u64>,
    /// How many tokens the models of the whole session may count, in and out; then its agents fail, cause `budget`
    #[arg(long, value_name = "TOKENS", value_parser = clap::value_parser!(u64).range(1..), conflicts_with = "session")]
    pub session_budget: Option<u64>,
    /// How many jobs of the session are admitted at once; 0 for no cap
    #[arg(long, value_name = "N")]
    pub cap: Option<u32>,
    /// Wait until it has ended and show the result
    #[arg(long)]
    pub wait: bool,
    /// Show its output while it runs
    #[arg(long)]
    pub follow: bool,
    /// Dispatch each line of this file, a JSON request; `-` for standard input
    #[arg(long, value_name = "FILE", conflicts_with_all = ["agent", "task", "expected_output", "key"])]
    pub batch: Option<PathBuf>,
    /// Take model replies from this script instead of asking providers; tools are real
    #[arg(long, env = variables::SCRIPT, value_name = "FILE")]
    pub script: Option<PathBuf>,
}

/// `legwork list`.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Only jobs of this status; may be repeated
    #[arg(long, value_name = "STATUS")]
    pub status: Vec<State>,
    /// Only jobs of this agent
    #[arg(long, value_name = "NAME")]
    pub agent: Option<String>,
    /// Only jobs of this session
    #[arg(long, value_name = "ID")]
    pub session: Option<SessionId>,
    /// Only jobs of this queue
    #[arg(long, value_name = "NAME")]
    pub queue: Option<String>,
    /// Only jobs that this worker holds
    #[arg(long, value_name = "ID")]
    pub worker: Option<String>,
    /// Only jobs created within this time
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    pub since: Option<Duration>,
    /// How many at most
    #[arg(long, value_name = "N", default_value_t = 50)]
    pub limit: usize,
    /// Go on where a page ended
    #[arg(long, value_name = "CURSOR")]
    pub after: Option<String>,
    /// Show which job dispatched which
    #[arg(long)]
    pub tree: bool,
    /// Show the list again whenever it changes, until Ctrl-C
    #[arg(long)]
    pub watch: bool,
}

/// `legwork view`.
#[derive(Debug, Args)]
pub struct ViewArgs {
    /// The job: its id, or an unambiguous beginning of four characters or more
    pub id: String,
    /// Show output as it comes, until the job ends
    #[arg(long)]
    pub follow: bool,
    /// Show output from this byte on
    #[arg(long, value_name = "BYTES", conflicts_with = "tail")]
    pub since: Option<u64>,
    /// Show this many of the last bytes of output
    #[arg(long, value_name = "BYTES")]
    pub tail: Option<u64>,
    /// Show the turns and the tool calls
    #[arg(long, conflicts_with_all = ["follow", "since", "tail"])]
    pub transcript: bool,
}

/// `legwork wait`.
#[derive(Debug, Args)]
pub struct WaitArgs {
    /// The jobs
    #[arg(required = true)]
    pub ids: Vec<String>,
    /// Until the first has ended
    #[arg(long)]
    pub any: bool,
    /// How long at most
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    pub timeout: Option<Duration>,
}

/// `legwork stop`.
#[derive(Debug, Args)]
pub struct StopArgs {
    /// The jobs
    #[arg(required_unless_present_any = ["session", "agent", "all"])]
    pub ids: Vec<String>,
    /// All jobs of this session
    #[arg(long, value_name = "ID")]
    pub session: Option<SessionId>,
    /// All live jobs of this agent
    #[arg(long, value_name = "NAME")]
    pub agent: Option<String>,
    /// All live jobs
    #[arg(long)]
    pub all: bool,
    /// Do not ask before stopping all
    #[arg(long)]
    pub yes: bool,
    /// Return when the wish is durable, not when all is terminal
    #[arg(long)]
    pub no_wait: bool,
}

/// `legwork retry`.
#[derive(Debug, Args)]
pub struct RetryArgs {
    /// The jobs
    #[arg(required = true)]
    pub ids: Vec<String>,
    /// Begin anew instead of going on from the recorded turns
    #[arg(long)]
    pub fresh: bool,
    /// Take model replies from this script instead of asking providers; tools are real
    #[arg(long, env = variables::SCRIPT, value_name = "FILE")]
    pub script: Option<PathBuf>,
}

/// `legwork delete`.
#[derive(Debug, Args)]
pub struct DeleteArgs {
    /// The jobs, which must have ended
    #[arg(required_unless_present = "ended_before")]
    pub ids: Vec<String>,
    /// All jobs that ended so long ago or longer
    #[arg(long, value_name = "TIME", value_parser = duration::parse, conflicts_with = "ids")]
    pub ended_before: Option<Duration>,
}

/// `legwork send`.
#[derive(Debug, Args)]
pub struct SendArgs {
    /// The job: its id, or an unambiguous beginning of four characters or more
    pub id: String,
    /// What to tell it; `-` reads it from standard input
    #[arg(required = true)]
    pub message: Vec<String>,
}

/// `legwork check`.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// The agent files
    #[arg(required = true)]
    pub files: Vec<PathBuf>,
}

/// `legwork doctor`.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// Agent files that this machine shall be able to run
    pub files: Vec<PathBuf>,
}

/// `legwork mcp`.
#[derive(Debug, Args)]
pub struct McpArgs {
    /// The agent file
    pub file: PathBuf,
    /// The agents to offer; by default the sub-agents of the file's root, else all but the root
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub agents: Vec<String>,
    /// The session to work in, of an earlier server for example; by default one for each connection
    #[arg(long, value_name = "ID")]
    pub session: Option<SessionId>,
    /// Serve over HTTP at this address instead of standard input and output
    #[arg(long, value_name = "ADDR")]
    pub http: Option<SocketAddr>,
    /// A file with the bearer token that every request over HTTP must carry (or set LEGWORK_MCP_TOKEN to the token)
    #[arg(long, value_name = "FILE", requires = "http")]
    pub token_file: Option<PathBuf>,
    /// A web origin whose pages may reach the server over HTTP, besides this machine's own; may be repeated
    #[arg(long, value_name = "ORIGIN", requires = "http")]
    pub allow_origin: Vec<String>,
    /// The longest that a call may take; hosts give up after 60 seconds or more
    #[arg(long, value_name = "TIME", default_value = "45s", value_parser = duration::parse)]
    pub answer_within: Duration,
    /// How many tokens the models of a whole session may count, in and out; then its agents fail, cause `budget`
    #[arg(long, value_name = "TOKENS", value_parser = clap::value_parser!(u64).range(1..), conflicts_with = "session")]
    pub session_budget: Option<u64>,
    /// How many jobs of a session are admitted at once; 0 for no cap
    #[arg(long, value_name = "N")]
    pub cap: Option<u32>,
    /// Take model replies from this script instead of asking providers; tools are real
    #[arg(long, env = variables::SCRIPT, value_name = "FILE")]
    pub script: Option<PathBuf>,
}

/// `legwork local`.
#[derive(Debug, Clone, Copy, Subcommand)]
pub enum LocalCommand {
    /// Where it is, who uses it, and its log
    Status,
    /// Shut it down; the data stay
    Stop,
    /// Shut it down and delete its data
    Reset {
        /// Even while programs use it
        #[arg(long)]
        force: bool,
    },
}

/// `legwork bench`.
#[derive(Debug, Args)]
pub struct BenchArgs {
    /// How many jobs
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    pub jobs: u32,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }
}
