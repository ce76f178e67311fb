//! What every program of ours does, whatever it is for.
//!
//! # Layout
//!
//! - [`telemetry`]: logs on standard error, as text or JSON.
//! - [`tasks`]: every kind of long-lived task with its policy, and the one place that spawns.
//! - [`shutdown`]: signals become two tokens, drain and now.
//! - [`health`]: `/healthz`, `/readyz` and `/metrics`.
//!
//! A program's `main` reads in this order: log, tasks, signals, health, its own work, close and wait.

pub mod health;
pub mod shutdown;
pub mod tasks;
pub mod telemetry;
