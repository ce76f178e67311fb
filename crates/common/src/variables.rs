//! Every environment variable that Legwork reads, in one place.
//!
//! Programs read the environment once, in `main`. Variables that agent files name (keys of providers, for
//! example) are the agent file's own and not listed here.

/// Where Redis is; without it the embedded server serves.
pub const REDIS_URL: &str = "LEGWORK_REDIS_URL";
/// The namespace within Redis.
pub const NAMESPACE: &str = "LEGWORK_NAMESPACE";
/// The least severe log lines that are shown.
pub const LOG: &str = "LEGWORK_LOG";
/// `text` or `json`.
pub const LOG_FORMAT: &str = "LEGWORK_LOG_FORMAT";
/// The folder of the embedded server; by default below `XDG_STATE_HOME`.
pub const STATE_DIR: &str = "LEGWORK_STATE_DIR";
/// Shards of a namespace that is created.
pub const SHARDS: &str = "LEGWORK_SHARDS";
/// The lease of a namespace that is created.
pub const LEASE: &str = "LEGWORK_LEASE";
/// Queues that a worker serves.
pub const QUEUES: &str = "LEGWORK_QUEUES";
/// Jobs that a worker runs at once.
pub const CONCURRENCY: &str = "LEGWORK_CONCURRENCY";
/// The folder below which jobs run.
pub const WORK_DIR: &str = "LEGWORK_WORK_DIR";
/// Whether all jobs share the one folder.
pub const SHARED_WORK_DIR: &str = "LEGWORK_SHARED_WORK_DIR";
/// The session whose own lane a worker serves.
pub const SESSION: &str = "LEGWORK_SESSION";
/// Whether a worker ends when there is nothing to do.
pub const UNTIL_IDLE: &str = "LEGWORK_UNTIL_IDLE";
/// How long a draining worker lets its jobs go on.
pub const DRAIN_TIMEOUT: &str = "LEGWORK_DRAIN_TIMEOUT";
/// How long nothing may be heard of a job before a worker says so.
pub const STALL_AFTER: &str = "LEGWORK_STALL_AFTER";
/// The address of a worker's health endpoints.
pub const HEALTH: &str = "LEGWORK_HEALTH";
/// The file with what the fleet decides: where agents run, limits of model providers.
pub const POLICY: &str = "LEGWORK_POLICY";
/// Limits of model providers, separated by semicolons.
pub const RATE_LIMITS: &str = "LEGWORK_RATE_LIMITS";
/// A script of model replies, in place of providers.
pub const SCRIPT: &str = "LEGWORK_SCRIPT";
/// Whether agents may fetch from addresses that are not public; `0` or nothing: they may not.
pub const FETCH_PRIVATE: &str = "LEGWORK_FETCH_PRIVATE";
/// The bearer token of `legwork mcp --http`. From the environment and not by a flag, which a list of processes shows.
pub const MCP_TOKEN: &str = "LEGWORK_MCP_TOKEN";

/// The folder of the user's state, by the XDG Base Directory Specification.
pub const XDG_STATE_HOME: &str = "XDG_STATE_HOME";
/// The folder of what can be had again, by the XDG Base Directory Specification: tests find their programs there.
pub const XDG_CACHE_HOME: &str = "XDG_CACHE_HOME";
/// The folder of the user's sockets, by the XDG Base Directory Specification.
pub const XDG_RUNTIME_DIR: &str = "XDG_RUNTIME_DIR";
/// The user's home.
pub const HOME: &str = "HOME";
/// Where programs are.
pub const PATH: &str = "PATH";
/// The name of the machine, where the shell exports it.
pub const HOSTNAME: &str = "HOSTNAME";
/// The trace that a program belongs to, by OpenTelemetry's convention for environment variables: read by who dispatches,
/// and set for the commands of a job that belongs to one.
pub const TRACEPARENT: &str = "TRACEPARENT";
/// Set to anything: no colours (no-color.org).
pub const NO_COLOR: &str = "NO_COLOR";
