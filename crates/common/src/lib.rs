//! The vocabulary of Legwork: types that more than one crate needs, without any input or output.
//!
//! # Layout
//!
//! - [`id`]: typed identifiers; the id of a job contains its shard.
//! - [`lifecycle`]: the states and events of a job, and the total transition function.
//! - [`job`]: the immutable request (`JobSpec`), its scheduling options (`JobOptions`) and a snapshot (`Job`).
//! - [`policy`]: the policy file of a fleet: defaults for each agent and rate limits of model providers.
//! - [`secrets`]: which variables are secrets, and texts without them.
//! - [`service`]: the `BackgroundAgents` trait that the command line, MCP and the agents' toolset call.
//! - [`session_state`]: the todo list and the token budget that all agents of a session share.
//! - [`stored`]: versions of stored forms, so that releases can share one Redis.
//! - [`contract`]: the exact texts of the background-agent tools.
//! - [`duration`]: parsing and formatting of durations such as `1h30m`.
//! - [`error`]: error codes, hints and exit statuses.
//! - [`question`]: what a job asks a person, and the answer.
//! - [`retry`]: exponential backoff as an iterator.
//! - [`team`]: parsing and validation of agent files into a [`team::Team`].
//! - [`trace`]: the W3C trace context that a job propagates.
//! - [`variables`]: the name of every environment variable that Legwork reads.
//! - [`waits_for`] and [`explain`]: why a job does not run, as a field and as a paragraph.
//! - [`webhook`]: where the end of a job is reported to, and what follows from an answer.
//!
//! This crate performs no input or output, depends on no asynchronous runtime, and never reads the
//! environment or a clock.

pub mod contract;
pub mod duration;
pub mod error;
pub mod explain;
pub mod id;
pub mod job;
pub mod lifecycle;
pub mod money;
pub mod policy;
pub mod question;
pub mod retry;
pub mod secrets;
pub mod service;
pub mod session_state;
pub mod stored;
pub mod team;
pub mod trace;
pub mod variables;
pub mod waits_for;
pub mod webhook;
