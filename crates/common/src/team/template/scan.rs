//! Finds where an expression or a call ends. Pure.

/// How deep strings in backticks and the expressions in them may nest: the scan is recursive there.
const MAX_NESTED_STRINGS: usize = 20;

/// The index of the brace that closes an expression whose text begins at the start of `text`.
pub(super) fn closing_brace(text: &str) -> Option<usize> {
    closing_brace_within(text, MAX_NESTED_STRINGS)
}

fn closing_brace_within(text: &str, nested: usize) -> Option<usize> {
    let mut depth = 0_usize;
    let mut at = 0;
    while at < text.len() {
        match text.as_bytes()[at] {
            quote @ (b'"' | b'\'' | b'`') => at = after_string(text, at + 1, quote, nested)?,
            b'{' => {
                depth += 1;
                at += 1;
            }
            b'}' if depth == 0 => return Some(at),
            b'}' => {
                depth -= 1;
                at += 1;
            }
            _ => at += 1,
        }
    }
    None
}

/// The index of the parenthesis that closes a call whose arguments begin at the start of `text`.
pub(super) fn closing_parenthesis(text: &str) -> Option<usize> {
    let mut depth = 0_usize;
    let mut quote = None;
    let mut at = 0;
    while at < text.len() {
        let byte = text.as_bytes()[at];
        // An expression may contain quotes of its own, also inside of quotes.
        if byte == b'$'
            && let Some(inner) = text[at..].strip_prefix("${")
        {
            at += 2 + closing_brace(inner)? + 1;
            continue;
        }
        match (byte, quote) {
            (b'\\', Some(_)) => at += 1,
            (_, Some(open)) if byte == open => quote = None,
            (_, Some(_)) => {}
            (b'"' | b'\'', None) => quote = Some(byte),
            (b'(', None) => depth += 1,
            (b')', None) if depth == 0 => return Some(at),
            (b')', None) => depth -= 1,
            (_, None) => {}
        }
        at += 1;
    }
    None
}

/// The index after the string whose text begins at `at`.
fn after_string(text: &str, mut at: usize, quote: u8, nested: usize) -> Option<usize> {
    let bytes = text.as_bytes();
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            byte if byte == quote => return Some(at + 1),
            b'$' if quote == b'`' && bytes.get(at + 1) == Some(&b'{') => {
                let inner = at + 2;
                at = inner + closing_brace_within(&text[inner..], nested.checked_sub(1)?)? + 1;
            }
            _ => at += 1,
        }
    }
    None
}
