//! The fleet: numbers, workers, pauses, teams, and whether the server is well.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

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
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::api::Api;
use crate::openapi;
use crate::problem::Problem;

/// The type of the text format of OpenMetrics.
const METRICS_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// How old the answer to `GET /v1/stats` may be: autoscalers and scripts poll it every few seconds, each for itself, and a
/// reading of a large fleet takes Redis a quarter of a second.
const MAX_AGE: Duration = Duration::from_secs(1);

/// The last reading of the fleet's numbers, which all who ask within a second share. Cheap to clone; all clones are one.
#[derive(Debug, Clone, Default)]
pub struct RecentStats(Arc<Mutex<Option<Reading>>>);

/// The numbers of one moment.
#[derive(Debug)]
struct Reading {
    at: Instant,
    stats: Arc<FleetStats>,
}

impl RecentStats {
    /// The numbers as they were a second ago at most. Those who come during a reading wait for it. A failed reading is
    /// answered to the one who began it, and the next one reads again.
    ///
    /// # Errors
    ///
    /// [`Problem`] when Redis cannot be asked.
    pub async fn read(&self, operator: &Operator) -> Result<Arc<FleetStats>, Problem> {
        let mut recent = self.0.lock().await;
        if let Some(reading) = recent.as_ref().filter(|reading| reading.at.elapsed() < MAX_AGE) {
            return Ok(Arc::clone(&reading.stats));
        }
        let stats = Arc::new(operator.stats().await?);
        *recent = Some(Reading { at: Instant::now(), stats: Arc::clone(&stats) });
        Ok(stats)
    }
}

/// `GET /v1/stats`.
pub async fn stats(State(api): State<Arc<Api>>) -> Result<axum::Json<Value>, Problem> {
    // In a task of its own: a client that leaves must not cut off a read that others wait for.
    let shared = Arc::clone(&api);
    let stats = api.finish(async move { shared.stats.read(&shared.operator).await }).await?;
    Ok(axum::Json(json!(*stats)))
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
