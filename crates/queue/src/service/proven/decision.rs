//! What a model is shown of another job, decided from what a trusted worker signed of it. Pure.
//!
//! ```text
//! job         signed   text                          output
//! completed   yes      as it is                      the result alone, from byte 0
//! failed      yes      as it is                      a sentence, where there is any
//! either      no       a sentence, with the cause    nothing
//! stopped     -        nothing                       a sentence, where there is any
//! has not ended -      nothing                       a sentence, where there is any
//! ```
//!
//! State, times and numbers are shown as they are stored, and no text that is stored: agents are named as the team names them,
//! causes as this release does.

use legwork_common::contract;
use legwork_common::job::Cause;
use legwork_common::job::Job;
use legwork_common::lifecycle::State;
use legwork_common::question::AskedQuestion;
use legwork_common::question::Question;
use legwork_common::service::CutText;
use legwork_common::service::JobView;
use legwork_common::service::MAX_VIEW_BYTES;
use legwork_common::service::OutputSlice;
use legwork_common::team::Team;
use legwork_common::waits_for::WaitsFor;

use crate::queue::text_slice;

/// An agent that the team does not have.
const NO_AGENT: &str = "unknown";

/// The text that the worker of an ended job sealed with its end: empty for a job that ended with none, `None` where no
/// worker seals one.
pub(super) fn sealed_text(job: &Job) -> Option<&str> {
    match job.status {
        State::Completed => Some(job.result.as_deref().unwrap_or_default()),
        State::Failed => Some(job.error.as_deref().unwrap_or_default()),
        _ => None,
    }
}

/// What of a job may be shown whatever is signed: all of it but texts.
pub(super) fn outline(job: &Job, team: Option<&Team>) -> Job {
    let is_of_team = team.is_some_and(|team| team.agent(&job.agent).is_some());
    Job {
        parent: job.parent,
        depth: job.depth,
        agent: if is_of_team { job.agent.clone() } else { NO_AGENT.to_owned() },
        status: job.status,
        cause: job.cause.filter(|cause| !matches!(cause, Cause::Later(_))),
        attempt: job.attempt,
        waits_for: job.waits_for.as_ref().and_then(reason),
        created_at: job.created_at,
        started_at: job.started_at,
        attempt_started_at: job.attempt_started_at,
        finished_at: job.finished_at,
        runtime_ms: job.runtime_ms,
        output_bytes: job.output_bytes,
        usage: job.usage,
        ..Job::queued(job.id, job.session)
    }
}

/// A reason without what is stored as text; `None` for one that is nothing but that.
fn reason(reason: &WaitsFor) -> Option<WaitsFor> {
    let queue = String::new();
    match reason.clone() {
        WaitsFor::SessionCap { cap, admitted, ahead, held_by, .. } => {
            Some(WaitsFor::SessionCap { queue, cap, admitted, ahead, held_by })
        }
        WaitsFor::Turn { workers, slots, used, queued, .. } => {
            Some(WaitsFor::Turn { queue, workers, slots, used, queued })
        }
        WaitsFor::Schedule { at, why, .. } => Some(WaitsFor::Schedule { at, why, detail: None }),
        WaitsFor::Children { live } => Some(WaitsFor::Children { live }),
        WaitsFor::Answer { questions } => {
            Some(WaitsFor::Answer { questions: questions.into_iter().map(untold).collect() })
        }
        WaitsFor::NoWorker { .. }
        | WaitsFor::Paused { .. }
        | WaitsFor::Quarantine { .. }
        | WaitsFor::RateLimit { .. }
        | WaitsFor::Budget { .. }
        | WaitsFor::Stalled { .. } => None,
    }
}

/// That a person is asked, without what.
fn untold(asked: AskedQuestion) -> AskedQuestion {
    let question = Question::Prompt { message: String::new(), title: None, schema: None };
    AskedQuestion { question, answer: None, ..asked }
}

/// The view of an ended job whose whole `text` a trusted worker signed: at most `excerpt` bytes of its beginning and its end, or
/// all of it.
pub(super) fn proven(view: &JobView, text: String, excerpt: Option<usize>, team: Option<&Team>) -> JobView {
    let mut shown = unproven(view, team);
    let (is_result, total) = (view.job.status == State::Completed, text.len() as u64);
    shown.output = withheld_output(view);
    if is_result {
        let tail = total.saturating_sub(MAX_VIEW_BYTES as u64);
        shown.since = view.since;
        shown.output = text_slice(&text, view.since.unwrap_or(tail).min(total), MAX_VIEW_BYTES);
        shown.job.output_bytes = total;
    }
    let mut text = text;
    if let Some(most) = excerpt.filter(|most| text.len() > *most) {
        shown.cut = Some(CutText { bytes: total, tail: contract::tail(&text, most).to_owned() });
        text = contract::head(&text, most).to_owned();
    }
    let text = Some(text).filter(|text| !text.is_empty());
    (shown.job.result, shown.job.error) = if is_result { (text, None) } else { (None, text) };
    shown
}

/// The view of a job of which nothing is signed.
pub(super) fn unproven(view: &JobView, team: Option<&Team>) -> JobView {
    let mut job = outline(&view.job, team);
    let mut output = OutputSlice::default();
    match job.status {
        State::Completed => job.result = Some(contract::RESULT_WITHHELD.to_owned()),
        State::Failed => job.error = Some(contract::error_withheld(job.cause)),
        _ => output = withheld_output(view),
    }
    JobView { job, output, truncated: false, since: None, cut: None, seal: None }
}

/// A sentence in the place of output. The total stays: who looks again sees by it whether there is more.
fn withheld_output(view: &JobView) -> OutputSlice {
    match view.output.total {
        0 => OutputSlice::default(),
        total => OutputSlice { offset: 0, bytes: contract::OUTPUT_WITHHELD.into(), total },
    }
}

#[cfg(test)]
mod tests;
