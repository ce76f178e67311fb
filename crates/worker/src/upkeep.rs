//! Reaping: any long-lived process, worker or not, reclaims the jobs of dead workers.

use std::convert::Infallible;
use std::time::Duration;
use std::time::Instant;

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

/// Time between two rounds of one that is alone or of a few, before jitter. It delays due jobs and reclaimed jobs by a second at
/// most, and an idle round costs Redis a few short commands for each shard.
const REAP_INTERVAL: Duration = Duration::from_secs(1);
/// Rounds in a second that all workers of a fleet make together, as far as [`MAX_INTERVAL`] lets them: several, because some
/// die.
const FLEET_ROUNDS: f64 = 10.0;
/// The longest time between two rounds of one worker, before jitter. If it is the only one left of many, what is due waits as
/// long, until the others count as dead; an instant of a schedule is missed after a minute.
const MAX_INTERVAL: Duration = Duration::from_secs(5);

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
    let lease = queue.settings().lease;
    let mut last = ReapReport::default();
    loop {
        let began = Instant::now();
        match queue.reap(false).await {
            Ok(report) => {
                last = report;
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
        let pause = interval(last, lease, random).saturating_sub(began.elapsed());
        // After a slow round Redis gets as much time as after any.
        tokio::time::sleep(pause.max(REAP_INTERVAL.min(lease / 2).mul_f64(0.9))).await;
    }
}

/// The time from one round to the next; `random` is between 0 and 1.
///
/// A second with ten percent of jitter in a small fleet, and where more is due than one round does. In a larger fleet about
/// [`FLEET_ROUNDS`] are made in a second by all together, and from fifty workers on one in [`MAX_INTERVAL`] by each. It is
/// three quarters of a lease at most: a shard that is not reaped for a whole lease gives all owners another one.
fn interval(last: ReapReport, lease: Duration, random: f64) -> Duration {
    let alone = REAP_INTERVAL.min(lease / 2);
    let shared =
        Duration::from_secs_f64(f64::from(last.workers) / FLEET_ROUNDS).min(lease / 2).min(MAX_INTERVAL);
    match shared > alone && !last.has_more {
        true => shared.mul_f64(0.5 + random),
        false => Backoff::jittered(alone, random),
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
    fn a_large_fleet_shares_the_rounds_and_each_worker_makes_one_before_a_lease_is_over() {
        for (workers, has_more, lease, shortest, longest) in [
            (0, false, 10_000, 900, 1100),
            (1, false, 10_000, 900, 1100),
            (10, false, 10_000, 900, 1100),
            (30, false, 10_000, 1500, 4500),
            (30, true, 10_000, 900, 1100),
            (1000, false, 10_000, 2500, 7500),
            (1000, false, 1_000_000, 2500, 7500),
            (1000, false, 2000, 900, 1100),
            (u32::MAX, false, 500, 225, 275),
        ] {
            let last = ReapReport { workers, has_more, ..ReapReport::default() };
            let lease = Duration::from_millis(lease);
            for (random, expected) in [(0.0, shortest), (1.0, longest)] {
                assert_eq!(
                    interval(last, lease, random),
                    Duration::from_millis(expected),
                    "{last:?}, {lease:?}"
                );
            }
        }
    }
}
