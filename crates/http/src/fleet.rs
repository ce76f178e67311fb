//! The fleet: numbers, workers, pauses, teams, and whether the server is well.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::Path;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use legwork_common::job::parse_name;
use legwork_queue::Operator;
use legwork_queue::operator::FleetStats;
use serde_json::Value;
use serde_json::json;

use crate::api::Api;
use crate::openapi;
use crate::problem::Problem;

/// The type of the text format of OpenMetrics.
const METRICS_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// `GET /v1/stats`.
pub async fn stats(State(api): State<Arc<Api>>) -> Result<axum::Json<FleetStats>, Problem> {
    Ok(axum::Json(api.operator.stats().await?))
}

/// `GET /v1/workers`.
pub async fn workers(State(api): State<Arc<Api>>) -> Result<axum::Json<Value>, Problem> {
    Ok(axum::Json(json!({"workers": worker_objects(&api.operator).await?})))
}

/// The workers as objects.
pub(crate) async fn worker_objects(operator: &Operator) -> Result<Vec<Value>, Problem> {
    let workers = operator.workers().await?;
    Ok(workers.iter().map(|worker| worker.object(operator.condition(worker))).collect())
}

/// `POST /v1/workers/{id}/drain`.
pub async fn drain(
    State(api): State<Arc<Api>>,
    Path(id): Path<String>,
) -> Result<(StatusCode, axum::Json<Value>), Problem> {
    let shared = Arc::clone(&api);
    let worker = api.finish(async move { Ok(shared.operator.drain_worker(&id).await?) }).await?;
    let answer = json!({"id": worker.id, "draining": true, "jobs": worker.jobs});
    Ok((StatusCode::ACCEPTED, axum::Json(answer)))
}

/// `POST /v1/queues/{queue}/pause`.
pub async fn pause(
    State(api): State<Arc<Api>>,
    Path(queue): Path<String>,
) -> Result<axum::Json<Value>, Problem> {
    let queue = parse_name(&queue).map_err(Problem::bad_request)?;
    let (shared, name) = (Arc::clone(&api), queue.clone());
    api.finish(async move { Ok(shared.operator.pause(&name).await?) }).await?;
    Ok(axum::Json(json!({"queue": queue, "paused": true})))
}

/// `POST /v1/queues/{queue}/unpause`.
pub async fn unpause(
    State(api): State<Arc<Api>>,
    Path(queue): Path<String>,
) -> Result<axum::Json<Value>, Problem> {
    let queue = parse_name(&queue).map_err(Problem::bad_request)?;
    let (shared, name) = (Arc::clone(&api), queue.clone());
    api.finish(async move { Ok(shared.operator.unpause(&name).await?) }).await?;
    Ok(axum::Json(json!({"queue": queue, "paused": false})))
}

/// `GET /v1/teams`: the agents of each team that jobs are dispatched with.
pub async fn teams(State(api): State<Arc<Api>>) -> axum::Json<Value> {
    let teams: BTreeMap<&String, Vec<Value>> = api
        .teams
        .0
        .iter()
        .map(|(name, served)| {
            let agents = served.team.agents().iter();
            let agents = agents.map(|agent| json!({"name": agent.name, "description": agent.description}));
            (name, agents.collect())
        })
        .collect();
    axum::Json(json!({"teams": teams}))
}

/// `GET /openapi.json`.
pub async fn document() -> axum::Json<Value> {
    axum::Json(openapi::document())
}

/// `GET /healthz`: the process lives.
pub async fn healthy() -> &'static str {
    "ok\n"
}

/// `GET /readyz`: Redis answers.
pub async fn ready(State(api): State<Arc<Api>>) -> (StatusCode, &'static str) {
    match api.operator.queue().ping().await {
        Ok(()) => (StatusCode::OK, "ready\n"),
        Err(_) => (StatusCode::SERVICE_UNAVAILABLE, "not ready\n"),
    }
}

/// `GET /metrics`.
pub async fn metrics(State(api): State<Arc<Api>>) -> Result<impl IntoResponse, Problem> {
    let text = api.metrics.scrape(&api.operator).await?;
    Ok(([(CONTENT_TYPE, METRICS_TYPE)], text))
}
