//! A thousand workers with a hundred running jobs each, on one Redis: the real steps, and agents that only hold their
//! slot. Run by hand: `cargo test --release -p legwork-queue --test it -- --ignored --nocapture simulation`.

use std::time::Duration;
use std::time::Instant;

use futures::future::join_all;
use legwork_common::id::WorkerId;
use legwork_queue::Queue;
use legwork_queue::port::Claim;
use legwork_queue::port::DispatchedBy;
use legwork_queue::port::Lane;
use legwork_queue::port::Lease;
use legwork_queue::port::Renewal;
use legwork_queue::port::Renewed;
use legwork_queue::port::Upkeep as _;
use legwork_queue::port::Work as _;
use legwork_queue::settings::FleetSettings;
use tokio::time::MissedTickBehavior;

use crate::support::PrivateRedis;
use crate::support::TestSession;
use crate::support::next_number;

const WORKERS: usize = 1_000;
const SLOTS: u32 = 100;
/// Rounds of renewal that are measured: thirty seconds with the default lease.
const ROUNDS: u32 = 10;
/// Workers that are lost at once.
const LOST: usize = 50;

/// A worker of the simulation: what it is called, and what it holds.
struct SimulatedWorker {
    id: WorkerId,
    leases: Vec<Lease>,
}

impl SimulatedWorker {
    /// Fills its slots, and begins what it claimed.
    async fn fill(&mut self, queue: &Queue) {
        let claim = Claim {
            shard: 0,
            worker: self.id.clone(),
            number: next_number(),
            slots: SLOTS,
            idle: true,
            lanes: vec![Lane::Queue("default".into())],
        };
        let claimed = queue.claim(&claim).await.unwrap().jobs;
        let begun: Vec<(Lease, u32)> = claimed.iter().map(|job| (job.lease, job.attempt)).collect();
        queue.begin(&begun).await.unwrap();
        self.leases.extend(claimed.iter().map(|job| job.lease));
    }

    /// Renews every lease, until it is answered. The answer is how many were lost, and how long it took.
    async fn renew(&self, queue: &Queue) -> (usize, Duration) {
        let began = Instant::now();
        let renewal = Renewal { jobs: self.leases.clone(), sessions: Vec::new() };
        loop {
            match queue.renew(&renewal).await {
                Ok((kept, _)) => {
                    let lost = kept.iter().filter(|kept| **kept == Renewed::Lost).count();
                    return (lost, began.elapsed());
                }
                Err(error) => assert!(error.is_transient(), "{error}"),
            }
        }
    }
}

#[expect(clippy::print_stdout, reason = "a measurement prints its numbers")]
fn report(what: &str) {
    println!("{what}");
}

async fn dispatch_all(it: &TestSession) {
    let total = WORKERS * SLOTS as usize;
    let (began, before) = (Instant::now(), it.queue.used_memory().await.unwrap());
    for _ in 0..total / 2_000 {
        let jobs = (0..2_000).map(|_| it.job()).collect();
        it.enqueue(DispatchedBy::Root, jobs).await.unwrap();
    }
    let bytes = (it.queue.used_memory().await.unwrap() - before) / total as f64;
    report(&format!("{total} dispatched in {:.1?}, {bytes:.0} bytes a queued job", began.elapsed()));
}

/// Renews all leases for [`ROUNDS`] intervals, with a round of reaping each second by two workers.
async fn hold(queue: &Queue, workers: &[SimulatedWorker]) {
    let interval = queue.settings().renew_every();
    let (began, before) = (Instant::now(), queue.server_cost().await.unwrap());
    let mut ticks = tokio::time::interval(interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut times = Vec::new();
    for _ in 0..ROUNDS {
        ticks.tick().await;
        let renewed = join_all(workers.iter().map(|worker| worker.renew(queue))).await;
        assert_eq!(renewed.iter().map(|(lost, _)| lost).sum::<usize>(), 0, "no lease is lost");
        times.extend(renewed.into_iter().map(|(_, time)| time));
        let (one, two) = tokio::join!(queue.reap(false), queue.reap(false));
        assert_eq!((one.unwrap().requeued, two.unwrap().requeued), (0, 0));
    }
    times.sort_unstable();
    let cost = queue.server_cost().await.unwrap();
    let share = (cost.cpu_seconds - before.cpu_seconds) / began.elapsed().as_secs_f64() * 100.0;
    let percentile = |part: usize| times[times.len() * part / 100];
    report(&format!(
        "held for {:.0?}: {share:.1} % of a core; a worker's renewal p50 {:.1?}, p99 {:.1?}, all at once",
        began.elapsed(),
        percentile(50),
        percentile(99)
    ));
}

/// Waits until the jobs of the lost workers are queued again, and lets others claim them.
async fn recover(queue: &Queue, lost: &[SimulatedWorker], others: &mut [SimulatedWorker]) {
    let expected = lost.iter().map(|worker| worker.leases.len()).sum::<usize>();
    let (began, mut requeued) = (Instant::now(), 0);
    let mut ticks = tokio::time::interval(queue.settings().renew_every());
    while requeued < expected {
        ticks.tick().await;
        join_all(others.iter().map(|worker| worker.renew(queue))).await;
        requeued += queue.reap(false).await.unwrap().requeued as usize;
    }
    report(&format!(
        "{expected} jobs of {LOST} lost workers were queued again after {:.1?}",
        began.elapsed()
    ));
    let began = Instant::now();
    let before = others.iter().map(|worker| worker.leases.len()).sum::<usize>();
    join_all(others[..LOST].iter_mut().map(|worker| worker.fill(queue))).await;
    let claimed = others.iter().map(|worker| worker.leases.len()).sum::<usize>() - before;
    assert_eq!(claimed, expected, "each of them has a worker again");
    report(&format!("and claimed within {:.1?}", began.elapsed()));
}

#[tokio::test]
#[ignore = "a measurement"]
async fn a_thousand_workers_hold_a_hundred_thousand_jobs() {
    let redis = PrivateRedis::start();
    let queue = redis.queue(&FleetSettings::default()).await;
    let it = TestSession::open(&queue, 0).await;
    dispatch_all(&it).await;
    let named = |n| SimulatedWorker { id: WorkerId::random_on(&format!("host{n}")), leases: Vec::new() };
    let mut workers: Vec<SimulatedWorker> = (0..WORKERS).map(named).collect();
    let began = Instant::now();
    for some in workers.chunks_mut(100) {
        join_all(some.iter_mut().map(|worker| worker.fill(&queue))).await;
    }
    let running = workers.iter().map(|worker| worker.leases.len()).sum::<usize>();
    assert_eq!(running, WORKERS * SLOTS as usize);
    let bytes = queue.used_memory().await.unwrap() / running as f64;
    report(&format!(
        "{running} claimed and begun in {:.1?}, {bytes:.0} bytes a running job",
        began.elapsed()
    ));
    hold(&queue, &workers).await;
    let (lost, others) = workers.split_at_mut(LOST);
    recover(&queue, lost, others).await;
}
