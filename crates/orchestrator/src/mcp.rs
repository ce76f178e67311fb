//! The background-agent tools as a server of the Model Context Protocol, for any program that is a host of it.
//!
//! # Layout
//!
//! - [`lines`]: messages over standard input and output.
//! - [`server`]: the protocol's requests, each passed to one of the files below.
//! - [`offer`]: the agents, tools and instructions that hosts see; pure. [`tool_name`]: the tools' names.
//! - [`calls`]: one tool call, translated into the service.
//! - [`structured`]: answers as JSON, and their schemas; pure.
//! - [`request`]: what a request's `_meta` carries; pure.
//! - [`tasks`]: a job as a task of the protocol's extension; pure.
//! - [`progress`]: progress notifications during a wait.
//! - [`sessions`]: the sessions behind the connections, and their workers.
//! - [`standing`]: the session that a restarted server finds again.
//! - [`http`]: the HTTP listener. [`admission`]: which requests get through it.
//! - [`connections`]: HTTP connections of older protocol versions, stored in Redis for every replica.
//!
//! A job belongs to its session, never to a request, a stream or this server: nothing here stops a job except the stop
//! tool and `tasks/cancel`.

pub mod admission;
pub mod calls;
pub mod connections;
pub mod http;
pub mod lines;
pub mod offer;
pub mod progress;
pub mod request;
pub mod server;
pub mod sessions;
pub mod standing;
pub mod structured;
pub mod tasks;
pub mod tool_name;
