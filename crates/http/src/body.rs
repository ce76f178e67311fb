//! Reading a request's body: JSON within bounds of size and time.

use std::time::Duration;

use axum::body::Body;
use axum::body::to_bytes;
use axum::extract::FromRequest;
use axum::extract::Request;
use axum::http::HeaderMap;
use axum::http::StatusCode;
use axum::http::header::CONTENT_LENGTH;
use axum::http::header::CONTENT_TYPE;
use serde::de::DeserializeOwned;
use tokio::sync::Semaphore;

use crate::problem::Problem;

/// The largest body: as large as an agent file may be, and as some ten thousand requests of a batch are.
pub const MAX_BODY: usize = 8 * 1024 * 1024;
/// Bodies up to this are read without a permit.
const SMALL_BODY: usize = 64 * 1024;
/// Large bodies that are read at once, so that all together take at most 64 MiB.
const LARGE_BODIES: usize = 8;
/// How long a body may take to arrive: 8 MiB at 280 kB a second.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

static LARGE: Semaphore = Semaphore::const_new(LARGE_BODIES);

/// A body that was read as JSON. An empty one counts as `{}`.
#[derive(Debug, Clone, Copy)]
pub struct Json<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _state: &S) -> Result<Self, Problem> {
        let (parts, body) = request.into_parts();
        check_type(&parts.headers)?;
        let length = declared_length(&parts.headers);
        if length.is_some_and(|length| length > MAX_BODY as u64) {
            return Err(too_large());
        }
        let is_small = length.is_some_and(|length| length <= SMALL_BODY as u64);
        let read = async {
            // Closed never, so that the permit is missing only where none is needed.
            let _permit = if is_small { None } else { LARGE.acquire().await.ok() };
            read(body).await
        };
        let bytes = tokio::time::timeout(BODY_TIMEOUT, read).await.map_err(|_elapsed| {
            Problem::new(
                StatusCode::REQUEST_TIMEOUT,
                "timeout",
                "the body took more than 30 seconds to arrive",
            )
        })??;
        let text: &[u8] = if bytes.is_empty() { b"{}" } else { &bytes };
        serde_json::from_slice(text)
            .map(Self)
            .map_err(|error| Problem::bad_request(format!("the body: {error}")))
    }
}

async fn read(body: Body) -> Result<Vec<u8>, Problem> {
    match to_bytes(body, MAX_BODY).await {
        Ok(bytes) => Ok(bytes.into()),
        // Either it is longer than the bound, or the client went away, and then no one reads the answer.
        Err(_) => Err(too_large()),
    }
}

/// The length that the head declares; `None` for a body in chunks.
fn declared_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Requires JSON: a form of another site's page can send other types without asking first.
fn check_type(headers: &HeaderMap) -> Result<(), Problem> {
    let kind = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    let is_empty = declared_length(headers).unwrap_or(0) == 0 && kind.is_empty();
    if is_empty || kind.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "usage", "the body must be application/json"))
}

fn too_large() -> Problem {
    let detail = format!("the body is larger than {} MiB", MAX_BODY / 1024 / 1024);
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", detail)
}
