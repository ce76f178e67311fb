//! Why a job is in its state and what would change it, as one paragraph: what `legwork explain` prints.

use std::time::Duration;

use jiff::Timestamp;

use crate::contract::visible_state;
use crate::duration::short;
use crate::id::JobId;
use crate::job::Cause;
use crate::job::Job;
use crate::job::PastAttempt;
use crate::lifecycle::State;
use crate::question::AskedQuestion;
use crate::question::Question;
use crate::waits_for::Postponed;
use crate::waits_for::WaitsFor;
use crate::waits_for::counted;

/// Why the job is in its state, and what would change that. `now` is the time of the reader; a job of the same moment
/// was just dispatched.
pub fn explain(job: &Job, now: Timestamp) -> String {
    let mut sentences = vec![opening(job, now)];
    sentences.extend(match job.status {
        State::Queued | State::Scheduled => waits(job),
        State::Running | State::Reaping => runs(job),
        State::Waiting => waits(job),
        State::Stopping => vec![
            "It ends as soon as its worker has ended its commands; without a worker a reaper ends it when its lease \
             expires."
                .to_owned(),
        ],
        State::Completed => vec!["Nothing changes it any more.".to_owned()],
        State::Failed | State::Stopped => ended(job),
    });
    if !job.status.is_terminal() {
        sentences.extend(job.past_attempts.last().map(last_attempt));
    }
    sentences.join(" ")
}

/// Which job it is, and since when it is in its state.
fn opening(job: &Job, now: Timestamp) -> String {
    let status = visible_state(job.status);
    let age = short(since(job.created_at, now));
    let subject = format!("Job {} of agent {} is {status}", short_id(job.id), job.agent);
    match job.status {
        State::Queued | State::Scheduled => format!("{subject}, {age} after it was dispatched."),
        State::Completed => format!("{subject}: it ran for {}.", short(job.runtime())),
        State::Failed | State::Stopped => {
            let cause = job.cause.map(|cause| format!(" (cause {cause})")).unwrap_or_default();
            format!("{subject}{cause}, after it ran for {}.", short(job.runtime()))
        }
        State::Running | State::Waiting | State::Stopping | State::Reaping => {
            let on = job.worker.as_ref().map(|worker| format!(" on {worker}")).unwrap_or_default();
            let ran = short(job.runtime());
            format!("{subject}{on}: attempt {}, {ran} of running time.", job.attempt)
        }
    }
}

/// What a job that holds no slot waits for, and what would let it start.
fn waits(job: &Job) -> Vec<String> {
    let Some(reason) = &job.waits_for else { return vec!["What it waits for is not known.".to_owned()] };
    let (because, fix_hint) = match reason {
        WaitsFor::SessionCap { queue, cap, admitted, ahead, held_by } => (
            format!(
                "Its session may have {} in queue {queue} at once, and has {admitted}{}; {ahead} before it in all",
                counted(*cap, "job"),
                holders(held_by, *admitted)
            ),
            format!(
                "It starts when those end{}. A cap belongs to its session: `--cap N` of a dispatch gives a new one \
                 another cap, 0 for none.",
                held_by.first().map_or(String::new(), |id| format!("; `legwork stop {}` ends one sooner", short_id(*id)))
            ),
        ),
        WaitsFor::NoWorker { session_lane: true, .. } => (
            "No worker serves its session".to_owned(),
            format!(
                "A command of Legwork that uses the session starts one: `legwork dispatch --session {} FILE AGENT TASK`.",
                job.session
            ),
        ),
        WaitsFor::NoWorker { queue, draining, .. } => (
            match draining {
                0 => format!("No worker serves queue {queue}"),
                _ => format!("All workers that serve queue {queue} drain ({draining})"),
            },
            format!("It starts when one does: `legwork-worker --queues {queue}` on the fleet's Redis."),
        ),
        WaitsFor::Paused { queue, since } => (
            format!(
                "Queue {queue} is paused{}",
                since.map(|since| format!(" since {since:.0}")).unwrap_or_default()
            ),
            format!("`legwork unpause {queue}` lets it start when its turn comes."),
        ),
        WaitsFor::Turn { queue, workers, slots, used, queued } => (
            format!(
                "{} of queue {queue} use {used} of {}. Queued there with its priority or a higher one: {}",
                counted(*workers, "worker"),
                counted(*slots, "slot"),
                counted(*queued, "job"),
            ),
            "It starts when its turn comes; another worker, a larger `--concurrency` or `--priority high` bring it \
             sooner."
                .to_owned(),
        ),
        WaitsFor::Schedule { at, why, detail } => scheduled(job, *at, *why, detail.as_deref()),
        WaitsFor::Answer { questions } => return asks(job, questions),
        WaitsFor::Children { live } => children(job, *live),
        WaitsFor::RateLimit { detail } | WaitsFor::Budget { detail } | WaitsFor::Stalled { detail } => {
            (sentence_case(detail), "It continues without help.".to_owned())
        }
    };
    vec![format!("{because}."), fix_hint]
}

