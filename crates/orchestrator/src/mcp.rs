//! The tools of the contract as a server of the Model Context Protocol, for any program that is a host of it.
//!
//! # Layout
//!
//! - [`offer`]: which agents and tools a host is told of; pure.
//! - [`sessions`]: the sessions behind the connections, and who works for them.
//! - [`calls`]: one call of a tool, translated into the service.
//! - [`structured`]: answers as JSON, and their schemas; pure.
//! - [`request`]: what a request says beside its arguments; pure.
//! - [`tasks`]: a job as a task of the protocol's extension; pure.
//! - [`progress`]: telling a host that a wait goes on.
//! - [`server`]: the protocol's requests, each given to one of these.
//! - [`connections`]: the connections of older protocols, where every replica finds them.
//! - [`http`]: who may reach the server over HTTP.
//!
//! A job belongs to its session and never to a request, a stream or the server: nothing here stops one but the tool
//! that says so.

pub mod calls;
pub mod connections;
pub mod http;
pub mod offer;
pub mod progress;
pub mod request;
pub mod server;
pub mod sessions;
pub mod structured;
pub mod tasks;
