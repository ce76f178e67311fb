//! Ends of jobs that are reported: stored by every step that ends a job, sent under a lease, bounded in number.

use std::time::Duration;

use legwork_common::id::JobId;
use legwork_common::job::Cause;
use legwork_common::lifecycle::State;
use legwork_common::webhook::Notification;
use legwork_common::webhook::NotificationState;
use legwork_common::webhook::Verdict;
use legwork_queue::port::Asker;
use legwork_queue::port::Dispatch as _;
use legwork_queue::port::DispatchedBy;
use legwork_queue::port::DueNotification;
use legwork_queue::port::Ending;
use legwork_queue::port::Forgotten;
use legwork_queue::port::Notifications as _;
use legwork_queue::port::Release;
use legwork_queue::port::ReleaseMode;
use legwork_queue::port::StopRoot;
use legwork_queue::port::Upkeep as _;
use legwork_queue::port::Watch as _;
use legwork_queue::port::Work as _;
use legwork_queue::settings::FleetSettings;

use crate::support::PrivateRedis;
use crate::support::TestSession;
use crate::support::completed;
use crate::support::dispatched_by;

const URL: &str = "https://example.org/hook?team=a";
const LEASE: Duration = Duration::from_secs(60);

async fn scene() -> (PrivateRedis, TestSession) {
    let redis = PrivateRedis::start();
    let settings = FleetSettings { max_crashes: 1, ..FleetSettings::default() };
    let it = TestSession::open(&redis.queue(&settings).await, 0).await;
    (redis, it)
}

/// Stores a job whose end is reported.
async fn reported(it: &TestSession, by: DispatchedBy, delay: Duration) -> JobId {
    let mut job = it.job();
    job.spec.notify = Some(URL.parse().unwrap());
    job.job_options.delay = delay;
    let id = job.id;
    it.enqueue(by, vec![job]).await.unwrap();
    id
}

async fn by_root(it: &TestSession) -> JobId {
    reported(it, DispatchedBy::Root, Duration::ZERO).await
}

async fn notification(it: &TestSession, id: JobId) -> Notification {
    it.queue.jobs(&[id]).await.unwrap().remove(0).unwrap().notification.unwrap()
}

async fn due(it: &TestSession) -> Vec<DueNotification> {
    it.queue.due(100, LEASE).await.unwrap()
}

async fn due_ids(it: &TestSession) -> Vec<JobId> {
    due(it).await.into_iter().map(|due| due.id).collect()
}

/// Ends the lease of a sender, or the delay of a retry.
async fn let_pass(redis: &PrivateRedis, it: &TestSession, id: JobId) {
    let mut command = redis::cmd("ZADD");
    command.arg(it.queue.keys().notifications(0)).arg("XX").arg(1).arg(id.uuid().to_string());
    command.exec_async(&mut redis.raw().await).await.unwrap();
}

#[tokio::test]
async fn every_way_to_end_stores_a_notification_with_the_end() {
    let (_redis, it) = scene().await;
    let rejected = Ending::Failed { cause: Cause::Rejected, message: "no".to_owned() };
    for ending in [completed(), rejected, Ending::Stopped { cause: Cause::Operator }] {
        let id = by_root(&it).await;
        let lease = it.claim(1).await.remove(0).lease;
        assert_eq!(notification(&it, id).await.state, NotificationState::Waiting);
        assert!(due(&it).await.is_empty(), "it has not ended");
        it.finish(lease, ending.clone()).await;
        it.finish(lease, ending.clone()).await;
        assert_eq!(due_ids(&it).await, [id], "{ending:?}");
    }
    // Jobs that no worker holds, one of them delayed.
    for delay in [Duration::ZERO, Duration::from_secs(600)] {
        let id = reported(&it, DispatchedBy::Root, delay).await;
        it.queue.stop_waiting(&[id], Cause::Operator).await.unwrap();
        assert_eq!((it.state(id).await, due_ids(&it).await), (State::Stopped, vec![id]));
    }
    // A tree: the child that waits ends with the sweep, and the root when its worker confirms.
    by_root(&it).await;
    let root = it.claim(1).await.remove(0).lease;
    let child = reported(&it, dispatched_by(root), Duration::ZERO).await;
    it.queue.stop(StopRoot::Job(root.id), Asker::Operator, Cause::Operator).await.unwrap();
    assert_eq!(due_ids(&it).await, [child]);
    it.finish(root, Ending::Stopped { cause: Cause::Operator }).await;
    assert_eq!(due_ids(&it).await, [root.id]);
    // Its last worker was lost; and no worker can run it.
    let id = by_root(&it).await;
    it.claim(1).await;
    it.queue.reap(true).await.unwrap();
    while it.state(id).await == State::Queued {
        it.claim(1).await;
        it.queue.reap(true).await.unwrap();
    }
    assert_eq!((it.state(id).await, due_ids(&it).await), (State::Failed, vec![id]));
    let id = by_root(&it).await;
    let lease = it.claim(1).await.remove(0).lease;
    let mode = ReleaseMode::Lack("no shell".to_owned());
    it.queue.release(&Release { lease, worker: it.worker.clone(), mode, output_bytes: 0 }).await.unwrap();
    assert_eq!((it.state(id).await, due_ids(&it).await), (State::Failed, vec![id]));
}