/// Which jobs a parked job waits for; none where only a slot is missing.
fn children(job: &Job, live: u64) -> (String, String) {
    match live {
        0 => (
            "What it waited for has happened, and its worker has no free slot for it".to_owned(),
            "It continues with the next free slot, ahead of new jobs.".to_owned(),
        ),
        _ => (
            format!("It waits for {} that it dispatched, and holds no slot", counted(live, "job")),
            format!(
                "It continues when they have ended; `legwork list --tree --session {}` shows them.",
                job.session
            ),
        ),
    }
}

/// What a job asks a person, and how to answer.
fn asks(job: &Job, questions: &[AskedQuestion]) -> Vec<String> {
    let id = short_id(job.id);
    let mut sentences: Vec<String> =
        questions.iter().map(|asked| format!("It waits for {}, and holds no slot.", asked.line())).collect();
    sentences.extend(questions.iter().filter_map(|asked| match &asked.question {
        Question::Approval { why, .. } if !why.is_empty() => {
            Some(format!("Call {} needs an approval because {why}.", asked.number))
        }
        Question::Approval { .. } | Question::Prompt { .. } => None,
    }));
    match questions {
        [only] => sentences.push(format!("`{}` answers it.", only.question.command(&id))),
        several => sentences.push(format!(
            "`legwork approve {id} --call N` or `legwork deny {id} --call N WHY` answers one of the {}.",
            several.len()
        )),
    }
    if questions.iter().any(|asked| asked.expires_at.is_some()) {
        sentences.push("A question that expires counts as denied, and the job continues.".to_owned());
    }
    sentences
}

fn scheduled(job: &Job, at: Option<Timestamp>, why: Postponed, detail: Option<&str>) -> (String, String) {
    let at = at.map(|at| format!(" at {at:.0}")).unwrap_or_default();
    let detail = detail.map(|detail| format!(": {}", first_line(detail))).unwrap_or_default();
    match why {
        Postponed::Delay => (
            format!("It was dispatched with a delay and is queued{at}"),
            "Nothing brings it sooner; a job without `--delay` starts at once.".to_owned(),
        ),
        Postponed::Retry => (
            format!(
                "Its attempt {} failed, and it is retried{at}, {} left{detail}",
                job.attempt,
                counted(u64::from(job.retries_left), "retry").replace("retrys", "retries")
            ),
            "`--retry-delay` and `--retries` of its dispatch decide when and how often.".to_owned(),
        ),
        Postponed::GivenBack => (
            format!(
                "A worker gave it back because it lacks what the job needs{detail}; it is queued again{at}"
            ),
            "It runs on a worker that has that; where none has, it fails with cause rejected.".to_owned(),
        ),
    }
}

/// What a running job is held up by, if anything.
fn runs(job: &Job) -> Vec<String> {
    if let Some(silent) = job.silent_ms {
        return vec![format!(
            "Its lease has expired: its worker sent no heartbeat for {} and is gone or cut off. It resumes after its \
             last recorded turn once a worker serves queue {}.",
            short(Duration::from_millis(silent)),
            job.queue
        )];
    }
    match &job.waits_for {
        None => vec!["Its worker renews its lease.".to_owned()],
        Some(WaitsFor::RateLimit { detail }) => vec![
            format!("Its model call waits: {}.", first_line(detail)),
            "It continues when the limit permits; the policy file's limits and the provider's decide when.".to_owned(),
        ],
        Some(WaitsFor::Budget { detail }) => vec![
            format!("Its model call waits: {}.", first_line(detail)),
            "It continues once they have used less than they reserved, or fails with cause budget where nothing is \
             left; `--session-budget` gives a new session another budget."
                .to_owned(),
        ],
        Some(WaitsFor::Stalled { detail }) => vec![
            format!("It has stalled: {}.", first_line(detail)),
            format!(
                "`legwork view --follow {id}` shows whether it continues; `legwork stop {id}` ends it, `--timeout` of a \
                 dispatch bounds it.",
                id = short_id(job.id)
            ),
        ],
        Some(other) => vec![format!("It waits for {}.", other.phrase())],
    }
}

