//! Reading jobs: lists, one job with its output, its turns, why it waits; and waiting for ends.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::Path;
use axum::extract::Query;
use axum::extract::State;
use axum::extract::rejection::QueryRejection;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use jiff::Timestamp;
use legwork_common::duration;
use legwork_common::explain::explain as explained;
use legwork_common::id::JobId;
use legwork_common::id::WorkerId;
use legwork_common::job::Cause;
use legwork_common::lifecycle::State as JobState;
use legwork_common::service::OutputSlice;
use legwork_common::service::WaitDetail;
use legwork_common::service::WaitItem;
use legwork_common::service::WaitMode;
use legwork_queue::operator::JobFilter;
use legwork_queue::operator::Listing;
use legwork_queue::operator::PageCursor;
use serde::Deserialize;
use serde_json::Map;
use serde_json::Value;
use serde_json::json;
use tokio::time::Instant;

use crate::api::Api;
use crate::body::Json;
use crate::problem::Problem;

/// Jobs of a page that does not say.
const DEFAULT_LIMIT: usize = 50;
/// The most jobs of a page: a megabyte or two.
const MAX_LIMIT: usize = 1000;
/// The most bytes of output in one answer.
pub const MAX_OUTPUT: usize = 1024 * 1024;
/// How long one request waits at most. Clients ask again; proxies close what is silent for longer.
const MAX_WAIT: Duration = Duration::from_secs(50);
/// The most jobs that one request waits for.
const MAX_WAITED: usize = 1000;

/// Parameters of a query, or the problem with them.
pub(crate) type Parameters<T> = Result<Query<T>, QueryRejection>;

/// The parameters that were read.
pub(crate) fn parameters<T>(given: Parameters<T>) -> Result<T, Problem> {
    given.map(|Query(given)| given).map_err(|rejection| Problem::bad_request(rejection.body_text()))
}

/// Which jobs a list shows.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListQuery {
    status: Option<String>,
    #[serde(default)]
    failed: bool,
    cause: Option<String>,
    agent: Option<String>,
    session: Option<String>,
    queue: Option<String>,
    worker: Option<String>,
    since: Option<String>,
    limit: Option<usize>,
    after: Option<String>,
}

/// `GET /v1/jobs`.
pub async fn list(
    State(api): State<Arc<Api>>,
    query: Parameters<ListQuery>,
) -> Result<axum::Json<Value>, Problem> {
    let listing = Selection::of(&api, parameters(query)?).await?.read(&api).await?;
    let jobs: Vec<_> = listing.jobs.into_iter().map(|listed| listed.job).collect();
    let next = listing.next.map(|next| next.to_string());
    Ok(axum::Json(json!({"jobs": jobs, "next": next, "searched": listing.searched})))
}

/// The page of jobs that a query selects.
#[derive(Debug, Clone)]
pub(crate) struct Selection {
    filter: JobFilter,
    limit: usize,
    after: Option<PageCursor>,
}

impl Selection {
    /// What a query selects.
    pub(crate) async fn of(api: &Api, query: ListQuery) -> Result<Self, Problem> {
        let limit = query.limit.unwrap_or(DEFAULT_LIMIT);
        if !(1..=MAX_LIMIT).contains(&limit) {
            return Err(Problem::bad_request(format!("`limit` must be 1 to {MAX_LIMIT}")));
        }
        let after: Option<PageCursor> = query.after.as_deref().map(str::parse).transpose()?;
        let mut filter = filter(&query)?;
        filter.session = api.session(query.session.as_deref()).await?;
        Ok(Self { filter, limit, after })
    }

    /// The page as it is now.
    pub(crate) async fn read(&self, api: &Api) -> Result<Listing, Problem> {
        Ok(api.operator.list(&self.filter, self.limit, self.after).await?)
    }
}

/// What a query selects, its session apart.
fn filter(query: &ListQuery) -> Result<JobFilter, Problem> {
    let states = match &query.status {
        _ if query.failed && query.status.is_some() => {
            return Err(Problem::bad_request("give `status` or `failed`, not both"));
        }
        _ if query.failed => vec![JobState::Failed],
        None => Vec::new(),
        Some(names) => names
            .split(',')
            .map(|name| name.parse().map_err(|_| Problem::bad_request(format!("`{name}` is not a status"))))
            .collect::<Result<_, _>>()?,
    };
    let cause = |name: &String| {
        let known = Cause::ALL.into_iter().find(|cause| cause.as_str() == name);
        known.ok_or_else(|| Problem::bad_request(format!("`{name}` is not a cause")))
    };
    let since = |text: &String| {
        duration::parse(text).map_err(|error| Problem::bad_request(format!("`since`: {error}")))
    };
    Ok(JobFilter {
        states,
        without_retried: query.failed,
        cause: query.cause.as_ref().map(cause).transpose()?,
        agent: query.agent.clone(),
        session: None,
        queue: query.queue.clone(),
        worker: query.worker.clone().map(WorkerId::from_stored),
        since: query.since.as_ref().map(since).transpose()?,
    })
}

/// Which part of the output a view has.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ViewQuery {
    since: Option<u64>,
    tail: Option<usize>,
}

/// `GET /v1/jobs/{id}`.
pub async fn view(
    State(api): State<Arc<Api>>,
    Path(id): Path<String>,
    query: Parameters<ViewQuery>,
) -> Result<axum::Json<Value>, Problem> {
    let query = parameters(query)?;
    let id = api.find(&id).await?;
    let most = query.tail.unwrap_or(MAX_OUTPUT).min(MAX_OUTPUT);
    let viewed = api.operator.view(id, query.since, most).await?;
    let mut object = json!(viewed.view.job);
    if let Some(fields) = object.as_object_mut() {
        fields.extend(output_fields(&viewed.view.output));
    }
    Ok(axum::Json(object))
}

