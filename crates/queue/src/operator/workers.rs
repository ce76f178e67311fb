//! The fleet: its live workers, and which lanes they serve.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;
use serde_json::json;

use crate::error::QueueError;
use crate::operator::Operator;
use crate::port::Lane;
use crate::port::Watch as _;
use crate::port::WorkerRecord;

/// Jobs that a worker gives back in a row before it counts as sick: one or two may lack something of their own, and a
/// worker that lacks what all jobs need gives back the third soon.
const SICK_AFTER: u64 = 3;

/// How a worker does, decided from its record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WorkerCondition {
    /// It serves.
    Serving,
    /// It takes no new jobs and ends when those that it has are over.
    Draining,
    /// It sent no heartbeat for a lease or longer, which is the time given: it died or is cut off, and the leases of
    /// its jobs have expired.
    Lost(Duration),
    /// It gave back this many jobs in a row because it lacks what they need.
    Sick(u64),
}

/// How a worker does, where leases last as long as `lease`. A lost worker's last words do not count.
fn condition(worker: &WorkerRecord, lease: Duration) -> WorkerCondition {
    let given_back = worker.report.given_back_in_a_row;
    if worker.age >= lease {
        WorkerCondition::Lost(worker.age)
    } else if worker.draining {
        WorkerCondition::Draining
    } else if given_back >= SICK_AFTER {
        WorkerCondition::Sick(given_back)
    } else {
        WorkerCondition::Serving
    }
}

impl WorkerCondition {
    /// The condition in one word, in tables and in JSON.
    pub fn word(self) -> &'static str {
        match self {
            Self::Serving => "serving",
            Self::Draining => "draining",
            Self::Lost(_) => "lost",
            Self::Sick(_) => "sick",
        }
    }
}

impl WorkerRecord {
    /// The worker as the object that every face shows in JSON.
    pub fn object(&self, condition: WorkerCondition) -> Value {
        let (report, time) = (&self.report, |time: Timestamp| format!("{time:.3}"));
        let mut object = json!({
            "id": self.id, "host": self.host, "pid": self.process, "version": report.version,
            "state": condition.word(), "queues": self.lanes, "slots": self.slots, "used": self.used,
            "free": self.slots.saturating_sub(self.used), "jobs": self.jobs,
            "began_at": self.began.map(time), "last_heartbeat": time(self.seen),
            "silent_ms": u64::try_from(self.age.as_millis()).unwrap_or(u64::MAX),
            "draining": self.draining, "run": report.run, "failed": report.failed, "given_back": report.given_back,
            "given_back_in_a_row": report.given_back_in_a_row,
            "last_reason": Some(&report.last_reason).filter(|reason| !reason.is_empty()),
        });
        if let Some(unreadable) = &self.unreadable {
            object["unreadable"] = json!(unreadable);
        }
        object
    }
}

impl Operator {
    /// How one of this fleet's workers does.
    pub fn condition(&self, worker: &WorkerRecord) -> WorkerCondition {
        condition(worker, self.queue().settings().lease)
    }

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
    use super::*;
    use crate::operator::testing;
    use crate::port::WorkerReport;

    fn worker(lanes: &[&str], draining: bool) -> WorkerRecord {
        let lanes = lanes.iter().map(ToString::to_string).collect();
        WorkerRecord { lanes, draining, ..testing::worker("host-1") }
    }

    #[test]
    fn a_worker_is_lost_before_it_is_anything_else() {
        let lease = Duration::from_secs(10);
        for (age, draining, in_a_row, expected) in [
            (3, false, 0, WorkerCondition::Serving),
            (3, false, 2, WorkerCondition::Serving),
            (3, false, 3, WorkerCondition::Sick(3)),
            (3, true, 3, WorkerCondition::Draining),
            (9, false, 0, WorkerCondition::Serving),
            (10, true, 3, WorkerCondition::Lost(lease)),
        ] {
            let report = WorkerReport { given_back_in_a_row: in_a_row, ..WorkerReport::default() };
            let record = WorkerRecord { age: Duration::from_secs(age), report, ..worker(&[], draining) };
            assert_eq!(condition(&record, lease), expected, "{age} {draining} {in_a_row}");
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
