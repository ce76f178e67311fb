//! The fields of a stored record as a `Job`.

use std::collections::HashMap;
use std::str::FromStr;

use jiff::Timestamp;
use legwork_common::id::Dispatcher;
use legwork_common::id::JobId;
use legwork_common::id::SessionId;
use legwork_common::id::WorkerId;
use legwork_common::job::AttemptEnd;
use legwork_common::job::Cause;
use legwork_common::job::Job;
use legwork_common::job::JobSpec;
use legwork_common::job::PastAttempt;
use legwork_common::job::Priority;
use legwork_common::job::Usage;
use legwork_common::lifecycle::State;
use legwork_common::stored;
use redis::Pipeline;
use serde::Deserialize;

use crate::answer::Answer;
use crate::answer::Items;
use crate::error::QueueError;
use crate::queue::Queue;

/// What these reads are called in messages.
pub(super) const ASKED: &str = "read jobs";

/// The fields of a record that are read.
const FIELDS: [&str; 38] = [
    "v",
    "state",
    "session",
    "parent",
    "queue",
    "agent",
    "attempt",
    "worker",
    "created",
    "started",
    "finished",
    "cause",
    "output_bytes",
    "input_tokens",
    "cached_tokens",
    "output_tokens",
    "turns",
    "lane",
    "entry",
    "priority",
    "timeout",
    "retries",
    "failures",
    "lacks",
    "claimed",
    "ran",
    "past",
    "live",
    "a1",
    "a2",
    "a3",
    "a4",
    "a5",
    "a6",
    "a7",
    "a8",
    "a9",
    "a10",
];
/// The fields of the jobs above a job, the nearest first.
const ANCESTORS: [&str; 10] = ["a1", "a2", "a3", "a4", "a5", "a6", "a7", "a8", "a9", "a10"];
/// The places in [`FIELDS`] of what a [`Place`] needs.
const PLACE_FIELDS: [&str; 14] = [
    "state",
    "session",
    "created",
    "dispatched",
    "a1",
    "a2",
    "a3",
    "a4",
    "a5",
    "a6",
    "a7",
    "a8",
    "a9",
    "a10",
];

/// Whether results are read with the records. A result may have megabytes, and lists show none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Results {
    Read,
    Skip,
}

/// Where a job stands: what a wait and the selection of a list need, without spec and result.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) id: JobId,
    pub(super) state: State,
    /// `None` where it cannot be read.
    pub(super) session: Option<SessionId>,
    /// By Redis' clock, in milliseconds.
    pub(super) created: u64,
    /// Whether it has dispatched jobs.
    pub(super) has_dispatched: bool,
    /// The jobs above it, the nearest first.
    ancestors: Vec<JobId>,
}

impl Place {
    /// The jobs above it, the nearest first.
    pub(super) fn ancestors(&self) -> &[JobId] {
        &self.ancestors
    }

    /// Whether the job is below a dispatcher of a session.
    pub(super) fn is_below(&self, session: SessionId, of: Dispatcher) -> bool {
        self.session == Some(session)
            && match of {
                Dispatcher::Root(_) => true,
                Dispatcher::Job(above) => self.ancestors.contains(&above),
            }
    }
}

/// Adds the read of one job's place.
pub(super) fn push_place(pipeline: &mut Pipeline, queue: &Queue, id: JobId) {
    pipeline.cmd("HMGET").arg(queue.keys().job(id)).arg(&PLACE_FIELDS);
}

/// Reads the answer to [`push_place`]; `None` for a job that does not exist.
pub(super) fn read_place(id: JobId, answer: Answer) -> Result<Option<Place>, QueueError> {
    let fields = Fields::of(&PLACE_FIELDS, answer)?;
    if fields.text("state").is_empty() {
        return Ok(None);
    }
    Ok(Some(Place {
        id,
        state: fields.state(),
        session: fields.text("session").parse().ok(),
        created: fields.number("created"),
        has_dispatched: fields.number("dispatched") > 0,
        ancestors: fields.ancestors(),
    }))
}

/// A job as it was read, with what only this crate needs.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) job: Job,
    /// The lane that it is claimed from.
    pub(super) lane: String,
    /// Whether it was ever on its lane's stream.
    pub(super) admitted: bool,
    /// How often its attempts failed and were retried.
    pub(super) failures: u64,
    /// How often a worker gave it back because it lacks what the job needs.
    pub(super) lacks: u64,
    /// Jobs that it dispatched and that have not ended.
    pub(super) live: u64,
}

