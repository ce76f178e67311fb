//! What each of our programs does besides its own work: logs, tasks, signals, health.
//!
//! # Layout
//!
//! - [`telemetry`]: logs on standard error, as text or JSON.
//! - [`tasks`]: every kind of long-lived task with its policy, and the only place that spawns.
//! - [`shutdown`]: turns signals into two tokens, drain and now.
//! - [`health`]: `/healthz`, `/readyz` and `/metrics`. [`service_manager`]: reports to systemd.
//!
//! A program runs in this order: logs, tasks, signals, health, its own work, close and wait.

pub mod health;
pub mod service_manager;
pub mod shutdown;
pub mod tasks;
pub mod telemetry;
