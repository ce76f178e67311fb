//! The wires of model providers: conversations become requests, bytes become replies.
//!
//! # Layout
//!
//! - [`conversation`]: what is said, as every wire is given it and as it is stored.
//! - [`settings`]: what a request needs beyond the conversation.
//!
//! This crate performs no input or output, knows no asynchronous runtime and never reads the environment or a clock.

pub mod conversation;
pub mod settings;
