//! Jobs as text.

use std::fmt::Write as _;
use std::time::Duration;

use legwork_common::duration;
use legwork_common::job::Job;
use legwork_common::lifecycle::State;
use owo_colors::OwoColorize as _;

/// Characters of a UUID in lists: the first group, enough to tell jobs apart, and accepted by every command.
const SHORT_ID: usize = 8;
/// The most characters of a task in a list: with the other columns about a line of 100 characters.
const TASK_CHARS: usize = 60;
/// The most characters of an error, a task or a key in a view: a paragraph; `--json` has all of it.
const FIELD_CHARS: usize = 400;

/// Lays out rows as columns, two spaces apart, without trailing space. Widths are in characters, not terminal cells.
pub fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width =
        |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    let mut text = String::new();
    for row in rows {
        let cells: Vec<String> =
            row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        let _ = writeln!(text, "{}", cells.join("  ").trim_end());
    }
    text
}

/// The header of a list of [`row`]s.
pub fn header() -> Vec<String> {
    ["ID", "STATUS", "AGENT", "RUNTIME", "TASK"].map(str::to_owned).to_vec()
}

/// One job of a list; `stale_for` is as for [`status_with_staleness`].
pub fn row(job: &Job, stale_for: Option<Duration>) -> Vec<String> {
    vec![
        short_id(job),
        status_with_staleness(job, stale_for),
        job.agent.clone(),
        duration::short(job.runtime()),
        first_line(&job.task, TASK_CHARS),
    ]
}

/// The first eight characters of a job's UUID.
pub fn short_id(job: &Job) -> String {
    job.id.uuid().to_string().chars().take(SHORT_ID).collect()
}

/// The status, with the cause of a failure or a stop.
pub fn status(job: &Job) -> String {
    match job.cause {
        Some(cause) => format!("{} ({cause})", job.status),
        None => job.status.to_string(),
    }
}

/// The status of a job whose lease may have expired; `stale_for` is the time since its worker last renewed it, `None`
/// while the lease holds.
pub fn status_with_staleness(job: &Job, stale_for: Option<Duration>) -> String {
    match stale_for {
        Some(age) => format!("{} (stale {})", job.status, duration::short(age)),
        None => status(job),
    }
}

/// Text in the colour of a status, if `color`.
pub fn colored(state: State, text: &str, color: bool) -> String {
    if !color {
        return text.to_owned();
    }
    match state {
        State::Completed => text.green().to_string(),
        State::Failed => text.red().to_string(),
        State::Stopped | State::Stopping => text.yellow().to_string(),
        State::Running | State::Reaping => text.cyan().to_string(),
        State::Waiting => text.blue().to_string(),
        State::Queued | State::Scheduled => text.dimmed().to_string(),
    }
}

/// The first line of a text, without control characters. An ellipsis marks what is left out; with it the line has at
/// most `max` characters.
pub fn first_line(text: &str, max: usize) -> String {
    let line: String =
        text.trim().lines().next().unwrap_or_default().chars().filter(|c| !c.is_control()).collect();
    let more = text.trim().lines().count() > 1;
    if line.chars().count() <= max && !more {
        return line;
    }
    let cut: String = line.chars().take(max.saturating_sub(1)).collect();
    format!("{}…", cut.trim_end())
}

/// The last `max` characters of a line, without control characters. An ellipsis, which counts, marks what is left out.
pub fn line_end(text: &str, max: usize) -> String {
    let characters: Vec<char> = text.chars().filter(|c| !c.is_control()).collect();
    if characters.len() <= max {
        return characters.into_iter().collect();
    }
    let from = characters.len() - max.saturating_sub(1).min(characters.len());
    std::iter::once('…').chain(characters.into_iter().skip(from)).collect()
}

/// The fields of a job, one a line, as `view` prints them before the output.
pub fn head(job: &Job, color: bool) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: &str| {
        let _ = writeln!(text, "{name:<10}{value}");
    };
    line("ID", &job.id.to_string());
    line("Agent", &job.agent);
    line("Status", &colored(job.status, &status(job), color));
    if let Some(error) = &job.error {
        // A live job shows the error of its last failed attempt.
        let name = if job.status.is_terminal() { "Error" } else { "Failed" };
        line(name, &first_line(error, FIELD_CHARS));
    }
    line("Task", &first_line(&job.task, FIELD_CHARS));
    line("Session", &job.session.to_string());
    if let Some(parent) = job.parent {
        line("Parent", &parent.to_string());
    }
    if let Some(of) = job.retry_of {
        line("Retry of", &of.to_string());
    }
    line("Queue", &job.queue);
    line("Attempt", &job.attempt.to_string());
    if let Some(worker) = &job.worker {
        line("Worker", worker.as_str());
    }
    if let Some(key) = &job.key {
        line("Key", &first_line(key, FIELD_CHARS));
    }
    line("Created", &format!("{:.0}", job.created_at));
    if let Some(started) = job.started_at {
        line("Started", &format!("{started:.0}"));
    }
    if let Some(finished) = job.finished_at {
        line("Finished", &format!("{finished:.0}"));
    }
    line("Runtime", &duration::short(job.runtime()));
    let usage = job.usage;
    line(
        "Usage",
        &format!("{} turns, {} tokens in, {} out", usage.turns, usage.input_tokens, usage.output_tokens),
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [["A", "B"], ["long one", "x"]].map(|row| row.map(str::to_owned).to_vec());
        assert_eq!(table(&rows), "A         B\nlong one  x\n");
    }

    #[test]
    fn first_line_cuts_text_to_one_short_line() {
        assert_eq!(first_line("short", 10), "short");
        assert_eq!(first_line("two\nlines", 10), "two…");
        assert_eq!(first_line("a very long line", 8), "a very…");
        assert_eq!(first_line("bell\u{7}\u{1b}[31m", 20), "bell[31m");
    }

    #[test]
    fn line_end_keeps_the_last_characters() {
        assert_eq!(line_end("short\u{7}", 10), "short");
        assert_eq!(line_end("a very long line", 8), "…ng line");
        assert_eq!(line_end("äöü", 2), "…ü");
        assert_eq!(line_end("abc", 0), "…");
    }
}
