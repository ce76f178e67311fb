//! Cutting texts to a number of bytes without splitting a character.

/// The first `most` bytes of a text, or up to three fewer, so that no character is cut.
pub fn head(text: &str, most: usize) -> &str {
    let mut end = text.len().min(most);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// The last `most` bytes of a text, or up to three fewer, so that no character is cut.
pub fn tail(text: &str, most: usize) -> &str {
    let mut begin = text.len().saturating_sub(most);
    while !text.is_char_boundary(begin) {
        begin += 1;
    }
    &text[begin..]
}
