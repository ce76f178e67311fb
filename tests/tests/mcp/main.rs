//! The tools as a server of the Model Context Protocol: `legwork mcp`, driven from outside.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on shall fail there")]

mod clients;
mod host;
mod hostile;
mod inspection;
mod nested;
mod sessions;
mod tasks;
mod web;
