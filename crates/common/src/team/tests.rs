//! Tests of the parser: valid files, invalid files and hostile bytes.

mod good;
mod hostile;
mod newer;
mod odd;
mod refused;
mod stored_form;
mod wrong;
mod wrong_values;

/// A file with a valid value for every key of the newest schema.
const EVERY_KEY: &str = include_str!("tests/every_key.yaml");
/// A file with the keys that only the oldest versions of the schema have.
const OLDEST: &str = include_str!("tests/oldest.yaml");
/// The first example of the documentation.
const BACKGROUND_AGENTS: &str = include_str!("../../../../examples/background_agents.yaml");