#[tokio::test]
async fn a_job_that_is_retried_is_reported_once_it_has_ended() {
    let (_redis, it) = scene().await;
    let mut job = it.job();
    job.spec.notify = Some(URL.parse().unwrap());
    job.job_options.retries = 1;
    let id = job.id;
    it.enqueue(DispatchedBy::Root, vec![job]).await.unwrap();
    let failed = Ending::Failed { cause: Cause::ProviderError, message: "503".to_owned() };
    it.finish(it.claim(1).await.remove(0).lease, failed.clone()).await;
    assert!(due(&it).await.is_empty(), "it is retried");
    it.queue.reap(true).await.unwrap();
    it.finish(it.claim(1).await.remove(0).lease, failed).await;
    assert_eq!(due_ids(&it).await, [id]);
}

#[tokio::test]
async fn a_job_without_a_url_stores_nothing() {
    let (redis, it) = scene().await;
    let id = it.one().await;
    it.finish(it.claim(1).await.remove(0).lease, completed()).await;
    assert!(it.queue.jobs(&[id]).await.unwrap().remove(0).unwrap().notification.is_none());
    let mut command = redis::cmd("EXISTS");
    command.arg(it.queue.keys().notifications(0));
    let exists: u8 = command.query_async(&mut redis.raw().await).await.unwrap();
    assert_eq!(exists, 0);
}

#[tokio::test]
async fn a_sender_that_dies_leaves_the_notification_to_the_next() {
    let (redis, it) = scene().await;
    let id = by_root(&it).await;
    it.finish(it.claim(1).await.remove(0).lease, completed()).await;
    let first = due(&it).await.remove(0);
    assert_eq!((first.attempt, first.url.as_str()), (1, URL));
    assert!(due(&it).await.is_empty(), "the first sender has it");
    let_pass(&redis, &it, id).await;
    let second = due(&it).await.remove(0);
    assert_eq!((second.id, second.attempt), (id, 2));
    // The first was only slow: it gives up nothing that the second has.
    assert!(!it.queue.record(&first, Verdict::Failed, "late").await.unwrap());
    let retry = Verdict::RetryIn(Duration::from_secs(300));
    assert!(it.queue.record(&second, retry, "answered 503\nand more").await.unwrap());
    let stands = notification(&it, id).await;
    assert_eq!((stands.state, stands.attempts), (NotificationState::Pending, 2));
    assert_eq!(
        (stands.url.as_str(), stands.detail.as_deref()),
        ("https://example.org/hook", Some("answered 503"))
    );
    assert!(due(&it).await.is_empty(), "not before its time");
    let_pass(&redis, &it, id).await;
    let third = due(&it).await.remove(0);
    // The receiver has it, whichever sender says so.
    assert!(it.queue.record(&first, Verdict::Delivered, "answered 204").await.unwrap());
    assert!(!it.queue.record(&third, retry, "answered 503").await.unwrap());
    assert_eq!(notification(&it, id).await.state, NotificationState::Delivered);
    let_pass(&redis, &it, id).await;
    assert!(due(&it).await.is_empty());
}

#[tokio::test]
async fn a_job_is_kept_until_its_end_is_reported() {
    let (_redis, it) = scene().await;
    let id = by_root(&it).await;
    it.finish(it.claim(1).await.remove(0).lease, completed()).await;
    assert_eq!(it.queue.forget(&[id], false).await.unwrap(), [Forgotten::Spared]);
    let sent = due(&it).await.remove(0);
    it.queue.record(&sent, Verdict::Failed, "answered 410").await.unwrap();
    assert_eq!(it.queue.forget(&[id], false).await.unwrap(), [Forgotten::Forgotten]);
    assert!(!it.queue.record(&sent, Verdict::Delivered, "").await.unwrap(), "it is forgotten");
    // An operator may delete a job before that.
    let it = TestSession::open(&it.queue, 0).await;
    let id = by_root(&it).await;
    it.finish(it.claim(1).await.remove(0).lease, completed()).await;
    assert_eq!(it.queue.forget(&[id], true).await.unwrap(), [Forgotten::Forgotten]);
    assert!(due(&it).await.is_empty());
}

#[tokio::test]
async fn the_number_of_stored_notifications_is_bounded() {
    let (redis, it) = scene().await;
    let id = by_root(&it).await;
    it.finish(it.claim(1).await.remove(0).lease, completed()).await;
    // As if so many others were waiting for their first attempt, and this one has failed before.
    let retry = Verdict::RetryIn(Duration::from_secs(300));
    let sent = due(&it).await.remove(0);
    it.queue.record(&sent, retry, "answered 503").await.unwrap();
    let mut raw = redis.raw().await;
    let key = it.queue.keys().notifications(0);
    for page in 0..9 {
        let mut command = redis::cmd("ZADD");
        command.arg(&key);
        for at in 0..1111 {
            command.arg(1).arg(format!("other-{page}-{at}"));
        }
        command.exec_async(&mut raw).await.unwrap();
    }
    let last = by_root(&it).await;
    it.finish(it.claim(1).await.remove(0).lease, completed()).await;
    let stored: usize = redis::cmd("ZCARD").arg(&key).query_async(&mut raw).await.unwrap();
    assert_eq!(stored, 10_000);
    let dropped = notification(&it, id).await;
    assert_eq!((dropped.state, dropped.attempts), (NotificationState::Dropped, 1));
    // The others are not jobs of this queue, so they are dropped, and the last is due.
    while redis::cmd("ZCARD").arg(&key).query_async::<usize>(&mut raw).await.unwrap() > 1 {
        it.queue.due(1000, LEASE).await.unwrap();
    }
    assert_eq!(notification(&it, last).await.attempts, 1);
}
