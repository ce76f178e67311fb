//! Shared by the whole-system tests: real servers, real programs, a fake model provider, fault-injecting proxies.
//!
//! # Layout
//!
//! - [`redis`]: a private Redis server that a test can kill and restart.
//! - [`programs`]: `legwork` and `legwork-worker` as processes.
//! - [`proxy`]: a TCP proxy that cuts, freezes or delays connections.
//! - [`command_proxy`]: a proxy in front of Redis that injects a fault into the n-th command.
//! - [`receiver`]: a receiver of webhooks.
//! - [`provider`]: a fake model provider over HTTP with prepared answers.
//! - [`network`]: hosts of their own, whose packets can be dropped.
//! - [`hung_mount`]: a file system that never answers.
//! - [`hostile`]: a server without an end, and agents that attack their worker.
//! - [`tools`]: third-party MCP programs, if they are installed.
//! - [`exact_output`]: checks that a job's output has every turn of its script exactly once.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test helper fails the test")]

pub mod command_proxy;
pub mod exact_output;
pub mod hostile;
pub mod hung_mount;
pub mod network;
pub mod programs;
pub mod provider;
pub mod proxy;
pub mod receiver;
pub mod redis;
pub mod tools;
pub mod topology;
