//! Reaping: any long-lived process, worker or not, reclaims the jobs of dead workers.

use std::convert::Infallible;
use std::time::Duration;

use futures::future::OptionFuture;
use legwork_common::retry::Backoff;
use legwork_queue::Hints;
use legwork_queue::Observer;
use legwork_queue::Operator;
use legwork_queue::Queue;
use legwork_queue::operator::SessionLanes;
use legwork_queue::port::ReapReport;
use legwork_queue::port::Upkeep as _;

use crate::tally::Tally;

/// Time between two rounds, before jitter. It delays due jobs and reclaimed jobs by a second at most, and an idle round
/// costs Redis a few short commands for each shard.
const REAP_INTERVAL: Duration = Duration::from_secs(1);

/// Reaps every second, with ten percent of jitter so that a fleet does not do it in lockstep. Errors are logged and the
/// next round is the retry. Every step of a round may be repeated, so the future may be dropped at any await.
///
/// Each round also fires the schedules that are due. `tally` counts what was reclaimed.
pub async fn reap_forever(queue: Queue, tally: Tally) -> Infallible {
    let schedules = match Hints::new(queue.target()) {
        Ok(hints) => Some(Operator::new(Observer::new(queue.clone(), hints), SessionLanes::Shared)),
        Err(error) => {
            tracing::warn!(%error, "no schedule is fired from here");
            None
        }
    };
    loop {
        match queue.reap(false).await {
            Ok(report) if report != ReapReport::default() => {
                tally.count_reaped(report);
                tracing::debug!(?report, "reaped");
            }
            Ok(_) => {}
            Err(error) => tracing::warn!(%error, "could not reap"),
        }
        if let Some(Err(error)) = OptionFuture::from(schedules.as_ref().map(Operator::fire_schedules)).await {
            tracing::warn!(%error, "could not read the schedules");
        }
        let jitter = f64::from(rand::random::<u8>()) / 255.0;
        tokio::time::sleep(Backoff::jittered(REAP_INTERVAL, jitter)).await;
    }
}

/// Runs `work`, and reaps until it is done: the jobs that it waits for may be held by a dead worker, and this may be the
/// only live process.
pub async fn while_reaping<T>(queue: &Queue, work: impl Future<Output = T>) -> T {
    tokio::select! {
        answer = work => answer,
        never = reap_forever(queue.clone(), Tally::default()) => match never {},
    }
}
