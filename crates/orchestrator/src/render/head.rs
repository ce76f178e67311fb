//! The fields of one job, one a line, as `view` prints them before the output.

use std::fmt::Write as _;
use std::time::Duration;

use jiff::Timestamp;
use legwork_common::duration;
use legwork_common::job::Job;
use legwork_common::job::PastAttempt;
use legwork_common::lifecycle::State;
use legwork_common::variables::WEBHOOK_SECRET;
use legwork_common::waits_for::WaitsFor;
use legwork_common::waits_for::counted;
use legwork_common::webhook::Notification;
use legwork_common::webhook::NotificationState;

use super::colored;
use super::first_line;
use super::since;
use super::status;
use super::table;
use super::table::Column;

/// Cells of a field's name, with the gap after it.
const NAME_WIDTH: usize = 10;
/// The most characters of an error or a key: a paragraph; the body and `--json` have all of it.
const FIELD_CHARS: usize = 400;

/// The fields, with a final line break. `now` is the reader's time; `width` the terminal's, for the table of attempts.
pub fn head(job: &Job, now: Timestamp, color: bool, width: Option<usize>) -> String {
    let mut fields = Fields::default();
    identity(&mut fields, job, color);
    limits(&mut fields, job);
    times(&mut fields, job, now);
    if let Some(of_end) = &job.notification {
        notification(&mut fields, of_end, now);
    }
    let mut text = fields.0;
    if !job.past_attempts.is_empty() {
        text.push('\n');
        text.push_str(&table::text(&ATTEMPT_COLUMNS, &attempts(job), width));
    }
    text
}

/// Lines of a name and a value.
#[derive(Debug, Default)]
struct Fields(String);

impl Fields {
    /// Adds a line; further lines of the value stand below its first.
    fn add(&mut self, name: &str, value: &str) {
        for (at, line) in value.trim_end().lines().enumerate() {
            let name = if at == 0 { name } else { "" };
            let line = format!("{name:<NAME_WIDTH$}{line}");
            let _ = writeln!(self.0, "{}", line.trim_end());
        }
    }
}

/// What the job is, how it stands, and why.
fn identity(fields: &mut Fields, job: &Job, color: bool) {
    fields.add("ID", &job.id.to_string());
    fields.add("Agent", &job.agent);
    if let Some(model) = &job.model {
        fields.add("Model", model);
    }
    fields.add("Status", &colored(job.status, &status(job), color));
    if let Some(reason) = &job.waits_for {
        fields.add("Waits for", &reason.phrase());
        if let WaitsFor::Answer { questions } = reason {
            let id: String = job.id.uuid().to_string().chars().take(8).collect();
            for asked in questions {
                let call =
                    if questions.len() > 1 { format!("{id} --call {}", asked.number) } else { id.clone() };
                fields.add("Answer", &format!("`{}`", asked.question.command(&call)));
            }
        }
    }
    if let Some(crashes) = job.quarantine.filter(|_| job.status == State::Running) {
        let lost = counted(u64::from(crashes), "lost worker");
        fields.add(
            "Alone",
            &format!("in quarantine after {lost}: its worker runs nothing else until a turn is over"),
        );
    }
    if let Some(silent) = job.silent_ms {
        let silent = duration::short(Duration::from_millis(silent));
        let queue = &job.queue;
        fields.add(
            "Stale",
            &format!("lease expired, no heartbeat for {silent}; resumes once a worker serves queue {queue}"),
        );
    }
    if let Some(error) = &job.error {
        // A live job shows the error of its last failed attempt.
        let name = if job.status.is_terminal() { "Error" } else { "Failed" };
        fields.add(name, &first_line(error, FIELD_CHARS));
    }
    fields.add("Task", &job.task);
    fields.add("Session", &job.session.to_string());
    if let Some(parent) = job.parent {
        fields.add("Parent", &parent.to_string());
    }
    if let Some(of) = job.retry_of {
        fields.add("Retry of", &of.to_string());
    }
    if let Some(key) = &job.key {
        fields.add("Key", &first_line(key, FIELD_CHARS));
    }
}

/// How the report of its end stands.
fn notification(fields: &mut Fields, notification: &Notification, now: Timestamp) {
    let Notification { url, state, attempts, next_attempt_at, detail } = notification;
    let detail = detail.as_deref().map(|detail| format!("; {}", first_line(detail, FIELD_CHARS)));
    let detail = detail.unwrap_or_default();
    let after = counted(u64::from(*attempts), "attempt");
    let stands = match (state, attempts, next_attempt_at) {
        (NotificationState::Waiting, ..) => "after its end".to_owned(),
        (NotificationState::Delivered, ..) => format!("delivered, {after}"),
        (NotificationState::Failed, ..) => format!("not delivered, {after}{detail}"),
        (NotificationState::Dropped, ..) => format!("dropped, {after}{detail}"),
        (NotificationState::Pending, 0, _) => {
            format!("not sent yet; it takes a worker or a server with {WEBHOOK_SECRET}")
        }
        (NotificationState::Pending, _, Some(next)) if *next > now => {
            format!("{after}, the next in {}{detail}", duration::age(since(now, *next)))
        }
        (NotificationState::Pending, ..) => format!("{after}, the next is due{detail}"),
    };
    fields.add("Notifies", &format!("{url} ({stands})"));
}

