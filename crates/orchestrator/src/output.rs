//! Standard output and standard error: the only place that writes to them.
//!
//! Standard output carries the answer and nothing else. A closed pipe is not an error: the program exits quietly, as
//! filters such as `head` expect.

use std::io;
use std::io::IsTerminal as _;
use std::io::Write as _;

use serde::Serialize;

use crate::failure::Failure;

/// How to write to standard output and standard error.
#[derive(Debug, Clone, Copy)]
pub struct Output {
    /// One JSON object a line instead of text.
    pub json: bool,
    /// Whether standard output is a terminal that shows colours.
    pub color: bool,
    /// Whether standard error is a terminal, and a panel may be drawn on it.
    pub live: bool,
}

impl Output {
    /// Inspects the terminal once. `no_color` (`NO_COLOR`) disables colours, and `json` everything but JSON.
    pub fn new(json: bool, no_color: bool) -> Self {
        let terminal = io::stdout().is_terminal();
        Self { json, color: terminal && !no_color && !json, live: io::stderr().is_terminal() && !json }
    }

    /// Writes text. Exits the program if standard output is a closed pipe.
    ///
    /// # Errors
    ///
    /// [`Failure`] when it cannot be written, such as to a full disk.
    pub fn text(&self, text: &str) -> Result<(), Failure> {
        written(self.try_text(text))
    }

    /// Writes text, for callers that have to clean up after a closed pipe.
    ///
    /// # Errors
    ///
    /// The system's error, including [`io::ErrorKind::BrokenPipe`].
    pub fn try_text(&self, text: &str) -> io::Result<()> {
        let mut stdout = io::stdout().lock();
        stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush())
    }

    /// Writes bytes that need not be UTF-8. Exits the program if standard output is a closed pipe.
    ///
    /// # Errors
    ///
    /// As for [`text`](Self::text).
    pub fn bytes(&self, bytes: &[u8]) -> Result<(), Failure> {
        let mut stdout = io::stdout().lock();
        written(stdout.write_all(bytes).and_then(|()| stdout.flush()))
    }

    /// Writes text and a line break.
    ///
    /// # Errors
    ///
    /// As for [`text`](Self::text).
    pub fn line(&self, line: &str) -> Result<(), Failure> {
        self.text(&format!("{line}\n"))
    }

    /// Writes one JSON object as a line.
    ///
    /// # Errors
    ///
    /// As for [`text`](Self::text).
    pub fn object(&self, value: &impl Serialize) -> Result<(), Failure> {
        let text = serde_json::to_string(value)
            .map_err(|error| Failure::usage(format!("cannot write the answer as JSON: {error}")))?;
        self.line(&text)
    }

    /// Writes a line to standard error. An error is ignored: the answer does not depend on the line.
    pub fn note(&self, line: &str) {
        let _unread = io::stderr().lock().write_all(format!("{line}\n").as_bytes());
    }
}

/// Exits the program on a closed pipe, with status 0: the reader has all it wants.
fn written(result: io::Result<()>) -> Result<(), Failure> {
    match result {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => std::process::exit(0),
        Err(error) => Err(Failure::usage(format!("cannot write to standard output: {error}"))),
    }
}