/// Why an unsuccessful job ended, and what can be done.
fn ended(job: &Job) -> Vec<String> {
    let id = short_id(job.id);
    let error = job.error.as_deref().map(|error| format!("The error: {}.", first_line(error)));
    let fix_hint = match job.cause {
        Some(Cause::AgentError | Cause::ProviderError) => {
            format!("`legwork retry {id}` continues after its last recorded turn.")
        }
        Some(Cause::MaxIterations) => {
            format!(
                "It used all model calls that `max_iterations` allows; `legwork retry {id}` gives it as many again."
            )
        }
        Some(Cause::Deadline) => {
            format!("Its timeout was used up; `legwork retry {id}` gives it the same again.")
        }
        Some(Cause::Budget) => {
            "Its budget of tokens, or its session's, is used up; dispatch it with a larger \
                                `--budget` or into a new session."
                .to_owned()
        }
        Some(Cause::WorkerLost) => format!(
            "Workers died while running it, each time without a finished turn; find out why, then \
             `legwork retry {id}`."
        ),
        Some(Cause::Rejected) => {
            format!("No live worker has what it needs; once one has, `legwork retry {id}` starts it again.")
        }
        Some(Cause::Tool) => "The agent that dispatched it stopped it.".to_owned(),
        Some(Cause::Operator) => format!("An operator stopped it; `legwork retry {id}` continues it."),
        Some(Cause::Parent) => "A job above it was stopped or failed, and its tree with it.".to_owned(),
        Some(Cause::SessionEnd) => {
            format!("Its session ended; `legwork retry {id}` continues it in a new one.")
        }
        // A later release explains its own causes.
        Some(Cause::Later(_)) | None => String::new(),
    };
    error.into_iter().chain(Some(fix_hint).filter(|fix_hint| !fix_hint.is_empty())).collect()
}

/// How the attempt before ended.
fn last_attempt(past: &PastAttempt) -> String {
    let on = past.worker.as_ref().map(|worker| format!(" on {worker}")).unwrap_or_default();
    let detail = past.detail.as_deref().map(|detail| format!(": {}", first_line(detail))).unwrap_or_default();
    let ran = short(Duration::from_millis(past.runtime_ms));
    format!("Attempt {}{on} ran for {ran} and ended: {}{detail}.", past.attempt, past.end.phrase())
}

/// The first few admitted jobs and the number of others, in parentheses.
fn holders(held_by: &[JobId], admitted: u64) -> String {
    if held_by.is_empty() {
        return String::new();
    }
    let named: Vec<String> = held_by.iter().map(|id| short_id(*id)).collect();
    let more = admitted.saturating_sub(named.len() as u64);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!(" ({}{more})", named.join(", "))
}

/// Zero for a clock that is behind Redis'.
fn since(then: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(now.duration_since(then)).unwrap_or_default()
}

/// The first group of a UUID, which every command accepts.
fn short_id(id: JobId) -> String {
    id.uuid().to_string().chars().take(8).collect()
}

/// The first line of a text, without a final period.
fn first_line(text: &str) -> String {
    text.trim().lines().next().unwrap_or_default().trim_end_matches('.').to_owned()
}