/// Where it runs, and within which limits.
fn limits(fields: &mut Fields, job: &Job) {
    fields.add("Queue", &format!("{}, priority {}", job.queue, job.priority.as_str()));
    fields.add("Attempt", &job.attempt.to_string());
    if job.retries > 0 {
        fields.add("Retries", &format!("{} of {} left", job.retries_left, job.retries));
    }
    if let Some(timeout) = job.timeout_ms {
        fields.add("Timeout", &duration::setting(Duration::from_millis(timeout)));
    }
    if let Some(worker) = &job.worker {
        fields.add("Worker", worker.as_str());
    }
}

/// When it was what, and what it used.
fn times(fields: &mut Fields, job: &Job, now: Timestamp) {
    let ago = |time: Timestamp| format!("{time:.0} ({} ago)", duration::age(since(time, now)));
    fields.add("Created", &ago(job.created_at));
    if let Some(started) = job.started_at {
        fields.add("Started", &ago(started));
    }
    if let Some(finished) = job.finished_at {
        fields.add("Finished", &ago(finished));
    }
    if let (State::Scheduled, Some(WaitsFor::Schedule { at: Some(at), .. })) = (job.status, &job.waits_for) {
        fields.add("Next try", &format!("{at:.0} (in {})", duration::age(since(now, *at))));
    }
    // A job that never ran has no running time; `0s` would look like one that just began.
    if job.attempt > 0 {
        fields.add("Runtime", &duration::short(job.runtime()));
    }
    let usage = job.usage;
    let cached =
        if usage.cached_tokens > 0 { format!(" ({} cached)", usage.cached_tokens) } else { String::new() };
    fields.add(
        "Usage",
        &format!(
            "{}, {} tokens in{cached}, {} out",
            counted(usage.turns, "turn"),
            usage.input_tokens,
            usage.output_tokens
        ),
    );
    if let Some(cost) = job.cost {
        fields.add("Cost", &cost.to_string());
    }
}

const ATTEMPT_COLUMNS: [Column; 5] = [
    Column::whole("ATTEMPT"),
    Column::cut("WORKER"),
    Column::whole("STARTED"),
    Column::whole("DURATION"),
    Column::cut("ENDED"),
];

/// One row for each attempt that ended before its job, and one for the current or last.
fn attempts(job: &Job) -> Vec<Vec<String>> {
    let mut rows: Vec<Vec<String>> = job.past_attempts.iter().map(past).collect();
    let last = job.past_attempts.last().map_or(0, |past| past.attempt);
    if job.attempt > last {
        rows.push(current(job));
    }
    rows
}

fn past(attempt: &PastAttempt) -> Vec<String> {
    let detail = attempt.detail.as_deref().map(|detail| format!(": {}", first_line(detail, FIELD_CHARS)));
    vec![
        attempt.attempt.to_string(),
        attempt.worker.as_ref().map(ToString::to_string).unwrap_or_default(),
        time(attempt.started_at),
        duration::short(Duration::from_millis(attempt.runtime_ms)),
        format!("{}{}", attempt.end.phrase(), detail.unwrap_or_default()),
    ]
}

fn current(job: &Job) -> Vec<String> {
    let before: u64 = job.past_attempts.iter().map(|past| past.runtime_ms).sum();
    vec![
        job.attempt.to_string(),
        job.worker.as_ref().map(ToString::to_string).unwrap_or_default(),
        time(job.attempt_started_at),
        duration::short(Duration::from_millis(job.runtime_ms.saturating_sub(before))),
        if job.status.is_terminal() { status(job) } else { String::new() },
    ]
}

