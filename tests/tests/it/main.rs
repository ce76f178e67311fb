//! The whole system: real programs, a real Redis, a model provider over HTTP, and faults.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on shall fail there")]

mod again;
mod contract;
mod crash;
mod delete;
mod embedded;
mod examples;
mod files;
mod fleet;
mod guard;
mod limits;
mod long;
mod record;
mod refusals;
mod session;
mod session_state;
mod stop;
mod teams;
mod trouble;
