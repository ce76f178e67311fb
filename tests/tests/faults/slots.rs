//! What a full worker leaves to others.

use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use futures::FutureExt as _;
use legwork_common::job::JobOptions;
use legwork_common::lifecycle::State;
use legwork_common::service::BackgroundAgents as _;
use legwork_common::service::RunRequest;
use legwork_common::service::WaitDetail;
use legwork_common::service::WaitMode;
use legwork_common::service::WaitRequest;
use legwork_worker::runner::Run;
use tokio::sync::Notify;
use tokio::time::sleep;

use crate::harness::Harness;
use crate::harness::WorkerConfig;
use crate::harness::completed;
use crate::harness::until;
use crate::harness::within_timeout;
use crate::scenario;

/// The queue of the child.
const OTHER_QUEUE: &str = "other";
/// Longer than one wait for work.
const LONGER_THAN_A_WAIT: Duration = Duration::from_millis(2500);

/// Dispatches a job to the other queue and waits for it, without a slot.
async fn wait_for_child(run: &Run) {
    let request = RunRequest {
        job_options: Some(JobOptions { queue: OTHER_QUEUE.to_owned(), ..JobOptions::default() }),
        ..scenario::request("child")
    };
    let child = run.background.run(request).await.unwrap();
    let wait = WaitRequest {
        ids: vec![child.to_string()],
        timeout: None,
        mode: WaitMode::All,
        call: None,
        detail: WaitDetail::Excerpt,
    };
    run.background.wait(wait).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_worker_does_not_wait_for_work() {
    let harness = Harness::new().await;
    let [child_may_end, resumed, parent_may_end]: [Arc<Notify>; 3] = Default::default();
    let (has_resumed, may_end) = (Arc::clone(&resumed), Arc::clone(&parent_may_end));
    let parent = move |run: Run| {
        let (resumed, may_end) = (Arc::clone(&has_resumed), Arc::clone(&may_end));
        async move {
            wait_for_child(&run).await;
            resumed.notify_one();
            may_end.notified().await;
            completed("parent")
        }
        .boxed()
    };
    let may_end = Arc::clone(&child_may_end);
    let child = move |_| {
        let may_end = Arc::clone(&may_end);
        async move {
            may_end.notified().await;
            completed("child")
        }
        .boxed()
    };
    let full = harness.serve(WorkerConfig { slots: 1, ..WorkerConfig::default() }, parent).await;
    let id = harness.dispatch().await;
    harness.until_status(id, State::Waiting).await;
    let other = harness.serve(WorkerConfig { queue: OTHER_QUEUE, ..WorkerConfig::default() }, child).await;
    until("both workers have free slots and wait", async || harness.waiting_workers() == 2).await;

    child_may_end.notify_one();
    within_timeout("the parent has the only slot again", resumed.notified()).await;
    until("only the other worker waits", async || harness.waiting_workers() == 1).await;
    let since = Instant::now();
    while since.elapsed() < LONGER_THAN_A_WAIT {
        assert!(harness.waiting_workers() <= 1, "a full worker takes wake tokens from others");
        sleep(Duration::from_millis(20)).await;
    }
    parent_may_end.notify_one();
    harness.until_status(id, State::Completed).await;
    full.end().await;
    other.end().await;
}
