//! The text of an agent file: decoding, positions and snippets.

use std::ops::Range;

use super::error::Class;
use super::error::TeamError;

/// Larger files are rejected before they are parsed. Real files have a few kilobytes; the limit bounds the
/// cost of a hostile one.
pub(super) const MAX_BYTES: usize = 8 * 1024 * 1024;

/// The maximum number of characters that a message quotes from the file. A snippet has up to twice as many,
/// so that it shows the text before and after the error and still fits on a wide terminal.
const MAX_EXCERPT_CHARS: usize = 60;

/// A position in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Position {
    /// The line, counted from 1.
    pub(super) line: u64,
    /// The column in characters, counted from 1.
    pub(super) column: u64,
    /// The number of characters that the carets underline; 0 is drawn as 1.
    pub(super) length: u64,
}

/// The name and the text of a file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Source<'s> {
    pub(super) file: &'s str,
    pub(super) text: &'s str,
}

impl<'s> Source<'s> {
    /// Decodes the bytes of a file. UTF-8 is the only encoding; a byte order mark is skipped.
    pub(super) fn new(file: &'s str, bytes: &'s [u8]) -> Result<Self, Box<TeamError>> {
        let reject = |position, message: String, hint: &str| {
            Box::new(TeamError {
                class: Class::Value,
                file: file.to_owned(),
                position,
                message,
                snippet: None,
                hint: Some(hint.to_owned()),
            })
        };
        if bytes.len() > MAX_BYTES {
            let message = format!("the file has {} bytes, more than the limit of 8 MiB", bytes.len());
            return Err(reject(None, message, "is this an agent file?"));
        }
        if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
            return Err(reject(None, "the file is UTF-16".to_owned(), "save it as UTF-8"));
        }
        let bytes = bytes.strip_prefix(&[0xef, 0xbb, 0xbf]).unwrap_or(bytes);
        if let Some(offset) = bytes.iter().position(|byte| *byte == 0) {
            let message = "the file contains a NUL byte".to_owned();
            let hint = "this is UTF-16 or a binary file; an agent file is YAML in UTF-8";
            return Err(reject(Some(position_of(bytes, offset)), message, hint));
        }
        let text = std::str::from_utf8(bytes).map_err(|error| {
            let position = position_of(bytes, error.valid_up_to());
            reject(Some(position), "the file is not UTF-8".to_owned(), "save it as UTF-8")
        })?;
        Ok(Self { file, text })
    }

    /// An error of this file. Its snippet is added when all errors are known.
    pub(super) fn error(
        &self,
        position: Option<Position>,
        message: String,
        hint: Option<String>,
    ) -> TeamError {
        TeamError { class: Class::Value, file: self.file.to_owned(), position, message, snippet: None, hint }
    }

    /// The text in a range of bytes; empty when the range is not valid.
    pub(super) fn slice(&self, range: Range<usize>) -> &'s str {
        self.text.get(range).unwrap_or_default()
    }

    /// The snippets of positions that are sorted by line. One pass over the text serves all of them, so that
    /// many errors in a large file stay cheap.
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

/// A line with carets below the position. A long line is cut on both sides of the position.
fn snippet(position: Position, line: &str) -> String {
    let line = line.trim_end_matches('\r');
    let column = usize::try_from(position.column.saturating_sub(1)).unwrap_or(usize::MAX);
    let first = column.saturating_sub(MAX_EXCERPT_CHARS);
    let shown: Vec<char> = line.chars().skip(first).take(2 * MAX_EXCERPT_CHARS).map(printable).collect();
    let before = if first > 0 { "…" } else { "" };
    let pad: String = shown.iter().take(column - first).map(|c| padding(*c)).collect();
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

/// The position of a byte in bytes that need not be valid UTF-8.
fn position_of(bytes: &[u8], offset: usize) -> Position {
    let before = &bytes[..offset];
    let line_start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
    let column = String::from_utf8_lossy(&before[line_start..]).chars().count() + 1;
    Position { line: line as u64, column: column as u64, length: 1 }
}

/// The padding that is as wide as a character on a terminal.
fn padding(c: char) -> &'static str {
    let wide = matches!(c,
        '\u{1100}'..='\u{115f}' | '\u{2e80}'..='\u{a4cf}' | '\u{ac00}'..='\u{d7a3}' | '\u{f900}'..='\u{faff}'
        | '\u{fe30}'..='\u{fe6f}' | '\u{ff00}'..='\u{ff60}' | '\u{ffe0}'..='\u{ffe6}' | '\u{1f300}'..='\u{1faff}');
    match c {
        '\t' => "\t",
        _ if wide => "  ",
        _ => " ",
    }
}

/// Replaces characters that are not safe to print: control characters other than the tab, and those that
/// change the writing direction.
fn printable(c: char) -> char {
    let changes_direction =
        matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    if c == '\t' {
        c
    } else if c.is_control() || changes_direction {
        '\u{fffd}'
    } else {
        c
    }
}

/// Text of the file for a message: on one line, at most [`MAX_EXCERPT_CHARS`], and safe to print.
pub(super) fn excerpt(text: &str) -> String {
    let cut: String =
        text.chars().take(MAX_EXCERPT_CHARS).map(|c| if c == '\t' { ' ' } else { printable(c) }).collect();
    if text.chars().nth(MAX_EXCERPT_CHARS).is_some() { format!("{cut}…") } else { cut }
}
