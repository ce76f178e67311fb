//! Jobs as text.

mod escape;
mod head;
pub mod table;
mod transcript;

use std::fmt::Display;
use std::time::Duration;

pub use escape::visible;
pub use escape::visible_line;
pub use head::head;
use jiff::Timestamp;
use legwork_common::duration;
use legwork_common::job::Job;
use legwork_common::lifecycle::State;
use owo_colors::OwoColorize as _;
pub use transcript::paragraph;
use unicode_width::UnicodeWidthStr as _;

use crate::render::table::Column;

/// Characters of a UUID in lists: the first group, enough to tell jobs apart, and accepted by every command.
const SHORT_ID: usize = 8;
/// The most characters of a task in a list without a terminal: a paragraph; a terminal's width cuts before.
const TASK_CHARS: usize = 400;

/// The most characters of the reason of a failure in one line: a provider's answer is longer.
const REASON_CHARS: usize = 400;

/// What the last column of a list says of each job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum About {
    /// Its task.
    Task,
    /// Why it failed.
    Error,
}

/// The columns of a list. `wide` has what fits no narrow terminal.
pub fn columns(wide: bool, about: About) -> Vec<Column> {
    let mut columns =
        vec![Column::whole("ID"), Column::cut("STATUS"), Column::cut("AGENT"), Column::whole("AGE")];
    if wide {
        columns.push(Column::whole("WAITED"));
    }
    columns.push(Column::whole("RUNTIME"));
    if wide {
        columns.extend([Column::cut("WORKER"), Column::cut_extra("MODEL"), Column::extra("COST")]);
    }
    columns.push(Column::cut(if about == About::Error { "ERROR" } else { "TASK" }));
    columns
}

/// One job of a list, a cell for each of the [`columns`]. `now` is the reader's time.
pub fn row(job: &Job, stale_for: Option<Duration>, now: Timestamp, wide: bool, about: About) -> Vec<String> {
    let mut row = vec![
        short_id(job),
        status_with_staleness(job, stale_for),
        job.agent.clone(),
        duration::age(since(job.created_at, now)),
    ];
    if wide {
        row.push(waited(job, now));
    }
    // A job that never ran has no running time; `0s` would look like one that just began.
    row.push(if job.attempt == 0 { "-".to_owned() } else { duration::short(job.runtime()) });
    if wide {
        row.push(job.worker.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string));
        row.push(job.model.clone().unwrap_or_else(|| "-".to_owned()));
        row.push(job.cost.map_or_else(|| "-".to_owned(), |cost| cost.to_string()));
    }
    let text = if about == About::Error { job.error.as_deref().unwrap_or_default() } else { &job.task };
    row.push(first_line(text, TASK_CHARS));
    row
}

/// How long the job waited for its first attempt, or has waited so far.
fn waited(job: &Job, now: Timestamp) -> String {
    let until = job.started_at.or(job.finished_at).unwrap_or(now);
    duration::age(since(job.created_at, until))
}

/// The time between two moments; zero where the second is before the first, because the clock of this machine and that
/// of Redis differ.
pub fn since(then: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(now.duration_since(then)).unwrap_or_default()
}

/// A paragraph broken between words where a line would be longer than `width`; `None` leaves it one line.
pub fn wrapped(text: &str, width: Option<usize>) -> String {
    let Some(width) = width else { return text.to_owned() };
    let (mut wrapped, mut used) = (String::new(), 0);
    for word in text.split_whitespace() {
        let cells = word.width();
        if used > 0 && used + 1 + cells > width {
            wrapped.push('\n');
            used = 0;
        } else if used > 0 {
            wrapped.push(' ');
            used += 1;
        }
        wrapped.push_str(word);
        used += cells;
    }
    wrapped
}

/// The arguments of a tool call as JSON; a text that is not JSON, which a model may write, as a string.
pub fn arguments(text: &str) -> serde_json::Value {
    serde_json::from_str(text).unwrap_or_else(|_| serde_json::Value::String(text.to_owned()))
}

/// The first eight characters of a job's UUID.
pub fn short_id(job: &Job) -> String {
    short(job.id.uuid())
}

/// The first characters of an id, which commands take for it.
pub fn short(id: impl Display) -> String {
    id.to_string().chars().take(SHORT_ID).collect()
}

/// The status, with the cause of a failure or a stop.
pub fn status(job: &Job) -> String {
    match job.cause {
        Some(cause) => format!("{} ({cause})", job.status),
        None => job.status.to_string(),
    }
}

