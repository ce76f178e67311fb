//! Text that an agent wrote, made harmless for a terminal.

use std::borrow::Cow;

/// Text whose control characters are written out: `\x1b` for an escape, so that an agent's output neither moves the
/// cursor nor colours what follows. Line breaks and tabs stay; so does a carriage return before a line break.
pub fn visible(text: &str) -> Cow<'_, str> {
    if !text.contains(is_hidden) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        let ends_line = character == '\r' && characters.peek() == Some(&'\n');
        if !is_hidden(character) || ends_line {
            shown.push(character);
        } else if u32::from(character) < 0x100 {
            shown.push_str(&format!("\\x{:02x}", u32::from(character)));
        } else {
            shown.push_str(&format!("\\u{{{:x}}}", u32::from(character)));
        }
    }
    Cow::Owned(shown)
}

/// Control characters, and those that reorder the text around them.
fn is_hidden(character: char) -> bool {
    let reorders = matches!(character, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    (character.is_control() && !matches!(character, '\n' | '\t')) || reorders
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_written_out() {
        for (text, shown) in [
            ("plain\n\ttext\r\n", "plain\n\ttext\r\n"),
            ("\u{1b}[31mred\u{1b}[0m", "\\x1b[31mred\\x1b[0m"),
            ("bell\u{7} title\u{1b}]0;x\u{7}", "bell\\x07 title\\x1b]0;x\\x07"),
            ("50%\r100%", "50%\\x0d100%"),
            ("c1 \u{9b}2J", "c1 \\x9b2J"),
            ("\u{202e}txt.exe", "\\u{202e}txt.exe"),
        ] {
            assert_eq!(visible(text), shown);
        }
    }
}
