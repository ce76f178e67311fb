//! The command line of `legwork-worker`, and the options that it shares with `legwork`.

pub mod command_line;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use clap::CommandFactory as _;
use clap::FromArgMatches as _;
use clap::Parser;
use legwork_agent::environment::Inherited;
use legwork_common::duration;
use legwork_common::id::SessionId;
use legwork_common::job::DEFAULT_QUEUE;
use legwork_common::job::parse_name;
use legwork_common::policy;
use legwork_common::policy::Policy;
use legwork_common::policy::PolicyError;
use legwork_common::variables;
use legwork_process::telemetry::LogFormat;
use legwork_queue::settings::FleetSettings;

use crate::guard::CommandLimits;
use crate::memory::parse_size;
use crate::options::command_line::Mistake;
use crate::permits::Permits;

/// The options of both programs: where the queue is, how to log, what the fleet has decided.
#[derive(Debug, Clone, Args)]
pub struct CommonOptions {
    /// Where Redis is: redis://host:port, rediss://, unix://, redis+sentinel://host,host/name or redis+cluster://host,host;
    /// without it the embedded server is used
    #[arg(long, env = variables::REDIS_URL, value_name = "URL", hide_env_values = true, global = true)]
    pub redis: Option<String>,
    /// Answer for a stored job, and take an attempt for ended, only once Redis' own file and those of so many replicas have
    /// it: 0 without a number, for its own file alone; Redis or Valkey 7.2 with `appendonly yes`
    #[arg(long, env = variables::DURABLE, value_name = "REPLICAS", num_args = 0..=1, require_equals = true,
          default_missing_value = "0", global = true, hide_short_help = true,
          value_parser = clap::value_parser!(u32).range(0..=16))]
    pub durable: Option<u32>,
    /// The namespace within Redis
    #[arg(long, env = variables::NAMESPACE, value_name = "NAME", default_value = "default", global = true,
          value_parser = parse_name)]
    pub namespace: String,
    /// The least severe log lines to show: error, warn, info, debug, trace
    #[arg(long, env = variables::LOG, value_name = "LEVEL", global = true)]
    pub log: Option<String>,
    /// The format of log lines: text or json
    #[arg(long, env = variables::LOG_FORMAT, value_name = "FORMAT", default_value = "text", global = true)]
    pub log_format: LogFormat,
    /// Shards of the namespace, if it is new: 1 on one Redis, 16 on a Cluster
    #[arg(long, env = variables::SHARDS, value_name = "N", global = true, hide_short_help = true,
          value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub shards: Option<u16>,
    /// How long a lease lasts without being renewed, if the namespace is new
    #[arg(long, env = variables::LEASE, value_name = "TIME", global = true, hide_short_help = true,
          value_parser = duration::parse)]
    pub lease: Option<Duration>,
    /// The policy file of the fleet: queues of agents, rate limits of model providers
    #[arg(long, env = variables::POLICY, value_name = "FILE", global = true)]
    pub policy: Option<PathBuf>,
    /// A rate limit of a model provider for the whole fleet, requests and tokens per minute:
    /// anthropic=requests:50,tokens:40000,concurrent:4
    #[arg(long = "rate-limit", env = variables::RATE_LIMITS, value_name = "LIMIT", value_delimiter = ';', global = true,
          hide_short_help = true)]
    pub limits: Vec<String>,
    /// Report a running job as stalled, in the log and in `view`, after this long without activity; 0 for never
    #[arg(long, env = variables::STALL_AFTER, value_name = "TIME", default_value = "15m", global = true,
          hide_short_help = true, value_parser = duration::parse)]
    pub stall_after: Duration,
    /// Give commands of agents the whole environment, API keys too, and not only PATH, HOME, the locale and the like
    #[arg(long, env = variables::INHERIT_ENVIRONMENT, global = true, hide_short_help = true)]
    pub inherit_environment: bool,
    /// The private key that signs the jobs that this program dispatches; `legwork keys new` makes one
    #[arg(long, env = variables::SIGNING_KEY, value_name = "FILE", global = true, hide_short_help = true)]
    pub signing_key: Option<PathBuf>,
    /// The public keys that are trusted: a worker of a fleet runs the jobs of these only, and `retry` signs theirs again
    #[arg(long, env = variables::TRUST, value_name = "FILE", global = true, hide_short_help = true)]
    pub trust: Option<PathBuf>,
    /// The folder of the embedded server
    #[arg(long, env = variables::STATE_DIR, value_name = "DIR", global = true, hide_short_help = true)]
    pub state_dir: Option<PathBuf>,
}

