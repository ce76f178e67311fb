//! The rule for partial success: each of many has a result of its own, in its place, and the exit status is 8 where some
//! failed.

use std::fmt;

use indicatif::ProgressBar;
use indicatif::ProgressDrawTarget;
use indicatif::ProgressStyle;
use legwork_common::error::ExitStatus;
use legwork_common::id::JobId;
use legwork_queue::Operator;
use serde_json::Value;

use crate::failure::Failure;
use crate::output::Output;

/// One of many that a command was given, as it was written, and what it names; or why that is nothing.
#[derive(Debug)]
pub struct Item<T> {
    /// The words of the command line, or the id.
    pub text: String,
    /// What it names.
    pub named: Result<T, Failure>,
}

impl<T> Item<T> {
    /// An item that is there.
    pub fn of(text: impl fmt::Display, value: T) -> Self {
        Self { text: text.to_string(), named: Ok(value) }
    }
}

/// The jobs that texts name, in their order. A text that names none is an item's failure; only Redis ends the search.
///
/// # Errors
///
/// [`Failure`] when Redis cannot be asked.
pub async fn find_each(operator: &Operator, texts: &[String]) -> Result<Vec<Item<JobId>>, Failure> {
    let mut items = Vec::with_capacity(texts.len());
    for text in texts {
        items.push(Item { text: text.clone(), named: unless_redis(operator.find(text).await)? });
    }
    Ok(items)
}

/// The result of an item; an answer that Redis did not give is a failure of the whole command instead.
///
/// # Errors
///
/// [`Failure`] of Redis.
pub fn unless_redis<T>(result: Result<T, impl Into<Failure>>) -> Result<Result<T, Failure>, Failure> {
    match result.map_err(Into::into) {
        Err(failure) if failure.exit == ExitStatus::Redis => Err(failure),
        result => Ok(result),
    }
}

/// Items from which on a progress bar is shown on a terminal, instead of a line for each.
const MIN_FOR_PROGRESS: usize = 200;

/// How many of many are done, and what failed.
#[derive(Debug)]
pub struct Tally {
    /// What was done to an item, such as `stopped`.
    verb: &'static str,
    total: usize,
    done: usize,
    failed: Vec<Failure>,
}

impl Tally {
    /// A tally of `total` items.
    pub fn of(total: usize, verb: &'static str) -> Self {
        Self { verb, total, done: 0, failed: Vec::new() }
    }

    /// Counts an item that is done.
    pub fn done(&mut self) {
        self.done += 1;
    }

    /// Shows an item's failure in its place, unless it is the only item: then it is the command's error. `fields` name
    /// the item in JSON, `item` in text.
    ///
    /// # Errors
    ///
    /// [`Failure`] when standard output cannot be written.
    pub fn failed(
        &mut self,
        output: &Output,
        item: &dyn fmt::Display,
        mut fields: Value,
        failure: Failure,
    ) -> Result<(), Failure> {
        if self.total > 1 && output.json {
            fields["error"] = failure.object();
            output.object(&fields)?;
        } else if self.total > 1 {
            output.line(&format!("{item}: error: {}", failure.message))?;
        }
        self.failed.push(failure);
        Ok(())
    }

    /// As [`end`](Self::end), for a command that decides about each item before it changes the first: the error of the
    /// only item says that nothing was changed.
    ///
    /// # Errors
    ///
    /// [`Failure`] where an item failed.
    pub fn end_of_refusals(self) -> Result<ExitStatus, Failure> {
        let (is_only, nothing) = (self.total == 1, format!("nothing was {}", self.verb));
        self.end().map_err(|failure| if is_only { failure.with_outcome(&nothing) } else { failure })
    }

    /// The exit status of the command, or the error of the only item, or that some of many failed.
    ///
    /// # Errors
    ///
    /// [`Failure`] where an item failed.
    pub fn end(mut self) -> Result<ExitStatus, Failure> {
        let Some(last) = self.failed.pop() else { return Ok(ExitStatus::Success) };
        if self.total == 1 {
            return Err(last);
        }
        let failed = self.failed.len() + 1;
        let (total, verb) = (thousands(self.total as u64), self.verb);
        Err(Failure {
            code: "some_failed",
            message: format!("{} of {total} were not {verb}", thousands(failed as u64)),
            detail: None,
            hint: last.hint,
            exit: ExitStatus::SomeFailed,
        })
    }
}

/// A number as people read it: `135,400`.
pub fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A count with its noun: `1 job`, `2 jobs`.
pub fn jobs(count: u64) -> String {
    if count == 1 { "1 job".to_owned() } else { format!("{} jobs", thousands(count)) }
}

/// A progress bar on standard error for work on many jobs; hidden where standard error is not a terminal, and for few.
pub fn progress(output: &Output, total: usize, verb: &str) -> ProgressBar {
    let target = if output.live && total >= MIN_FOR_PROGRESS {
        ProgressDrawTarget::stderr()
    } else {
        ProgressDrawTarget::hidden()
    };
    let bar = ProgressBar::with_draw_target(Some(total as u64), target);
    let style = ProgressStyle::with_template(&format!("{{bar:30}} {{human_pos}} of {{human_len}} {verb}"));
    bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn numbers_are_grouped() {
        for (number, text) in
            [(0, "0"), (999, "999"), (1000, "1,000"), (135_400, "135,400"), (1_000_000, "1,000,000")]
        {
            assert_eq!(thousands(number), text);
        }
        assert_eq!((jobs(1), jobs(2000)), ("1 job".to_owned(), "2,000 jobs".to_owned()));
    }

    #[test]
    fn the_only_item_is_the_commands_error_and_one_of_many_is_not() {
        let output = Output::new(true, true);
        let failure = || Failure::not_found("gone");
        for (total, failures, exit) in [
            (1, 0, None),
            (1, 1, Some(ExitStatus::NotFound)),
            (3, 1, Some(ExitStatus::SomeFailed)),
            (3, 0, None),
        ] {
            let mut tally = Tally::of(total, "stopped");
            for _ in 0..failures {
                tally.failed(&output, &"x", json!({"id": "x"}), failure()).unwrap();
            }
            assert_eq!(tally.end().err().map(|failure| failure.exit), exit, "{total} {failures}");
        }
    }
}
