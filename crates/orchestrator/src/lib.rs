//! `legwork`: runs root agents, dispatches background agents, and operates the fleet.
//!
//! # Layout
//!
//! - [`cli`]: the command line.
//! - [`command`]: one file for each command; [`context`]: what all of them share, and their connection to the queue.
//! - [`root`]: the session of a root agent under `run`; [`serving`]: how `serve` and `mcp` begin.
//! - [`local_worker`]: workers of the embedded server; [`team_checks`]: what is checked before agents run.
//! - [`mcp`]: the background-agent tools for hosts of the Model Context Protocol.
//! - [`top`]: the fleet on a full screen.
//! - [`panel`]: the answer and the live panel of `run`; [`terminal`]: prompts and approvals.
//! - [`recorder`]: a run as a script of model replies.
//! - [`confirm`]: the rule for questions; [`many`]: the rule for partial success; [`outage`]: waiting while Redis is away;
//!   [`suggest`]: commands in messages.
//! - [`follow`]: a job's output while it runs; [`render`]: jobs as text.
//! - [`output`]: standard output and standard error; [`failure`]: errors as users see them.

pub mod cli;
pub mod command;
pub mod confirm;
pub mod context;
pub mod failure;
pub mod follow;
pub mod local_worker;
pub mod many;
pub mod mcp;
pub mod outage;
pub mod output;
pub mod panel;
pub mod question_watch;
pub mod recorder;
pub mod render;
pub mod root;
pub mod serving;
pub mod suggest;
pub mod team_checks;
pub mod terminal;
pub mod top;
