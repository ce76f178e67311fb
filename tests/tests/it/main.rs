//! The whole system: real programs, a real Redis, a fake model provider over HTTP, and faults.
#![expect(clippy::unwrap_used, reason = "a failed step fails the test")]

mod answers;
mod contract;
mod crash;
mod delete;
mod embedded;
mod examples;
mod features;
mod files;
mod fleet;
mod guard;
mod hints;
mod hostile_files;
mod lacking;
mod limits;
mod long_job;
mod many;
mod measurements;
mod on_call;
mod operations;
mod readme;
mod record;
mod redis_outage;
mod redis_users;
mod refusals;
mod retry;
mod schedules;
mod secrets;
mod session;
mod session_state;
mod stop;
mod stored;
mod team;
mod topologies;
mod trust;
mod waits;