fn time(time: Option<Timestamp>) -> String {
    time.map(|time| format!("{time:.0}")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use legwork_common::id::WorkerId;
    use legwork_common::job::AttemptEnd;
    use legwork_common::job::Cause;
    use legwork_common::job::Usage;
    use legwork_common::question::AskedQuestion;
    use legwork_common::question::Question;
    use legwork_common::waits_for::Postponed;

    use super::*;
    use crate::render::testing::job;
    use crate::render::testing::now;

    fn second(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn past(attempt: u32, end: AttemptEnd, detail: &str) -> PastAttempt {
        PastAttempt {
            attempt,
            worker: Some(WorkerId::from_stored(format!("host-{attempt}"))),
            started_at: Some(second(60 * i64::from(attempt))),
            runtime_ms: 12_000,
            end,
            detail: Some(detail.to_owned()).filter(|detail| !detail.is_empty()),
        }
    }

    #[test]
    fn a_job_between_two_attempts_shows_all_that_an_operator_asks() {
        let at = Some(second(720));
        let retried = Job {
            status: State::Scheduled,
            attempt: 2,
            task: "Count the files.\n\n  Then sum them up,\nand say which is the largest.".to_owned(),
            error: Some("openai answered 503: overloaded".to_owned()),
            waits_for: Some(WaitsFor::Schedule { at, why: Postponed::Retry, detail: Some("503".to_owned()) }),
            retries: 3,
            retries_left: 2,
            timeout_ms: Some(600_000),
            runtime_ms: 24_000,
            usage: Usage { input_tokens: 1200, cached_tokens: 800, output_tokens: 90, turns: 3 },
            past_attempts: vec![
                past(1, AttemptEnd::WorkerLost, ""),
                past(
                    2,
                    AttemptEnd::Failed,
                    "openai answered 503: overloaded, with a long explanation\nand on",
                ),
            ],
            ..job()
        };
        insta::assert_snapshot!("scheduled_80", head(&retried, now(), false, Some(80)));
        insta::assert_snapshot!("scheduled_120", head(&retried, now(), false, Some(120)));
    }

    #[test]
    fn the_last_attempt_of_an_ended_job_has_its_cause() {
        let failed = Job {
            status: State::Failed,
            cause: Some(Cause::ProviderError),
            error: Some("openai answered 401".to_owned()),
            attempt: 2,
            worker: Some(WorkerId::from_stored("host-2".to_owned())),
            attempt_started_at: Some(second(200)),
            finished_at: Some(second(203)),
            runtime_ms: 15_000,
            past_attempts: vec![past(1, AttemptEnd::Drained, "")],
            ..job()
        };
        insta::assert_snapshot!(head(&failed, now(), false, Some(100)));
    }

    #[test]
    fn a_job_in_quarantine_says_so_while_it_runs() {
        let alone = Job { quarantine: Some(2), status: State::Running, attempt: 3, ..job() };
        insta::assert_snapshot!("alone_80", head(&alone, now(), false, Some(80)));
        let queued = Job { status: State::Queued, ..alone };
        assert!(!head(&queued, now(), false, None).contains("Alone"));
    }

    #[test]
    fn a_job_that_waits_for_a_person_says_how_to_answer() {
        let question =
            Question::approval("shell", r#"{"cmd":"rm -r build"}"#, "the team's permissions ask for it");
        let asked_at = second(600);
        let asked = |number| AskedQuestion {
            number,
            question: question.clone(),
            asked_at,
            expires_at: Some(second(4200)),
            answer: None,
        };
        let waiting = |questions| Job {
            status: State::Waiting,
            attempt: 1,
            waits_for: Some(WaitsFor::Answer { questions }),
            ..job()
        };
        insta::assert_snapshot!("asks_once", head(&waiting(vec![asked(1)]), now(), false, Some(100)));
        insta::assert_snapshot!(
            "asks_twice",
            head(&waiting(vec![asked(1), asked(2)]), now(), false, Some(100))
        );
    }

    #[test]
    fn how_the_report_of_its_end_stands_is_one_line() {
        let text = |state, attempts, next, detail: &str| {
            let notification = Notification {
                url: "https://example.org/hooks".to_owned(),
                state,
                attempts,
                next_attempt_at: next,
                detail: Some(detail.to_owned()).filter(|detail| !detail.is_empty()),
            };
            let head = head(&Job { notification: Some(notification), ..job() }, now(), false, Some(80));
            head.lines().last().unwrap().to_owned()
        };
        let (soon, past) = (Some(second(900)), Some(second(100)));
        insta::assert_snapshot!(
            [
                text(NotificationState::Waiting, 0, None, ""),
                text(NotificationState::Pending, 0, past, ""),
                text(NotificationState::Pending, 2, soon, "answered 503"),
                text(NotificationState::Pending, 2, past, "answered 503"),
                text(NotificationState::Delivered, 1, None, "answered 204"),
                text(NotificationState::Failed, 8, None, "answered 500"),
                text(NotificationState::Dropped, 3, None, "too many notifications were not delivered"),
            ]
            .join("\n")
        );
    }

    #[test]
    fn a_job_without_a_past_has_no_table() {
        assert!(!head(&job(), now(), false, None).contains("ATTEMPT"));
    }
}
