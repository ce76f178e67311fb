//! JSON from strangers: read into values whose size in memory is bounded by the size of the text.

use serde_json::Map;
use serde_json::Value;

use crate::work;

/// The most values in one document. A value costs many times the two bytes that it may take as text.
const NODES: usize = 200_000;
/// Texts up to this many bytes cannot hold enough values to matter.
const SMALL: usize = 2 * NODES;

/// Why a text is not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unread {
    /// It is not JSON, or nested too deep.
    Broken,
    /// It has more values than are taken in.
    TooMany,
}

/// The value of a text.
pub(crate) fn parse(text: &str) -> Result<Value, Unread> {
    work::count(text.len());
    if text.len() > SMALL && nodes(text.as_bytes()) > NODES {
        return Err(Unread::TooMany);
    }
    serde_json::from_str(text).map_err(|_| Unread::Broken)
}

/// A count of tokens: a whole number in any form that a server has for it, 0 for anything else.
pub(crate) fn count(value: &Value) -> u64 {
    match value {
        Value::Number(number) => {
            number.as_u64().unwrap_or_else(|| whole(number.as_f64().unwrap_or_default()))
        }
        Value::String(text) => text.trim().parse().unwrap_or(0),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => 0,
    }
}

/// The whole part; 0 for a negative number.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "`as` saturates, and no count is near 2^53"
)]
fn whole(number: f64) -> u64 {
    number as u64
}

/// Sets a field of a body if there is a value for it.
pub(crate) fn put(body: &mut Map<String, Value>, field: &str, value: Option<impl Into<Value>>) {
    body.extend(value.map(|value| (field.to_owned(), value.into())));
}

/// About how many values there are: commas and opening brackets outside of texts.
fn nodes(bytes: &[u8]) -> usize {
    let (mut count, mut in_text, mut escaped) = (0, false, false);
    for byte in bytes {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = in_text,
            b'"' => in_text = !in_text,
            b',' | b'[' | b'{' if !in_text => count += 1,
            _ => {}
        }
    }
    count
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_text_of_many_values_is_not_read() {
        let many = format!("[{}0]", "0,".repeat(NODES));
        assert_eq!(parse(&many), Err(Unread::TooMany));
        let text = format!("[\"{}\\\",\"]", ",".repeat(2 * NODES));
        assert!(parse(&text).is_ok());
        assert_eq!(parse("{"), Err(Unread::Broken));
    }

    #[test]
    fn tokens_are_counted_in_any_form() {
        let table = [
            (json!(9), 9),
            (json!(9.0), 9),
            (json!("9"), 9),
            (json!(-1), 0),
            (json!(-1.5), 0),
            (json!(u64::MAX), u64::MAX),
            (json!(1e300), u64::MAX),
            (json!("many"), 0),
            (json!(null), 0),
            (json!([9]), 0),
        ];
        for (value, expected) in table {
            assert_eq!(count(&value), expected, "{value}");
        }
    }
}
