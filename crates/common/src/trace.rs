//! The trace context of a job: W3C Trace Context, level 1.
//!
//! A trace is propagated from the dispatcher to the job, from the job to the jobs that it dispatches, and to the programs
//! and servers that the job calls. Where spans are exported, each is the child of the span that led to it.

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;
use serde::Serialize;
use thiserror::Error;

/// The target of the spans that are exported where a collector is configured. They are in no log.
pub const SPAN_TARGET: &str = "legwork::span";

/// A valid `traceparent` value of version 00: version, trace id, parent span id and flags, 55 bytes in total.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TraceParent(String);

/// Text that is not a valid `traceparent`.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("`{0}` is not a valid traceparent")]
pub struct ParseTraceError(String);

impl TraceParent {
    /// The trace id: 32 lowercase hexadecimal digits.
    pub fn trace_id(&self) -> &str {
        self.0.get(3..35).unwrap_or_default()
    }

    /// The id of the span that is the parent: 16 lowercase hexadecimal digits.
    pub fn span_id(&self) -> &str {
        self.0.get(36..52).unwrap_or_default()
    }

    /// Whether the parent is recorded, and its children should be.
    pub fn is_sampled(&self) -> bool {
        let flags = self.0.get(53..).and_then(|flags| u8::from_str_radix(flags, 16).ok());
        flags.is_some_and(|flags| flags & 1 == 1)
    }
}

impl FromStr for TraceParent {
    type Err = ParseTraceError;

    fn from_str(text: &str) -> Result<Self, ParseTraceError> {
        let mut fields = text.split('-');
        let mut field = |digits: usize| {
            let field = fields.next().unwrap_or_default();
            let hexadecimal = |c: u8| c.is_ascii_digit() || (b'a'..=b'f').contains(&c);
            let fits = field.len() == digits && field.bytes().all(hexadecimal);
            fits.then_some(field)
        };
        let (version, trace, parent, flags) = (field(2), field(32), field(16), field(2));
        let nonzero = |id: Option<&str>| id.is_some_and(|id| id.bytes().any(|c| c != b'0'));
        // Later versions may have more fields. Their meaning is unknown here, so they are rejected.
        let valid = version == Some("00") && nonzero(trace) && nonzero(parent) && flags.is_some();
        if valid && fields.next().is_none() {
            Ok(Self(text.to_owned()))
        } else {
            Err(ParseTraceError(text.to_owned()))
        }
    }
}

impl TryFrom<String> for TraceParent {
    type Error = ParseTraceError;

    fn try_from(text: String) -> Result<Self, ParseTraceError> {
        text.parse()
    }
}

impl From<TraceParent> for String {
    fn from(trace: TraceParent) -> Self {
        trace.0
    }
}

impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const VALID: &str = "00-0af7651916cd43dd8448eb211c80319c-00f067aa0ba902b7-01";

    #[test]
    fn a_valid_trace_is_kept_unchanged_and_others_are_rejected() {
        let trace: TraceParent = VALID.parse().unwrap();
        assert_eq!(trace.trace_id(), "0af7651916cd43dd8448eb211c80319c");
        assert_eq!((trace.span_id(), trace.is_sampled()), ("00f067aa0ba902b7", true));
        assert!(!VALID.replace("-01", "-02").parse::<TraceParent>().unwrap().is_sampled());
        assert_eq!(trace.to_string(), VALID);
        for invalid in [
            "",
            "00-0af7651916cd43dd8448eb211c80319c-00f067aa0ba902b7",
            "00-0af7651916cd43dd8448eb211c80319c-00f067aa0ba902b7-01-more",
            "01-0af7651916cd43dd8448eb211c80319c-00f067aa0ba902b7-01",
            "00-0AF7651916CD43DD8448EB211C80319C-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
        ] {
            assert!(invalid.parse::<TraceParent>().is_err(), "{invalid}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(text in "\\PC*") {
            if let Ok(trace) = text.parse::<TraceParent>() {
                prop_assert_eq!(trace.to_string(), text);
            }
        }
    }
}
