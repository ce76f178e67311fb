//! Webhooks: the URL that the end of a job is reported to, how that stands, and what follows from an answer.
//!
//! The format is that of Standard Webhooks (<https://www.standardwebhooks.com>), whose libraries verify it.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use jiff::Timestamp;
use serde::Deserialize;
use serde::Serialize;
use thiserror::Error;

use crate::job::optional_rfc3339;
use crate::retry::Backoff;

/// The longest URL in bytes: what servers and proxies accept in a request line.
const MAX_URL_BYTES: usize = 2000;
/// The delays between attempts: the schedule that Standard Webhooks recommends, up to its eighth attempt, 27 hours and 35
/// minutes after the first.
const RETRY_DELAYS: [Duration; 7] = [
    Duration::from_secs(5),
    Duration::from_secs(5 * 60),
    Duration::from_secs(30 * 60),
    Duration::from_secs(2 * 3600),
    Duration::from_secs(5 * 3600),
    Duration::from_secs(10 * 3600),
    Duration::from_secs(10 * 3600),
];
/// The longest that a receiver's `Retry-After` delays the next attempt: as long as the longest delay of the schedule, so
/// that a mistaken header does not hold a notification back beyond its time.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(10 * 3600);
/// How long after its job's end a notification is still sent. Longer than all attempts take: it is for a fleet in which no
/// process could send.
pub const MAX_AGE: Duration = Duration::from_secs(72 * 3600);

/// An absolute `http` or `https` URL without user name, password and fragment, of at most 2,000 bytes.
///
/// It is stored in Redis with its job, so it must not contain a secret. The receiver recognises what is genuine by the
/// signature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct WebhookUrl(String);

/// Why a text is not a [`WebhookUrl`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum WebhookUrlError {
    /// It is not an absolute `http` or `https` URL.
    #[error("a notification goes to an http:// or https:// URL of visible ASCII characters")]
    NotHttp,
    /// It has a user name or a password.
    #[error("the URL of a notification is stored, so it must not contain a user name or a password")]
    Credentials,
    /// It has a fragment, which is not sent.
    #[error("the URL of a notification has no fragment (#…)")]
    Fragment,
    /// It is longer than the limit.
    #[error("the URL of a notification has at most {MAX_URL_BYTES} bytes")]
    TooLong,
}

impl WebhookUrl {
    /// The URL.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The URL without its query, for people and logs: receivers put tokens there.
    pub fn without_query(&self) -> &str {
        self.0.split('?').next().unwrap_or_default()
    }
}

impl FromStr for WebhookUrl {
    type Err = WebhookUrlError;

    fn from_str(text: &str) -> Result<Self, WebhookUrlError> {
        let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
        let rest = rest.ok_or(WebhookUrlError::NotHttp)?;
        let authority = rest.split(['/', '?', '#', '\\']).next().unwrap_or_default();
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
            _ => (authority, None),
        };
        if authority.contains('@') {
            return Err(WebhookUrlError::Credentials);
        }
        let is_port = port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0));
        if host.is_empty() || !is_port || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(WebhookUrlError::NotHttp);
        }
        if text.contains('#') {
            return Err(WebhookUrlError::Fragment);
        }
        if text.len() > MAX_URL_BYTES {
            return Err(WebhookUrlError::TooLong);
        }
        Ok(Self(text.to_owned()))
    }
}

impl TryFrom<String> for WebhookUrl {
    type Error = WebhookUrlError;

    fn try_from(text: String) -> Result<Self, WebhookUrlError> {
        text.parse()
    }
}

impl From<WebhookUrl> for String {
    fn from(url: WebhookUrl) -> Self {
        url.0
    }
}

impl fmt::Display for WebhookUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How the notification of a job's end stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notification {
    /// Where it is sent, without the query.
    pub url: String,
    /// How it stands.
    pub state: NotificationState,
    /// How many attempts were begun; one of them may have been cut off.
    pub attempts: u32,
    /// When the next attempt is due; `None` before the job's end, and once there is none.
    #[serde(serialize_with = "optional_rfc3339")]
    pub next_attempt_at: Option<Timestamp>,
    /// What came of the last attempt, accepted or not.
    pub detail: Option<String>,
}

