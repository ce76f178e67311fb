//! Reports ends of jobs to the URLs that were named at their dispatch, signed as Standard Webhooks asks for.
//!
//! A notification is stored by the step that ends its job. A worker or `legwork serve` that has a secret leases those that
//! are due, sends each once, and records what came of it. If it dies in between, the lease ends and the notification is
//! sent again, with the same id: at least once. `legwork_common::webhook` decides what an answer means.

mod payload;
mod signature;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream;
use jiff::Timestamp;
use legwork_agent::Environment;
use legwork_agent::outgoing::Answer;
use legwork_agent::outgoing::Outgoing;
use legwork_agent::outgoing::PostError;
use legwork_common::duration;
use legwork_common::job::Job;
use legwork_common::variables::WEBHOOK_PRIVATE;
use legwork_common::variables::WEBHOOK_SECRET;
use legwork_common::variables::WEBHOOK_SECRET_FILE;
use legwork_common::variables::value;
use legwork_common::webhook;
use legwork_common::webhook::Reception;
use legwork_common::webhook::Verdict;
use legwork_queue::Queue;
use legwork_queue::QueueError;
use legwork_queue::port::DueNotification;
use legwork_queue::port::Notifications as _;
use legwork_queue::port::Watch as _;
use tokio_util::sync::CancellationToken;

pub use self::signature::SecretError;
use self::signature::Secrets;

/// Time between two rounds. It delays a notification by a second at most.
const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// How long a receiver may take to answer: the lower bound of what Standard Webhooks recommends. A receiver that has more
/// to do is to answer first.
const POST_TIMEOUT: Duration = Duration::from_secs(15);
/// How long a sender has a notification: an attempt, and what recording it may take while Redis is away for a moment.
const LEASE: Duration = Duration::from_secs(60);
/// Notifications that one round leases, of all shards. Those of a round are sent at once, so that a receiver that does not
/// answer delays the others by one timeout, and each is sent within its lease.
const BATCH_SIZE: usize = 32;
/// How long a program that ends still sends. What it does not send is sent by another one, or by the next.
const LAST_ROUND_TIMEOUT: Duration = Duration::from_secs(4);

/// The sender of notifications. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Webhooks {
    outgoing: Outgoing,
    secrets: Arc<Secrets>,
}

/// The variables with the secrets of the file that [`WEBHOOK_SECRET_FILE`] names in the place of [`WEBHOOK_SECRET`], unless
/// that is set: what is taken out of texts are the values of variables. Where the file cannot be read they stay as they are,
/// and [`Webhooks::find`] reports why.
pub fn with_secret_of_file(mut variables: BTreeMap<String, String>) -> BTreeMap<String, String> {
    let file = variables.get(WEBHOOK_SECRET_FILE).map(|file| file.trim()).filter(|file| !file.is_empty());
    let is_set = variables.get(WEBHOOK_SECRET).is_some_and(|secret| !secret.trim().is_empty());
    if let Some(file) = file.filter(|_| !is_set)
        && let Ok(text) = signature::text_of(file)
    {
        variables.insert(WEBHOOK_SECRET.to_owned(), text);
    }
    variables
}

impl Webhooks {
    /// The sender that the variables describe; `None` where they have no secret: then this process sends nothing.
    ///
    /// # Errors
    ///
    /// [`SecretError`] for a secret that cannot be read or is not one.
    pub fn find(variables: &BTreeMap<String, String>) -> Result<Option<Self>, SecretError> {
        let set = [WEBHOOK_SECRET, WEBHOOK_SECRET_FILE].map(|name| value(variables, name));
        let secrets = match set.into() {
            (Some(text), _) => Secrets::parse(text)?,
            (None, Some(file)) => Secrets::read(file)?,
            (None, None) => return Ok(None),
        };
        // Nothing in a request is relative to a folder.
        let environment = Environment::new(variables.clone(), PathBuf::from("/"));
        let outgoing = Outgoing::new(&environment, WEBHOOK_PRIVATE, POST_TIMEOUT)
            .map_err(|detail| SecretError::Client { detail })?;
        Ok(Some(Self { outgoing, secrets: Arc::new(secrets) }))
    }

