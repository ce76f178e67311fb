//! The front of the house: the root agent's session, and the faces.
//!
//! # Layout
//!
//! - [`cli`]: the words of the command line.
//! - [`command`]: one file for each command: parse, one call, show.
//! - [`context`]: what every command is given, and how it reaches the queue.
//! - [`root`]: the session of a root agent under `run`.
//! - [`hosted`]: workers of the embedded server.
//! - [`terminal`]: what a user types.
//! - [`panel`]: the live panel of background jobs.
//! - [`recorder`]: what the models answered, as a script.
//! - [`render`]: jobs as text.
//! - [`follow`]: a job's output as it comes.
//! - [`mcp`]: the tools of the contract for hosts of the Model Context Protocol.
//! - [`failure`] and [`output`]: the edge.

pub mod cli;
pub mod command;
pub mod context;
pub mod failure;
pub mod follow;
pub mod local_worker;
pub mod mcp;
pub mod output;
pub mod panel;
pub mod recorder;
pub mod render;
pub mod root;
pub mod terminal;
