//! The name of every environment variable that Legwork reads.
//!
//! Programs read the environment once, in `main`. The command line wins over a variable. Variables that an
//! agent file names, for example the keys of providers, are not listed here. `docs/operations.md` has a row
//! for each variable that begins with `LEGWORK_`; a test compares the two.

use std::collections::BTreeMap;

/// The URL of Redis. Without it the programs use the embedded server.
pub const REDIS_URL: &str = "LEGWORK_REDIS_URL";
/// How long a command that waits asks again while Redis is away.
pub const REDIS_TIMEOUT: &str = "LEGWORK_REDIS_TIMEOUT";
/// How many replicas confirm stored and ended jobs, in addition to the server's own file.
pub const DURABLE: &str = "LEGWORK_DURABLE";
/// The namespace within Redis; `default` where it is not set.
pub const NAMESPACE: &str = "LEGWORK_NAMESPACE";
/// The log level, or a list such as `info,redis=debug`.
pub const LOG: &str = "LEGWORK_LOG";
/// The log format: `text` or `json`.
pub const LOG_FORMAT: &str = "LEGWORK_LOG_FORMAT";
/// The folder of the embedded server; by default a folder below [`XDG_STATE_HOME`].
pub const STATE_DIR: &str = "LEGWORK_STATE_DIR";
/// The number of shards. It is used only when the program creates the namespace, and cannot be changed later.
pub const SHARDS: &str = "LEGWORK_SHARDS";
/// The duration of a lease. It is used only when the program creates the namespace.
pub const LEASE: &str = "LEGWORK_LEASE";
/// How long the program of a session may be away before its jobs are stopped.
pub const OWNER_GRACE: &str = "LEGWORK_OWNER_GRACE";
/// The queues that a worker serves, separated by commas, most urgent first.
pub const QUEUES: &str = "LEGWORK_QUEUES";
/// The number of jobs that a worker runs at the same time.
pub const CONCURRENCY: &str = "LEGWORK_CONCURRENCY";
/// The folder below which a worker creates the working directories of its jobs.
pub const WORK_DIR: &str = "LEGWORK_WORK_DIR";
/// Whether all jobs run in [`WORK_DIR`] itself.
pub const SHARED_WORK_DIR: &str = "LEGWORK_SHARED_WORK_DIR";
/// How long the folder of an ended job is kept; by default as long as the job itself.
pub const KEEP_JOB_FOLDERS: &str = "LEGWORK_KEEP_JOB_FOLDERS";
/// The session whose own lane a worker serves, instead of queues.
pub const SESSION: &str = "LEGWORK_SESSION";
/// Whether a worker exits when its lanes are empty.
pub const UNTIL_IDLE: &str = "LEGWORK_UNTIL_IDLE";
/// How long a draining worker lets its jobs continue before it releases them.
pub const DRAIN_TIMEOUT: &str = "LEGWORK_DRAIN_TIMEOUT";
/// How long a running job may show no activity before its worker reports a stall; `0` disables the report.
pub const STALL_AFTER: &str = "LEGWORK_STALL_AFTER";
/// The only toolsets that a worker runs, separated by commas.
pub const ALLOW_TOOLSETS: &str = "LEGWORK_ALLOW_TOOLSETS";
/// Toolsets that a worker does not run, separated by commas.
pub const DENY_TOOLSETS: &str = "LEGWORK_DENY_TOOLSETS";
/// The only programs that a worker starts as agents and as MCP servers, separated by commas.
pub const ALLOW_COMMANDS: &str = "LEGWORK_ALLOW_COMMANDS";
/// The private key that signs the jobs that a program dispatches.
pub const SIGNING_KEY: &str = "LEGWORK_SIGNING_KEY";
/// The public keys whose jobs a worker runs.
pub const TRUST: &str = "LEGWORK_TRUST";
/// The memory that a worker and the commands of its jobs may hold.
pub const MEMORY_LIMIT: &str = "LEGWORK_MEMORY_LIMIT";
/// Whether commands and file tools are confined to the folder of their job.
pub const SANDBOX: &str = "LEGWORK_SANDBOX";
/// Folders that confined commands may read too, separated by colons.
pub const SANDBOX_READ: &str = "LEGWORK_SANDBOX_READ";
/// The only TCP ports that confined commands may connect to, separated by commas; `0` for none.
pub const SANDBOX_PORTS: &str = "LEGWORK_SANDBOX_PORTS";
/// The user that commands run as.
pub const COMMAND_USER: &str = "LEGWORK_COMMAND_USER";
/// The memory that the commands of one job may hold together.
pub const COMMAND_MEMORY: &str = "LEGWORK_COMMAND_MEMORY";
/// The processes and threads that the commands of one job may be together.
pub const COMMAND_PROCESSES: &str = "LEGWORK_COMMAND_PROCESSES";
/// The listen address of a worker's health and metrics endpoints.
pub const HEALTH: &str = "LEGWORK_HEALTH";
/// The policy file: scheduling options of agents, and rate limits of model providers.
pub const POLICY: &str = "LEGWORK_POLICY";
/// Rate limits of model providers, separated by semicolons.
pub const RATE_LIMITS: &str = "LEGWORK_RATE_LIMITS";
/// A file of scripted model replies that replaces the providers.
pub const SCRIPT: &str = "LEGWORK_SCRIPT";
/// Whether commands of agents get the whole environment, and not only what holds no secret.
pub const INHERIT_ENVIRONMENT: &str = "LEGWORK_INHERIT_ENVIRONMENT";
/// `1` allows the `api`, `openapi`, `a2a` and `webhook` tools to reach addresses that are not public. Where it is not
/// set, or `0`, they reach public ones only.
pub const API_PRIVATE: &str = "LEGWORK_API_PRIVATE";
/// `1` allows the `fetch` tool to reach addresses that are not public. Where it is not set, or `0`, it
/// reaches public ones only.
pub const FETCH_PRIVATE: &str = "LEGWORK_FETCH_PRIVATE";
/// The collector that spans are sent to, over HTTP, for all signals; `/v1/traces` is added. Without it and
/// [`OTLP_TRACES_ENDPOINT`] no spans are exported. This variable and those below are OpenTelemetry's own.
pub const OTLP_ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
/// The URL that spans are sent to, as it is.
pub const OTLP_TRACES_ENDPOINT: &str = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT";
/// Headers of the requests to the collector: `name=value`, separated by commas. They may be secrets.
pub const OTLP_HEADERS: &str = "OTEL_EXPORTER_OTLP_HEADERS";
/// The protocol; only `http/protobuf` is supported.
pub const OTLP_PROTOCOL: &str = "OTEL_EXPORTER_OTLP_PROTOCOL";
/// The name of the service in its spans; the program's where it is not set.
pub const OTEL_SERVICE_NAME: &str = "OTEL_SERVICE_NAME";
/// `true` switches spans off.
pub const OTEL_DISABLED: &str = "OTEL_SDK_DISABLED";
/// The secret that notifications of jobs' ends are signed with, or several, separated by spaces, while one replaces
/// another. A worker or a server without one, and without [`WEBHOOK_SECRET_FILE`], sends none.
pub const WEBHOOK_SECRET: &str = "LEGWORK_WEBHOOK_SECRET";
/// A file with what [`WEBHOOK_SECRET`] would have.
pub const WEBHOOK_SECRET_FILE: &str = "LEGWORK_WEBHOOK_SECRET_FILE";
/// `1` allows notifications to addresses that are not public. Where it is not set, or `0`, they go to public ones only.
pub const WEBHOOK_PRIVATE: &str = "LEGWORK_WEBHOOK_PRIVATE";
/// The bearer token of `legwork mcp --http`. There is no flag for it, because other users can read a
/// process's flags.
pub const MCP_TOKEN: &str = "LEGWORK_MCP_TOKEN";

