//! The HTTP interface: dispatch to result, streams that are resumed, roles, bounds, and the document.
#![expect(clippy::unwrap_used, reason = "a failed step fails the test")]

mod access;
mod bounds;
mod client;
mod clients;
mod document;
mod jobs;
mod page;
mod questions;
mod streams;
