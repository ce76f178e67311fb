//! Pausing queues, and asking workers to end.

use std::collections::BTreeMap;

use jiff::Timestamp;
use legwork_common::id::WorkerId;

use crate::error::QueueError;
use crate::operator::FindError;
use crate::operator::Operator;
use crate::port::WorkerRecord;

impl Operator {
    /// Pauses a queue: no claim that begins after this takes a job of it, and what runs continues. False where it was
    /// paused before. A crash in between leaves some shards paused; a repeat completes it.
    ///
    /// # Errors
    ///
    /// [`QueueError`] when Redis cannot be reached.
    pub async fn pause(&self, queue: &str) -> Result<bool, QueueError> {
        self.queue().pause_queue(queue).await
    }

    /// Ends the pause of a queue; idle workers claim from it within two seconds. False for one that was not paused.
    ///
    /// # Errors
    ///
    /// [`QueueError`] when Redis cannot be reached.
    pub async fn unpause(&self, queue: &str) -> Result<bool, QueueError> {
        self.queue().unpause_queue(queue).await
    }

    /// The paused queues, each with the time since when it is paused.
    ///
    /// # Errors
    ///
    /// [`QueueError`] when Redis cannot be reached.
    pub async fn paused(&self) -> Result<BTreeMap<String, Timestamp>, QueueError> {
        self.queue().paused_queues().await
    }

    /// Asks the worker that `text` names, a whole id or an unambiguous beginning of one, to drain: it claims nothing
    /// more, gives what runs its drain timeout, releases the rest, and exits. It learns of the request with its next
    /// heartbeat. A repeat changes nothing.
    ///
    /// # Errors
    ///
    /// [`FindError`] when no live worker or several are named like this, or when Redis cannot be reached.
    pub async fn drain_worker(&self, text: &str) -> Result<WorkerRecord, FindError> {
        let worker = named(text, self.workers().await?)?;
        if self.queue().request_drain(&worker.id).await? {
            Ok(worker)
        } else {
            Err(FindError::worker(worker.id.as_str()))
        }
    }
}

/// The only worker that a text names.
fn named(text: &str, workers: Vec<WorkerRecord>) -> Result<WorkerRecord, FindError> {
    let whole = WorkerId::from_stored(text.to_owned());
    let (mut exact, begins): (Vec<_>, Vec<_>) = workers
        .into_iter()
        .filter(|worker| !text.is_empty() && worker.id.as_str().starts_with(text))
        .partition(|worker| worker.id == whole);
    let mut found = if exact.is_empty() { begins } else { vec![exact.swap_remove(0)] };
    match found.len() {
        0 => Err(FindError::worker(text)),
        1 => Ok(found.swap_remove(0)),
        _ => Err(FindError::Ambiguous {
            text: text.to_owned(),
            candidates: found.iter().map(|worker| worker.id.to_string()).collect(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use legwork_common::error::Coded as _;

    use super::*;
    use crate::operator::testing::worker;

    #[test]
    fn a_worker_is_named_by_its_id_or_an_unambiguous_beginning() {
        let fleet = || ["build-1", "build-12", "edge-7"].map(worker).to_vec();
        for (text, expected) in [
            ("build-1", Ok("build-1")),
            ("build-12", Ok("build-12")),
            ("edge", Ok("edge-7")),
            ("build", Err("ambiguous")),
            ("x", Err("not_found")),
            ("", Err("not_found")),
        ] {
            let found = named(text, fleet());
            let shown = found.as_ref().map(|worker| worker.id.as_str()).map_err(|error| error.code());
            assert_eq!(shown, expected, "{text}");
        }
    }
}
