//! The fleet: its live workers, and which lanes they serve.

use std::collections::BTreeSet;

use crate::error::QueueError;
use crate::operator::Operator;
use crate::port::Lane;
use crate::port::Watch as _;
use crate::port::WorkerRecord;

impl Operator {
    /// The live workers: those whose heartbeat is recent enough to be kept.
    ///
    /// # Errors
    ///
    /// [`QueueError`] when Redis cannot be reached.
    pub async fn workers(&self) -> Result<Vec<WorkerRecord>, QueueError> {
        self.queue().workers().await
    }

    /// The workers that serve this lane and do not drain. One that died is among them until its heartbeat is three
    /// leases old.
    ///
    /// # Errors
    ///
    /// [`QueueError`] when Redis cannot be reached.
    pub async fn workers_of(&self, lane: &Lane) -> Result<Vec<WorkerRecord>, QueueError> {
        let (name, mut workers) = (lane.name(), self.workers().await?);
        workers.retain(|worker| worker.lanes.contains(&name) && !worker.draining);
        Ok(workers)
    }

    /// Those of the queues that no live worker serves, each once, in the order of their names. Jobs there wait.
    ///
    /// # Errors
    ///
    /// [`QueueError`] when Redis cannot be reached.
    pub async fn unserved(&self, queues: &[String]) -> Result<Vec<String>, QueueError> {
        Ok(unserved(queues, &self.workers().await?))
    }
}

/// The queues that are in no worker's lanes. A draining worker counts: it may be about to be replaced, and the hint that
/// follows from this would be wrong at every restart.
fn unserved(queues: &[String], workers: &[WorkerRecord]) -> Vec<String> {
    let served: BTreeSet<&String> = workers.iter().flat_map(|worker| &worker.lanes).collect();
    let wanted: BTreeSet<&String> = queues.iter().collect();
    wanted.difference(&served).map(|queue| (*queue).clone()).collect()
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use legwork_common::id::WorkerId;

    use super::*;

    fn worker(lanes: &[&str], draining: bool) -> WorkerRecord {
        WorkerRecord {
            id: WorkerId::random_on("host"),
            host: "host".to_owned(),
            process: None,
            lanes: lanes.iter().map(ToString::to_string).collect(),
            slots: 1,
            used: 0,
            jobs: 0,
            unreadable: None,
            seen: Timestamp::UNIX_EPOCH,
            draining,
        }
    }

    #[test]
    fn unserved_queues_are_named_once() {
        let workers = [worker(&["code", "default"], false), worker(&["old"], true)];
        for (queues, expected) in [
            (&["default"][..], &[][..]),
            (&["gpu", "code", "gpu", "audio"], &["audio", "gpu"]),
            (&["old"], &[]),
            (&[], &[]),
        ] {
            let queues: Vec<String> = queues.iter().map(ToString::to_string).collect();
            assert_eq!(unserved(&queues, &workers), expected, "{queues:?}");
        }
    }
}