/// A slice of output as fields of an object: its text, or Base64 where it is not UTF-8, so that no byte is lost.
pub(crate) fn output_fields(slice: &OutputSlice) -> Map<String, Value> {
    let (name, text) = match std::str::from_utf8(&slice.bytes) {
        Ok(text) => ("output", text.to_owned()),
        Err(_) => ("output_base64", BASE64_STANDARD.encode(&slice.bytes)),
    };
    let fields = [
        (name, json!(text)),
        ("output_offset", json!(slice.offset)),
        ("next_offset", json!(slice.next_offset())),
    ];
    fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// `GET /v1/jobs/{id}/explanation`.
pub async fn explain(
    State(api): State<Arc<Api>>,
    Path(id): Path<String>,
) -> Result<axum::Json<Value>, Problem> {
    let id = api.find(&id).await?;
    let job = api.operator.jobs(&[id]).await?.pop();
    let job = job.ok_or_else(|| {
        Problem::new(axum::http::StatusCode::NOT_FOUND, "not_found", format!("task not found: {id}"))
    })?;
    let text = explained(&job, Timestamp::now());
    Ok(axum::Json(json!({"job": job, "explanation": text})))
}

/// Which part of the journal is read.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TurnsQuery {
    #[serde(default)]
    after: u64,
}

/// `GET /v1/jobs/{id}/turns`: the journal, each entry as its worker wrote it.
pub async fn turns(
    State(api): State<Arc<Api>>,
    Path(id): Path<String>,
    query: Parameters<TurnsQuery>,
) -> Result<axum::Json<Value>, Problem> {
    let query = parameters(query)?;
    let id = api.find(&id).await?;
    api.operator.job(id).await?;
    let turns: Vec<Value> = api
        .operator
        .turns_after(id, query.after)
        .await?
        .into_iter()
        .map(|(sequence, entry)| {
            let entry: Value = serde_json::from_str(&entry).unwrap_or(Value::String(entry));
            json!({"sequence": sequence, "entry": entry})
        })
        .collect();
    Ok(axum::Json(json!({"id": id, "turns": turns})))
}

/// What to wait for.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WaitRequest {
    ids: Vec<String>,
    #[serde(default)]
    mode: WaitMode,
    timeout: Option<String>,
}

/// `POST /v1/wait`: waits at most 50 seconds. Jobs that have not ended by then are answered as they are.
pub async fn wait(
    State(api): State<Arc<Api>>,
    Json(request): Json<WaitRequest>,
) -> Result<axum::Json<Value>, Problem> {
    if request.ids.is_empty() || request.ids.len() > MAX_WAITED {
        return Err(Problem::bad_request(format!("`ids` must have 1 to {MAX_WAITED} ids")));
    }
    let timeout = match &request.timeout {
        Some(text) => duration::parse(text)
            .map_err(|error| Problem::bad_request(format!("`timeout`: {error}")))?
            .min(MAX_WAIT),
        None => MAX_WAIT,
    };
    let mut ids: Vec<JobId> = Vec::with_capacity(request.ids.len());
    for id in &request.ids {
        ids.push(api.find(id).await?);
    }
    let deadline = Instant::now() + timeout;
    let shared = Arc::clone(&api);
    let mode = request.mode;
    let waiting = async move {
        tokio::select! {
            waited = shared.operator.wait(&ids, mode, WaitDetail::Whole, Some(deadline)) => Ok(waited?),
            () = shared.end.cancelled() => Err(Problem::ending()),
        }
    };
    let items = api.finish(waiting).await?;
    let mut ended = 0;
    let jobs: Vec<Value> = items
        .iter()
        .map(|item| match item {
            WaitItem::Found(view) => {
                ended += usize::from(view.job.status.is_terminal());
                json!(view.job)
            }
            WaitItem::NotFound(id) => {
                ended += 1;
                json!({"id": id, "error": {"code": "not_found", "message": format!("task not found: {id}")}})
            }
        })
        .collect();
    let is_over = if mode == WaitMode::Any { ended > 0 } else { ended == jobs.len() };
    Ok(axum::Json(json!({"timed_out": !is_over, "jobs": jobs})))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_a_filter_or_a_problem() {
        let of = |query: ListQuery| filter(&query).map_err(|problem| problem.detail);
        let named = ListQuery { status: Some("failed,stopped".to_owned()), ..ListQuery::default() };
        assert_eq!(of(named).unwrap().states, [JobState::Failed, JobState::Stopped]);
        let failed = of(ListQuery { failed: true, ..ListQuery::default() }).unwrap();
        assert!(failed.without_retried && failed.states == [JobState::Failed]);
        for (query, expected) in [
            (ListQuery { status: Some("dead".to_owned()), ..ListQuery::default() }, "`dead` is not a status"),
            (ListQuery { cause: Some("x".to_owned()), ..ListQuery::default() }, "`x` is not a cause"),
        ] {
            assert_eq!(of(query).unwrap_err(), expected);
        }
    }

    #[test]
    fn output_that_is_not_text_keeps_its_bytes() {
        let slice = |bytes: &[u8]| OutputSlice { bytes: bytes.to_vec(), offset: 7, ..OutputSlice::default() };
        assert_eq!(output_fields(&slice("hé".as_bytes()))["output"], "hé");
        let raw = output_fields(&slice(&[0xff, 0x00]));
        assert_eq!((&raw["output_base64"], &raw["next_offset"]), (&json!("/wA="), &json!(9)));
    }
}
