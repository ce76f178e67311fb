//! `webhook`: messages of an agent to a chat or another service, each one POST.
//!
//! A message is sent while the call waits, at most four times. What was delivered within half a minute is not sent again,
//! and messages are a second apart, as in docker-agent.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use legwork_common::error::chain;
use legwork_common::retry::Backoff;
use legwork_common::team::Webhook;
use legwork_common::team::WebhookForm;
use legwork_models::error::asked_delay;
use reqwest::Method;
use reqwest::Response;
use reqwest::StatusCode;
use reqwest::Url;
use reqwest::header::HeaderMap;
use serde::Deserialize;
use serde_json::Value;
use serde_json::json;
use tokio::time::Instant;

use super::Kit;
use super::http;
use super::http::HttpClient;
use super::schema;
use super::schema::Schema;
use crate::environment::Environment;
use crate::tool::Tool;
use crate::tool::ToolContext;
use crate::tool::ToolOutcome;
use crate::tool::ToolSpec;

/// The timeout of one request.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Requests for one message, the first included.
const MAX_ATTEMPTS: u32 = 4;
/// The longest that a receiver's `Retry-After` delays the next request: the agent's turn waits for it.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(60);
/// The most bytes of a refusal that are read; the agent is shown the first [`SHOWN_CHARS`] characters.
const MAX_ANSWER_BYTES: usize = 4096;
/// Characters of a refusal that the agent is shown.
const SHOWN_CHARS: usize = 200;

/// How fast messages are sent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    /// The delay before the second request for a message, doubled for each further one.
    retry_delay: Duration,
    /// How long the same message is not sent again.
    repeated: Duration,
    /// The shortest time between two messages.
    apart: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            retry_delay: Duration::from_secs(1),
            repeated: Duration::from_secs(30),
            apart: Duration::from_secs(1),
        }
    }
}

/// The toolset: one tool.
///
/// # Errors
///
/// What is wrong with the address or a header, for the agent and the operator.
pub(crate) fn open(environment: &Environment, webhook: &Webhook, pace: Pace) -> Result<Kit, String> {
    let headers = http::headers(environment, &webhook.headers)?;
    let url = http::expanded_url(environment, &webhook.url)?;
    let client = HttpClient::new(environment, TIMEOUT, &headers)?;
    let schema = Schema::new()
        .required("message", schema::string(), "The text of the message")
        .optional("value2", schema::string(), "A second value, which IFTTT takes and no other service")
        .optional("value3", schema::string(), "A third value, which IFTTT takes and no other service");
    let description = format!("Send a message to the {} webhook of this agent's user.", webhook.service);
    let spec = schema::writing("send_webhook", &description, schema);
    let (service, form) = (webhook.service.clone(), webhook.form.clone());
    Ok(Kit::new([SendWebhook { spec, service, form, url, headers, client, pace, sent: Arc::default() }]))
}

#[derive(Debug)]
struct SendWebhook {
    spec: ToolSpec,
    service: String,
    form: WebhookForm,
    url: Url,
    headers: HeaderMap,
    client: HttpClient,
    pace: Pace,
    /// A std mutex: never held over an await.
    sent: Arc<Mutex<Sent>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, Deserialize)]
struct Arguments {
    message: String,
    value2: Option<String>,
    value3: Option<String>,
}

/// What was sent lately.
#[derive(Debug, Default)]
struct Sent {
    recent: HashMap<Arguments, Instant>,
    last: Option<Instant>,
}

/// Whether a message may be sent now.
#[derive(Debug, PartialEq, Eq)]
enum Turn {
    Now,
    Repeats,
    Wait(Duration),
}

impl Sent {
    /// Decides about a message, and remembers one that is sent.
    fn admit(&mut self, message: &Arguments, pace: Pace, now: Instant) -> Turn {
        self.recent.retain(|_, at| now.duration_since(*at) < pace.repeated);
        if self.recent.contains_key(message) {
            return Turn::Repeats;
        }
        let wait =
            self.last.map_or(Duration::ZERO, |last| pace.apart.saturating_sub(now.duration_since(last)));
        if !wait.is_zero() {
            return Turn::Wait(wait);
        }
        self.recent.insert(message.clone(), now);
        self.last = Some(now);
        Turn::Now
    }
}

/// What became of one request.
enum Answer {
    Delivered,
    /// It may be accepted later, by the receiver's own words after this time.
    Later(Option<Duration>, String),
    Refused(String),
}

impl SendWebhook {
    async fn send(&self, message: &Arguments) -> ToolOutcome {
        let service = &self.service;
        let turn = self.sent().admit(message, self.pace, Instant::now());
        match turn {
            Turn::Now => {}
            Turn::Repeats => {
                let seconds = self.pace.repeated.as_secs();
                return ToolOutcome::ok(format!(
                    "Suppressed: an identical message was already sent to the {service} webhook within the last {seconds}s."
                ));
            }
            Turn::Wait(wait) => {
                return ToolOutcome::error(format!(
                    "Error: rate limited; wait {}ms before sending another notification.",
                    wait.as_millis()
                ));
            }
        }
        let outcome = self.deliver(message).await;
        if outcome.is_error {
            // It may be tried again at once.
            self.sent().recent.remove(message);
        }
        outcome
    }

