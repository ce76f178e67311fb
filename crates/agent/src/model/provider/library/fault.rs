//! Classifies a provider's failures. Pure.

use std::time::Duration;

use genai::Error;
use jiff::Timestamp;
use jiff::fmt::rfc2822;
use legwork_common::team::ModelSettings;
use reqwest::StatusCode;
use reqwest::header::HeaderMap;
use serde_json::Value;

use crate::model::ModelError;

/// The most characters of a provider's message in an error. Some providers answer with whole pages of HTML.
const MAX_MESSAGE_CHARS: usize = 500;

/// The error for the caller: whether it is retried depends on it.
pub(super) fn classified(settings: &ModelSettings, error: &Error, now: Timestamp) -> ModelError {
    let model = settings.reference();
    match error {
        // For a stream, the library wraps a refused request once more.
        Error::WebStream { error: inner, cause, .. } => match inner.downcast_ref::<Error>() {
            Some(inner) => classified(settings, inner, now),
            None => ModelError::Transient { model, detail: short(cause) },
        },
        Error::ChatResponse { body, .. } => in_stream(model, body),
        Error::StreamParse { serde_error, .. } => {
            ModelError::Transient { model, detail: format!("the stream is broken: {serde_error}") }
        }
        Error::HttpError { body, .. } => by_status(model, error, body, now),
        Error::WebModelCall { webc_error, .. } | Error::WebAdapterCall { webc_error, .. } => {
            match error.status() {
                Some(_) => by_status(model, error, &webc_error.to_string(), now),
                None => ModelError::Transient { model, detail: short(&webc_error.to_string()) },
            }
        }
        other => ModelError::Refused { model, detail: short(&other.to_string()) },
    }
}

fn by_status(model: String, error: &Error, body: &str, now: Timestamp) -> ModelError {
    let status = error.status().unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let detail = format!("{status}: {}", words(body));
    match status.as_u16() {
        429 => {
            let retry_after = error.headers().and_then(|headers| retry_after(headers, now));
            ModelError::RateLimited { model, retry_after, detail }
        }
        408 | 409 | 500.. => ModelError::Transient { model, detail },
        _ => ModelError::Refused { model, detail },
    }
}

/// An error event in a stream that began well.
fn in_stream(model: String, body: &Value) -> ModelError {
    let inner = body.get("error").unwrap_or(body);
    let kind = inner["type"].as_str().or_else(|| inner["code"].as_str()).unwrap_or_default();
    let detail = format!("{kind}: {}", words(&body.to_string()));
    match kind {
        "rate_limit_error" | "rate_limit_exceeded" | "tokens" | "requests" => {
            ModelError::RateLimited { model, retry_after: None, detail }
        }
        "invalid_request_error"
        | "authentication_error"
        | "permission_error"
        | "not_found_error"
        | "request_too_large"
        | "billing_error"
        | "insufficient_quota" => ModelError::Refused { model, detail },
        _ => ModelError::Transient { model, detail },
    }
}

/// How long the provider asks to wait; it states milliseconds, seconds or a date.
fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let text = |name: &str| headers.get(name)?.to_str().ok().map(str::trim);
    let number = |name: &str| text(name)?.parse::<f64>().ok();
    let seconds = number("retry-after-ms").map(|milliseconds| milliseconds / 1000.0);
    if let Some(seconds) = seconds.or_else(|| number("retry-after")) {
        return Duration::try_from_secs_f64(seconds).ok();
    }
    let date = rfc2822::parse(text("retry-after")?).ok()?.timestamp();
    Some(Duration::try_from(date.duration_since(now)).unwrap_or(Duration::ZERO))
}

/// The message in a provider's JSON, or the beginning of its answer.
fn words(body: &str) -> String {
    let parsed: Option<Value> = serde_json::from_str(body).ok();
    let message = parsed.as_ref().and_then(|body| {
        let inner = body.get("error").unwrap_or(body);
        inner["message"].as_str().or_else(|| inner.as_str())
    });
    short(message.unwrap_or(body))
}

fn short(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(MAX_MESSAGE_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use reqwest::header::HeaderValue;
    use serde_json::json;

    use super::*;

    fn http(status: u16, headers: &[(&'static str, &str)], body: &str) -> ModelError {
        let headers = headers.iter().map(|&(name, value)| {
            (reqwest::header::HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())
        });
        let inner = Error::HttpError {
            status: StatusCode::from_u16(status).unwrap(),
            canonical_reason: String::new(),
            body: body.to_owned(),
            headers: Box::new(headers.collect()),
        };
        let settings = ModelSettings::inline("openai", "gpt-4o").unwrap();
        classified(&settings, &inner, Timestamp::UNIX_EPOCH)
    }

    #[test]
    fn by_the_status() {
        for status in [408, 500, 503, 529] {
            assert!(matches!(http(status, &[], ""), ModelError::Transient { .. }), "{status}");
        }
        for status in [400, 401, 403, 404, 413] {
            assert!(matches!(http(status, &[], ""), ModelError::Refused { .. }), "{status}");
        }
        let refused = http(401, &[], r#"{"error": {"message": "bad  key"}}"#);
        assert_eq!(refused.to_string(), "openai/gpt-4o refused: 401 Unauthorized: bad key");
    }

    #[test]
    fn by_the_wait_that_is_asked_for() {
        let table = [
            (vec![("retry-after", "7")], Some(7000)),
            (vec![("retry-after", "7"), ("retry-after-ms", "120.5")], Some(120)),
            (vec![("retry-after", "Thu, 01 Jan 1970 00:00:09 GMT")], Some(9000)),
            (vec![("retry-after", "Wed, 31 Dec 1969 00:00:00 GMT")], Some(0)),
            (vec![("retry-after", "soon")], None),
            (vec![("retry-after", "-1")], None),
            (vec![], None),
        ];
        for (headers, expected) in table {
            match http(429, &headers, "") {
                ModelError::RateLimited { retry_after, .. } => {
                    assert_eq!(retry_after.map(|wait| wait.as_millis()), expected, "{headers:?}");
                }
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn by_the_error_in_the_stream() {
        let wrapped = |kind: &str| json!({"type": "error", "error": {"type": kind, "message": "m"}});
        let kind = |body: &Value| in_stream("p/m".into(), body);
        assert!(matches!(kind(&wrapped("overloaded_error")), ModelError::Transient { .. }));
        assert!(matches!(kind(&wrapped("rate_limit_error")), ModelError::RateLimited { .. }));
        assert!(matches!(kind(&wrapped("invalid_request_error")), ModelError::Refused { .. }));
        assert!(matches!(
            kind(&json!({"message": "m", "type": "server_error"})),
            ModelError::Transient { .. }
        ));
        let refused = kind(&wrapped("invalid_request_error"));
        assert_eq!(refused.to_string(), "p/m refused: invalid_request_error: m");
    }
}
