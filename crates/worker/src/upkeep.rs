//! Looking after what the dead left behind: whoever lives long does it, worker or not.

use std::convert::Infallible;
use std::time::Duration;

use legwork_common::retry::Backoff;
use legwork_queue::Queue;
use legwork_queue::port::ReapReport;
use legwork_queue::port::Upkeep as _;

/// How often the dead are looked for, before jitter.
const REAP_EVERY: Duration = Duration::from_secs(1);

/// Reaps every second, with a little jitter so that a fleet does not do it all at once. Trouble is logged and
/// tried again. Every part of a round may be repeated, so it may be dropped anywhere.
pub async fn reap_for_ever(queue: Queue) -> Infallible {
    loop {
        match queue.reap(false).await {
            Ok(report) if report != ReapReport::default() => tracing::debug!(?report, "reaped"),
            Ok(_) => {}
            Err(error) => tracing::warn!(%error, "could not reap"),
        }
        let jitter = f64::from(rand::random::<u8>()) / 255.0;
        tokio::time::sleep(Backoff::jittered(REAP_EVERY, jitter)).await;
    }
}

/// Does `work`, and reaps until it is done: what is awaited may be held by a worker that is dead.
pub async fn while_reaping<T>(queue: &Queue, work: impl Future<Output = T>) -> T {
    tokio::select! {
        answer = work => answer,
        never = reap_for_ever(queue.clone()) => match never {},
    }
}