/// Why a job failed, in one line.
pub fn reason(job: &Job) -> Option<String> {
    let error = job.error.as_deref().filter(|_| job.status == State::Failed)?;
    Some(first_line(error, REASON_CHARS)).filter(|reason| !reason.is_empty())
}

/// How a job ended, with the reason of a failure: `agent_task_… failed (rejected): agent `root` lacks OPENAI_API_KEY`.
pub fn ending(job: &Job) -> String {
    let reason = reason(job).map(|reason| format!(": {reason}")).unwrap_or_default();
    format!("{} {}{reason}", job.id, status(job))
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

#[cfg(test)]
mod testing {
    use legwork_common::id::SessionId;

    use super::*;

    /// A queued job of a fixed id, dispatched at second 0.
    pub(super) fn job() -> Job {
        let session: SessionId = "00000000-0000-4000-8000-00000000abcd".parse().unwrap();
        let id = "agent_task_11111111-1111-4111-8111-11111111abcd".parse().unwrap();
        Job {
            agent: "code_analyst".to_owned(),
            task: "count the files".to_owned(),
            model: Some("openai/gpt-4o".to_owned()),
            ..Job::queued(id, session)
        }
    }

    /// Ten minutes later.
    pub(super) fn now() -> Timestamp {
        Timestamp::from_second(600).unwrap()
    }
}

#[cfg(test)]
mod tests {
    use legwork_common::id::WorkerId;
    use legwork_common::job::Cause;

    use super::*;

    fn jobs() -> Vec<Job> {
        let second = |second| Some(Timestamp::from_second(second).unwrap());
        let worker = |name: &str| Some(WorkerId::from_stored(name.to_owned()));
        let long = "read every file below src, and write down what each is for, in one sentence each";
        vec![
            testing::job(),
            Job {
                status: State::Running,
                attempt: 2,
                started_at: second(45),
                runtime_ms: 312_000,
                worker: worker("build-host-17.example.org-3f2a9c1b"),
                task: long.to_owned(),
                ..testing::job()
            },
            Job {
                status: State::Failed,
                cause: Some(Cause::ProviderError),
                attempt: 1,
                started_at: second(1),
                finished_at: second(3),
                runtime_ms: 2_000,
                agent: "an_agent_with_a_rather_long_name".to_owned(),
                model: None,
                task: format!("{long}\nand then more"),
                ..testing::job()
            },
        ]
    }

    /// The list at a width, and its longest line.
    fn listed(width: usize, wide: bool) -> String {
        let rows: Vec<_> =
            jobs().iter().map(|job| row(job, None, testing::now(), wide, About::Task)).collect();
        table::text(&columns(wide, About::Task), &rows, Some(width))
    }

    #[test]
    fn a_list_fits_the_terminal() {
        for (width, wide) in [(80, false), (80, true), (120, false), (120, true), (200, true)] {
            let text = listed(width, wide);
            assert!(text.lines().all(|line| line.chars().count() <= width), "{width}:\n{text}");
            insta::assert_snapshot!(format!("list_{width}{}", if wide { "_wide" } else { "" }), text);
        }
    }

    #[test]
    fn a_paragraph_is_broken_between_words() {
        assert_eq!(wrapped("one two three", Some(8)), "one two\nthree");
        assert_eq!(wrapped("one two three", Some(7)), "one two\nthree");
        assert_eq!(wrapped("a_long_word b", Some(4)), "a_long_word\nb");
        assert_eq!(wrapped("one two", None), "one two");
    }

    #[test]
    fn arguments_are_json_where_they_can_be() {
        assert_eq!(arguments(r#"{"path":"a"}"#), serde_json::json!({"path": "a"}));
        assert_eq!(arguments("{broken"), serde_json::json!("{broken"));
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

    #[test]
    fn the_ending_of_a_failed_job_has_its_reason() {
        let error = Some("agent `root` lacks OPENAI_API_KEY\nsecond line".to_owned());
        let failed = Job {
            status: State::Failed,
            cause: Some(Cause::Rejected),
            error: error.clone(),
            ..testing::job()
        };
        let id = failed.id;
        assert_eq!(ending(&failed), format!("{id} failed (rejected): agent `root` lacks OPENAI_API_KEY…"));
        assert_eq!(ending(&Job { error: None, ..failed.clone() }), format!("{id} failed (rejected)"));
        // The error of an attempt that was retried is not why the job ended.
        assert_eq!(
            ending(&Job { status: State::Completed, cause: None, ..failed }),
            format!("{id} completed")
        );
    }
}