/// How a notification stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NotificationState {
    /// Its job has not ended.
    Waiting,
    /// It is sent, or sent again.
    Pending,
    /// The receiver accepted it.
    Delivered,
    /// It is not sent any more: the receiver wants none, its address is refused, or its attempts are used up.
    Failed,
    /// It was dropped because too many others were not delivered.
    Dropped,
}

impl NotificationState {
    const ALL: [Self; 5] = [Self::Waiting, Self::Pending, Self::Delivered, Self::Failed, Self::Dropped];

    /// The name, as in JSON and as it is stored.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Pending => "pending",
            Self::Delivered => "delivered",
            Self::Failed => "failed",
            Self::Dropped => "dropped",
        }
    }

    /// The state of a name; `None` for the name of a later release.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == name)
    }
}

/// What came of one attempt to deliver a notification.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reception {
    /// The receiver answered with this status. A redirect is an answer too: none is followed.
    Status(u16),
    /// The same, and the receiver wants to be left alone for so long (`Retry-After`).
    Later {
        /// The status.
        status: u16,
        /// How long.
        wait: Duration,
    },
    /// The policy for outgoing requests keeps the sender away from this address, or it is not an address.
    Refused,
    /// There was no answer in time, or no connection.
    NoAnswer,
}

/// What follows from an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is delivered.
    Delivered,
    /// It is not delivered, and not sent again.
    Failed,
    /// It is sent again after this long.
    RetryIn(Duration),
}

