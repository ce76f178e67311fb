//! The fields of a stored record as a `Job`.

use std::collections::HashMap;

use jiff::Timestamp;
use legwork_common::id::JobId;
use legwork_common::id::WorkerId;
use legwork_common::job::Cause;
use legwork_common::job::Job;
use legwork_common::job::JobSpec;
use legwork_common::job::Usage;
use legwork_common::lifecycle::State;
use redis::Pipeline;

use crate::answer::Answer;
use crate::answer::Items;
use crate::error::QueueError;
use crate::queue::Queue;

/// What these reads are called in messages.
pub(super) const ASKED: &str = "read jobs";

/// The fields of a record that are read.
const FIELDS: [&str; 28] = [
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
/// The place of the first ancestor in [`FIELDS`].
const FIRST_ANCESTOR: usize = 18;
/// How many commands [`push_reads`] adds for a job.
const READS: usize = 4;

/// A job as it was read, with what only this crate needs.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) job: Job,
    /// The lane that it is claimed from.
    pub(super) lane: String,
    /// Whether it was ever on its lane's stream.
    pub(super) admitted: bool,
    /// The jobs above it, the nearest first.
    pub(super) ancestors: Vec<JobId>,
}

/// Adds the reads of one job: record, spec, result, and the length of its output.
pub(super) fn push_reads(pipeline: &mut Pipeline, queue: &Queue, id: JobId) {
    pipeline.cmd("HMGET").arg(queue.keys().job(id)).arg(&FIELDS);
    pipeline.cmd("GET").arg(queue.keys().spec(id));
    pipeline.cmd("GET").arg(queue.keys().result(id));
    pipeline.cmd("STRLEN").arg(queue.keys().output(id));
}

/// The values of one record by field name. Missing fields are absent.
struct Fields(HashMap<&'static str, String>);

impl Fields {
    fn text(&self, field: &str) -> &str {
        self.0.get(field).map(String::as_str).unwrap_or_default()
    }

    fn number(&self, field: &str) -> u64 {
        self.text(field).parse().unwrap_or(0)
    }

    fn parsed<T: std::str::FromStr>(&self, field: &str) -> Result<T, QueueError> {
        self.text(field).parse().map_err(|_| QueueError::Unexpected {
            step: ASKED,
            detail: format!("`{}` as {field}", self.text(field)),
        })
    }

    fn optional<T: std::str::FromStr>(&self, field: &str) -> Result<Option<T>, QueueError> {
        if self.text(field).is_empty() { Ok(None) } else { self.parsed(field).map(Some) }
    }

    fn time(&self, field: &str) -> Option<Timestamp> {
        let ms: i64 = self.text(field).parse().ok()?;
        Timestamp::from_millisecond(ms).ok()
    }
}

/// Reads the answers to [`push_reads`] of one job; `None` for a job that does not exist. `now_ms` is Redis' clock.
pub(super) fn read(id: JobId, answers: &mut Items, now_ms: u64) -> Result<Option<Record>, QueueError> {
    let [record, spec, result, output_length]: [Answer; READS] =
        [answers.item()?, answers.item()?, answers.item()?, answers.item()?];
    let mut fields = HashMap::new();
    for (name, value) in FIELDS.iter().zip(record.items()?) {
        if let Some(text) = value.optional_text()? {
            fields.insert(*name, text);
        }
    }
    let fields = Fields(fields);
    // The job may be forgotten between two of these reads.
    let Some(spec) = spec.optional_json()?.filter(|_| !fields.text("state").is_empty()) else {
        return Ok(None);
    };
    let result = result.optional_text()?;
    let stored_output: u64 = output_length.parse()?;
    let ancestors = FIELDS[FIRST_ANCESTOR..]
        .iter()
        .map_while(|field| fields.optional(field).transpose())
        .collect::<Result<Vec<JobId>, _>>()?;
    let job = job_of(id, &fields, spec, result, Moment { now_ms, stored_output, depth: ancestors.len() })?;
    Ok(Some(Record {
        admitted: !fields.text("entry").is_empty(),
        lane: fields.text("lane").to_owned(),
        job,
        ancestors,
    }))
}

/// What a job needs that is not in its record.
struct Moment {
    now_ms: u64,
    stored_output: u64,
    depth: usize,
}

fn job_of(
    id: JobId,
    fields: &Fields,
    spec: JobSpec,
    result: Option<String>,
    moment: Moment,
) -> Result<Job, QueueError> {
    let status: State = fields.parsed("state")?;
    let started = fields.number("started");
    let until = if status.is_terminal() { fields.number("finished") } else { moment.now_ms };
    // The result key of a job that has not ended holds the error of its last attempt.
    let failed = status == State::Failed || !status.is_terminal();
    Ok(Job {
        id,
        session: fields.parsed("session")?,
        parent: fields.optional("parent")?,
        depth: u8::try_from(moment.depth).unwrap_or(u8::MAX),
        queue: fields.text("queue").to_owned(),
        agent: spec.agent,
        task: spec.task,
        status,
        cause: fields.optional::<Cause>("cause")?,
        error: result.clone().filter(|_| failed),
        attempt: u32::try_from(fields.number("attempt")).unwrap_or(u32::MAX),
        worker: fields.optional::<String>("worker")?.map(WorkerId::from_stored),
        key: spec.key,
        retry_of: spec.retry_of,
        created_at: fields.time("created").unwrap_or(Timestamp::UNIX_EPOCH),
        started_at: fields.time("started"),
        finished_at: fields.time("finished").filter(|_| status.is_terminal()),
        runtime_ms: if started == 0 { 0 } else { until.saturating_sub(started) },
        output_bytes: if status.is_terminal() { fields.number("output_bytes") } else { moment.stored_output },
        result: result.filter(|_| status == State::Completed),
        usage: Usage {
            input_tokens: fields.number("input_tokens"),
            cached_tokens: fields.number("cached_tokens"),
            output_tokens: fields.number("output_tokens"),
            turns: fields.number("turns"),
        },
    })
}
