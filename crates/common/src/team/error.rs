//! The errors and warnings of an agent file, with position, source line and hint.

use std::fmt;

use super::source::Position;
use super::source::Source;

/// The maximum number of errors that are reported for one file. More do not fit on a screen, and usually have
/// the same cause.
pub(super) const MAX_ERRORS: usize = 20;

/// An error in an agent file. `Display` prints one line: `agents.yaml:12:5: unknown key ...`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TeamError {
    pub(super) file: String,
    pub(super) position: Option<Position>,
    pub(super) message: String,
    pub(super) snippet: Option<String>,
    pub(super) hint: Option<String>,
}

impl TeamError {
    /// The file name, as the caller gave it.
    #[must_use]
    pub fn file(&self) -> &str {
        &self.file
    }

    /// The line, counted from 1; `None` for an error of the file as a whole.
    #[must_use]
    pub fn line(&self) -> Option<u64> {
        self.position.map(|position| position.line)
    }

    /// The column in characters, counted from 1; `None` for an error of the file as a whole.
    #[must_use]
    pub fn column(&self) -> Option<u64> {
        self.position.map(|position| position.column)
    }

    /// The message, without the position.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The source line with carets below the error, without characters that could control a terminal.
    #[must_use]
    pub fn snippet(&self) -> Option<&str> {
        self.snippet.as_deref()
    }

    /// How to fix it: the key that was probably meant, the list of valid values, or an example.
    #[must_use]
    pub fn hint(&self) -> Option<&str> {
        self.hint.as_deref()
    }
}

impl fmt::Display for TeamError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if let Some(position) = self.position {
            write!(f, ":{}:{}", position.line, position.column)?;
        }
        write!(f, ": {}", self.message)
    }
}

impl std::error::Error for TeamError {}

/// All errors of one agent file, sorted by position; never empty. `Display` prints one line for each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TeamErrors {
    errors: Vec<TeamError>,
    omitted: usize,
}

impl TeamErrors {
    /// A single error that prevents the file from being read any further.
    pub(super) fn one(error: TeamError) -> Self {
        Self { errors: vec![error], omitted: 0 }
    }

    /// Sorts the errors by position, keeps the first [`MAX_ERRORS`], and adds their snippets. `unlisted` is
    /// the number of further errors that the reader counted without keeping them.
    pub(super) fn new(source: Source<'_>, mut errors: Vec<TeamError>, unlisted: usize) -> Self {
        errors.sort_by_key(|error| error.position.map(|position| (position.line, position.column)));
        errors.dedup();
        let omitted = errors.len().saturating_sub(MAX_ERRORS) + unlisted;
        errors.truncate(MAX_ERRORS);
        let positions: Vec<Option<Position>> = errors.iter().map(|error| error.position).collect();
        for (error, snippet) in errors.iter_mut().zip(source.snippets(&positions)) {
            error.snippet = snippet;
        }
        Self { errors, omitted }
    }

    /// The errors, sorted by position.
    pub fn iter(&self) -> impl Iterator<Item = &TeamError> {
        self.errors.iter()
    }

    /// The number of further errors that are not listed.
    #[must_use]
    pub fn left_out(&self) -> usize {
        self.omitted
    }

    /// The full report: each error with its snippet and its hint, separated by empty lines.
    #[must_use]
    pub fn report(&self) -> String {
        let mut blocks: Vec<String> = self.errors.iter().map(block).collect();
        if self.omitted > 0 {
            blocks.push(format!("and {} more\n", self.omitted));
        }
        blocks.join("\n")
    }
}

/// An error with its snippet and its hint.
fn block(error: &TeamError) -> String {
    let mut text = format!("{error}\n");
    if let Some(snippet) = error.snippet() {
        text.push_str(snippet);
    }
    if let Some(hint) = error.hint() {
        text.push_str(&format!("  hint: {hint}\n"));
    }
    text
}

impl fmt::Display for TeamErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.errors.iter().enumerate() {
            let separator = if index == 0 { "" } else { "\n" };
            write!(f, "{separator}{error}")?;
        }
        if self.omitted > 0 {
            write!(f, "\nand {} more", self.omitted)?;
        }
        Ok(())
    }
}

impl std::error::Error for TeamErrors {}

/// A valid setting of the file that has no effect in Legwork. Equal messages are merged into one warning that
/// lists the other lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// The line of the first occurrence, counted from 1.
    pub line: u64,
    /// The column of the first occurrence in characters, counted from 1.
    pub column: u64,
    /// The setting, and what happens instead.
    pub message: String,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.line, self.column, self.message)
    }
}
