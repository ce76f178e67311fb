//! What is wrong with an agent file, told so that a person can mend it.

use std::fmt;

use super::source::Position;
use super::source::Source;

/// At most this many errors are reported for one file; the rest would repeat them.
pub(super) const MAX_ERRORS: usize = 20;

/// One mistake in an agent file. `Display` is one line: `agents.yaml:12:5: unknown key ...`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TeamError {
    pub(super) file: String,
    pub(super) position: Option<Position>,
    pub(super) message: String,
    pub(super) snippet: Option<String>,
    pub(super) hint: Option<String>,
}

impl TeamError {
    /// The name of the file, as the caller gave it.
    #[must_use]
    pub fn file(&self) -> &str {
        &self.file
    }

    /// The line, counted from 1; none when the mistake is about the file as a whole.
    #[must_use]
    pub fn line(&self) -> Option<u64> {
        self.position.map(|position| position.line)
    }

    /// The column in characters, counted from 1; none when the mistake is about the file as a whole.
    #[must_use]
    pub fn column(&self) -> Option<u64> {
        self.position.map(|position| position.column)
    }

    /// What is wrong, without the place.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The source line with a caret below the mistake, safe to print on a terminal.
    #[must_use]
    pub fn snippet(&self) -> Option<&str> {
        self.snippet.as_deref()
    }

    /// What to do about it: the nearest right key, or the list of what is allowed.
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

/// Every mistake found in one agent file, by place; never empty. `Display` is one line for each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TeamErrors {
    errors: Vec<TeamError>,
    left_out: usize,
}

impl TeamErrors {
    /// The mistake that hides all others.
    pub(super) fn one(error: TeamError) -> Self {
        Self {
            errors: vec![error],
            left_out: 0,
        }
    }

    /// Sorts by place, keeps the first of them, and cuts their snippets. `uncounted` more were not
    /// even noted.
    pub(super) fn new(source: Source<'_>, mut errors: Vec<TeamError>, uncounted: usize) -> Self {
        errors.sort_by_key(|error| {
            error
                .position
                .map(|position| (position.line, position.column))
        });
        errors.dedup();
        let left_out = errors.len().saturating_sub(MAX_ERRORS) + uncounted;
        errors.truncate(MAX_ERRORS);
        let positions: Vec<Option<Position>> = errors.iter().map(|error| error.position).collect();
        for (error, snippet) in errors.iter_mut().zip(source.snippets(&positions)) {
            error.snippet = snippet;
        }
        Self { errors, left_out }
    }

    /// The mistakes, by place in the file.
    pub fn iter(&self) -> impl Iterator<Item = &TeamError> {
        self.errors.iter()
    }

    /// How many further mistakes are not listed.
    #[must_use]
    pub fn left_out(&self) -> usize {
        self.left_out
    }

    /// The whole text for a person: each mistake with its snippet and its hint, an empty line between.
    #[must_use]
    pub fn report(&self) -> String {
        let mut blocks: Vec<String> = self.errors.iter().map(block).collect();
        if self.left_out > 0 {
            blocks.push(format!("and {} more\n", self.left_out));
        }
        blocks.join("\n")
    }
}

/// One mistake with its snippet and its hint.
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
        if self.left_out > 0 {
            write!(f, "\nand {} more", self.left_out)?;
        }
        Ok(())
    }
}

impl std::error::Error for TeamErrors {}

/// Something in the file that is right, but that Legwork does not act on. Told once for each key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// Line of the first place, counted from 1.
    pub line: u64,
    /// Column of the first place in characters, counted from 1.
    pub column: u64,
    /// What is not acted on, and what happens instead.
    pub message: String,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.line, self.column, self.message)
    }
}
