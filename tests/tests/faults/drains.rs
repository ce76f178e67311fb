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
use tokio::sync::Notify;
use tokio::time::sleep;

use crate::stage::Serving;
use crate::stage::Stage;
use crate::stage::WorkerConfig;
use crate::stage::completed;
use crate::stage::stopped;
use crate::stage::until;
use crate::stage::within_timeout;

/// The drain timeout of these workers.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);
/// How long a worker may take beyond its drain timeout, with everything that it may still try.
const MAX_EXTRA: Duration = Duration::from_secs(10);
/// Longer than every repeat of one call to Redis, and shorter than the lease of the test that uses it.
const BEYOND_EVERY_RETRY: Duration = Duration::from_secs(6);

/// A worker whose attempt writes after the connection was disturbed, and then waits to be cancelled.
async fn with_unwritten_output(stage: &Stage, disturb: impl FnOnce(&Stage)) -> (Serving, JobId) {
    let (started, disturbed, written) =
        (Arc::new(Notify::new()), Arc::new(Notify::new()), Arc::new(Notify::new()));
    let signals = (Arc::clone(&started), Arc::clone(&disturbed), Arc::clone(&written));
    let config = WorkerConfig { drain_timeout: DRAIN_TIMEOUT, ..WorkerConfig::default() };
    let worker = stage
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
    let id = stage.dispatch().await;
    within_timeout("the attempt runs", started.notified()).await;
    until("its output is stored", async || !stage.output(id).await.is_empty()).await;
    disturb(stage);
    disturbed.notify_one();
    within_timeout("the attempt has written", written.notified()).await;
    (worker, id)
}

async fn a_drain_ends_in_time(disturb: impl FnOnce(&Stage)) {
    let stage = Stage::new().await;
    let (worker, id) = with_unwritten_output(&stage, disturb).await;
    let asked = Instant::now();
    worker.end().await;
    assert!(asked.elapsed() < DRAIN_TIMEOUT + MAX_EXTRA, "{:?}", asked.elapsed());
    // As after a crash: the lease expires, and another worker resumes from what is stored.
    stage.reap_until(id, State::Queued).await;
    assert_eq!(stage.output(id).await, b"written");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_ends_in_time_although_connections_are_refused() {
    a_drain_ends_in_time(|stage| stage.proxy.cut()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_ends_in_time_although_nothing_is_answered() {
    a_drain_ends_in_time(|stage| stage.proxy.freeze()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_ends_the_worker_at_once_although_nothing_is_answered() {
    let stage = Stage::new().await;
    let (worker, _) = with_unwritten_output(&stage, |stage| stage.proxy.freeze()).await;
    let asked = Instant::now();
    worker.drain.cancel();
    worker.now.cancel();
    within_timeout("the worker ends", worker.serving).await.unwrap();
    assert!(asked.elapsed() < Duration::from_secs(4), "{:?}", asked.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_releases_what_runs() {
    let stage = Stage::with_lease(Duration::from_secs(30)).await;
    let (worker, id) = with_unwritten_output(&stage, |_| ()).await;
    worker.drain.cancel();
    worker.now.cancel();
    within_timeout("the worker ends", worker.serving).await.unwrap();
    assert_eq!(stage.job(id).await.status, State::Queued);
    assert_eq!(stage.output(id).await, b"written and not written");
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_of_a_claim_whose_answer_was_lost_are_released_by_the_drain() {
    let stage = Stage::with_lease(Duration::from_secs(30)).await;
    let proxy = CommandProxy::start(stage.redis.address()).await;
    stage.claim_nothing().await;
    // A claim, which ends with its lanes, is done; then Redis is gone.
    proxy.arm_on("default", Fault::Die { executed: true });
    let id = stage.dispatch().await;
    let config = WorkerConfig { url: Some(proxy.url()), ..WorkerConfig::default() };
    let worker = stage.serve(config, |_| async { completed("never") }.boxed()).await;
    within_timeout("the claim is done", proxy.died()).await;
    stage.until_status(id, State::Running).await;
    worker.drain.cancel();
    sleep(BEYOND_EVERY_RETRY).await;
    let _proxy = proxy.restart().await;
    worker.end().await;
    let job = stage.job(id).await;
    assert_eq!(job.status, State::Queued, "its worker is gone: {job:?}");
}
