//! The fields of a stored record as a `Job`.

use std::collections::HashMap;
use std::ops::Range;

use jiff::Timestamp;
use legwork_common::id::Dispatcher;
use legwork_common::id::JobId;
use legwork_common::id::SessionId;
use legwork_common::id::WorkerId;
use legwork_common::job::Cause;
use legwork_common::job::DEFAULT_RETRY_DELAY;
use legwork_common::job::Job;
use legwork_common::job::JobSpec;
use legwork_common::job::Priority;
use legwork_common::job::TeamDigest;
use legwork_common::lifecycle::State;
use legwork_common::stored::RECORD;
use redis::Pipeline;

use crate::answer::Answer;
use crate::answer::Items;
use crate::error::QueueError;
use crate::queue::Queue;
use crate::stored::facts;
use crate::stored::facts::Facts;
use crate::stored::notice;
use crate::stored::past;
use crate::stored::record::RunField;
use crate::stored::record::UsageField;
use crate::stored::request;

/// What these reads are called in messages.
pub(super) const ASKED: &str = "read jobs";

/// The fields of a record that are read.
const FIELDS: [&str; 19] = [
    "v",
    "state",
    "run",
    "usage",
    "worker",
    "finished",
    "cause",
    "output_bytes",
    "entry",
    "retries",
    "failures",
    "lacks",
    "ran",
    "past",
    "live",
    "quarantine",
    "notify",
    "notice",
    "seal",
];
/// The fields of a record that a [`Place`] needs.
const PLACE_FIELDS: [&str; 3] = ["state", "finished", "dispatched"];

/// Bytes of a job's string that an outline reads: its facts, its agent, and a task of at least 2,500 bytes.
const OUTLINE_BYTES: usize = 4096;

/// How much of each job is read with its record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Depth {
    /// The whole request, and the result.
    Whole,
    /// The beginning of the request only: tasks and results may have megabytes, of which lists and waits show little.
    Outline,
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
    push_facts(pipeline, queue, id);
}

/// Adds the read of one job's facts.
pub(super) fn push_facts(pipeline: &mut Pipeline, queue: &Queue, id: JobId) {
    pipeline.cmd("GETRANGE").arg(queue.keys().spec(id)).arg(0).arg(facts::MAX_BYTES);
}

/// Reads the answer to [`push_facts`], of any version: `None` for a job that does not exist, and for facts that are
/// damaged.
pub(super) fn read_facts(answer: Answer) -> Result<Option<Facts>, QueueError> {
    Ok(facts::known(&answer.text()?).ok())
}

