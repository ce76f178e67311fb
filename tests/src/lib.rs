//! What the whole-system tests share: real servers, real programs, a fake provider.
//!
//! # Layout
//!
//! - [`redis`]: a Redis of a test's own, which can be killed and started again.
//! - [`programs`]: `legwork` and `legwork-worker` as processes.
//! - [`proxy`]: a bad line to a server.
//! - [`wire`]: a line to Redis that does harm to one command of all.
//! - [`provider`]: a model provider over HTTP with prepared answers.
//! - [`tools`]: programs of others, where they are installed.
//! - [`speech`]: whether an output is what its agent says.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on shall fail there")]

pub mod programs;
pub mod provider;
pub mod proxy;
pub mod redis;
pub mod speech;
pub mod tools;
pub mod wire;
