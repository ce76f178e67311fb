//! A job to dispatch as programs write it in JSON: a line of a batch, or the body of a request.

use legwork_common::duration;
use legwork_common::job::JobOptions;
use legwork_common::job::Priority;
use legwork_common::job::parse_name;
use legwork_common::money::SpendingLimit;
use legwork_common::service::RunRequest;
use legwork_common::webhook::WebhookUrl;
use serde::Deserialize;

use crate::operator::request::RequestError;

/// A job to dispatch; durations as text, such as `90s`. What it leaves open is taken from defaults.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JobRequest {
    /// The agent.
    pub agent: String,
    /// The task.
    pub task: String,
    /// What the answer should look like.
    pub expected_output: Option<String>,
    /// The idempotency key.
    pub key: Option<String>,
    /// The queue.
    pub queue: Option<String>,
    /// The priority.
    pub priority: Option<Priority>,
    /// The delay before it is queued.
    pub delay: Option<String>,
    /// The longest that it may run.
    pub timeout: Option<String>,
    /// How many times to retry after a failure.
    pub retries: Option<u32>,
    /// The delay before the first retry.
    pub retry_delay: Option<String>,
    /// The budget: a number of tokens, or an amount such as `"$2.50"`.
    pub budget: Option<SpendingLimit>,
    /// Where its end is reported: a URL.
    pub notify: Option<WebhookUrl>,
}

impl JobRequest {
    /// The request with every option decided.
    ///
    /// # Errors
    ///
    /// [`RequestError::Value`] for the first value that cannot be read.
    pub fn resolve(self, defaults: JobOptions) -> Result<RunRequest, RequestError> {
        let wrong = |error: &dyn ToString| RequestError::Value(error.to_string());
        let time = |text: Option<String>| {
            text.map(|text| duration::parse(&text)).transpose().map_err(|error| wrong(&error))
        };
        let timeout = self.timeout.map(|text| duration::parse_limit(&text)).transpose();
        let queue = self.queue.map(|queue| parse_name(&queue)).transpose();
        Ok(RunRequest {
            safety: None,
            agent: self.agent,
            task: self.task,
            expected_output: self.expected_output,
            call: None,
            key: self.key,
            job_options: Some(JobOptions {
                queue: queue.map_err(|error| wrong(&error))?.unwrap_or(defaults.queue),
                priority: self.priority.unwrap_or(defaults.priority),
                delay: time(self.delay)?.unwrap_or(defaults.delay),
                timeout: timeout.map_err(|error| wrong(&error))?.or(defaults.timeout),
                retries: self.retries.unwrap_or(defaults.retries),
                retry_delay: time(self.retry_delay)?.unwrap_or(defaults.retry_delay),
                budget: self.budget.or(defaults.budget),
                notify: self.notify.or(defaults.notify),
            }),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn resolved(json: &str) -> Result<JobOptions, String> {
        let request: JobRequest = serde_json::from_str(json).map_err(|error| error.to_string())?;
        let defaults = JobOptions { retries: 2, queue: "code".to_owned(), ..JobOptions::default() };
        let request = request.resolve(defaults).map_err(|error| error.to_string())?;
        Ok(request.job_options.unwrap())
    }

    #[test]
    fn what_is_left_open_is_taken_from_the_defaults() {
        let options =
            resolved(r#"{"agent": "a", "task": "t", "timeout": "10m", "priority": "high"}"#).unwrap();
        assert_eq!((options.queue.as_str(), options.retries), ("code", 2));
        assert_eq!((options.timeout, options.priority), (Some(Duration::from_secs(600)), Priority::High));
    }

    #[test]
    fn values_that_cannot_be_read_are_errors() {
        for json in [
            r#"{"agent": "a", "task": "t", "timeout": "0"}"#,
            r#"{"agent": "a", "task": "t", "delay": "soon"}"#,
            r#"{"agent": "a", "task": "t", "queue": "a b"}"#,
            r#"{"agent": "a", "task": "t", "colour": 1}"#,
            r#"{"agent": "a", "task": "t", "notify": "https://user:word@example.org"}"#,
            r#"{"agent": "a"}"#,
        ] {
            assert!(resolved(json).is_err(), "{json}");
        }
    }
}