/// The bearer token of `legwork serve`, with all roles.
pub const TOKEN: &str = "LEGWORK_TOKEN";

/// The user's state folder, by the XDG Base Directory Specification.
pub const XDG_STATE_HOME: &str = "XDG_STATE_HOME";
/// The user's cache folder, by the XDG Base Directory Specification. Only tests read it: their programs are
/// cached there.
pub const XDG_CACHE_HOME: &str = "XDG_CACHE_HOME";
/// The user's folder for sockets, by the XDG Base Directory Specification.
pub const XDG_RUNTIME_DIR: &str = "XDG_RUNTIME_DIR";
/// The user's home folder.
pub const HOME: &str = "HOME";
/// The folders in which programs are searched.
pub const PATH: &str = "PATH";
/// The socket on which a service manager such as systemd waits for the state of its service.
pub const NOTIFY_SOCKET: &str = "NOTIFY_SOCKET";
/// The interval, in microseconds, within which the service manager expects a sign of life.
pub const WATCHDOG_USEC: &str = "WATCHDOG_USEC";
/// Set in every pod of Kubernetes.
pub const KUBERNETES_SERVICE_HOST: &str = "KUBERNETES_SERVICE_HOST";
/// The host name, where the shell exports it.
pub const HOSTNAME: &str = "HOSTNAME";
/// The trace context, by OpenTelemetry's convention for environment variables. Read by the program that
/// dispatches a job, and set for the commands of a job that belongs to a trace.
pub const TRACEPARENT: &str = "TRACEPARENT";
/// Disables colours when it is set, to any value (no-color.org).
pub const NO_COLOR: &str = "NO_COLOR";

/// The value of a variable without the spaces around it; `None` where it is not set, or has nothing else.
pub fn value<'v>(variables: &'v BTreeMap<String, String>, name: &str) -> Option<&'v str> {
    variables.get(name).map(|value| value.trim()).filter(|value| !value.is_empty())
}
