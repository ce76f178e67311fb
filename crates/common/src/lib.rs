//! The vocabulary of Legwork: nouns that two rooms need, and nothing that does anything.
//!
//! # Layout
//!
//! - [`id`]: typed identifiers; a job's shard is written in its id.
//! - [`lifecycle`]: the states and events of a job and the one total transition function.
//! - [`job`]: what was asked (`JobSpec`) and what is known (`Job`).
//! - [`policy`]: what a fleet decides apart from agent files.
//! - [`service`]: the `BackgroundAgents` trait that every face translates into.
//! - [`session_state`]: what all agents of a session share.
//! - [`contract`]: the exact texts that models see.
//! - [`duration`]: durations as people and models read and write them.
//! - [`error`]: error codes, hints and exit statuses.
//! - [`retry`]: backoff as an iterator.
//! - [`team`]: the agent file, from bytes to a team that cannot be wrong.
//! - [`trace`]: the trace of other programs that a job belongs to.
//! - [`variables`]: every environment variable that Legwork reads.
//!
//! This crate performs no input or output, knows no asynchronous runtime and never reads the
//! environment or a clock.

pub mod contract;
pub mod duration;
pub mod error;
pub mod id;
pub mod job;
pub mod lifecycle;
pub mod policy;
pub mod retry;
pub mod service;
pub mod session_state;
pub mod team;
pub mod trace;
pub mod variables;
