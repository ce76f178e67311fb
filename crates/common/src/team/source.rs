//! The text of an agent file: from bytes, with places and snippets.

use std::ops::Range;

use super::error::TeamError;

/// Larger files are refused before they are read.
pub(super) const MAX_BYTES: usize = 8 * 1024 * 1024;

/// At most this many characters of the file's own text appear in one message.
const MAX_SHOWN: usize = 60;

/// A place in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Position {
    /// Counted from 1.
    pub(super) line: u64,
    /// In characters, counted from 1.
    pub(super) column: u64,
    /// How many characters the caret underlines; 0 is drawn as 1.
    pub(super) length: u64,
}

/// A file's name and text.
#[derive(Debug, Clone, Copy)]
pub(super) struct Source<'s> {
    pub(super) file: &'s str,
    pub(super) text: &'s str,
}

impl<'s> Source<'s> {
    /// Takes the bytes of a file, or says why they are not the text of one.
    pub(super) fn new(file: &'s str, bytes: &'s [u8]) -> Result<Self, Box<TeamError>> {
        let refuse = |position, message: String, hint: &str| {
            Box::new(TeamError {
                file: file.to_owned(),
                position,
                message,
                snippet: None,
                hint: Some(hint.to_owned()),
            })
        };
        if bytes.len() > MAX_BYTES {
            let message = format!("the file has {} bytes, more than the 8 MiB that are read", bytes.len());
            return Err(refuse(None, message, "is this an agent file?"));
        }
        if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
            return Err(refuse(None, "the file is UTF-16".to_owned(), "save it as UTF-8"));
        }
        let bytes = bytes.strip_prefix(&[0xef, 0xbb, 0xbf]).unwrap_or(bytes);
        if let Some(offset) = bytes.iter().position(|byte| *byte == 0) {
            let message = "the file contains a NUL byte".to_owned();
            let hint = "this is UTF-16 or not a text file; an agent file is YAML in UTF-8";
            return Err(refuse(Some(place_of(bytes, offset)), message, hint));
        }
        let text = std::str::from_utf8(bytes).map_err(|error| {
            let place = place_of(bytes, error.valid_up_to());
            refuse(Some(place), "the file is not UTF-8".to_owned(), "save it as UTF-8")
        })?;
        Ok(Self { file, text })
    }

    /// An error of this file, as yet without its snippet.
    pub(super) fn error(
        &self,
        position: Option<Position>,
        message: String,
        hint: Option<String>,
    ) -> TeamError {
        TeamError { file: self.file.to_owned(), position, message, snippet: None, hint }
    }

    /// What stands in the file at a range of bytes; empty where there is no such range.
    pub(super) fn slice(&self, range: Range<usize>) -> &'s str {
        self.text.get(range).unwrap_or_default()
    }

    /// The snippets of places that are sorted by line, in one walk through the text.
    pub(super) fn snippets(&self, positions: &[Option<Position>]) -> Vec<Option<String>> {
        let mut lines = (1_u64..).zip(self.text.split('\n'));
        let mut current = lines.next();
        let mut snippet = |position: Position| {
            while current.is_some_and(|(number, _)| number < position.line) {
                current = lines.next();
            }
            current.filter(|(number, _)| *number == position.line).map(|(_, line)| snippet(position, line))
        };
        positions.iter().map(|position| position.and_then(&mut snippet)).collect()
    }
}

/// A line with a caret below the position. Long lines are cut references it.
fn snippet(position: Position, line: &str) -> String {
    let line = line.trim_end_matches('\r');
    let column = usize::try_from(position.column.saturating_sub(1)).unwrap_or(usize::MAX);
    let first = column.saturating_sub(MAX_SHOWN);
    let shown: Vec<char> = line.chars().skip(first).take(2 * MAX_SHOWN).map(printable).collect();
    let before = if first > 0 { "…" } else { "" };
    let pad: String = shown.iter().take(column - first).map(|c| blank(*c)).collect();
    let room = shown.len().saturating_sub(column - first).max(1);
    let carets = usize::try_from(position.length).unwrap_or(1).clamp(1, room);
    let number = position.line.to_string();
    let gutter = " ".repeat(number.len());
    let shift = if first > 0 { " " } else { "" };
    format!(
        "  {gutter} |\n  {number} | {before}{}\n  {gutter} | {shift}{pad}{}\n",
        shown.iter().collect::<String>().trim_end(),
        "^".repeat(carets)
    )
}

/// The place of a byte in bytes that need not be text.
fn place_of(bytes: &[u8], offset: usize) -> Position {
    let before = &bytes[..offset];
    let line_start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
    let column = String::from_utf8_lossy(&before[line_start..]).chars().count() + 1;
    Position { line: line as u64, column: column as u64, length: 1 }
}

/// What fills the place of a character on a terminal.
fn blank(c: char) -> &'static str {
    let wide = matches!(c,
        '\u{1100}'..='\u{115f}' | '\u{2e80}'..='\u{a4cf}' | '\u{ac00}'..='\u{d7a3}' | '\u{f900}'..='\u{faff}'
        | '\u{fe30}'..='\u{fe6f}' | '\u{ff00}'..='\u{ff60}' | '\u{ffe0}'..='\u{ffe6}' | '\u{1f300}'..='\u{1faff}');
    match c {
        '\t' => "\t",
        _ if wide => "  ",
        _ => " ",
    }
}

/// A character as it may go to a terminal: no control character but the tab, nothing that turns the direction of writing.
fn printable(c: char) -> char {
    let turns = matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    if c == '\t' {
        c
    } else if c.is_control() || turns {
        '\u{fffd}'
    } else {
        c
    }
}

/// Text of the file as it may stand in a message: on one line, cut, without control characters.
pub(super) fn shown(text: &str) -> String {
    let cut: String =
        text.chars().take(MAX_SHOWN).map(|c| if c == '\t' { ' ' } else { printable(c) }).collect();
    if text.chars().nth(MAX_SHOWN).is_some() { format!("{cut}…") } else { cut }
}
