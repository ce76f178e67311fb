//! The agent file from outside: good files, wrong files, hostile bytes.

mod good;
mod hostile;
mod wrong;
mod wrong_values;

/// Every key of the schema, each right.
const EVERY_KEY: &str = include_str!("tests/every_key.yaml");
/// The oldest schema.
const OLDEST: &str = include_str!("tests/oldest.yaml");
/// The example that the documentation begins with.
const BACKGROUND_AGENTS: &str = include_str!("../../../../examples/background_agents.yaml");