/// Adds the reads of one job: record, spec, length of its output, and its result where that is wanted.
pub(super) fn push_reads(pipeline: &mut Pipeline, queue: &Queue, id: JobId, results: Results) {
    pipeline.cmd("HMGET").arg(queue.keys().job(id)).arg(&FIELDS);
    pipeline.cmd("GET").arg(queue.keys().spec(id));
    pipeline.cmd("STRLEN").arg(queue.keys().output(id));
    if results == Results::Read {
        pipeline.cmd("GET").arg(queue.keys().result(id));
    }
}

/// The values of one record by field name. Missing fields are absent.
struct Fields(HashMap<&'static str, String>);

impl Fields {
    fn of(names: &[&'static str], answer: Answer) -> Result<Self, QueueError> {
        let mut fields = HashMap::new();
        for (name, value) in names.iter().zip(answer.items()?) {
            if let Some(text) = value.optional_text()? {
                fields.insert(*name, text);
            }
        }
        Ok(Self(fields))
    }

    fn text(&self, field: &str) -> &str {
        self.0.get(field).map(String::as_str).unwrap_or_default()
    }

    fn number(&self, field: &str) -> u64 {
        self.text(field).parse().unwrap_or(0)
    }

    /// A value of `T`; `None` for a missing one, and for one that cannot be read, which is added to `unreadable`.
    fn optional<T: FromStr>(&self, field: &str, unreadable: &mut Vec<String>) -> Option<T> {
        let text = self.text(field);
        if text.is_empty() {
            return None;
        }
        let value = text.parse().ok();
        if value.is_none() {
            unreadable.push(format!("its {field} is `{text}`"));
        }
        value
    }

    /// The state. One that this release does not know counts as `running` until the job has an end.
    fn state(&self) -> State {
        let unknown = || if self.text("finished").is_empty() { State::Running } else { State::Failed };
        self.text("state").parse().unwrap_or_else(|_| unknown())
    }

    fn ancestors(&self) -> Vec<JobId> {
        ANCESTORS.iter().map_while(|field| self.text(field).parse().ok()).collect()
    }

    fn time(&self, field: &str) -> Option<Timestamp> {
        let ms: i64 = self.text(field).parse().ok()?;
        Timestamp::from_millisecond(ms).ok()
    }
}

/// Reads the answers to [`push_reads`] of one job; `None` for a job that does not exist. `now_ms` is Redis' clock.
///
/// A record that a later release wrote, or that is damaged, is a job whose error says what cannot be read: it must not
/// hide the others of its batch.
pub(super) fn read(
    id: JobId,
    answers: &mut Items,
    now_ms: u64,
    results: Results,
) -> Result<Option<Record>, QueueError> {
    let (record, spec, output_length) = (answers.item()?, answers.item()?, answers.item()?);
    let result = if results == Results::Read { answers.item()?.optional_text()? } else { None };
    let fields = Fields::of(&FIELDS, record)?;
    let spec = spec.optional_text()?;
    // The job may be forgotten between two of these reads.
    let Some(spec) = spec.filter(|_| !fields.text("state").is_empty()) else { return Ok(None) };
    let stored_output: u64 = output_length.parse()?;
    let depth = fields.ancestors().len();
    let job = job_of(id, &fields, &spec, result, Moment { now_ms, stored_output, depth });
    Ok(Some(Record {
        admitted: !fields.text("entry").is_empty(),
        lane: fields.text("lane").to_owned(),
        failures: fields.number("failures"),
        lacks: fields.number("lacks"),
        live: fields.number("live"),
        job,
    }))
}

/// What a job needs that is not in its record.
struct Moment {
    now_ms: u64,
    stored_output: u64,
    depth: usize,
}

fn job_of(id: JobId, fields: &Fields, spec: &str, result: Option<String>, moment: Moment) -> Job {
    let mut unreadable = Vec::new();
    unreadable.extend(stored::RECORD.check(fields.text("v")).err().map(|error| error.to_string()));
    if fields.text("state").parse::<State>().is_err() {
        unreadable.push(format!("its state is `{}`", fields.text("state")));
    }
    let spec: Option<JobSpec> =
        stored::REQUEST.from_json(spec).map_err(|error| unreadable.push(error.to_string())).ok();
    let status = fields.state();
    // The result key of a job that has not ended holds the error of its last attempt.
    let failed = status == State::Failed || !status.is_terminal();
    let session =
        fields.optional("session", &mut unreadable).unwrap_or_else(|| SessionId::random_in_shard_of(id));
    let mut job = Job {
        parent: fields.optional("parent", &mut unreadable),
        depth: u8::try_from(moment.depth).unwrap_or(u8::MAX),
        queue: fields.text("queue").to_owned(),
        agent: fields.text("agent").to_owned(),
        status,
        cause: Some(fields.text("cause")).filter(|cause| !cause.is_empty()).map(Cause::from_stored),
        error: result.clone().filter(|_| failed),
        attempt: counter(fields.number("attempt")),
        worker: Some(fields.text("worker")).filter(|name| !name.is_empty()).map(WorkerId::from_stored),
        priority: u8::try_from(fields.number("priority"))
            .ok()
            .and_then(Priority::at_level)
            .unwrap_or_default(),
        timeout_ms: Some(fields.number("timeout")).filter(|timeout| *timeout > 0),
        retries: counter(fields.number("retries").saturating_add(fields.number("failures"))),
        retries_left: counter(fields.number("retries")),
        past_attempts: past_attempts(fields.text("past")),
        created_at: fields.time("created").unwrap_or(Timestamp::UNIX_EPOCH),
        started_at: fields.time("started"),
        attempt_started_at: fields.time("claimed"),
        finished_at: fields.time("finished").filter(|_| status.is_terminal()),
        runtime_ms: running_time(fields, status, moment.now_ms),
        output_bytes: if status.is_terminal() { fields.number("output_bytes") } else { moment.stored_output },
        result: result.filter(|_| status == State::Completed),
        usage: Usage {
            input_tokens: fields.number("input_tokens"),
            cached_tokens: fields.number("cached_tokens"),
            output_tokens: fields.number("output_tokens"),
            turns: fields.number("turns"),
        },
        ..Job::queued(id, session)
    };
    if let Some(spec) = spec {
        (job.agent, job.task, job.key, job.retry_of) = (spec.agent, spec.task, spec.key, spec.retry_of);
        job.team = Some(spec.team);
    }
    if !unreadable.is_empty() {
        let reason = format!("this release cannot read all of the job: {}", unreadable.join("; "));
        job.task = format!("[{reason}] {}", job.task);
        job.error.get_or_insert(reason);
    }
    job
}

fn counter(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// The time that a job ran in all its attempts: that of the earlier ones, and that of the current or last one, whose
/// claim is in the record until an attempt ends that does not end the job.
fn running_time(fields: &Fields, status: State, now_ms: u64) -> u64 {
    let claimed = fields.number("claimed");
    let until = if status.is_terminal() { fields.number("finished") } else { now_ms };
    let current = if claimed == 0 { 0 } else { until.saturating_sub(claimed) };
    fields.number("ran").saturating_add(current)
}

/// An attempt as `attempts.lua` writes it: numbers of milliseconds are texts.
#[derive(Debug, Deserialize)]
struct StoredAttempt {
    attempt: u32,
    worker: String,
    started: String,
    ran: String,
    end: AttemptEnd,
    detail: String,
}

/// Reads the attempts of a record. One that this release cannot read is left out: the others still tell the story.
fn past_attempts(lines: &str) -> Vec<PastAttempt> {
    let read = |line| -> Option<PastAttempt> {
        let stored: StoredAttempt = serde_json::from_str(line).ok()?;
        let started = stored.started.parse().ok().and_then(|ms| Timestamp::from_millisecond(ms).ok());
        Some(PastAttempt {
            attempt: stored.attempt,
            worker: Some(stored.worker).filter(|name| !name.is_empty()).map(WorkerId::from_stored),
            started_at: started,
            runtime_ms: stored.ran.parse().unwrap_or(0),
            end: stored.end,
            detail: Some(stored.detail).filter(|detail| !detail.is_empty()),
        })
    };
    lines.lines().filter_map(read).collect()
}
