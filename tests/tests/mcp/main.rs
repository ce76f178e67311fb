//! `legwork mcp`, the server of the Model Context Protocol, driven by clients.
#![expect(clippy::unwrap_used, reason = "a failed step fails the test")]

mod clients;
mod host;
mod hostile;
mod inspection;
mod nested;
mod sessions;
mod tasks;
mod web;