    fn sent(&self) -> std::sync::MutexGuard<'_, Sent> {
        self.sent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn deliver(&self, message: &Arguments) -> ToolOutcome {
        let service = &self.service;
        let mut delays = Backoff::exponential(self.pace.retry_delay, MAX_RETRY_AFTER, MAX_ATTEMPTS - 1);
        let mut attempt = 0;
        loop {
            attempt += 1;
            let (asked, why) = match self.request(message).await {
                Answer::Delivered => {
                    return ToolOutcome::ok(format!(
                        "Delivered to the {service} webhook (attempt {attempt}/{MAX_ATTEMPTS})."
                    ));
                }
                Answer::Refused(why) => {
                    return ToolOutcome::error(format!(
                        "Delivery to the {service} webhook failed permanently: {why}"
                    ));
                }
                Answer::Later(asked, why) => (asked, why),
            };
            let Some(delay) = delays.next() else {
                return ToolOutcome::error(format!(
                    "Delivery to the {service} webhook failed after {attempt} attempt(s): {why}"
                ));
            };
            tokio::time::sleep(asked.map_or(delay, |asked| asked.min(MAX_RETRY_AFTER))).await;
        }
    }

    /// Sends one request. Errors leave out the URL, which may contain a key.
    async fn request(&self, message: &Arguments) -> Answer {
        let request = match self.client.request(Method::POST, self.url.clone()) {
            Ok(request) => request.headers(self.headers.clone()).json(&body(&self.form, message)),
            Err(refused) => return Answer::Refused(refused),
        };
        match request.send().await {
            Ok(response) => answer(response).await,
            Err(error) => Answer::Later(None, format!("request failed: {}", chain(&error.without_url()))),
        }
    }
}

/// The body of a message, as its service reads it.
fn body(form: &WebhookForm, Arguments { message, value2, value3 }: &Arguments) -> Value {
    match form {
        WebhookForm::Text => json!({"text": message}),
        WebhookForm::Content => json!({"content": message}),
        WebhookForm::Chat(chat) => json!({"chat_id": chat, "text": message}),
        WebhookForm::Values => {
            let mut body = json!({"value1": message});
            for (name, value) in [("value2", value2), ("value3", value3)] {
                if let Some(value) = value.as_ref().filter(|value| !value.is_empty()) {
                    body[name] = json!(value);
                }
            }
            body
        }
    }
}

async fn answer(response: Response) -> Answer {
    let status = response.status();
    if status.is_success() {
        return Answer::Delivered;
    }
    let header = |name: &str| response.headers().get(name)?.to_str().ok();
    let asked = asked_delay(header, Timestamp::now());
    let bytes = http::head(response, MAX_ANSWER_BYTES).await.unwrap_or_default();
    let text: String = String::from_utf8_lossy(&bytes).trim().chars().take(SHOWN_CHARS).collect();
    let text = if text.is_empty() { "(no body)".to_owned() } else { text };
    let why = format!("HTTP {}: {text}", status.as_u16());
    if status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error() {
        Answer::Later(asked, why)
    } else {
        Answer::Refused(why)
    }
}

#[async_trait]
impl Tool for SendWebhook {
    fn spec(&self) -> &ToolSpec {
        &self.spec
    }