impl WorkerOptions {
    /// Reads the command line and the environment.
    ///
    /// # Errors
    ///
    /// What the parser returns instead of options: help, the version, or a mistake.
    pub fn read(arguments: Vec<OsString>, variables: &BTreeMap<String, String>) -> Result<Self, clap::Error> {
        let mut command = command_line::prepared(Self::command(), &arguments, variables);
        let matches = command.try_get_matches_from_mut(arguments)?;
        Self::from_arg_matches(&matches).map_err(|error| error.format(&mut command))
    }

    /// The text of a mistake on the command line, in the form of `legwork`'s.
    pub fn mistake(error: &clap::Error) -> String {
        let Mistake { message, meant } = Mistake::of(error);
        let usage = command_line::usage_line(&mut Self::command());
        let hint = meant.unwrap_or_else(|| "see `legwork-worker --help`".to_owned());
        format!("error: {message}\nusage: {usage}\nhint: {hint}\n")
    }
}

impl WorkerOptions {
    /// What this worker runs at all.
    pub fn permits(&self) -> Permits {
        let only = |names: &[String]| (!names.is_empty()).then(|| names.iter().cloned().collect());
        Permits {
            agents: None,
            toolsets: only(&self.allow_toolsets),
            denied_toolsets: self.deny_toolsets.iter().cloned().collect(),
            commands: only(&self.allow_commands),
        }
    }

    /// The limits on the commands of one run together.
    pub fn command_limits(&self) -> CommandLimits {
        CommandLimits {
            memory: self.command_memory.filter(|&bytes| bytes > 0),
            processes: self.command_processes.filter(|&most| most > 0),
        }
    }
}

impl CommonOptions {
    /// The policy of the fleet: the file's, with the limits of the command line on top.
    ///
    /// # Errors
    ///
    /// [`PolicyError`] for a file that cannot be read, or for an invalid value in either.
    pub fn policy(&self) -> Result<Arc<Policy>, PolicyError> {
        let mut policy = match &self.policy {
            Some(file) => {
                let name = file.display().to_string();
                let bytes = std::fs::read(file)
                    .map_err(|error| PolicyError::File { name: name.clone(), detail: error.to_string() })?;
                policy::parse(&name, &bytes)?
            }
            None => Policy::default(),
        };
        for limit in &self.limits {
            policy.add_limit(limit)?;
        }
        Ok(Arc::new(policy))
    }

    /// Which variables the commands of agents get without asking.
    pub fn inherited(&self) -> Inherited {
        if self.inherit_environment { Inherited::All } else { Inherited::Harmless }
    }

    /// The settings of the namespace if this program is the first to use it; otherwise they are fixed already.
    pub fn wanted_settings(&self) -> FleetSettings {
        let defaults = FleetSettings::default();
        FleetSettings {
            shards: self.shards.unwrap_or(defaults.shards),
            lease: self.lease.unwrap_or(defaults.lease),
            ..defaults
        }
    }
}

/// The examples below the help of `legwork-worker`.
const EXAMPLES: &str = "\
Examples:
  legwork-worker --redis redis://127.0.0.1:6379 --queues default
  legwork-worker --queues code,default --concurrency 20 --health 127.0.0.1:8080

The second takes the address of Redis from LEGWORK_REDIS_URL.";