    /// Sends what is due every second until `over`, and then once more, for at most four seconds: the last jobs of a worker
    /// that ends may have no other to report them. Errors are logged, and the next round is the retry.
    pub async fn run(self, queue: Queue, over: CancellationToken) {
        let rounds = async {
            while over.run_until_cancelled(tokio::time::sleep(POLL_INTERVAL)).await.is_some() {
                self.round(&queue).await;
            }
            self.round(&queue).await;
        };
        let deadline = async {
            over.cancelled().await;
            tokio::time::sleep(LAST_ROUND_TIMEOUT).await;
        };
        tokio::select! {
            () = rounds => {}
            () = deadline => tracing::info!("notifications are left to another sender"),
        }
    }

    /// One round.
    async fn round(&self, queue: &Queue) {
        let due = match self.due(queue).await {
            Ok(due) => due,
            Err(error) => return tracing::warn!(%error, "could not read which notifications are due"),
        };
        stream::iter(due)
            .for_each_concurrent(BATCH_SIZE, async |(due, job)| self.notify(queue, &due, &job).await)
            .await;
    }

    /// Leases what is due and reads its jobs.
    async fn due(&self, queue: &Queue) -> Result<Vec<(DueNotification, Job)>, QueueError> {
        let due = queue.due(BATCH_SIZE, LEASE).await?;
        let ids: Vec<_> = due.iter().map(|due| due.id).collect();
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        // One that is forgotten in between is not reported any more.
        let jobs = queue.jobs(&ids).await?;
        Ok(due.into_iter().zip(jobs).filter_map(|(due, job)| Some((due, job?))).collect())
    }

    /// Sends one notification and records what came of it.
    async fn notify(&self, queue: &Queue, due: &DueNotification, job: &Job) {
        let (reception, mut detail) = if due.age > webhook::MAX_AGE {
            (Reception::Refused, "no attempt was left to its time".to_owned())
        } else {
            self.post(due, job).await
        };
        let jitter = f64::from(rand::random::<u8>()) / 255.0;
        let verdict = webhook::verdict(reception, due.attempt, due.age, jitter);
        if let (Reception::Later { wait, .. }, Verdict::RetryIn(_)) = (reception, verdict) {
            detail.push_str(&format!(", not before {} from then", duration::short(wait)));
        }
        let url = due.url.without_query();
        match verdict {
            Verdict::Delivered => tracing::debug!(job = %due.id, url, "reported the end of a job"),
            Verdict::RetryIn(delay) => {
                tracing::info!(job = %due.id, url, attempt = due.attempt, ?delay, detail, "will report the end of a job again");
            }
            Verdict::Failed => {
                tracing::warn!(job = %due.id, url, attempt = due.attempt, detail, "could not report the end of a job");
            }
        }
        match queue.record(due, verdict, &detail).await {
            Ok(true) => {}
            Ok(false) => tracing::debug!(job = %due.id, "another sender has the notification"),
            Err(error) => tracing::warn!(job = %due.id, %error, "could not record a notification"),
        }
    }

    async fn post(&self, due: &DueNotification, job: &Job) -> (Reception, String) {
        let id = payload::message_id(due.id);
        let body = payload::body(job);
        let timestamp = Timestamp::now().as_second();
        let headers = [
            ("webhook-signature", self.secrets.signature(&id, timestamp, &body)),
            ("webhook-timestamp", timestamp.to_string()),
            ("webhook-id", id),
        ];
        match self.outgoing.post(due.url.as_str(), &headers, body).await {
            Ok(Answer { status, retry_after }) => {
                let reception =
                    retry_after.map_or(Reception::Status(status), |wait| Reception::Later { status, wait });
                (reception, format!("answered {status}"))
            }
            Err(error @ PostError::NoAnswer(_)) => (Reception::NoAnswer, error.to_string()),
            Err(error) => (Reception::Refused, error.to_string()),
        }
    }
}
