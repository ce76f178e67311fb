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
use legwork_queue::port::Upkeep as _;

use crate::tally::Tally;

/// Time between two rounds, before jitter. It delays due jobs and reclaimed jobs by a second at most, and an idle round
/// costs Redis a few short commands for each shard.
const REAP_INTERVAL: Duration = Duration::from_secs(1);
/// Rounds in a second that a large fleet makes, all its workers together: several, because some die.
const FLEET_ROUNDS: f64 = 10.0;

/// Reaps every second, or less often as one of more than ten workers. Errors are logged and the next round is the retry. Every
/// step of a round may be repeated, so the future may be dropped at any await.
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
    let mut workers = 0;
    loop {
        match queue.reap(false).await {
            Ok(report) => {
                workers = report.workers;
                if report.has_changes() {
                    tally.count_reaped(report);
                    tracing::debug!(?report, "reaped");
                }
            }
            Err(error) => tracing::warn!(%error, "could not reap"),
        }
        if let Some(Err(error)) = OptionFuture::from(schedules.as_ref().map(Operator::fire_schedules)).await {
            tracing::warn!(%error, "could not read the schedules");
        }
        let random = f64::from(rand::random::<u8>()) / 255.0;
        tokio::time::sleep(pause(workers, queue.settings().lease, random)).await;
    }
}

/// How long one of so many workers waits for its next round; `random` is between 0 and 1.
///
/// A second with ten percent of jitter in a small fleet. In a larger one about [`FLEET_ROUNDS`] are made in a second by all
/// together, so that a fleet costs Redis the same however many have nothing to do. But no pause is longer than three
/// quarters of a lease: the few that survive the death of many take over in that time, and a shard that is not reaped for a
/// whole lease gives all owners another one.
fn pause(workers: u32, lease: Duration, random: f64) -> Duration {
    let one_of_many = Duration::from_secs_f64(f64::from(workers) / FLEET_ROUNDS).min(lease / 2);
    match one_of_many > REAP_INTERVAL {
        true => one_of_many.mul_f64(0.5 + random),
        false => Backoff::jittered(REAP_INTERVAL, random),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fleet_reaps_as_often_however_large_it_is_and_each_worker_before_a_lease_is_over() {
        for (workers, lease, shortest, longest) in [
            (0, 10_000, 900, 1100),
            (1, 10_000, 900, 1100),
            (10, 10_000, 900, 1100),
            (30, 10_000, 1500, 4500),
            (1000, 10_000, 2500, 7500),
            (1000, 1_000_000, 50_000, 150_000),
            (1000, 2000, 900, 1100),
            (u32::MAX, 500, 900, 1100),
        ] {
            let lease = Duration::from_millis(lease);
            assert_eq!(pause(workers, lease, 0.0), Duration::from_millis(shortest), "{workers}, {lease:?}");
            assert_eq!(pause(workers, lease, 1.0), Duration::from_millis(longest), "{workers}, {lease:?}");
        }
    }
}
