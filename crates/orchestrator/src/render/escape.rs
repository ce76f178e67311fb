//! Text that an agent wrote, made harmless for a terminal.

use std::borrow::Cow;

/// The colours of statuses, which we write ourselves. They end with their text, and hide nothing.
const COLOURS: [&str; 8] =
    ["\x1b[2m", "\x1b[31m", "\x1b[32m", "\x1b[33m", "\x1b[34m", "\x1b[36m", "\x1b[39m", "\x1b[0m"];

/// Text whose control characters are written out: `\x1b` for an escape, so that an agent's output neither moves the
/// cursor nor colours what follows. Line breaks and tabs stay; so does a carriage return before a line break.
pub fn visible(text: &str) -> Cow<'_, str> {
    written_out(text, &[])
}

/// Our own lines as [`visible`] text, which may contain an agent's. The colours that we use stay.
pub fn visible_line(text: &str) -> Cow<'_, str> {
    written_out(text, &COLOURS)
}

fn written_out<'text>(text: &'text str, kept: &[&str]) -> Cow<'text, str> {
    if !text.contains(is_hidden) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    let mut rest = text;
    while let Some(character) = rest.chars().next() {
        let colour = kept.iter().find(|colour| rest.starts_with(**colour));
        let length = colour.map_or(character.len_utf8(), |colour| colour.len());
        if colour.is_some() || !is_hidden(character) || rest.starts_with("\r\n") {
            shown.push_str(&rest[..length]);
        } else if u32::from(character) < 0x100 {
            shown.push_str(&format!("\\x{:02x}", u32::from(character)));
        } else {
            shown.push_str(&format!("\\u{{{:x}}}", u32::from(character)));
        }
        rest = &rest[length..];
    }
    Cow::Owned(shown)
}

/// Control characters, and those that reorder the text around them.
fn is_hidden(character: char) -> bool {
    let reorders = matches!(character, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
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

    #[test]
    fn our_own_lines_keep_the_colours_of_statuses_only() {
        let line = "\u{1b}[31mfailed\u{1b}[39m \u{1b}[8mhidden \u{1b}]0;title\u{7}\u{1b}[2J";
        assert_eq!(
            visible_line(line),
            "\u{1b}[31mfailed\u{1b}[39m \\x1b[8mhidden \\x1b]0;title\\x07\\x1b[2J"
        );
    }
}
