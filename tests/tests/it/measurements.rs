//! Measurements, run by hand: `cargo test -p legwork-tests --test it -- --ignored --nocapture measurements`.

use std::time::Duration;
use std::time::Instant;

use futures::TryStreamExt as _;
use legwork_common::variables;
use legwork_queue::ConnectionKind;
use legwork_queue::Hints;
use legwork_queue::Observer;
use legwork_queue::Operator;
use legwork_queue::Queue;
use legwork_queue::Target;
use legwork_queue::operator::SessionLanes;
use legwork_queue::operator::StopReport;
use legwork_queue::operator::StopRoot;
use legwork_queue::port::JobFilter;
use legwork_queue::port::Watch as _;
use legwork_queue::settings::FleetSettings;
use legwork_tests::programs::StateFolder;
use legwork_tests::programs::until;
use serde_json::json;

use crate::team::Team;

/// Jobs that run at the same time.
const RUNNING: usize = 1000;
/// Stops that are measured one by one.
const SINGLE_STOPS: usize = 200;

/// A place in sorted times.
fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    sorted[(sorted.len() - 1) * percent / 100]
}

#[test]
#[ignore = "a measurement"]
fn stops_with_a_thousand_running_jobs() {
    let (redis, mut state) = StateFolder::with_redis();
    state.set(variables::LEASE, "10s");
    let script = json!({"quick": [{"text": "one two", "chunk_delay_ms": 3_600_000}]});
    let team = Team::write(&mut state, &script);
    let _worker = state.worker(&["--concurrency", "2000"]);
    let dispatch = |count: usize| {
        let lines: Vec<String> =
            (0..count).map(|n| json!({"agent": "quick", "task": format!("{n}")}).to_string()).collect();
        let batch = state.file("batch.jsonl", lines.join("\n"));
        state.dispatch(&[&team.file, "--batch", &batch, "--cap", "0"]);
    };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (queue, operator) = runtime.block_on(async {
        let target = Target::parse(&redis.url()).unwrap();
        let settings = FleetSettings::default();
        let queue = Queue::connect(&target, "default", &settings, ConnectionKind::Pooled).await.unwrap();
        let observer = Observer::new(queue.clone(), Hints::new(&target).unwrap());
        (queue, Operator::new(observer, SessionLanes::Shared))
    });
    let running = || {
        let workers = runtime.block_on(queue.workers()).unwrap();
        workers.iter().map(|worker| worker.used as usize).sum::<usize>()
    };
    dispatch(RUNNING + SINGLE_STOPS);
    until("all jobs run", || running() == RUNNING + SINGLE_STOPS);
    let roots = runtime.block_on(operator.live_trees(JobFilter::default())).unwrap();
    let (single, rest) = roots.split_at(SINGLE_STOPS);
    let mut times: Vec<Duration> = single.iter().map(|root| stop_one(&runtime, &operator, *root)).collect();
    times.sort_unstable();
    let [half, most] = [50, 99].map(|percent| percentile(&times, percent));
    println!("single stops with {RUNNING} running jobs: p50 {half:?}, p99 {most:?}");
    let began = Instant::now();
    let rest = rest.to_vec();
    let ended: Vec<StopReport> = runtime.block_on(async {
        let reports = operator.stop_many(rest).try_collect().await.unwrap();
        println!("{RUNNING} jobs marked in {:?}", began.elapsed());
        operator.until_all_stopped(reports).try_collect().await.unwrap()
    });
    println!("{} jobs stopped in {:?}", ended.len(), began.elapsed());
    let began = Instant::now();
    dispatch(RUNNING);
    until("all jobs run", || running() == RUNNING);
    println!("{RUNNING} more jobs run after {:?}", began.elapsed());
    let began = Instant::now();
    state.legwork(["stop", "--all", "--yes"]).expect_success();
    println!("`legwork stop --all` of {RUNNING} jobs took {:?}", began.elapsed());
}

#[test]
#[ignore = "a measurement"]
fn a_hundred_thousand_jobs_are_stopped_and_deleted() {
    let (_redis, mut state) = StateFolder::with_redis();
    let team = Team::write(&mut state, &json!({"quick": [{"text": "x"}]}));
    let line = json!({"agent": "quick", "task": "x"}).to_string();
    let batch = state.file("batch.jsonl", format!("{line}\n").repeat(100_000));
    state.dispatch(&[&team.file, "--batch", &batch, "--cap", "0"]);
    for command in [&["stop", "--all", "--yes"][..], &["delete", "--ended-before", "0s", "--yes"]] {
        let began = Instant::now();
        state.legwork(command).expect_success();
        println!("`legwork {}` of 100,000 jobs took {:?}", command.join(" "), began.elapsed());
    }
}

/// Stops one job, and returns how long it took until it had ended.
fn stop_one(runtime: &tokio::runtime::Runtime, operator: &Operator, root: StopRoot) -> Duration {
    let began = Instant::now();
    runtime.block_on(async {
        operator.stop(root).await.unwrap();
        operator.until_stopped(root).await.unwrap();
    });
    began.elapsed()
}