/// Reads the answers to [`push_place`]; `None` for a job that does not exist.
pub(super) fn read_place(id: JobId, answers: &mut Items) -> Result<Option<Place>, QueueError> {
    let fields = Fields::of(&PLACE_FIELDS, answers.item()?)?;
    let facts = read_facts(answers.item()?)?;
    if fields.is_missing(facts.as_ref()) {
        return Ok(None);
    }
    Ok(Some(Place {
        id,
        state: fields.state(facts.as_ref()),
        session: facts.as_ref().map(|facts| facts.session),
        created: facts.as_ref().map_or(0, |facts| facts.created),
        has_dispatched: fields.number("dispatched") > 0,
        ancestors: facts.map(|facts| facts.ancestors).unwrap_or_default(),
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
    /// Bytes of its result where that is the end of its output; 0 for any other.
    pub(super) result_bytes: u64,
    /// What proves which worker ended it.
    pub(super) seal: Option<String>,
}

impl Record {
    /// Where its output holds its result; `None` for a result with a key of its own, and for a job without one.
    pub(super) fn result_in_output(&self) -> Option<Range<u64>> {
        let end = self.job.output_bytes;
        (self.result_bytes > 0).then(|| end.saturating_sub(self.result_bytes)..end)
    }
}

/// Adds the reads of one job: record, spec, length of its output, and its result where that is wanted.
pub(super) fn push_reads(pipeline: &mut Pipeline, queue: &Queue, id: JobId, depth: Depth) {
    pipeline.cmd("HMGET").arg(queue.keys().job(id)).arg(&FIELDS);
    match depth {
        Depth::Whole => pipeline.cmd("GET").arg(queue.keys().spec(id)),
        Depth::Outline => pipeline.cmd("GETRANGE").arg(queue.keys().spec(id)).arg(0).arg(OUTLINE_BYTES - 1),
    };
    pipeline.cmd("STRLEN").arg(queue.keys().output(id));
    if depth == Depth::Whole {
        pipeline.cmd("GET").arg(queue.keys().result(id));
        push_state(pipeline, queue, id);
    }
}

/// Adds a read of a job's state, after that of its result: see [`is_of`].
pub(super) fn push_state(pipeline: &mut Pipeline, queue: &Queue, id: JobId) {
    pipeline.cmd("HGET").arg(queue.keys().job(id)).arg("state");
}

/// Whether what was read of a job's result belongs to its record, which had an end or none. `later` is the answer to
/// [`push_state`]: where a live job ended in between, its result is not the error of an earlier attempt.
pub(super) fn is_of(has_ended: bool, later: Answer) -> Result<bool, QueueError> {
    let later: Option<State> = later.optional_text()?.and_then(|state| state.parse().ok());
    Ok(has_ended || !later.is_some_and(State::is_terminal))
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

    /// A number; `None` for a missing one, and for a text that is none.
    fn optional(&self, field: &str) -> Option<u32> {
        self.text(field).parse().ok()
    }

    /// The time that a job ran in all its attempts: that of the earlier ones, and that of the current or last one, whose
    /// claim is in the record until an attempt ends that does not end the job.
    fn running_time(&self, run: RunField, status: State, now_ms: u64) -> u64 {
        let until = if status.is_terminal() { self.number("finished") } else { now_ms };
        let current = if run.claimed == 0 { 0 } else { until.saturating_sub(run.claimed) };
        self.number("ran").saturating_add(current)
    }

    /// Whether the job is not stored: nothing has happened to it, and it was not dispatched.
    fn is_missing(&self, facts: Option<&Facts>) -> bool {
        self.text("state").is_empty() && facts.is_none()
    }

    /// The state: that of the facts until something happens to the job. One that this release does not know counts as
    /// `running` until the job has an end.
    fn state(&self, facts: Option<&Facts>) -> State {
        let unknown = || if self.text("finished").is_empty() { State::Running } else { State::Failed };
        match (self.text("state"), facts) {
            ("", Some(facts)) => facts.first_state,
            (state, _) => state.parse().unwrap_or_else(|_| unknown()),
        }
    }

    /// Output and usage of the attempts that ended. A job that was given back or reclaimed later has a newer length of
    /// its output, which only grows.
    fn usage(&self) -> UsageField {
        let field = UsageField::decode(self.text("usage"));
        UsageField { output_bytes: field.output_bytes.max(self.number("output_bytes")), ..field }
    }
}

/// Stands for facts that are damaged.
fn no_facts(id: JobId) -> Facts {
    Facts {
        session: SessionId::random_in_shard_of(id),
        parent: None,
        queue: String::new(),
        lane: String::new(),
        priority: 0,
        created: 0,
        sequence: 0,
        timeout: None,
        retries: 0,
        retry_delay: DEFAULT_RETRY_DELAY,
        has_session_budget: false,
        first_state: State::Queued,
        entry: None,
        key: None,
        team: TeamDigest(String::new()),
        ancestors: Vec::new(),
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
    depth: Depth,
) -> Result<Option<Record>, QueueError> {
    let (record, spec, output_length) = (answers.item()?, answers.item()?, answers.item()?);
    let fields = Fields::of(&FIELDS, record)?;
    let mut result = None;
    if depth == Depth::Whole {
        let text = answers.item()?.optional_text()?;
        let has_ended = !fields.text("finished").is_empty();
        let is_of = is_of(has_ended, answers.item()?)?;
        result = text.filter(|_| is_of);
    }
    // The job may be forgotten between two of these reads.
    let Some(stored) = spec.bytes()?.filter(|stored| !stored.is_empty()) else { return Ok(None) };
    let is_cut = depth == Depth::Outline && stored.len() >= OUTLINE_BYTES;
    let text = String::from_utf8_lossy(&stored);
    let stored_output: u64 = output_length.parse()?;
    let mut unreadable = Vec::new();
    let (facts, request) = match facts::split(&text) {
        Ok((facts, request)) => (facts, request),
        Err(error) => {
            unreadable.push(error.to_string());
            (facts::known(&text).unwrap_or_else(|_| no_facts(id)), "")
        }
    };
    Ok(Some(Record {
        admitted: facts.entry.is_some()
            || ["entry", "quarantine"].iter().any(|field| !fields.text(field).is_empty()),
        lane: facts.lane.clone(),
        failures: fields.number("failures"),
        lacks: fields.number("lacks"),
        seal: Some(fields.text("seal").to_owned()).filter(|seal| !seal.is_empty()),
        live: fields.number("live"),
        result_bytes: match fields.state(Some(&facts)) {
            State::Completed => fields.usage().result_bytes,
            _ => 0,
        },
        job: Source { fields, facts, request, is_cut, unreadable }.job(id, result, now_ms, stored_output),
    }))
}

/// What of a job is stored, and what of that cannot be read.
struct Source<'a> {
    fields: Fields,
    facts: Facts,
    request: &'a str,
    /// Whether only the beginning of the request was read.
    is_cut: bool,
    unreadable: Vec<String>,
}

impl Source<'_> {
    fn job(mut self, id: JobId, result: Option<String>, now_ms: u64, stored_output: u64) -> Job {
        self.check();
        let Self { fields, facts, request, is_cut, mut unreadable } = self;
        let beginning = Some(request).filter(|_| is_cut).and_then(request::beginning);
        let spec: Option<JobSpec> =
            Some(request).filter(|request| !request.is_empty() && beginning.is_none()).and_then(|request| {
                request::decode(request, &facts.team).map_err(|error| unreadable.push(error.to_string())).ok()
            });
        let status = fields.state(Some(&facts));
        let (run, usage) = (RunField::decode(fields.text("run")), fields.usage());
        // The result key of a job that has not ended holds the error of its last attempt.
        let failed = status == State::Failed || !status.is_terminal();
        let mut job = Job {
            parent: facts.parent,
            depth: u8::try_from(facts.ancestors.len()).unwrap_or(u8::MAX),
            queue: facts.queue,
            status,
            cause: Some(fields.text("cause")).filter(|cause| !cause.is_empty()).map(Cause::from_stored),
            error: result.clone().filter(|_| failed),
            attempt: run.attempt,
            worker: Some(fields.text("worker")).filter(|name| !name.is_empty()).map(WorkerId::from_stored),
            priority: Priority::at_level(facts.priority).unwrap_or_default(),
            timeout_ms: facts.timeout.map(|timeout| u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX)),
            retries: facts.retries,
            retries_left: fields.optional("retries").unwrap_or(facts.retries),
            quarantine: fields.optional("quarantine").filter(|_| !status.is_terminal()),
            past_attempts: past::decode(fields.text("past")),
            created_at: time(facts.created).unwrap_or(Timestamp::UNIX_EPOCH),
            started_at: time(run.started),
            attempt_started_at: time(run.claimed),
            finished_at: time(fields.number("finished")).filter(|_| status.is_terminal()),
            runtime_ms: fields.running_time(run, status, now_ms),
            output_bytes: if status.is_terminal() { usage.output_bytes } else { stored_output },
            result: result.filter(|_| status == State::Completed),
            usage: usage.usage,
            ..Job::queued(id, facts.session)
        };
        let url = fields.text("notify").parse().ok();
        job.notification = url.map(|url| notice::decode(&url, fields.text("notice"), job.finished_at));
        if let Some(spec) = spec {
            (job.agent, job.task, job.key, job.retry_of) = (spec.agent, spec.task, spec.key, spec.retry_of);
            job.team = Some(spec.team);
        }
        if let Some((agent, task)) = beginning {
            (job.agent, job.task) = (agent, format!("{task}…"));
        }
        if !unreadable.is_empty() {
            let reason = format!("this release cannot read all of the job: {}", unreadable.join("; "));
            job.task = format!("[{reason}] {}", job.task);
            job.error.get_or_insert(reason);
        }
        job
    }

    /// Notes what of the record a later release wrote.
    fn check(&mut self) {
        let state = self.fields.text("state");
        if !state.is_empty() && state.parse::<State>().is_err() {
            self.unreadable.push(format!("its state is `{state}`"));
        }
        self.unreadable.extend(RECORD.check(self.fields.text("v")).err().map(|error| error.to_string()));
    }
}

/// A time of Redis' clock in milliseconds; `None` for 0, which stands for none.
pub(super) fn time(ms: u64) -> Option<Timestamp> {
    i64::try_from(ms).ok().filter(|ms| *ms > 0).and_then(|ms| Timestamp::from_millisecond(ms).ok())
}
