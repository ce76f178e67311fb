//! The HTTP interface: dispatch, list, view, follow, wait, stop and retry over HTTP, with an OpenAPI document.
//!
//! # Layout
//!
//! - [`access`]: bearer tokens with roles, and which requests a server without tokens answers.
//! - [`api`]: what all handlers share. [`teams`]: the agent files that jobs are dispatched with.
//! - [`routes`]: every path, its role and its handler: the router and the document are made of it. [`openapi`]: the
//!   document.
//! - [`dispatch`], [`jobs`], [`change`], [`questions`], [`fleet`]: the handlers. [`events`]: a job's output
//!   and states as they come.
//! - [`board`], [`list_events`]: the fleet's numbers and lists of jobs as they change. [`page`]: the web page.
//! - [`metrics`]: numbers for Prometheus.
//! - [`body`]: reading requests within bounds. [`problem`]: errors as `application/problem+json`.
//! - [`listener`]: connections within bounds.
//!
//! # Promises
//!
//! A request that ends early never ends a job, and never cuts off a change in the middle: changes run in tasks of their
//! own. Bodies, times and connections have bounds; a slow client costs its own connection and nothing else.

pub mod access;
pub mod api;
pub mod board;
pub mod body;
pub mod change;
pub mod dispatch;
pub mod events;
pub mod fleet;
pub mod jobs;
pub mod list_events;
pub mod listener;
pub mod metrics;
pub mod openapi;
pub mod page;
pub mod problem;
pub mod questions;
pub mod routes;
pub mod teams;
