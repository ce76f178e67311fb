//! The names of the tools, as the contract has them.

/// Dispatches a background agent.
pub const RUN: &str = "run_background_agent";
/// Lists the caller's background agents.
pub const LIST: &str = "list_background_agents";
/// Shows one background agent and a chunk of its output.
pub const VIEW: &str = "view_background_agent";
/// Stops a background agent and all below it.
pub const STOP: &str = "stop_background_agent";
/// Waits until background agents have ended.
pub const WAIT: &str = "wait_background_agents";
/// Sends a message to a running background agent.
pub const SEND: &str = "send_background_agent";
