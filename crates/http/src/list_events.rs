//! A list of jobs as it changes: what a page shows without asking for all of it again.

use std::collections::HashMap;
use std::hash::DefaultHasher;
use std::hash::Hash as _;
use std::hash::Hasher as _;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::Response;
use axum::response::sse::Event;
use legwork_common::id::JobId;
use legwork_common::job::Job;
use legwork_process::tasks::TaskKind;
use legwork_queue::operator::Listing;
use serde_json::Value;
use serde_json::json;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::api::Api;
use crate::events::RETRY;
use crate::events::respond;
use crate::jobs::ListQuery;
use crate::jobs::Parameters;
use crate::jobs::Selection;
use crate::jobs::parameters;
use crate::problem::Problem;

/// The shortest time between two readings of a list.
const MIN_INTERVAL: Duration = Duration::from_secs(1);
/// How many times as long as a reading takes the next one is put off: each follower reads its own list.
const REST: u32 = 20;
/// The characters of a task that a list shows.
const TASK_CHARS: usize = 200;

/// `GET /v1/jobs/events`: an event `jobs` with the whole list, then one for each change of it.
pub async fn follow(State(api): State<Arc<Api>>, query: Parameters<ListQuery>) -> Result<Response, Problem> {
    let selection = Selection::of(&api, parameters(query)?).await?;
    // What is wrong with the query is answered as a problem.
    let first = selection.read(&api).await?;
    // One: only the latest counts, and each may have a megabyte.
    let (sender, receiver) = mpsc::channel(1);
    let shared = Arc::clone(&api);
    // In a task of its own: a client that leaves must not cut off a read.
    api.tasks.spawn(TaskKind::Http, async move {
        tokio::select! {
            () = send_changes(&shared, &selection, first, &sender) => {}
            () = shared.end.cancelled() => {}
        }
    });
    Ok(respond(receiver))
}

/// Sends until the client has gone, or Redis cannot be asked: then the client comes back.
async fn send_changes(api: &Api, selection: &Selection, first: Listing, sender: &mpsc::Sender<Event>) {
    let mut shown = Shown::default();
    let (mut listing, mut took) = (first, Duration::ZERO);
    loop {
        if let Some(change) = shown.change(listing) {
            let event = Event::default().event("jobs").retry(RETRY).data(change.to_string());
            if sender.send(event).await.is_err() {
                return;
            }
        }
        tokio::select! {
            () = tokio::time::sleep(MIN_INTERVAL.max(took.saturating_mul(REST))) => {}
            () = sender.closed() => return,
        }
        let began = Instant::now();
        listing = match selection.read(api).await {
            Ok(listing) => listing,
            Err(problem) => {
                tracing::debug!(detail = problem.detail, "a stream of a list ended early");
                return;
            }
        };
        took = began.elapsed();
    }
}

/// What a client has been sent: a hash of each job, so that a stream costs little memory.
#[derive(Debug, Default)]
struct Shown {
    ids: Option<Vec<JobId>>,
    hashes: HashMap<JobId, u64>,
}

impl Shown {
    /// What a client has to be sent to have this list; `None` where it has it.
    fn change(&mut self, listing: Listing) -> Option<Value> {
        let mut hashes = HashMap::with_capacity(listing.jobs.len());
        let mut changed: Vec<Value> = Vec::new();
        let mut ids: Vec<JobId> = Vec::with_capacity(listing.jobs.len());
        for listed in &listing.jobs {
            let id = listed.job.id;
            let (object, hash) = summary(&listed.job);
            if self.hashes.get(&id) != Some(&hash) {
                changed.push(object);
            }
            hashes.insert(id, hash);
            ids.push(id);
        }
        self.hashes = hashes;
        let is_same = changed.is_empty() && self.ids.as_ref() == Some(&ids);
        self.ids = Some(ids);
        let next = listing.next.map(|next| next.to_string());
        (!is_same).then(|| json!({"changed": changed, "ids": self.ids, "next": next}))
    }
}

/// The job with the beginning of its task and without its result, and a hash of what a client can see change. Times that
/// grow without any change are not in the hash.
fn summary(job: &Job) -> (Value, u64) {
    let mut object = json!(job);
    let Some(fields) = object.as_object_mut() else { return (object, 0) };
    fields.remove("result");
    fields.insert("task".to_owned(), json!(job.task.chars().take(TASK_CHARS).collect::<String>()));
    let mut steady = fields.clone();
    steady.remove("runtime_ms");
    steady.remove("silent_ms");
    let mut hasher = DefaultHasher::new();
    json!(steady).to_string().hash(&mut hasher);
    (object, hasher.finish())
}
