//! A worker: claims jobs and runs their attempts.
//!
//! # Layout
//!
//! The loop:
//!
//! - [`worker`]: the settings of a worker, and the tasks that it starts.
//! - [`supervisor`]: what a worker does next; pure. [`driver`]: the loop that waits for events and acts.
//! - [`claims`]: claims jobs. [`renewal`]: renews their leases; [`renewal_requests`]: sooner than due.
//!   [`log_writer`]: writes their output, turns and ends.
//! - [`memory`]: ends the heaviest job before the system ends all.
//! - [`upkeep`]: reclaims the jobs of dead workers. [`tally`]: what became of the jobs, for the heartbeat and the metrics.
//!
//! One job:
//!
//! - [`attempt`]: one attempt, from claim to finish. `prepare`: what it reads first; `copied_turns`: the turns that it
//!   takes over from a job that it retries; `settlement`: what becomes of the job; pure. [`attempt_log`]: what is logged of
//!   it. `spans`: its spans, and what each line of its log has.
//! - [`admission`]: which signed jobs it trusts; [`ledger`]: what it ran of them; [`key_file`]: keys from files.
//! - [`permits`]: what this worker runs at all; pure. [`runner`]: what an attempt runs. [`journal`]: what the agent
//!   writes, on its way to the log writer.
//! - [`active_attempts`]: the attempts of the worker. [`cancel`]: why one must end. [`lease_clock`]: how long they may
//!   act. `stall`: reports a job without activity. `deadline`: an optional deadline.
//! - [`parking`]: the service that a job calls; a job that waits holds no slot. `questions`: whether it may wait for a
//!   person. [`team_cache`]: the teams that were read.
//! - [`models`]: the models that agents call; [`metered`]: counts their calls; [`rate_limit`]: puts them behind the fleet's
//!   rate limits.
//! - [`job_folders`]: the folders that jobs run in on a fleet, and their removal.
//! - `command_user`: the other user that commands run as.
//! - [`guard`]: the process that kills the commands of a worker which can no longer do it.
//!
//! Besides jobs:
//!
//! - [`webhooks`]: reports ends of jobs to URLs.
//!
//! The program:
//!
//! - [`program`]: its story; [`startup`]: what it needs first; `work_dir`: where its jobs run; [`options`]: its command
//!   line.
//! - [`backend`]: where the queue is; `server_watch`: the end of a worker without its embedded server; [`host`]: this
//!   machine.

pub mod active_attempts;
pub mod admission;
pub mod attempt;
pub mod attempt_log;
pub mod backend;
pub mod cancel;
pub mod claims;
mod command_user;
mod copied_turns;
mod deadline;
pub mod driver;
#[cfg(test)]
mod fake_queue;
pub mod guard;
pub mod host;
pub mod job_folders;
pub mod journal;
pub mod key_file;
pub mod lease_clock;
pub mod ledger;
pub mod log_writer;
pub mod memory;
pub mod metered;
pub mod models;
pub mod options;
pub mod parking;
pub mod permits;
mod prepare;
pub mod program;
mod questions;
pub mod rate_limit;
pub mod renewal;
pub mod renewal_requests;
pub mod runner;
pub mod server_watch;
mod settlement;
mod spans;
mod stall;
pub mod startup;
pub mod supervisor;
pub mod tally;
pub mod team_cache;
pub mod upkeep;
pub mod webhooks;
mod work_dir;
pub mod worker;

pub use driver::ShutdownTokens;
pub use worker::Worker;
pub use worker::WorkerHealth;
pub use worker::WorkerSettings;