    /// Dropped in the middle, the message may have been delivered or not.
    async fn call(&self, arguments: Value, _context: &ToolContext) -> ToolOutcome {
        let arguments: Arguments = match schema::parse(&self.spec, arguments) {
            Ok(arguments) => arguments,
            Err(invalid) => return invalid,
        };
        if arguments.message.trim().is_empty() {
            return ToolOutcome::error("Error: message is required.");
        }
        self.send(&arguments).await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::sync::atomic::Ordering;

    use axum::Json;
    use axum::Router;
    use axum::http::HeaderMap as Headers;
    use axum::routing::post;
    use legwork_common::variables::API_PRIVATE;

    use super::*;
    use crate::testing;

    const QUICK: Pace = Pace {
        retry_delay: Duration::from_millis(1),
        repeated: Duration::from_secs(30),
        apart: Duration::ZERO,
    };

    /// A receiver that answers its requests with these statuses, the last one from then on.
    async fn receiver(statuses: &'static [u16]) -> (String, Arc<Mutex<Vec<(Option<String>, Value)>>>) {
        let (count, received) = (Arc::new(AtomicUsize::new(0)), Arc::<Mutex<Vec<_>>>::default());
        let kept = Arc::clone(&received);
        let app = Router::new().route(
            "/hook",
            post(async move |headers: Headers, Json(body): Json<Value>| {
                let key = headers.get("x-key").map(|value| value.to_str().unwrap().to_owned());
                kept.lock().unwrap().push((key, body));
                let at = count.fetch_add(1, Ordering::SeqCst).min(statuses.len() - 1);
                (StatusCode::from_u16(statuses[at]).unwrap(), "because")
            }),
        );
        (testing::serve(app).await, received)
    }

    fn tool(url: &str, form: WebhookForm, pace: Pace) -> Arc<dyn Tool> {
        rustls::crypto::ring::default_provider().install_default().ok();
        let mut environment = testing::environment("/");
        for (name, value) in [("PART", "hook"), ("KEY", "secret"), (API_PRIVATE, "1")] {
            environment.variables.insert(name.into(), value.into());
        }
        let headers = [("x-key".to_owned(), "${env.KEY}".to_owned())].into();
        let url = format!("{url}/${{env.PART}}");
        let webhook = Webhook { service: "chat".into(), form, url, headers };
        open(&environment, &webhook, pace).unwrap().tools.remove(0)
    }

    #[tokio::test]
    async fn a_message_is_sent_in_the_form_of_its_service_until_it_is_taken() {
        let (url, received) = receiver(&[503, 429, 200]).await;
        let values = tool(&url, WebhookForm::Values, QUICK);
        let sent = testing::call(&values, json!({"message": "done", "value2": "x", "value3": ""})).await;
        assert_eq!(
            (sent.text.as_str(), sent.is_error),
            ("Delivered to the chat webhook (attempt 3/4).", false)
        );
        let expected = (Some("secret".to_owned()), json!({"value1": "done", "value2": "x"}));
        assert_eq!(*received.lock().unwrap(), vec![expected; 3]);
        let text = Arguments { message: "hi".into(), value2: None, value3: None };
        for (form, expected) in [
            (WebhookForm::Text, json!({"text": "hi"})),
            (WebhookForm::Content, json!({"content": "hi"})),
            (WebhookForm::Chat("7".into()), json!({"chat_id": "7", "text": "hi"})),
        ] {
            assert_eq!(body(&form, &text), expected);
        }
    }

    #[tokio::test]
    async fn a_refusal_is_the_answer_and_a_failing_service_is_asked_four_times() {
        let (url, received) = receiver(&[404]).await;
        let refused = testing::call(&tool(&url, WebhookForm::Text, QUICK), json!({"message": "m"})).await;
        assert_eq!(refused.text, "Delivery to the chat webhook failed permanently: HTTP 404: because");
        assert_eq!(received.lock().unwrap().len(), 1);
        let (url, received) = receiver(&[500]).await;
        let failing = tool(&url, WebhookForm::Text, QUICK);
        let failed = testing::call(&failing, json!({"message": "m"})).await;
        assert_eq!(failed.text, "Delivery to the chat webhook failed after 4 attempt(s): HTTP 500: because");
        assert!(failed.is_error && received.lock().unwrap().len() == 4);
        // What was not delivered may be sent again.
        testing::call(&failing, json!({"message": "m"})).await;
        assert_eq!(received.lock().unwrap().len(), 8);
        let empty = testing::call(&failing, json!({"message": " "})).await;
        assert_eq!(empty.text, "Error: message is required.");
    }

    #[test]
    fn the_same_message_is_sent_once_in_half_a_minute_and_messages_are_a_second_apart() {
        let (mut sent, pace, began) = (Sent::default(), Pace::default(), Instant::now());
        let message = |text: &str| Arguments { message: text.into(), value2: None, value3: None };
        let mut admit =
            |text: &str, ms: u64| sent.admit(&message(text), pace, began + Duration::from_millis(ms));
        assert_eq!(admit("a", 0), Turn::Now);
        assert_eq!(admit("a", 100), Turn::Repeats);
        assert_eq!(admit("b", 400), Turn::Wait(Duration::from_millis(600)));
        assert_eq!(admit("b", 1000), Turn::Now);
        assert_eq!(admit("a", 29_999), Turn::Repeats);
        assert_eq!(admit("a", 30_001), Turn::Now);
    }

    #[tokio::test]
    async fn private_addresses_are_refused_unless_the_operator_allows_them() {
        rustls::crypto::ring::default_provider().install_default().ok();
        let environment = testing::environment("/");
        let form = WebhookForm::Text;
        let webhook =
            Webhook { service: "chat".into(), form, url: "http://127.0.0.1:9/".into(), headers: [].into() };
        let tool = open(&environment, &webhook, QUICK).unwrap().tools.remove(0);
        let refused = testing::call(&tool, json!({"message": "m"})).await;
        assert!(refused.is_error && refused.text.contains("failed permanently"), "{refused:?}");
        assert!(refused.text.contains(API_PRIVATE), "{refused:?}");
    }
}
