//! The tokens that one model call counted.

use serde::Deserialize;
use serde::Serialize;

/// The tokens that one model call counted, as the provider says; 0 where it says nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Tokens that the model read, cached ones included.
    pub input_tokens: u64,
    /// Of the input tokens, how many the provider had cached.
    #[serde(default)]
    pub cached_tokens: u64,
    /// Of the input tokens, how many the provider put into its cache, where it asks a price for that.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub cache_write_tokens: u64,
    /// Tokens that the model wrote, reasoning included.
    pub output_tokens: u64,
    /// Of the output tokens, how many were reasoning.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub reasoning_tokens: u64,
}

impl Usage {
    /// Takes in a later report on the same call. Reports are totals, and a total never falls: an empty report at the end
    /// of a stream changes nothing.
    pub fn report(&mut self, later: Self) {
        let take = |mine: &mut u64, theirs: u64| *mine = theirs.max(*mine);
        take(&mut self.input_tokens, later.input_tokens);
        take(&mut self.cached_tokens, later.cached_tokens);
        take(&mut self.cache_write_tokens, later.cache_write_tokens);
        take(&mut self.output_tokens, later.output_tokens);
        take(&mut self.reasoning_tokens, later.reasoning_tokens);
    }
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}
