//! Which model made a reply.

use serde::Deserialize;
use serde::Serialize;

/// Which model made a reply, and how it was spoken to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// The name of the wire. Text, so that a later release may know more of them.
    pub wire: String,
    /// The provider, as the settings name it.
    pub provider: String,
    /// The model's name at its provider; empty in what older releases stored.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub model: String,
}

impl Origin {
    /// Whether signatures and other things that only their maker understands may go back by `wire` to `provider`.
    ///
    /// The model is not compared: providers take back what another of their models signed, or pass over it.
    #[must_use]
    pub fn is(&self, wire: &str, provider: &str) -> bool {
        self.wire == wire && self.provider == provider
    }
}