/// What follows from the attempt with this number, counted from 1, for a job that ended `age` ago. `jitter` is uniform
/// between 0 and 1 and changes a delay by up to ten percent.
///
/// Any 2xx accepts it. 410 asks for no more. Everything else may be over by the next attempt, also 401 and 404 (a secret
/// or a route that is deployed late), so it is retried until the attempts or the time are used up, and not before the time
/// that the receiver asked for. An address that the policy refuses stays refused.
pub fn verdict(reception: Reception, attempt: u32, age: Duration, jitter: f64) -> Verdict {
    let asked = match reception {
        Reception::Status(200..=299) | Reception::Later { status: 200..=299, .. } => {
            return Verdict::Delivered;
        }
        Reception::Status(410) | Reception::Later { status: 410, .. } | Reception::Refused => {
            return Verdict::Failed;
        }
        Reception::Status(_) | Reception::NoAnswer => Duration::ZERO,
        Reception::Later { wait, .. } => wait.min(MAX_RETRY_AFTER),
    };
    let delay = usize::try_from(attempt.saturating_sub(1)).ok().and_then(|at| RETRY_DELAYS.get(at));
    match delay.map(|delay| Backoff::jittered(*delay, jitter).max(asked)) {
        Some(delay) if age.saturating_add(delay) <= MAX_AGE => Verdict::RetryIn(delay),
        Some(_) | None => Verdict::Failed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_without_a_secret_are_accepted() {
        for url in [
            "https://example.org",
            "https://example.org/hooks?team=a",
            "http://127.0.0.1:8080/x",
            "https://[2001:db8::1]/x",
            "https://[2001:db8::1]:8443/x",
        ] {
            let parsed: WebhookUrl = url.parse().unwrap();
            assert_eq!(parsed.as_str(), url);
            assert!(!parsed.without_query().contains('?'), "{url}");
        }
    }

    #[test]
    fn other_urls_are_refused_with_the_reason() {
        use WebhookUrlError::Credentials;
        use WebhookUrlError::Fragment;
        use WebhookUrlError::NotHttp;
        use WebhookUrlError::TooLong;
        let long = format!("https://example.org/{}", "x".repeat(MAX_URL_BYTES));
        for (url, reason) in [
            ("", NotHttp),
            ("example.org/hook", NotHttp),
            ("file:///etc/passwd", NotHttp),
            ("https://", NotHttp),
            ("https:///x", NotHttp),
            ("https://:80/", NotHttp),
            ("https://example.org:0/", NotHttp),
            ("https://example.org:x/", NotHttp),
            ("https://example.org/a b", NotHttp),
            ("https://example.org/\u{e9}", NotHttp),
            ("https://user:word@example.org/", Credentials),
            ("https://token@example.org/", Credentials),
            ("https://example.org/#top", Fragment),
            (long.as_str(), TooLong),
        ] {
            assert_eq!(url.parse::<WebhookUrl>(), Err(reason), "{url}");
        }
    }

    #[test]
    fn the_answer_decides_what_follows() {
        let first = Verdict::RetryIn(Duration::from_secs(5));
        for (reception, expected) in [
            (Reception::Status(200), Verdict::Delivered),
            (Reception::Status(204), Verdict::Delivered),
            (Reception::Status(301), first),
            (Reception::Status(400), first),
            (Reception::Status(401), first),
            (Reception::Status(404), first),
            (Reception::Status(410), Verdict::Failed),
            (Reception::Status(429), first),
            (Reception::Status(500), first),
            (Reception::Status(503), first),
            (Reception::NoAnswer, first),
            (Reception::Refused, Verdict::Failed),
        ] {
            assert_eq!(verdict(reception, 1, Duration::ZERO, 0.5), expected, "{reception:?}");
        }
    }

    #[test]
    fn a_receiver_that_asks_for_time_gets_it_within_bounds() {
        let answered = |status, seconds, age| {
            let reception = Reception::Later { status, wait: Duration::from_secs(seconds) };
            verdict(reception, 1, Duration::from_secs(age), 0.5)
        };
        let later = |seconds, age| answered(503, seconds, age);
        let in_seconds = |seconds| Verdict::RetryIn(Duration::from_secs(seconds));
        assert_eq!(later(120, 0), in_seconds(120));
        assert_eq!(later(1, 0), in_seconds(5), "not sooner than the schedule");
        assert_eq!(later(365 * 86_400, 0), in_seconds(36_000));
        assert_eq!(later(120, MAX_AGE.as_secs() - 60), Verdict::Failed, "there is no time for it");
        assert_eq!(answered(301, 120, 0), in_seconds(120));
        assert_eq!(answered(204, 120, 0), Verdict::Delivered);
        assert_eq!(answered(410, 120, 0), Verdict::Failed);
    }

    #[test]
    fn attempts_end_by_number_and_by_time() {
        let no_answer = |attempt, age| verdict(Reception::NoAnswer, attempt, age, 0.5);
        let delays: Vec<Verdict> = (1..=8).map(|attempt| no_answer(attempt, Duration::ZERO)).collect();
        let expected: Vec<Verdict> =
            RETRY_DELAYS.map(Verdict::RetryIn).into_iter().chain([Verdict::Failed]).collect();
        assert_eq!(delays, expected);
        assert_eq!(no_answer(1, MAX_AGE), Verdict::Failed);
        assert_eq!(no_answer(0, Duration::ZERO), Verdict::RetryIn(RETRY_DELAYS[0]));
        let most: Duration = RETRY_DELAYS.iter().sum();
        assert!(most + most / 10 < MAX_AGE, "all attempts fit into the time");
        let jittered = verdict(Reception::Status(500), 1, Duration::ZERO, 1.0);
        assert_eq!(jittered, Verdict::RetryIn(Duration::from_millis(5500)));
    }

    #[test]
    fn states_are_stored_under_their_names() {
        for state in NotificationState::ALL {
            assert_eq!(NotificationState::named(state.as_str()), Some(state));
            assert_eq!(serde_json::to_value(state).unwrap(), state.as_str());
        }
        assert_eq!(NotificationState::named("postponed"), None);
    }
}
