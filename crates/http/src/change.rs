//! Changing jobs: stop, retry, fork, send.

use std::pin::pin;
use std::sync::Arc;

use axum::extract::Path;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::LOCATION;
use axum::response::IntoResponse as _;
use axum::response::Response;
use futures::StreamExt as _;
use legwork_common::id::JobId;
use legwork_common::service::StopReply;
use legwork_queue::operator::RetryMode;
use legwork_queue::operator::RetryPlan;
use legwork_queue::operator::StopReport;
use legwork_queue::operator::StopRoot;
use serde::Deserialize;
use serde_json::Value;
use serde_json::json;

use crate::api::Api;
use crate::body::Json;
use crate::problem::Problem;

/// `POST /v1/jobs/{id}/stop`: answers when the stop is durable; the tree ends after that.
pub async fn stop(
    State(api): State<Arc<Api>>,
    Path(id): Path<String>,
) -> Result<(StatusCode, axum::Json<Value>), Problem> {
    let id = api.find(&id).await?;
    stop_root(&api, StopRoot::Job(id)).await
}

/// `POST /v1/sessions/{id}/stop`: the same for all jobs of a session, which takes no more.
pub async fn stop_session(
    State(api): State<Arc<Api>>,
    Path(id): Path<String>,
) -> Result<(StatusCode, axum::Json<Value>), Problem> {
    let id = api.operator.find_session(&id).await?;
    stop_root(&api, StopRoot::Session { id, close: false }).await
}

async fn stop_root(api: &Arc<Api>, root: StopRoot) -> Result<(StatusCode, axum::Json<Value>), Problem> {
    let shared = Arc::clone(api);
    let report = api.finish(async move { Ok(shared.operator.stop(root).await?) }).await?;
    let status = if report.is_over { StatusCode::OK } else { StatusCode::ACCEPTED };
    Ok((status, axum::Json(stopped(&report))))
}

fn stopped(report: &StopReport) -> Value {
    let state = match report.reply {
        StopReply::Stopping => "stopping",
        StopReply::AlreadyEnded(state) => state.as_str(),
    };
    json!({"status": state, "stopped_jobs": report.count(), "below": report.below, "is_over": report.is_over})
}

/// How to retry.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RetryRequest {
    #[serde(default)]
    fresh: bool,
    #[serde(default)]
    again: bool,
}

/// `POST /v1/jobs/{id}/retry`.
pub async fn retry(
    State(api): State<Arc<Api>>,
    Path(id): Path<String>,
    Json(request): Json<RetryRequest>,
) -> Result<Response, Problem> {
    let id = api.find(&id).await?;
    let shared = Arc::clone(&api);
    let job = api.finish(async move { retry_one(&shared, id, request).await }).await?;
    Ok(created(job))
}

/// The answer that has a new job.
fn created(job: Value) -> Response {
    let location = format!("/v1/jobs/{}", job["id"].as_str().unwrap_or_default());
    (StatusCode::CREATED, [(LOCATION, location)], axum::Json(job)).into_response()
}

async fn retry_one(api: &Api, id: JobId, request: RetryRequest) -> Result<Value, Problem> {
    let mode = if request.fresh { RetryMode::Fresh } else { RetryMode::Resume };
    let plan = api.operator.plan_retry(id, mode, request.again).await?;
    dispatched(api, plan).await
}

/// Dispatches what was planned and reads it back.
async fn dispatched(api: &Api, plan: RetryPlan) -> Result<Value, Problem> {
    let retried = pin!(api.operator.retry_many(vec![plan])).next().await.ok_or_else(Problem::ending)??;
    api.workers.serve(retried.session).await?;
    Ok(json!(api.operator.job(retried.id).await?))
}

/// What a fork does instead.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ForkRequest {
    task: Option<String>,
}

/// `POST /v1/jobs/{id}/fork`.
pub async fn fork(
    State(api): State<Arc<Api>>,
    Path(id): Path<String>,
    Json(request): Json<ForkRequest>,
) -> Result<Response, Problem> {
    if request.task.as_ref().is_some_and(|task| task.trim().is_empty()) {
        return Err(Problem::bad_request("task must not be empty"));
    }
    let id = api.find(&id).await?;
    let shared = Arc::clone(&api);
    let job = api.finish(async move { fork_one(&shared, id, request.task).await }).await?;
    Ok(created(job))
}

async fn fork_one(api: &Api, id: JobId, task: Option<String>) -> Result<Value, Problem> {
    let plan = api.operator.plan_fork(id, task).await?;
    // Another task is another order: a server that was started with agent files takes orders for these only.
    if !api.teams.may_run(plan.team_digest()) {
        return Err(Problem::bad_request(format!(
            "job {id} runs an agent file that this server does not take"
        )));
    }
    dispatched(api, plan).await
}

/// A message to a running job.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SendRequest {
    message: String,
}

/// `POST /v1/jobs/{id}/messages`.
pub async fn send(
    State(api): State<Arc<Api>>,
    Path(id): Path<String>,
    Json(request): Json<SendRequest>,
) -> Result<(StatusCode, axum::Json<Value>), Problem> {
    if request.message.trim().is_empty() {
        return Err(Problem::bad_request("message must not be empty"));
    }
    let id = api.find(&id).await?;
    let shared = Arc::clone(&api);
    api.finish(async move { Ok(shared.operator.send(id, &request.message).await?) }).await?;
    Ok((StatusCode::ACCEPTED, axum::Json(json!({"id": id}))))
}
