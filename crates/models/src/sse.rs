//! Server-sent events from the segments in which bytes arrive.
//!
//! How the bytes are cut changes nothing. Each byte is examined once when it arrives and once when its line is whole.
//! Beyond the standard: a line that begins with `{` counts as data, since gateways put an error into a stream so; and what
//! the stream ends with counts as whole without its blank line.

use std::mem;

use thiserror::Error;

use crate::work;

/// The mark that a text may begin with.
const BOM: &[u8] = b"\xef\xbb\xbf";
/// The most bytes that are kept of lines that are not events.
const STRAY: usize = 2000;

/// What a stream holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// An event with data.
    Event {
        /// Its name, where one is given.
        name: Option<String>,
        /// Its data, lines joined by line breaks; never empty. What is not UTF-8 is replaced.
        data: String,
    },
    /// A comment, or an event without data: the connection is alive.
    KeepAlive,
}

/// A line or an event is longer than is taken in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("one event of the stream is longer than {limit} bytes")]
pub struct TooLong {
    /// The most bytes of a line, and of an event.
    pub limit: usize,
}

/// Reads a stream. Keeps at most two events of the longest size in memory.
#[derive(Debug)]
pub struct Decoder {
    limit: usize,
    /// The line so far, without its end.
    line: Vec<u8>,
    name: Option<String>,
    data: Vec<u8>,
    /// Whether a line break that comes next belongs to the last line.
    after_cr: bool,
    /// Whether no line was read yet.
    at_start: bool,
    /// The beginning of the lines that are not events.
    stray: String,
}

impl Decoder {
    /// A stream whose lines and events have at most `limit` bytes.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self {
            limit,
            line: Vec::new(),
            name: None,
            data: Vec::new(),
            after_cr: false,
            at_start: true,
            stray: String::new(),
        }
    }

    /// Reads a segment and adds what it completes to `items`.
    ///
    /// # Errors
    ///
    /// [`TooLong`]; the items before it were added.
    pub fn feed(&mut self, segment: &[u8], items: &mut Vec<Item>) -> Result<(), TooLong> {
        let mut rest = segment;
        if let (true, [b'\n', after @ ..]) = (self.after_cr, rest) {
            rest = after;
        }
        if !segment.is_empty() {
            self.after_cr = false;
        }
        while let Some(end) = rest.iter().position(|byte| matches!(byte, b'\n' | b'\r')) {
            self.keep(&rest[..end])?;
            self.end_line(items)?;
            let cr = rest[end] == b'\r';
            rest = &rest[end + 1..];
            match rest {
                [b'\n', after @ ..] if cr => rest = after,
                [] => self.after_cr = cr,
                _ => {}
            }
        }
        self.keep(rest)
    }

    /// Reads the end of the stream. The last event may lack its blank line, and its last line its end.
    ///
    /// # Errors
    ///
    /// [`TooLong`].
    pub fn finish(&mut self, items: &mut Vec<Item>) -> Result<(), TooLong> {
        if !self.line.is_empty() {
            self.end_line(items)?;
        }
        self.end_event(items);
        Ok(())
    }

    /// The beginning of the lines that are not events, where there are any: words of a gateway, perhaps.
    #[must_use]
    pub fn stray(&self) -> &str {
        &self.stray
    }

    fn keep(&mut self, bytes: &[u8]) -> Result<(), TooLong> {
        if self.line.len() + bytes.len() > self.limit {
            return Err(TooLong { limit: self.limit });
        }
        work::count(bytes.len());
        self.line.extend_from_slice(bytes);
        Ok(())
    }

    fn end_line(&mut self, items: &mut Vec<Item>) -> Result<(), TooLong> {
        let mut line = mem::take(&mut self.line);
        self.read_line(&line, items)?;
        line.clear();
        self.line = line;
        self.at_start = false;
        Ok(())
    }

    fn read_line(&mut self, line: &[u8], items: &mut Vec<Item>) -> Result<(), TooLong> {
        work::count(line.len());
        let line = if self.at_start { line.strip_prefix(BOM).unwrap_or(line) } else { line };
        let colon = line.iter().position(|&byte| byte == b':').unwrap_or(line.len());
        let (field, value) = line.split_at(colon);
        let value = value.strip_prefix(b":").unwrap_or(value);
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match field {
            b"" if line.is_empty() => self.end_event(items),
            b"" => items.push(Item::KeepAlive),
            b"data" => self.add_data(value)?,
            b"event" => self.name = Some(String::from_utf8_lossy(value).into_owned()),
            b"id" | b"retry" => {}
            [b'{', ..] => self.add_data(line)?,
            _ => self.add_stray(line),
        }
        Ok(())
    }

    fn add_data(&mut self, value: &[u8]) -> Result<(), TooLong> {
        if self.data.len() + value.len() >= self.limit {
            return Err(TooLong { limit: self.limit });
        }
        if !self.data.is_empty() {
            self.data.push(b'\n');
        }
        self.data.extend_from_slice(value);
        Ok(())
    }

    fn add_stray(&mut self, line: &[u8]) {
        if self.stray.len() < STRAY {
            let beginning = &line[..line.len().min(STRAY)];
            self.stray.push_str(&String::from_utf8_lossy(beginning));
            self.stray.push(' ');
        }
    }

    fn end_event(&mut self, items: &mut Vec<Item>) {
        let name = self.name.take();
        if self.data.is_empty() {
            items.extend(name.map(|_| Item::KeepAlive));
            return;
        }
        let data = String::from_utf8(mem::take(&mut self.data))
            .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned());
        items.push(Item::Event { name, data });
    }
}

#[cfg(test)]
mod tests;
