//! A signature as the last field of a stored JSON object. Programs that do not know it ignore it; cutting it off gives the
//! bytes that were signed.

/// The object with a field behind all others. The value has no character that JSON escapes, see `is_plain`.
pub fn append(object: &str, name: &str, value: &str) -> String {
    let open = object.strip_suffix('}').unwrap_or(object);
    format!("{open},\"{name}\":\"{value}\"}}")
}

/// The object without its last field, and the value; `None` where the last field is another. A text within the object has no
/// bare quotation mark, so what is found is not inside of one.
pub fn split<'a>(object: &'a str, name: &str) -> Option<(String, &'a str)> {
    let (open, rest) = object.rsplit_once(&format!(",\"{name}\":\""))?;
    let value = rest.strip_suffix("\"}")?;
    value.bytes().all(is_plain).then(|| (format!("{open}}}"), value))
}

fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_comes_back_from_behind_its_object() {
        for task in ["t", "ends with ,", "says ,\"seal\":\"x\"}", "\\", ""] {
            let object = serde_json::json!({"agent": "a", "task": task}).to_string();
            assert_eq!(split(&object, "seal"), None, "{task}");
            let stored = append(&object, "seal", "1~abc-_.def");
            assert!(serde_json::from_str::<serde_json::Value>(&stored).is_ok(), "{stored}");
            assert_eq!(split(&stored, "other"), None);
            assert_eq!(split(&stored, "seal"), Some((object, "1~abc-_.def")), "{task}");
        }
        for odd in [r#"{"a":"a","seal":"a\u0041"}"#, r#"{"a":"a","seal":"a","x":1}"#, r#"{"seal":"a"}"#, ""] {
            assert_eq!(split(odd, "seal"), None, "{odd}");
        }
    }
}
