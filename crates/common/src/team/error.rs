//! The errors and warnings of an agent file, with position, source line and hint.

use std::fmt;

use super::keys::Support;
use super::source::Position;
use super::source::Source;

/// The maximum number of errors that are reported for one file. More do not fit on a screen, and usually have
/// the same cause.
pub(super) const MAX_ERRORS: usize = 20;

/// What kind of mistake an error is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// A key that the schema does not have.
    UnknownKey,
    /// A valid setting that is not supported, and without which the agent would do more than its author wants.
    Refused,
    /// Anything else: a value, a reference, or the YAML itself.
    Value,
}

impl Class {
    /// The word in JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::UnknownKey => "unknown_key",
            Self::Refused => "refused",
            Self::Value => "value",
        }
    }
}

/// A known key of a file, and what Legwork does with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// What Legwork does with it.
    pub support: Support,
    /// The map that has it, with its article: `an agent`.
    pub map: &'static str,
    /// The key, or the value that has a row of its own, such as the type of a toolset.
    pub key: &'static str,
    /// The limits, what happens instead, or what to do; may be empty.
    pub note: &'static str,
    /// The lines, counted from 1, in ascending order.
    pub lines: Vec<u64>,
}

/// An error in an agent file. `Display` prints one line: `agents.yaml:12:5: unknown key ...`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TeamError {
    pub(super) class: Class,
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

    /// What kind of mistake it is.
    #[must_use]
    pub fn class(&self) -> Class {
        self.class
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
    found: Vec<Found>,
}

impl TeamErrors {
    /// A single error that prevents the file from being read any further.
    pub(super) fn one(error: TeamError) -> Self {
        Self { errors: vec![error], omitted: 0, found: Vec::new() }
    }

    /// Sorts the errors by position, keeps the first [`MAX_ERRORS`], and adds their snippets. `unlisted` is
    /// the number of further errors that the reader counted without keeping them.
    pub(super) fn new(
        source: Source<'_>,
        mut errors: Vec<TeamError>,
        unlisted: usize,
        found: Vec<Found>,
    ) -> Self {
        errors.sort_by_key(|error| error.position.map(|position| (position.line, position.column)));
        errors.dedup();
        let omitted = errors.len().saturating_sub(MAX_ERRORS) + unlisted;
        errors.truncate(MAX_ERRORS);
        let positions: Vec<Option<Position>> = errors.iter().map(|error| error.position).collect();
        for (error, snippet) in errors.iter_mut().zip(source.snippets(&positions)) {
            error.snippet = snippet;
        }
        Self { errors, omitted, found }
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

    /// The known keys of the file, as far as it was read.
    #[must_use]
    pub fn found(&self) -> &[Found] {
        &self.found
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
