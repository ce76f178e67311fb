//! The fleet's numbers as they change: read once for all clients that follow them, and only while there is one.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use axum::extract::State;
use axum::response::Response;
use axum::response::sse::Event;
use legwork_process::tasks::TaskKind;
use legwork_queue::Operator;
use serde_json::Value;
use serde_json::json;
use tokio::sync::Notify;
use tokio::sync::mpsc;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::api::Api;
use crate::events::RETRY;
use crate::events::respond;
use crate::fleet::worker_objects;
use crate::problem::Problem;

/// The shortest time between two readings: as fast as a person reads numbers.
const MIN_INTERVAL: Duration = Duration::from_secs(2);
/// How many times as long as a reading takes the next one is put off, so that a large fleet is not slowed by it. A new
/// follower need not wait for that: it shows what was read before it came for [`MIN_INTERVAL`] at most.
const REST: u32 = 10;

/// The last reading; `None` before the first.
type Reading = Option<Result<Arc<str>, Problem>>;

/// The reading that all followers share. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Board(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    sender: watch::Sender<Reading>,
    /// Whether a task reads. Guards the count of followers too: a reader ends only while no one subscribes.
    is_read: Mutex<bool>,
    /// A follower has come.
    joined: Notify,
}

impl Default for Inner {
    fn default() -> Self {
        Self { sender: watch::Sender::new(None), is_read: Mutex::new(false), joined: Notify::new() }
    }
}

impl Board {
    /// Follows the readings; the first follower starts them.
    fn subscribe(&self, api: &Api) -> watch::Receiver<Reading> {
        let mut is_read = self.0.is_read.lock().unwrap_or_else(PoisonError::into_inner);
        if *is_read {
            self.0.joined.notify_one();
        } else {
            *is_read = true;
            // What was read for earlier followers is old.
            self.0.sender.send_replace(None);
            let reader = self.clone().read(api.operator.clone(), api.end.clone());
            api.tasks.spawn(TaskKind::Http, reader);
        }
        self.0.sender.subscribe()
    }

    /// Reads until there is no follower, or the server ends.
    async fn read(self, operator: Operator, end: CancellationToken) {
        loop {
            let began = Instant::now();
            let reading = read(&operator).await;
            let took = began.elapsed();
            self.0.sender.send_replace(Some(reading));
            tokio::select! {
                () = self.rest(took) => {}
                // The next follower gets numbers of its own.
                () = self.0.sender.closed() => {}
                () = end.cancelled() => {}
            }
            let mut is_read = self.0.is_read.lock().unwrap_or_else(PoisonError::into_inner);
            if end.is_cancelled() || self.0.sender.receiver_count() == 0 {
                *is_read = false;
                return;
            }
        }
    }
}

impl Board {
    /// Waits until the next reading is due.
    async fn rest(&self, took: Duration) {
        tokio::time::sleep(MIN_INTERVAL).await;
        let more = took.saturating_mul(REST).saturating_sub(MIN_INTERVAL);
        tokio::select! {
            () = tokio::time::sleep(more) => {}
            () = self.0.joined.notified() => {}
        }
    }
}

async fn read(operator: &Operator) -> Result<Arc<str>, Problem> {
    let (stats, history) = operator.stats_and_history().await?;
    let workers = worker_objects(operator).await?;
    Ok(Arc::from(json!({"stats": stats, "history": history, "workers": workers}).to_string()))
}

/// `GET /v1/stats/history`.
pub async fn history(State(api): State<Arc<Api>>) -> Result<axum::Json<Value>, Problem> {
    let (_, history) = api.operator.stats_and_history().await?;
    Ok(axum::Json(json!(history)))
}

/// `GET /v1/stats/events`: an event `stats` for each reading, the first at once. Where Redis cannot be asked, the first one
/// is a problem, and a later one ends the stream: the client comes back.
pub async fn follow(State(api): State<Arc<Api>>) -> Result<Response, Problem> {
    let mut readings = api.board.subscribe(&api);
    tokio::select! {
        first = readings.wait_for(Option::is_some) => {
            if let Ok(Some(Err(problem))) = first.as_deref() {
                return Err(problem.clone());
            }
        }
        () = api.end.cancelled() => return Err(Problem::ending()),
    }
    readings.mark_changed();
    // One: only the latest counts, and each may have a megabyte.
    let (sender, receiver) = mpsc::channel(1);
    let end = api.end.clone();
    api.tasks.spawn(TaskKind::Http, async move {
        tokio::select! {
            () = send_all(readings, &sender) => {}
            () = sender.closed() => {}
            () = end.cancelled() => {}
        }
    });
    Ok(respond(receiver))
}

async fn send_all(mut readings: watch::Receiver<Reading>, sender: &mpsc::Sender<Event>) {
    while readings.changed().await.is_ok() {
        let reading = readings.borrow_and_update().clone();
        match reading {
            None => {}
            Some(Err(_)) => return,
            Some(Ok(text)) => {
                let event = Event::default().event("stats").retry(RETRY).data(&*text);
                if sender.send(event).await.is_err() {
                    return;
                }
            }
        }
    }
}
