//! Questions that wait for a person: the list, and the answers.

use std::sync::Arc;

use axum::extract::Path;
use axum::extract::State;
use legwork_queue::operator::Decision;
use serde::Deserialize;
use serde_json::Value;
use serde_json::json;

use crate::api::Api;
use crate::body::Json;
use crate::problem::Problem;

/// `GET /v1/questions`: what waits for a person, the oldest first.
pub async fn list(State(api): State<Arc<Api>>) -> Result<axum::Json<Value>, Problem> {
    Ok(axum::Json(json!({"questions": api.operator.open_questions(None).await?})))
}

/// An approval, or the answer to a question.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Approval {
    /// The number of the question; its only one where it is absent.
    #[serde(default)]
    call: Option<u32>,
    /// The answer: a text, or the object that the question asks for.
    #[serde(default)]
    answer: Option<Value>,
}

/// A refusal.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Denial {
    /// The number of the question; its only one where it is absent.
    #[serde(default)]
    call: Option<u32>,
    /// The reason, which the agent is given.
    #[serde(default)]
    why: Option<String>,
}

/// `POST /v1/jobs/{id}/approve`: answers when the decision is durable.
pub async fn approve(
    State(api): State<Arc<Api>>,
    Path(id): Path<String>,
    Json(request): Json<Approval>,
) -> Result<axum::Json<Value>, Problem> {
    let text = request.answer.map(|answer| match answer {
        Value::String(text) => text,
        other => other.to_string(),
    });
    let id = api.find(&id).await?;
    let shared = Arc::clone(&api);
    let answered = api
        .finish(async move {
            Ok(shared.operator.answer(id, request.call, Decision::Approve(text.as_deref())).await?)
        })
        .await?;
    Ok(axum::Json(json!(answered)))
}

/// `POST /v1/jobs/{id}/deny`: the same for a refusal.
pub async fn deny(
    State(api): State<Arc<Api>>,
    Path(id): Path<String>,
    Json(request): Json<Denial>,
) -> Result<axum::Json<Value>, Problem> {
    let id = api.find(&id).await?;
    let shared = Arc::clone(&api);
    let answered = api
        .finish(async move {
            let why = request.why.as_deref().map(str::trim).filter(|why| !why.is_empty());
            Ok(shared.operator.answer(id, request.call, Decision::Deny(why)).await?)
        })
        .await?;
    Ok(axum::Json(json!(answered)))
}