/// Run background agents: claim jobs from the queues and run their agents
#[derive(Debug, Clone, Parser)]
#[command(name = "legwork-worker", version, max_term_width = 100, after_help = EXAMPLES)]
pub struct WorkerOptions {
    /// The queues to serve; their order is their priority
    #[arg(long, env = variables::QUEUES, value_delimiter = ',', value_name = "NAMES", default_value = DEFAULT_QUEUE,
          value_parser = parse_name)]
    pub queues: Vec<String>,
    /// How many jobs to run at once
    #[arg(long, env = variables::CONCURRENCY, value_name = "N", default_value_t = 100,
          value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub concurrency: u32,
    /// The folder below which each job gets a folder of its own; without it, and with --redis, a folder in the user's
    /// state folder, or in $TMPDIR in a container
    #[arg(long, env = variables::WORK_DIR, value_name = "DIR")]
    pub work_dir: Option<PathBuf>,
    /// How long the folder of an ended job is kept; without it, as long as the job
    #[arg(long, env = variables::KEEP_JOB_FOLDERS, value_name = "TIME", value_parser = duration::parse)]
    pub keep_job_folders: Option<Duration>,
    /// Run all jobs in the work dir itself
    #[arg(long, env = variables::SHARED_WORK_DIR, requires = "work_dir")]
    pub shared_work_dir: bool,
    /// Serve only the lanes of this session
    #[arg(long, env = variables::SESSION, value_name = "ID")]
    pub session: Option<SessionId>,
    /// Exit once no job is left to run
    #[arg(long, env = variables::UNTIL_IDLE)]
    pub until_idle: bool,
    /// How long jobs may continue after SIGTERM before they are released to the queue
    #[arg(long, env = variables::DRAIN_TIMEOUT, value_name = "TIME", default_value = "30s",
          value_parser = duration::parse)]
    pub drain_timeout: Duration,
    /// Run only agents whose toolsets are all of these types, such as filesystem,fetch; other jobs go to another worker
    #[arg(long = "allow-toolset", env = variables::ALLOW_TOOLSETS, value_delimiter = ',', value_name = "TYPES")]
    pub allow_toolsets: Vec<String>,
    /// Run no agent with a toolset of these types, such as shell,script
    #[arg(long = "deny-toolset", env = variables::DENY_TOOLSETS, value_delimiter = ',', value_name = "TYPES")]
    pub deny_toolsets: Vec<String>,
    /// Start only these programs as agents (`command:`) and as MCP servers
    #[arg(long = "allow-command", env = variables::ALLOW_COMMANDS, value_delimiter = ',', value_name = "PROGRAMS")]
    pub allow_commands: Vec<String>,
    /// Confine commands and file tools to the folder of their job, and to what a system has for everyone to read
    #[arg(long, env = variables::SANDBOX)]
    pub sandbox: bool,
    /// Further folders that confined commands and file tools may read
    #[arg(long, env = variables::SANDBOX_READ, value_delimiter = ':', value_name = "DIRS", requires = "sandbox")]
    pub sandbox_read: Vec<PathBuf>,
    /// The only TCP ports that confined commands may connect to, such as 443,80; 0 for none
    #[arg(long, env = variables::SANDBOX_PORTS, value_delimiter = ',', value_name = "PORTS", requires = "sandbox")]
    pub sandbox_ports: Vec<u16>,
    /// The user that commands run as, by name or as UID:GID; this worker must run as root. File tools have its rights and
    /// reach the folder of their job
    #[arg(long, env = variables::COMMAND_USER, value_name = "USER")]
    pub command_user: Option<String>,
    /// Memory that the commands of one job may hold together, such as 2GiB, with swap where the system counts that: the system
    /// ends what needs more; 0 for no limit. It needs a control group of the worker's own
    #[arg(long, env = variables::COMMAND_MEMORY, value_name = "SIZE", value_parser = parse_size)]
    pub command_memory: Option<u64>,
    /// Processes and threads that the commands of one job may be together, such as 512; 0 for no limit. It needs a control
    /// group of the worker's own
    #[arg(long, env = variables::COMMAND_PROCESSES, value_name = "N")]
    pub command_processes: Option<u64>,
    /// Memory that this worker and the commands of its jobs may hold, such as 2GiB, before the heaviest job is ended; 0 for
    /// no limit; without it, the limit of the control group
    #[arg(long, env = variables::MEMORY_LIMIT, value_name = "SIZE", value_parser = parse_size)]
    pub memory_limit: Option<u64>,
    /// Where to answer /healthz, /readyz and /metrics
    #[arg(long, env = variables::HEALTH, value_name = "ADDR")]
    pub health: Option<SocketAddr>,
    /// Take model replies from this script instead of calling providers; tools are real
    #[arg(long, env = variables::SCRIPT, value_name = "FILE")]
    pub script: Option<PathBuf>,
    /// The options of both programs. They have a heading of their own, and come last: the heading holds for all
    /// that follow.
    #[command(flatten, next_help_heading = command_line::COMMON_OPTIONS)]
    pub common: CommonOptions,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        WorkerOptions::command().debug_assert();
    }
}
