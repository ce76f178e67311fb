//! Standard output and standard error: the only place that writes to them.
//!
//! Standard output carries the answer and nothing else. A closed pipe is not an error: the program exits quietly, as
//! filters such as `head` expect.

use std::borrow::Cow;
use std::io;
use std::io::IsTerminal as _;
use std::io::Write as _;

use serde::Serialize;

use crate::failure::Failure;
use crate::render;

/// Moves the cursor to the top of the terminal and erases everything below it.
const CLEAR: &str = "\x1b[H\x1b[2J";
/// The width of a terminal that does not tell its own, such as a serial line.
const DEFAULT_WIDTH: usize = 80;

/// How to write to standard output and standard error.
#[derive(Debug, Clone, Copy)]
pub struct Output {
    /// One JSON object a line instead of text.
    pub json: bool,
    /// Whether standard output is a terminal that shows colours.
    pub color: bool,
    /// Whether standard error is a terminal, and a panel may be drawn on it.
    pub live: bool,
    /// The width of standard output in cells, if it is a terminal.
    pub width: Option<usize>,
    /// Whether both streams end up in one place, a terminal or a file: then a line on standard error follows whatever was
    /// last written to standard output.
    pub is_shared: bool,
}

impl Output {
    /// Inspects the terminal once. `no_color` (`NO_COLOR`) disables colours, and `json` everything but JSON.
    pub fn new(json: bool, no_color: bool) -> Self {
        let terminal = io::stdout().is_terminal();
        let width = if terminal { Some(terminal_width()) } else { None };
        let live = io::stderr().is_terminal() && !json;
        Self { json, color: terminal && !no_color && !json, live, width, is_shared: is_shared(terminal) }
    }

    /// Whether standard output is a terminal.
    pub fn is_terminal(&self) -> bool {
        self.width.is_some()
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
        // The last of several measures: whatever a line quotes, a terminal is not told to do anything.
        let text = if self.is_terminal() { render::visible_line(text) } else { Cow::Borrowed(text) };
        write(&text)
    }

    /// Clears the terminal for the next state of what is shown; elsewhere each state follows the one before.
    ///
    /// # Errors
    ///
    /// As for [`text`](Self::text).
    pub fn clear(&self) -> Result<(), Failure> {
        if self.is_terminal() && !self.json { written(write(CLEAR)) } else { Ok(()) }
    }

    /// Writes what an agent wrote: on a terminal with its control characters written out, so that it neither moves the
    /// cursor nor colours what follows; elsewhere unchanged, byte for byte. Exits the program if standard output is a
    /// closed pipe.
    ///
    /// # Errors
    ///
    /// As for [`text`](Self::text).
    pub fn bytes(&self, bytes: &[u8]) -> Result<(), Failure> {
        if self.is_terminal() {
            return self.text(&render::visible(&String::from_utf8_lossy(bytes)));
        }
        let mut stdout = io::stdout().lock();
        written(stdout.write_all(bytes).and_then(|()| stdout.flush()))
    }

    /// Ends an incomplete line of standard output where a line on standard error would follow it. The line break goes to
    /// standard error: standard output has the bytes of the answer and no others.
    pub fn end_line(&self) {
        if self.is_shared && !self.json {
            self.note("");
        }
    }

    /// Text that may contain what an agent wrote, as [`bytes`](Self::bytes) writes it.
    pub fn harmless<'text>(&self, text: &'text str) -> Cow<'text, str> {
        if self.is_terminal() { render::visible(text) } else { Cow::Borrowed(text) }
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

    /// Writes a line to standard error, on a terminal with control characters written out. An error is ignored: the answer
    /// does not depend on the line.
    pub fn note(&self, line: &str) {
        let line = if io::stderr().is_terminal() { render::visible_line(line) } else { Cow::Borrowed(line) };
        let _unread = io::stderr().lock().write_all(format!("{line}\n").as_bytes());
    }
}

/// Writes to standard output as it is.
fn write(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush())
}

/// Whether both streams are terminals, or the same file or pipe (`2>&1`).
fn is_shared(is_terminal: bool) -> bool {
    if is_terminal || io::stderr().is_terminal() {
        return is_terminal && io::stderr().is_terminal();
    }
    let (Ok(out), Ok(error)) = (rustix::fs::fstat(io::stdout()), rustix::fs::fstat(io::stderr())) else {
        return false;
    };
    (out.st_dev, out.st_ino) == (error.st_dev, error.st_ino)
}

/// The width of the terminal, and 80 where it does not tell one.
fn terminal_width() -> usize {
    let size = rustix::termios::tcgetwinsize(io::stdout());
    size.ok().map(|size| usize::from(size.ws_col)).filter(|width| *width > 0).unwrap_or(DEFAULT_WIDTH)
}

/// Exits the program on a closed pipe, with status 0: the reader has all it wants.
fn written(result: io::Result<()>) -> Result<(), Failure> {
    match result {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => std::process::exit(0),
        Err(error) => Err(Failure::usage(format!("cannot write to standard output: {error}"))),
    }
}
