//! Standard output and standard error: the one place that writes to them.
//!
//! Standard output carries the answer and nothing else. A reader that goes away (a closed pipe) is no error:
//! the program ends quietly.

use std::io;
use std::io::IsTerminal as _;
use std::io::Write as _;

use serde::Serialize;

use crate::failure::Failure;

/// Where the answer goes, and how.
#[derive(Debug, Clone, Copy)]
pub struct Output {
    /// One JSON object a line instead of text.
    pub json: bool,
    /// Whether standard output is a terminal that shows colours.
    pub color: bool,
    /// Whether standard error is a terminal.
    pub live: bool,
}

impl Output {
    /// Looks at the terminal once; `no_color` holds.
    pub fn new(json: bool, no_color: bool) -> Self {
        let terminal = io::stdout().is_terminal();
        Self { json, color: terminal && !no_color && !json, live: io::stderr().is_terminal() && !json }
    }

    /// Writes text as it is.
    pub fn text(&self, text: &str) -> Result<(), Failure> {
        written(self.try_text(text))
    }

    /// Writes text as it is; for whoever has more to do about a closed pipe than to end.
    ///
    /// # Errors
    ///
    /// The system's error, a closed pipe too.
    pub fn try_text(&self, text: &str) -> io::Result<()> {
        let mut stdout = io::stdout().lock();
        stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush())
    }

    /// Writes raw bytes.
    pub fn bytes(&self, bytes: &[u8]) -> Result<(), Failure> {
        let mut stdout = io::stdout().lock();
        written(stdout.write_all(bytes).and_then(|()| stdout.flush()))
    }

    /// Writes one line.
    pub fn line(&self, line: &str) -> Result<(), Failure> {
        self.text(&format!("{line}\n"))
    }

    /// Writes one JSON object as a line.
    pub fn object(&self, value: &impl Serialize) -> Result<(), Failure> {
        let text = serde_json::to_string(value)
            .map_err(|error| Failure::usage(format!("cannot be written as JSON: {error}")))?;
        self.line(&text)
    }

    /// Writes a line about what goes on to standard error. Nobody reading it is no reason to stop.
    pub fn note(&self, line: &str) {
        let _unread = io::stderr().lock().write_all(format!("{line}\n").as_bytes());
    }
}

/// A closed pipe ends the program as if it were done; there is nobody to tell.
fn written(result: io::Result<()>) -> Result<(), Failure> {
    match result {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => std::process::exit(0),
        Err(error) => Err(Failure::usage(format!("cannot write to standard output: {error}"))),
    }
}
