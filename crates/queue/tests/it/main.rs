//! The queue against real Redis servers, each test with its own.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot continue fails there")]

mod bookkeeping;
mod clock_steps;
mod fairness;
mod faults;
mod late_calls;
mod lifecycle;
mod lists;
mod mailbox;
mod measurements;
mod model;
mod notifications;
mod operator;
mod overtaken;
mod pages;
mod permits;
mod proven;
mod quarantine;
mod questions;
mod quota;
mod random;
mod redirects;
mod results;
mod round_trips;
mod session_state;
mod silent_connections;
mod simulation;
mod steps;
mod stored_data;
mod support;
mod woken_claims;
