//! Drains that meet an outage: they end in time, and leave no job that a live worker seems to hold.

use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use futures::FutureExt as _;
use legwork_agent::journal::Journal as _;
use legwork_common::id::JobId;
use legwork_common::lifecycle::State;
use legwork_tests::command_proxy::CommandProxy;
use legwork_tests::command_proxy::Fault;
use legwork_worker::runner::Run;
use tokio::sync::Notify;
use tokio::time::sleep;

use crate::harness::Harness;
use crate::harness::TestWorker;
use crate::harness::WorkerConfig;
use crate::harness::stopped;
use crate::harness::until;
use crate::harness::within_timeout;

/// The drain timeout of these workers.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);
/// How long a worker may take beyond its drain timeout, with everything that it may still try.
const MAX_EXTRA: Duration = Duration::from_secs(10);
/// Longer than every repeat of one call to Redis, and shorter than the lease of the test that uses it.
const BEYOND_EVERY_RETRY: Duration = Duration::from_secs(6);

/// A worker whose attempt writes after the connection was disturbed, and then waits to be cancelled.
async fn with_unwritten_output(harness: &Harness, disturb: impl FnOnce(&Harness)) -> (TestWorker, JobId) {
    let (started, disturbed, written) =
        (Arc::new(Notify::new()), Arc::new(Notify::new()), Arc::new(Notify::new()));
    let signals = (Arc::clone(&started), Arc::clone(&disturbed), Arc::clone(&written));
    let config = WorkerConfig { drain_timeout: DRAIN_TIMEOUT, ..WorkerConfig::default() };
    let worker = harness
        .serve(config, move |run| {
            let (started, disturbed, written) = signals.clone();
            async move {
                run.journal.output("written").await.ok();
                started.notify_one();
                disturbed.notified().await;
                run.journal.output(" and not written").await.ok();
                written.notify_one();
                run.cancel.cancelled().await;
                stopped()
            }
            .boxed()
        })
        .await;
    let id = harness.dispatch().await;
    within_timeout("the attempt runs", started.notified()).await;
    until("its output is stored", async || !harness.output(id).await.is_empty()).await;
    disturb(harness);
    disturbed.notify_one();
    within_timeout("the attempt has written", written.notified()).await;
    (worker, id)
}

async fn a_drain_ends_in_time(disturb: impl FnOnce(&Harness)) {
    let harness = Harness::new().await;
    let (worker, id) = with_unwritten_output(&harness, disturb).await;
    let asked = Instant::now();
    worker.end().await;
    assert!(asked.elapsed() < DRAIN_TIMEOUT + MAX_EXTRA, "{:?}", asked.elapsed());
    // As after a crash: the lease expires, and another worker resumes from what is stored.
    harness.reap_until(id, State::Queued).await;
    assert_eq!(harness.output(id).await, b"written");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_ends_in_time_although_connections_are_refused() {
    a_drain_ends_in_time(|harness| harness.proxy.cut()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_ends_in_time_although_nothing_is_answered() {
    a_drain_ends_in_time(|harness| harness.proxy.freeze()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_ends_the_worker_at_once_although_nothing_is_answered() {
    let harness = Harness::new().await;
    let (worker, _) = with_unwritten_output(&harness, |harness| harness.proxy.freeze()).await;
    let asked = Instant::now();
    worker.drain.cancel();
    worker.now.cancel();
    within_timeout("the worker ends", worker.serving).await.unwrap();
    // A drain alone would take its timeout, and five seconds to release what runs.
    assert!(asked.elapsed() < DRAIN_TIMEOUT + Duration::from_secs(5), "{:?}", asked.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_releases_what_runs() {
    let harness = Harness::with_lease(Duration::from_secs(30)).await;
    let (worker, id) = with_unwritten_output(&harness, |_| ()).await;
    worker.drain.cancel();
    worker.now.cancel();
    within_timeout("the worker ends", worker.serving).await.unwrap();
    assert_eq!(harness.job(id).await.status, State::Queued);
    assert_eq!(harness.output(id).await, b"written and not written");
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_of_a_claim_whose_answer_was_lost_are_released_by_the_drain() {
    let harness = Harness::with_lease(Duration::from_secs(30)).await;
    let proxy = CommandProxy::start(harness.redis.address()).await;
    harness.claim_nothing().await;
    // A claim, which ends with its lanes, is done; then Redis is gone.
    proxy.arm_on("default", Fault::Die { executed: true });
    let id = harness.dispatch().await;
    // Over after Redis is back.
    let drain_timeout = 2 * BEYOND_EVERY_RETRY;
    let config = WorkerConfig { url: Some(proxy.url()), drain_timeout, ..WorkerConfig::default() };
    // An attempt that begins all the same does not end before it is released.
    let attempt = |run: Run| {
        async move {
            run.cancel.cancelled().await;
            stopped()
        }
        .boxed()
    };
    let worker = harness.serve(config, attempt).await;
    within_timeout("the claim is done", proxy.died()).await;
    harness.until_status(id, State::Running).await;
    worker.drain.cancel();
    sleep(BEYOND_EVERY_RETRY).await;
    let _proxy = proxy.restart().await;
    worker.end().await;
    let job = harness.job(id).await;
    assert_eq!(job.status, State::Queued, "its worker is gone: {job:?}");
}
