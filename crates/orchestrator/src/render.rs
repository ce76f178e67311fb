//! Jobs as text for people.

use std::fmt::Write as _;
use std::time::Duration;

use legwork_common::duration;
use legwork_common::job::Job;
use legwork_common::lifecycle::State;
use owo_colors::OwoColorize as _;

/// The characters of a UUID that lists show: enough to tell jobs apart, and accepted by every command.
const SHORT_ID: usize = 8;
/// The longest piece of a task that a list shows.
const TASK_CHARS: usize = 60;

/// Rows of text as columns, two spaces apart; the last column is not padded.
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

/// The list's header.
pub fn header() -> Vec<String> {
    ["ID", "STATUS", "AGENT", "RUNTIME", "TASK"].map(str::to_owned).to_vec()
}

/// One job of a list, whose worker was silent for so long.
pub fn row(job: &Job, silent: Option<Duration>) -> Vec<String> {
    vec![
        short_id(job),
        status_of_silent(job, silent),
        job.agent.clone(),
        duration::short(job.runtime()),
        first_line(&job.task, TASK_CHARS),
    ]
}

/// The beginning of a job's id.
pub fn short_id(job: &Job) -> String {
    job.id.uuid().to_string().chars().take(SHORT_ID).collect()
}

/// The status and, for an end that was not good, its cause.
pub fn status(job: &Job) -> String {
    match job.cause {
        Some(cause) => format!("{} ({cause})", job.status),
        None => job.status.to_string(),
    }
}

/// The same of a job whose worker was silent for longer than a lease.
pub fn status_of_silent(job: &Job, silent: Option<Duration>) -> String {
    match silent {
        Some(silent) => format!("{} (silent {})", job.status, duration::short(silent)),
        None => status(job),
    }
}

/// A word for a status, in its colour where colours are wanted.
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

/// The first line of a text without control characters, cut with an ellipsis.
pub fn first_line(text: &str, most: usize) -> String {
    let line: String =
        text.trim().lines().next().unwrap_or_default().chars().filter(|c| !c.is_control()).collect();
    let more = text.trim().lines().count() > 1;
    if line.chars().count() <= most && !more {
        return line;
    }
    let cut: String = line.chars().take(most.saturating_sub(1)).collect();
    format!("{}…", cut.trim_end())
}

/// The end of a line without control characters, after an ellipsis where something is left out.
pub fn line_end(text: &str, most: usize) -> String {
    let characters: Vec<char> = text.chars().filter(|c| !c.is_control()).collect();
    if characters.len() <= most {
        return characters.into_iter().collect();
    }
    let from = characters.len() - most.saturating_sub(1).min(characters.len());
    std::iter::once('…').chain(characters.into_iter().skip(from)).collect()
}

/// What is known of a job, a line each, before its output.
pub fn head(job: &Job, color: bool) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: &str| {
        let _ = writeln!(text, "{name:<10}{value}");
    };
    line("ID", &job.id.to_string());
    line("Agent", &job.agent);
    line("Status", &colored(job.status, &status(job), color));
    if let Some(error) = &job.error {
        // Before its end a job shows what its last try failed with.
        let name = if job.status.is_terminal() { "Error" } else { "Failed" };
        line(name, &first_line(error, 400));
    }
    line("Task", &first_line(&job.task, 400));
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
        line("Key", &first_line(key, 400));
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
    fn columns_are_as_wide_as_their_widest() {
        let rows = [["A", "B"], ["long one", "x"]].map(|row| row.map(str::to_owned).to_vec());
        assert_eq!(table(&rows), "A         B\nlong one  x\n");
    }

    #[test]
    fn a_task_is_cut_to_its_first_line() {
        assert_eq!(first_line("short", 10), "short");
        assert_eq!(first_line("two\nlines", 10), "two…");
        assert_eq!(first_line("a very long line", 8), "a very…");
        assert_eq!(first_line("bell\u{7}\u{1b}[31m", 20), "bell[31m");
    }

    #[test]
    fn the_end_of_a_line_is_what_came_last() {
        assert_eq!(line_end("short\u{7}", 10), "short");
        assert_eq!(line_end("a very long line", 8), "…ng line");
        assert_eq!(line_end("äöü", 2), "…ü");
        assert_eq!(line_end("abc", 0), "…");
    }
}
