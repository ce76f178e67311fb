//! The runtime of one agent: models, toolsets and the loop.
//!
//! # Layout
//!
//! - [`run`](fn@run): runs one agent to its end; [`Assignment`], [`Ports`] and [`Outcome`] are its arguments and its answer.
//! - [`journal`]: what a run writes down; the turns are a write-ahead log.
//! - [`turn`]: what comes next, decided from what is recorded; pure.
//! - [`pruning`]: what of recorded turns need not be kept in memory; pure.
//! - [`floor`]: which agent of a team goes on, decided from what is recorded; pure.
//! - [`prompt`]: the first messages, and [`history`]: how much of a long conversation is sent; pure.
//! - [`model`]: the port of a model, with providers and scripts behind it.
//! - [`tool`] and [`toolset`]: the port of a tool, and the toolsets.
//! - [`slash`]: the prompts that a user calls by name.
//! - [`permission`]: which tool calls a team refuses.
//! - [`environment`]: what a run may know of the machine.
//! - [`preflight`]: what an agent needs and the machine lacks; pure.
//!
//! A root agent and a sub-agent run the same way and differ only in their [`Opening`]. This crate does not
//! know that queues exist: it dispatches and waits through `legwork_common::service`.

pub mod active_agent;
pub mod assignment;
mod compaction;
pub mod environment;
pub mod history;
pub mod journal;
pub mod message;
pub mod model;
pub mod permission;
pub mod preflight;
mod process;
pub mod prompt;
mod prompt_files;
pub mod pruning;
pub mod run;
pub mod slash;
#[cfg(test)]
mod testing;
pub mod tool;
pub mod toolset;
pub mod turn;

pub use assignment::Assignment;
pub use assignment::Opening;
pub use assignment::Outcome;
pub use assignment::Ports;
pub use environment::Environment;
pub use run::run;
