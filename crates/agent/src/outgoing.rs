//! Requests that a program sends for itself and not for a tool, under the policy of the tools that speak HTTP: public
//! addresses only, unless the operator allows others, whether a URL or a name leads there; and here no redirects.

use std::error::Error;
use std::time::Duration;

use jiff::Timestamp;
use legwork_common::error::chain;
use legwork_models::error::asked_delay;
use reqwest::Method;
use reqwest::Url;
use reqwest::header::CONTENT_TYPE;
use reqwest::header::HeaderValue;
use thiserror::Error;

use crate::environment::Environment;
use crate::toolset::NotPublic;
use crate::toolset::OneRequest;

/// Sends JSON to addresses that others chose.
#[derive(Debug, Clone)]
pub struct Outgoing {
    client: OneRequest,
}

/// The answer of a receiver; its body is not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// For how long the receiver wants to be left alone (`Retry-After`, in seconds or as a date).
    pub retry_after: Option<Duration>,
}

/// Why there is no answer.
#[derive(Debug, Error)]
pub enum PostError {
    /// It is not a URL, or a header has a character that HTTP does not allow.
    #[error("it cannot be sent: {0}")]
    Invalid(String),
    /// The address is not public.
    #[error("{0}")]
    Refused(String),
    /// There was no connection, or no answer in time.
    #[error("{0}")]
    NoAnswer(String),
}

impl Outgoing {
    /// A sender that reaches public addresses only, unless the variable `setting` is set and not `0`. Each request ends
    /// within `timeout`.
    ///
    /// # Errors
    ///
    /// Why the client cannot be built: no TLS backend, no system configuration.
    pub fn new(environment: &Environment, setting: &'static str, timeout: Duration) -> Result<Self, String> {
        Ok(Self { client: OneRequest::new(environment, setting, timeout)? })
    }

    /// Posts JSON and returns the answer, whose body is not read. Dropping the future may leave the request
    /// sent or not.
    ///
    /// # Errors
    ///
    /// [`PostError`]; without the URL, which may contain a key.
    pub async fn post(
        &self,
        url: &str,
        headers: &[(&'static str, String)],
        body: String,
    ) -> Result<Answer, PostError> {
        let url = Url::parse(url).map_err(|error| PostError::Invalid(error.to_string()))?;
        let request =
            self.client.request(Method::POST, url).map_err(|error| PostError::Refused(error.to_string()))?;
        let mut request = request.header(CONTENT_TYPE, "application/json").body(body);
        for (name, value) in headers {
            let value = HeaderValue::try_from(value.as_str())
                .map_err(|_| PostError::Invalid(format!("the header {name} is not valid")))?;
            request = request.header(*name, value);
        }
        match request.send().await {
            Ok(response) => {
                let header = |name: &str| response.headers().get(name)?.to_str().ok();
                let retry_after = asked_delay(header, Timestamp::now());
                Ok(Answer { status: response.status().as_u16(), retry_after })
            }
            Err(error) => {
                let error = error.without_url();
                Err(match refusal(&error) {
                    Some(refused) => PostError::Refused(refused),
                    None => PostError::NoAnswer(chain(&error)),
                })
            }
        }
    }
}

/// The refusal of an address that a name was resolved to, among the causes of an error.
fn refusal(error: &reqwest::Error) -> Option<String> {
    let mut cause: Option<&dyn Error> = Some(error);
    while let Some(error) = cause {
        if let Some(refused) = error.downcast_ref::<NotPublic>() {
            return Some(refused.to_string());
        }
        cause = error.source();
    }
    None
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::PathBuf;

    use axum::Router;
    use axum::http::StatusCode;
    use axum::http::header::RETRY_AFTER;
    use axum::response::Redirect;
    use axum::routing::post;
    use legwork_common::variables::WEBHOOK_PRIVATE;

    use super::*;
    use crate::testing;

    fn outgoing(allows_private: bool) -> Outgoing {
        rustls::crypto::ring::default_provider().install_default().ok();
        let value = if allows_private { "1" } else { "0" }.to_owned();
        let variables = BTreeMap::from([(WEBHOOK_PRIVATE.to_owned(), value)]);
        let environment = Environment::new(variables, PathBuf::from("/"));
        Outgoing::new(&environment, WEBHOOK_PRIVATE, Duration::from_secs(5)).unwrap()
    }

    #[tokio::test]
    async fn private_addresses_are_refused_by_number_and_by_name() {
        let outgoing = outgoing(false);
        for url in ["http://127.0.0.1:9/", "http://[::1]:9/", "http://localhost:9/"] {
            let error = outgoing.post(url, &[], "{}".to_owned()).await.unwrap_err();
            assert!(matches!(error, PostError::Refused(_)), "{url}: {error:?}");
            assert!(error.to_string().contains(WEBHOOK_PRIVATE), "{error}");
        }
    }

    #[tokio::test]
    async fn a_redirect_is_the_answer() {
        let moved = || async { Redirect::temporary("/elsewhere") };
        let app =
            Router::new().route("/", post(moved)).route("/elsewhere", post(|| async { "must not be asked" }));
        let url = testing::serve(app).await;
        let answer = outgoing(true).post(&url, &[], "{}".to_owned()).await.unwrap();
        assert_eq!(answer, Answer { status: 307, retry_after: None });
        let error = outgoing(true).post("http://127.0.0.1:1/", &[], String::new()).await.unwrap_err();
        assert!(matches!(error, PostError::NoAnswer(_)), "{error:?}");
    }

    #[tokio::test]
    async fn a_receiver_that_asks_for_time_is_understood() {
        let busy = || async { (StatusCode::SERVICE_UNAVAILABLE, [(RETRY_AFTER, "120")]) };
        let url = testing::serve(Router::new().route("/", post(busy))).await;
        let answer = outgoing(true).post(&url, &[], "{}".to_owned()).await.unwrap();
        assert_eq!(answer, Answer { status: 503, retry_after: Some(Duration::from_secs(120)) });
    }
}
