//! Measurements, run by hand: `cargo test -p legwork-queue --test it -- --ignored --nocapture measurements`.

use std::time::Duration;
use std::time::Instant;

use legwork_common::job::JobOptions;
use legwork_queue::port::DispatchedBy;
use legwork_queue::port::Upkeep as _;
use legwork_queue::settings::FleetSettings;
use redis::aio::MultiplexedConnection;

use crate::support::PrivateRedis;
use crate::support::TestSession;

const DUE_JOBS: usize = 200_000;

/// Makes the server record every script that takes a half of a millisecond or longer.
async fn record_slow_scripts(raw: &mut MultiplexedConnection) {
    for (setting, value) in [("slowlog-log-slower-than", "500"), ("slowlog-max-len", "100000")] {
        redis::cmd("CONFIG").arg("SET").arg(setting).arg(value).exec_async(raw).await.unwrap();
    }
    redis::cmd("SLOWLOG").arg("RESET").exec_async(raw).await.unwrap();
}

/// How long the recorded scripts took, in microseconds, sorted.
async fn slow_scripts(raw: &mut MultiplexedConnection) -> Vec<i64> {
    let entries: Vec<redis::Value> =
        redis::cmd("SLOWLOG").arg("GET").arg(100_000).query_async(raw).await.unwrap();
    let mut times: Vec<i64> = entries
        .into_iter()
        .filter_map(|entry| match entry {
            redis::Value::Array(parts) => redis::from_redis_value(parts.into_iter().nth(2)?).ok(),
            _ => None,
        })
        .collect();
    times.sort_unstable();
    times
}

#[expect(clippy::print_stdout, reason = "a measurement prints its numbers")]
fn report(what: &str, times: &[i64]) {
    let above = times.iter().filter(|micros| **micros > 5_000).count();
    let [median, nine_of_ten, longest] = [50, 90, 100].map(|percent| {
        times.get((times.len() * percent / 100).min(times.len().saturating_sub(1))).unwrap_or(&0)
    });
    println!(
        "{what}: {} scripts above 0.5 ms, half below {median} us, nine of ten below {nine_of_ten}, the longest {longest}; \
         {above} above 5 ms",
        times.len()
    );
}

#[tokio::test]
#[ignore = "a measurement"]
async fn two_hundred_thousand_jobs_that_fall_due_at_once() {
    let redis = PrivateRedis::start();
    let it = TestSession::open(&redis.queue(&FleetSettings::default()).await, 0).await;
    let mut raw = redis.raw().await;
    record_slow_scripts(&mut raw).await;
    let began = Instant::now();
    for _ in 0..DUE_JOBS / 2000 {
        let jobs = (0..2000).map(|_| {
            let mut job = it.job();
            job.job_options = JobOptions { delay: Duration::from_millis(1), ..job.job_options };
            job
        });
        it.enqueue(DispatchedBy::Root, jobs.collect()).await.unwrap();
    }
    report(&format!("dispatch of {DUE_JOBS} in {:?}", began.elapsed()), &slow_scripts(&mut raw).await);
    record_slow_scripts(&mut raw).await;
    let (began, mut due, mut rounds) = (Instant::now(), 0, 0);
    while due < u32::try_from(DUE_JOBS).unwrap() {
        due += it.queue.reap(false).await.unwrap().due;
        rounds += 1;
    }
    report(&format!("{due} due in {rounds} rounds, {:?}", began.elapsed()), &slow_scripts(&mut raw).await);
    record_slow_scripts(&mut raw).await;
    let (began, mut claimed) = (Instant::now(), 0);
    for _ in 0..200 {
        claimed += it.claim(100).await.len();
    }
    report(&format!("{claimed} claimed in {:?}", began.elapsed()), &slow_scripts(&mut raw).await);
}
