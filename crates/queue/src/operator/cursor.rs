//! A page's cursor as text, to be passed on by a person, a script or a URL.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use legwork_common::error::Coded;
use legwork_common::error::ExitStatus;
use thiserror::Error;

use crate::port::PageCursor;

/// A text that [`PageCursor`]'s `Display` did not write.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("`{0}` is not a cursor")]
pub struct CursorError(pub String);

impl Coded for CursorError {
    fn code(&self) -> &'static str {
        "usage"
    }

    fn exit(&self) -> ExitStatus {
        ExitStatus::Usage
    }

    fn hint(&self) -> Option<String> {
        Some("pass on what the last page printed".to_owned())
    }
}

/// Writes `<creation time in milliseconds>.<uuid>`.
impl fmt::Display for PageCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.created.as_millisecond(), self.id.uuid())
    }
}

impl FromStr for PageCursor {
    type Err = CursorError;

    fn from_str(text: &str) -> Result<Self, CursorError> {
        let read = || {
            let (created, id) = text.split_once('.')?;
            let created = Timestamp::from_millisecond(created.parse().ok()?).ok()?;
            Some(Self { created, id: id.parse().ok()? })
        };
        read().ok_or_else(|| CursorError(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use legwork_common::id::JobId;
    use legwork_common::id::SessionId;

    use super::*;

    #[test]
    fn a_cursor_survives_its_text() {
        let id = JobId::random_in(SessionId::random());
        let cursor = PageCursor { created: Timestamp::from_millisecond(1_700_000_000_123).unwrap(), id };
        assert_eq!(cursor.to_string(), format!("1700000000123.{}", id.uuid()));
        assert_eq!(cursor.to_string().parse(), Ok(cursor));
    }

    #[test]
    fn other_texts_are_refused() {
        let id = JobId::random_in(SessionId::random());
        for text in ["", "x", "17", "17.", ".17", "17.x", &format!("x.{id}"), &format!("{}.{id}", i64::MAX)] {
            assert_eq!(text.parse::<PageCursor>(), Err(CursorError(text.to_owned())), "{text}");
        }
    }
}
