//! An error as users see it: code, message, hint and exit status, printed once, at the end of the program.

use legwork_common::error::Coded;
use legwork_common::error::ExitStatus;
use legwork_common::error::chain;
use legwork_worker::options::command_line::Mistake;
use serde_json::json;

use crate::cli::Named;

/// Why a command failed.
#[derive(Debug)]
pub struct Failure {
    /// A stable code for programs, listed in docs/errors.md.
    pub code: &'static str,
    /// What happened, in one line.
    pub message: String,
    /// Further lines, such as a snippet of a file; not part of the JSON form.
    pub detail: Option<String>,
    /// What the user can do about it.
    pub hint: Option<String>,
    /// The program's exit status.
    pub exit: ExitStatus,
}

impl Failure {
    /// A command that cannot be carried out as it was given, or an environment that does not allow it; exit status 2.
    pub fn usage(message: impl Into<String>) -> Self {
        Self { code: "usage", message: message.into(), detail: None, hint: None, exit: ExitStatus::Usage }
    }

    /// A mistake on the command line: what is wrong in one line, the usage of the command, and what was probably meant or
    /// else where to read on.
    pub fn from_clap(error: &clap::Error, command: &Named) -> Self {
        let Mistake { message, meant } = Mistake::of(error);
        let is_incomplete = error.kind() == clap::error::ErrorKind::MissingRequiredArgument;
        let instead = command.instead.filter(|_| is_incomplete).map(str::to_owned);
        let hint = instead.or(meant).unwrap_or_else(|| format!("see `{} --help`", command.words));
        Self { detail: Some(format!("usage: {}", command.usage)), ..Self::usage(message) }.with_hint(hint)
    }

    /// A job, agent or worker that does not exist; exit status 3.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self {
            code: "not_found",
            message: message.into(),
            detail: None,
            hint: None,
            exit: ExitStatus::NotFound,
        }
    }

    /// A file that cannot be read; exit status 2.
    pub fn file(path: &std::path::Path, error: &std::io::Error) -> Self {
        Self {
            code: "file",
            message: format!("cannot read {}: {error}", path.display()),
            detail: None,
            hint: None,
            exit: ExitStatus::Usage,
        }
    }

    /// Sets the hint.
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds what the failure left, such as "nothing was stopped".
    pub fn with_outcome(self, outcome: &str) -> Self {
        Self { message: format!("{}; {outcome}", self.message), ..self }
    }

    /// The error as an object: code, message and hint.
    pub fn object(&self) -> serde_json::Value {
        json!({"code": self.code, "message": self.message, "hint": self.hint})
    }

    /// The text for standard error, with the final line break.
    pub fn text(&self, json: bool) -> String {
        if json {
            let error = json!({"error": self.object()});
            return format!("{error}\n");
        }
        let mut text = format!("error: {}\n", self.message.trim_end().replace('\n', " "));
        if let Some(detail) = &self.detail {
            text.push_str(detail.trim_end());
            text.push('\n');
        }
        if let Some(hint) = &self.hint {
            text.push_str(&format!("hint: {hint}\n"));
        }
        text
    }
}

impl<E: Coded> From<E> for Failure {
    fn from(error: E) -> Self {
        Self {
            code: error.code(),
            message: chain(&error),
            detail: None,
            hint: error.hint(),
            exit: error.exit(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_one_line_and_a_hint_or_json() {
        let failure = Failure::usage("no\nsuch").with_hint("try this");
        assert_eq!(failure.text(false), "error: no such\nhint: try this\n");
        let json: serde_json::Value = serde_json::from_str(&failure.text(true)).unwrap();
        assert_eq!(json["error"]["code"], "usage");
    }
}
