//! What a worker holds belongs to an attempt, not to its job: a worker that lost a job may claim it again.

use std::sync::Arc;

use futures::FutureExt as _;
use legwork_agent::journal::Journal as _;
use legwork_common::id::JobId;
use legwork_common::job::Cause;
use legwork_common::lifecycle::State;
use legwork_queue::port::Asker;
use legwork_queue::port::Dispatch as _;
use legwork_queue::port::StopRoot;
use tokio::sync::Notify;

use crate::harness::Harness;
use crate::harness::TestWorker;
use crate::harness::WorkerConfig;
use crate::harness::completed;
use crate::harness::stopped;
use crate::harness::until;
use crate::harness::within_timeout;

/// Signals between a test and the attempts of one job.
#[derive(Debug, Default)]
struct Signals {
    first_started: Notify,
    second_started: Notify,
    first_may_end: Notify,
    second_may_end: Notify,
}

/// A worker that stood still beyond its lease and has claimed the same job again, while its first attempt, which has
/// noticed, still ends. `last_words` is what the first attempt writes then.
async fn claimed_again(harness: &Harness, last_words: &'static str) -> (TestWorker, JobId, Arc<Signals>) {
    let signals = Arc::new(Signals::default());
    let shared = Arc::clone(&signals);
    let worker = harness
        .serve(WorkerConfig::default(), move |run| {
            let signals = Arc::clone(&shared);
            async move {
                if run.claimed.attempt == 1 {
                    run.journal.output("first").await.ok();
                    signals.first_started.notify_one();
                    signals.first_may_end.notified().await;
                    run.journal.output(last_words).await.ok();
                    return stopped();
                }
                signals.second_started.notify_one();
                signals.second_may_end.notified().await;
                completed("second")
            }
            .boxed()
        })
        .await;
    let id = harness.dispatch().await;
    within_timeout("the first attempt runs", signals.first_started.notified()).await;
    harness.proxy.freeze();
    harness.reap_until(id, State::Queued).await;
    harness.proxy.restore();
    within_timeout("the second attempt runs", signals.second_started.notified()).await;
    (worker, id, signals)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_with_unwritten_output_ends_although_the_job_was_claimed_again() {
    let harness = Harness::new().await;
    let (worker, id, signals) = claimed_again(&harness, "never written").await;
    until("both attempts are held", async || worker.load.jobs.value() == 2).await;
    signals.first_may_end.notify_one();
    until("the first attempt has ended", async || worker.load.jobs.value() == 1).await;
    signals.second_may_end.notify_one();
    let job = harness.until_status(id, State::Completed).await;
    assert_eq!((job.attempt, job.result.as_deref()), (2, Some("second")));
    until("no attempt is held", async || worker.load.jobs.value() == 0).await;
    worker.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_a_lost_attempt_does_not_end_the_drain_for_the_next_one() {
    let harness = Harness::new().await;
    let (worker, id, signals) = claimed_again(&harness, "").await;
    until("both attempts are held", async || worker.load.jobs.value() == 2).await;
    signals.first_may_end.notify_one();
    until("the first attempt has ended", async || worker.load.jobs.value() == 1).await;
    worker.drain.cancel();
    until("the worker drains", async || harness.is_draining(&worker.id).await).await;
    signals.second_may_end.notify_one();
    worker.end().await;
    let job = harness.job(id).await;
    assert_eq!((job.status, job.attempt), (State::Completed, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_costs_an_attempt_and_no_more() {
    let harness = Harness::new().await;
    let worker = harness
        .serve(WorkerConfig::default(), |run| {
            async move {
                assert!(run.claimed.attempt > 1, "the first attempt panics on purpose");
                completed("second")
            }
            .boxed()
        })
        .await;
    let id = harness.dispatch().await;
    let job = harness.until_status(id, State::Completed).await;
    assert_eq!((job.attempt, job.result.as_deref()), (2, Some("second")));
    until("no attempt is held", async || worker.load.jobs.value() == 0).await;
    worker.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_whose_attempts_all_panic_fails() {
    let harness = Harness::new().await;
    let worker = harness
        .serve(WorkerConfig::default(), |_| async { panic!("every attempt panics on purpose") }.boxed())
        .await;
    let id = harness.dispatch().await;
    let job = harness.until_status(id, State::Failed).await;
    assert_eq!((job.attempt, job.cause), (3, Some(Cause::WorkerLost)));
    worker.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_is_stopped_although_its_run_does_not_end() {
    let harness = Harness::new().await;
    let worker =
        harness.serve(WorkerConfig::default(), |_| async { std::future::pending().await }.boxed()).await;
    let id = harness.dispatch().await;
    harness.until_status(id, State::Running).await;
    harness.queue.stop(StopRoot::Job(id), Asker::Operator, Cause::Operator).await.unwrap();
    let job = harness.until_status(id, State::Stopped).await;
    assert_eq!(job.cause, Some(Cause::Operator));
    until("no attempt is held", async || worker.load.jobs.value() == 0).await;
    worker.end().await;
}