fn sentence_case(text: &str) -> String {
    let mut characters = text.chars();
    let first = characters.next().map(|first| first.to_uppercase().to_string()).unwrap_or_default();
    first + characters.as_str().trim_end_matches('.')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::SessionId;
    use crate::id::WorkerId;
    use crate::job::AttemptEnd;

    fn job(status: State) -> Job {
        let session: SessionId = "00000000-0000-4000-8000-00000000abcd".parse().unwrap();
        Job {
            agent: "analyst".to_owned(),
            queue: "gpu".to_owned(),
            status,
            attempt: 1,
            runtime_ms: 65_000,
            worker: status.is_held().then(|| WorkerId::from_stored("host-1".to_owned())),
            ..Job::queued("agent_task_11111111-1111-4111-8111-11111111abcd".parse().unwrap(), session)
        }
    }

    fn waiting(status: State, reason: WaitsFor) -> Job {
        Job { waits_for: Some(reason), ..job(status) }
    }

    fn unsuccessful(cause: Cause) -> Job {
        let status = match cause {
            Cause::Tool | Cause::Operator | Cause::Parent | Cause::SessionEnd => State::Stopped,
            _ => State::Failed,
        };
        let error = (status == State::Failed).then(|| "it broke.\nand more".to_owned());
        Job { cause: Some(cause), error, ..job(status) }
    }

    fn questions() -> Vec<AskedQuestion> {
        let call = Question::approval("shell", r#"{"cmd":"rm -r build"}"#, "the team's permissions ask");
        let prompt = Question::Prompt { message: "Which colour?".to_owned(), title: None, schema: None };
        let asked_at = Timestamp::UNIX_EPOCH;
        let expires_at = Timestamp::from_second(3600).ok();
        vec![
            AskedQuestion { number: 1, question: call, asked_at, expires_at, answer: None },
            AskedQuestion { number: 2, question: prompt, asked_at, expires_at: None, answer: None },
        ]
    }

    #[test]
    fn each_state_is_explained_with_what_would_change_it() {
        let queue = || "gpu".to_owned();
        let held_by = vec![job(State::Queued).id];
        let past = PastAttempt {
            attempt: 1,
            worker: Some(WorkerId::from_stored("host-2".to_owned())),
            started_at: None,
            runtime_ms: 3_000,
            end: AttemptEnd::Failed,
            detail: Some("503".to_owned()),
        };
        let at = Some(Timestamp::UNIX_EPOCH);
        let schedule =
            |why, detail: Option<&str>| WaitsFor::Schedule { at, why, detail: detail.map(str::to_owned) };
        let mut jobs = vec![
            waiting(
                State::Queued,
                WaitsFor::SessionCap { queue: queue(), cap: 20, admitted: 20, ahead: 58, held_by },
            ),
            waiting(State::Queued, WaitsFor::NoWorker { queue: queue(), draining: 0, session_lane: false }),
            waiting(State::Queued, WaitsFor::NoWorker { queue: queue(), draining: 2, session_lane: false }),
            waiting(State::Queued, WaitsFor::NoWorker { queue: queue(), draining: 0, session_lane: true }),
            waiting(
                State::Queued,
                WaitsFor::Turn { queue: queue(), workers: 3, slots: 60, used: 60, queued: 7 },
            ),
            waiting(State::Scheduled, schedule(Postponed::Delay, None)),
            Job {
                retries_left: 2,
                past_attempts: vec![past],
                ..waiting(State::Scheduled, schedule(Postponed::Retry, Some("503")))
            },
            waiting(State::Scheduled, schedule(Postponed::GivenBack, Some("OPENAI_API_KEY is not set"))),
            waiting(State::Waiting, WaitsFor::Children { live: 3 }),
            waiting(State::Waiting, WaitsFor::Children { live: 0 }),
            waiting(State::Waiting, WaitsFor::Answer { questions: questions()[..1].to_vec() }),
            waiting(State::Waiting, WaitsFor::Answer { questions: questions() }),
            waiting(
                State::Running,
                WaitsFor::RateLimit { detail: "openai permits the call in 3s".to_owned() },
            ),
            waiting(
                State::Running,
                WaitsFor::Budget {
                    detail: "other jobs have reserved 900 tokens of the session's budget".to_owned(),
                },
            ),
            waiting(State::Running, WaitsFor::Stalled { detail: "no activity for more than 5m".to_owned() }),
            job(State::Running),
            Job { silent_ms: Some(26_000), ..job(State::Running) },
            job(State::Stopping),
            job(State::Completed),
        ];
        jobs.extend(Cause::ALL.map(unsuccessful));
        let now = Timestamp::from_second(90).unwrap();
        let paragraphs: Vec<String> = jobs.iter().map(|job| explain(job, now)).collect();
        insta::assert_snapshot!(paragraphs.join("\n\n"));
    }
}
