//! What each of our programs does besides its own work: logs, tasks, signals, health.
//!
//! # Layout
//!
//! - [`environ`]: the environment, and taking secrets out of it.
//! - [`telemetry`]: logs on standard error, as text or JSON. [`spans`]: spans over OTLP.
//! - [`tasks`]: every kind of long-lived task with its policy, and the only place that spawns.
//! - [`shutdown`]: turns signals into two tokens, drain and now.
//! - [`http_server`]: HTTP servers that slow peers cannot hold up.
//! - [`health`]: `/healthz`, `/readyz` and `/metrics`. [`service_manager`]: reports to systemd.
//!
//! A program runs in this order: environment, logs, tasks, signals, health, its own work, close and wait.

pub mod environ;
pub mod health;
pub mod http_server;
pub mod service_manager;
pub mod shutdown;
pub mod spans;
pub mod tasks;
pub mod telemetry;
