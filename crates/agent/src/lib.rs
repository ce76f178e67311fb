//! The runtime of one agent: models, toolsets and the loop.
//!
//! # Layout
//!
//! - [`run`](fn@run): runs one agent to its end. [`Assignment`] and [`Ports`] are its arguments, [`Outcome`] is its
//!   result.
//! - [`journal`]: the turns, which are a write-ahead log, and the output.
//! - [`turn`]: the next step, decided from the recorded turns; pure.
//! - [`pruning`]: drops texts of recorded turns that are not needed in memory; pure.
//! - [`active_agent`]: which agent of a team is active, decided from the recorded turns; pure.
//! - [`prompt`]: the first messages, and [`history`]: how much of a long conversation is sent to the model; pure.
//! - [`model`]: the port of a model, with providers and scripts behind it.
//! - [`image`]: images in the results of tools; pure.
//! - [`tool`] and [`toolset`]: the port of a tool, and the toolsets.
//! - [`slash`]: prompts that the user calls by name.
//! - [`permission`]: which tool calls a team allows, denies, or has a person approve.
//! - [`environment`]: variables, working directory and process guard of a run.
//! - `files`: the one way in which tools open files. [`blocking`]: the threads on which they do.
//! - [`outgoing`]: a request of the program itself under the policy of the tools that speak HTTP.
//! - [`person`]: the port of a person who approves calls and answers questions.
//! - [`preflight`]: finds what an agent needs and the machine lacks; pure.
//!
//! A root agent and a sub-agent run the same way and differ only in their [`Opening`]. This crate does not
//! know that queues exist: it dispatches and waits through `legwork_common::service`.

pub mod active_agent;
pub mod assignment;
pub mod blocking;
mod compaction;
pub mod environment;
mod files;
pub mod history;
mod hooks;
pub mod image;
pub mod journal;
pub mod message;
pub mod model;
pub mod outgoing;
pub mod permission;
pub mod person;
pub mod preflight;
mod process;
pub mod prompt;
mod prompt_files;
pub mod pruning;
mod redaction;
pub mod run;
mod safety;
pub mod slash;
#[cfg(test)]
mod testing;
pub mod tool;
pub mod toolset;
pub mod turn;

pub use assignment::Assignment;
pub use assignment::CostLimit;
pub use assignment::Opening;
pub use assignment::Outcome;
pub use assignment::Ports;
pub use environment::Environment;
pub use run::run;
