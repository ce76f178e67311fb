//! What asks for a renewal before the next one is due: stops that were requested, and leases that are short.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

use legwork_common::id::JobId;
use legwork_queue::Hints;
use legwork_queue::Queue;
use tokio::sync::Notify;

/// Jobs that are asked for one by one. Beyond them all leases are renewed, which costs about as much.
const MAX_JOBS: usize = 200;

/// What is to be renewed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// All leases.
    All,
    /// Those of these jobs, as far as this worker holds them.
    Jobs(BTreeSet<JobId>),
}

/// Requests for a renewal, which are gathered until the renewer takes them. Cheap to clone; all clones are one.
#[derive(Debug, Clone)]
pub struct RenewalRequests {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    // A std mutex: held for an insertion or an exchange, never over an await.
    wanted: Mutex<Wanted>,
    changed: Notify,
}

impl Default for RenewalRequests {
    fn default() -> Self {
        let wanted = Mutex::new(Wanted::Jobs(BTreeSet::new()));
        Self { shared: Arc::new(Shared { wanted, changed: Notify::new() }) }
    }
}

impl RenewalRequests {
    fn wanted(&self) -> MutexGuard<'_, Wanted> {
        self.shared.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks for a renewal of all leases.
    pub fn all(&self) {
        *self.wanted() = Wanted::All;
        self.shared.changed.notify_one();
    }

    /// Asks for the renewal of one job's lease.
    pub fn job(&self, id: JobId) {
        let mut wanted = self.wanted();
        if let Wanted::Jobs(jobs) = &mut *wanted {
            jobs.insert(id);
            if jobs.len() > MAX_JOBS {
                *wanted = Wanted::All;
            }
        }
        drop(wanted);
        self.shared.changed.notify_one();
    }

    /// Waits for a request and takes all there are. Dropping the future loses none.
    pub(crate) async fn next(&self) -> Wanted {
        loop {
            let taken = std::mem::replace(&mut *self.wanted(), Wanted::Jobs(BTreeSet::new()));
            match taken {
                Wanted::Jobs(jobs) if jobs.is_empty() => self.shared.changed.notified().await,
                taken => return taken,
            }
        }
    }
}

/// Asks for renewals whenever a stop is requested in any shard, until dropped. A lost hint costs one renewal interval.
pub async fn listen_for_stops(queue: Queue, hints: Hints, requests: RenewalRequests) {
    let mut listeners = Vec::new();
    for shard in 0..queue.settings().shards {
        listeners.push(hints.listen(queue.keys().stop_channel(shard)).await);
    }
    let listening = listeners.into_iter().map(|mut listener| {
        let requests = requests.clone();
        async move {
            loop {
                match stopped_alone(listener.next().await.as_deref()) {
                    Some(id) => requests.job(id),
                    // Any of this worker's jobs may be below what is stopped.
                    None => requests.all(),
                }
            }
        }
    });
    futures::future::join_all(listening).await;
}

/// The job that a hint is about, if it is one without jobs below it.
fn stopped_alone(hint: Option<&[u8]>) -> Option<JobId> {
    std::str::from_utf8(hint?).ok()?.strip_suffix(" alone")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use legwork_common::id::SessionId;

    use super::*;

    #[tokio::test]
    async fn requests_are_gathered_until_they_are_taken() {
        let requests = RenewalRequests::default();
        let ids = [(); 2].map(|()| JobId::random_in(SessionId::random()));
        for id in ids {
            requests.job(id);
        }
        assert_eq!(requests.next().await, Wanted::Jobs(BTreeSet::from(ids)));
        requests.job(ids[0]);
        requests.all();
        requests.job(ids[1]);
        assert_eq!(requests.next().await, Wanted::All);
        for _ in 0..=MAX_JOBS {
            requests.job(JobId::random_in(SessionId::random()));
        }
        assert_eq!(requests.next().await, Wanted::All);
        let (waiting, asking) = (requests.clone(), requests.clone());
        let (taken, ()) = tokio::join!(waiting.next(), async move { asking.job(ids[0]) });
        assert_eq!(taken, Wanted::Jobs(BTreeSet::from([ids[0]])));
    }

    #[test]
    fn only_a_hint_at_a_job_without_jobs_below_it_names_one() {
        let id = JobId::random_in(SessionId::random());
        let alone = format!("{} alone", id.uuid());
        assert_eq!(stopped_alone(Some(alone.as_bytes())), Some(id));
        let tree = id.uuid().to_string();
        for hint in [None, Some(tree.as_bytes()), Some(&b"x alone"[..]), Some(&b"\xff"[..])] {
            assert_eq!(stopped_alone(hint), None);
        }
    }
}
