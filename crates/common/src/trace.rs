//! The trace that a job belongs to, as other programs know it: W3C Trace Context, level 1.
//!
//! Legwork opens no spans of its own. It takes a trace from whoever dispatches, keeps it with the job and with what the
//! job dispatches itself, and hands it on to the programs and servers that the job calls.

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;
use serde::Serialize;
use thiserror::Error;

/// A `traceparent`: version, trace, parent span and flags, 55 bytes in all.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TraceParent(String);

/// A text that is no `traceparent`.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("`{0}` is no traceparent")]
pub struct NotATrace(String);

impl TraceParent {
    /// The trace's id: 32 hexadecimal digits.
    pub fn trace_id(&self) -> &str {
        self.0.get(3..35).unwrap_or_default()
    }
}

impl FromStr for TraceParent {
    type Err = NotATrace;

    fn from_str(text: &str) -> Result<Self, NotATrace> {
        let mut fields = text.split('-');
        let mut field = |digits: usize| {
            let field = fields.next().unwrap_or_default();
            let hexadecimal = |c: u8| c.is_ascii_digit() || (b'a'..=b'f').contains(&c);
            let fits = field.len() == digits && field.bytes().all(hexadecimal);
            fits.then_some(field)
        };
        let (version, trace, parent, flags) = (field(2), field(32), field(16), field(2));
        let named = |id: Option<&str>| id.is_some_and(|id| id.bytes().any(|c| c != b'0'));
        // Later versions may say more; of those nothing is known, so they are no trace here.
        let good = version == Some("00") && named(trace) && named(parent) && flags.is_some();
        if good && fields.next().is_none() {
            Ok(Self(text.to_owned()))
        } else {
            Err(NotATrace(text.to_owned()))
        }
    }
}

impl TryFrom<String> for TraceParent {
    type Error = NotATrace;

    fn try_from(text: String) -> Result<Self, NotATrace> {
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

    const GOOD: &str = "00-0af7651916cd43dd8448eb211c80319c-00f067aa0ba902b7-01";

    #[test]
    fn a_trace_is_taken_as_it_is_written_or_not_at_all() {
        let trace: TraceParent = GOOD.parse().unwrap();
        assert_eq!(trace.trace_id(), "0af7651916cd43dd8448eb211c80319c");
        assert_eq!(trace.to_string(), GOOD);
        for wrong in [
            "",
            "00-0af7651916cd43dd8448eb211c80319c-00f067aa0ba902b7",
            "00-0af7651916cd43dd8448eb211c80319c-00f067aa0ba902b7-01-more",
            "01-0af7651916cd43dd8448eb211c80319c-00f067aa0ba902b7-01",
            "00-0AF7651916CD43DD8448EB211C80319C-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
        ] {
            assert!(wrong.parse::<TraceParent>().is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn no_text_is_too_strange(text in "\\PC*") {
            if let Ok(trace) = text.parse::<TraceParent>() {
                prop_assert_eq!(trace.to_string(), text);
            }
        }
    }
}
