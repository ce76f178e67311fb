//! A job's output and states as server-sent events, to be resumed at the byte where they were cut off.
//!
//! Each event's id is the offset of the next byte of output. A client that comes back with `Last-Event-ID` gets the bytes
//! from there on, each exactly once, and the job's current state. The last event is `end`; a client that has seen it and
//! comes back all the same is answered with 204, which ends the attempts of an `EventSource`.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::Path;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::StatusCode;
use axum::response::IntoResponse as _;
use axum::response::Response;
use axum::response::sse::Event;
use axum::response::sse::KeepAlive;
use axum::response::sse::Sse;
use futures::stream;
use legwork_common::id::JobId;
use legwork_common::job::Job;
use legwork_common::lifecycle::State as JobState;
use legwork_process::tasks::TaskKind;
use legwork_queue::Operator;
use legwork_queue::POLL_INTERVAL;
use serde::Deserialize;
use serde_json::Value;
use serde_json::json;
use tokio::sync::mpsc;

use crate::api::Api;
use crate::jobs::Parameters;
use crate::jobs::output_fields;
use crate::jobs::parameters;
use crate::problem::Problem;

/// The header that names the last event that a client has seen.
const LAST_EVENT_ID: &str = "last-event-id";
/// What follows the offset in the id of the last event.
const END: &str = ".end";
/// Events that wait for a slow client. With the bytes of a read it bounds the memory of a stream to 256 kB.
pub(crate) const EVENT_CHANNEL_CAPACITY: usize = 4;
/// The most bytes of output in one event.
const CHUNK_BYTES: usize = 64 * 1024;
/// How long a stream may be silent: proxies close what is silent for a minute.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// How long a client waits before it comes back.
pub(crate) const RETRY: Duration = Duration::from_secs(1);

/// Where to begin.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EventsQuery {
    since: Option<u64>,
}

/// `GET /v1/jobs/{id}/events`.
pub async fn of_job(
    State(api): State<Arc<Api>>,
    Path(id): Path<String>,
    query: Parameters<EventsQuery>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let query = parameters(query)?;
    let last = headers.get(LAST_EVENT_ID).and_then(|value| value.to_str().ok());
    let Some(offset) = beginning(last, query.since)? else {
        return Ok(StatusCode::NO_CONTENT.into_response());
    };
    let id = api.find(&id).await?;
    api.operator.job(id).await?;
    let (sender, receiver) = mpsc::channel(EVENT_CHANNEL_CAPACITY);
    let following = Following { operator: api.operator.clone(), id, offset, sender };
    let end = api.end.clone();
    // In a task of its own: a client that leaves must not cut off a read.
    api.tasks.spawn(TaskKind::Http, async move {
        tokio::select! {
            () = following.run() => {}
            () = end.cancelled() => {}
        }
    });
    Ok(respond(receiver))
}

/// A stream of these events, until their sender is dropped.
pub(crate) fn respond(receiver: mpsc::Receiver<Event>) -> Response {
    let events = stream::unfold(receiver, async |mut receiver| {
        let event: Event = receiver.recv().await?;
        Some((Ok::<_, Infallible>(event), receiver))
    });
    Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response()
}

/// The offset at which a stream begins; `None` for a client that has seen the end.
fn beginning(last: Option<&str>, since: Option<u64>) -> Result<Option<u64>, Problem> {
    let Some(last) = last.filter(|last| !last.is_empty()) else { return Ok(Some(since.unwrap_or(0))) };
    if last.ends_with(END) {
        return Ok(None);
    }
    let wrong = |_| Problem::bad_request(format!("Last-Event-ID `{last}` is not one of these events"));
    last.parse().map(Some).map_err(wrong)
}

/// One stream.
struct Following {
    operator: Operator,
    id: JobId,
    /// The offset of the next byte.
    offset: u64,
    sender: mpsc::Sender<Event>,
}

impl Following {
    /// Sends events until the job has ended, the client has gone, or Redis cannot be asked: then the client comes back.
    async fn run(mut self) {
        if let Err(problem) = self.until_ended().await {
            tracing::debug!(id = %self.id, detail = problem.detail, "a stream ended early");
        }
    }

    async fn until_ended(&mut self) -> Result<(), Problem> {
        let mut output = self.operator.listen_to_job(self.id).await;
        let session = self.operator.job(self.id).await?.session;
        let mut ends = self.operator.listen_to_session(session).await;
        let mut shown: Option<(JobState, u32, u64, Value)> = None;
        while !self.sender.is_closed() {
            // The job is read before its output: if it has ended, all of its output is stored by now.
            let jobs = self.operator.jobs(&[self.id]).await?;
            let Some(job) = jobs.into_iter().next() else { return Ok(()) };
            let state = (job.status, job.attempt, job.usage.turns, json!(job.waits_for));
            if !job.status.is_terminal() && shown.as_ref() != Some(&state) {
                self.send("state", self.offset.to_string(), &without_texts(&job)).await;
                shown = Some(state);
            }
            self.catch_up().await?;
            if job.status.is_terminal() && self.offset >= job.output_bytes {
                self.send("end", format!("{}{END}", self.offset), &json!(job)).await;
                return Ok(());
            }
            tokio::select! {
                _hint = output.next() => {}
                _hint = ends.next() => {}
                () = tokio::time::sleep(POLL_INTERVAL) => {}
                () = self.sender.closed() => {}
            }
        }
        Ok(())
    }

    /// Sends the output that is stored so far.
    async fn catch_up(&mut self) -> Result<(), Problem> {
        while !self.sender.is_closed() {
            let slice = self.operator.output(self.id, self.offset, CHUNK_BYTES).await?;
            if slice.bytes.is_empty() {
                break;
            }
            self.offset = slice.next_offset();
            self.send("output", self.offset.to_string(), &Value::Object(output_fields(&slice))).await;
        }
        Ok(())
    }

    /// Waits while the client has not read the events before this one.
    async fn send(&self, name: &str, id: String, data: &Value) {
        let event = Event::default().event(name).id(id).retry(RETRY).data(data.to_string());
        // The client may be gone; the loops end by that.
        self.sender.send(event).await.ok();
    }
}

/// The job without what a state does not change: its task may have megabytes.
fn without_texts(job: &Job) -> Value {
    let mut object = json!(job);
    if let Some(fields) = object.as_object_mut() {
        fields.remove("task");
        fields.remove("result");
    }
    object
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_begins_where_the_last_event_ended() {
        for (last, since, expected) in [
            (None, None, Ok(Some(0))),
            (None, Some(7), Ok(Some(7))),
            (Some("12"), Some(7), Ok(Some(12))),
            (Some(""), Some(7), Ok(Some(7))),
            (Some("12.end"), None, Ok(None)),
            (Some("x"), None, Err("Last-Event-ID `x` is not one of these events".to_owned())),
        ] {
            assert_eq!(
                beginning(last, since).map_err(|problem| problem.detail),
                expected,
                "{last:?} {since:?}"
            );
        }
    }
}
