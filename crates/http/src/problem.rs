//! Errors as `application/problem+json` (RFC 9457).

use axum::http::HeaderValue;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::http::header::RETRY_AFTER;
use axum::http::header::WWW_AUTHENTICATE;
use axum::response::IntoResponse;
use axum::response::Response;
use legwork_common::error::Coded;
use legwork_common::error::ExitStatus;
use legwork_common::error::chain;
use serde_json::Value;
use serde_json::json;

/// Seconds after which a client may ask again when Redis is away: its workers retry about as often.
const RETRY_AFTER_SECONDS: HeaderValue = HeaderValue::from_static("2");

/// Why a request was not carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The status of the response.
    pub status: StatusCode,
    /// A stable code for programs: those of the command line, listed in docs/errors.md.
    pub code: &'static str,
    /// What happened, in one line.
    pub detail: String,
    /// What the caller can do about it.
    pub hint: Option<String>,
}

impl Problem {
    /// A problem without a hint.
    pub fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self { status, code, detail: detail.into(), hint: None }
    }

    /// A request that cannot be carried out as it is written.
    pub fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "usage", detail)
    }

    /// A missing or wrong token.
    pub fn unauthorized() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized", "a bearer token is required")
    }

    /// The server ends, and the outcome of the request is not known.
    pub fn ending() -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "ending", "the server ends; ask again")
    }

    /// The problem as an object: its code, message and hint, as the command line has them in JSON.
    pub fn object(&self) -> Value {
        json!({"code": self.code, "message": self.detail, "hint": self.hint})
    }
}

impl<E: Coded> From<E> for Problem {
    fn from(error: E) -> Self {
        let status = match error.exit() {
            ExitStatus::NotFound => StatusCode::NOT_FOUND,
            ExitStatus::Conflict => StatusCode::CONFLICT,
            ExitStatus::AgentFile => StatusCode::UNPROCESSABLE_ENTITY,
            ExitStatus::Redis => StatusCode::SERVICE_UNAVAILABLE,
            ExitStatus::TimedOut => StatusCode::GATEWAY_TIMEOUT,
            // The command line has no exit status of its own for it.
            _ if error.code() == "wrong_state" => StatusCode::CONFLICT,
            _ => StatusCode::BAD_REQUEST,
        };
        Self { status, code: error.code(), detail: chain(&error), hint: error.hint() }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = json!({
            // The title is that of the status; `code` tells problems of one status apart.
            "type": "about:blank",
            "title": self.status.canonical_reason(),
            "status": self.status.as_u16(),
            "detail": self.detail,
            "code": self.code,
            "hint": self.hint,
        });
        let content = HeaderValue::from_static("application/problem+json");
        let mut response = (self.status, [(CONTENT_TYPE, content)], body.to_string()).into_response();
        if self.status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(RETRY_AFTER, RETRY_AFTER_SECONDS);
        }
        response
    }
}
